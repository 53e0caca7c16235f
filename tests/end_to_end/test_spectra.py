# SPDX-License-Identifier: Apache-2.0
"""Networks with a spectrum inside, from loud speech to speech 60 dB below.

In: front ends on a waveform.  Out: the emulated array against onnxruntime, per loudness; integers
that are equal byte for byte.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from build_onnx import onnxruntime_outputs, signed
from neuralmatrix.compiler import compile_model
from neuralmatrix.program.estimate import estimate
from neuralmatrix.program.program import Program
from neuralmatrix.runtime.session import Session
from neuralmatrix.verification import verify
from onnx_forms import Form
from spectra import FFT, FRONT_ENDS, HOP, MELS, SAMPLES, front_end, speech

GAINS = (1.0, 0.1, 0.01, 0.001)  # 0, -20, -40, -60 dB

# The least SNR in dB at these gains.  At -60 dB int16 samples of the waveform have 5 bits; floors
# of 1e-10 (decibel) or 1e-5 of magnitudes show the rounding of those samples at -40 dB.
FLOORS = {
    "magnitude": (50, 50, 34, 16),
    "log power": (50, 50, 48, 48),
    "log mel": (48, 48, 48, 48),
    "decibel": (44, 33, 25, 18),
    "mfcc": (48, 48, 48, 48),
    "mel of magnitudes": (38, 31, 25, 18),
    "cube root": (50, 50, 40, 20),
    "operator": (48, 48, 48, 48),
    "norm of parts": (50, 50, 34, 16),
    "log energy": (55, 55, 40, 30),
}


def calibration(gains: tuple[float, ...] = GAINS) -> list[dict[str, np.ndarray]]:
    # a little louder than what is measured
    loud = 1.6 * speech(8, seed=1)[:, None]
    return [{"x": np.concatenate([loud * gain for gain in gains]).astype(np.float32)}]


def snr(proto: onnx.ModelProto, program: Program, gain: float) -> float:
    x = (speech(3, seed=2)[:, None] * gain).astype(np.float32)
    wanted = [next(iter(onnxruntime_outputs(proto, {"x": one[None]}).values())) for one in x]
    (found,) = Session(program).run({"x": x}).values()
    noise = np.square(np.concatenate(wanted) - found, dtype=np.float64).sum()
    return float(10 * np.log10(np.square(wanted, dtype=np.float64).sum() / noise))


@pytest.mark.parametrize("precision", ["int8", "int16"])
@pytest.mark.parametrize("name", FRONT_ENDS)
def test_quiet_speech_has_a_spectrum(name: str, precision: str) -> None:
    proto = front_end(name)
    program = compile_model(proto, calibration=calibration(), precision=precision)
    found = [snr(proto, program, gain) for gain in GAINS]
    assert all(a >= b for a, b in zip(found, FLOORS[name], strict=True)), found
    assert verify(proto, program, {"x": speech(1, seed=3)[:, None]}).ok


def test_speech_quieter_than_any_of_calibration() -> None:
    proto = front_end("log mel")
    program = compile_model(proto, calibration=calibration((1.0, 0.5)), precision="int16")
    assert snr(proto, program, 0.01) >= FLOORS["log mel"][2]


@pytest.mark.parametrize("precision", ["int8", "mixed"])
def test_a_classifier_behind_a_spectrum(precision: str) -> None:
    f = Form()
    features = FRONT_ENDS["log mel"](f)
    hidden = f.op("Relu", f.op("MatMul", features, signed((MELS, 16), 1) / 8))
    f.op("MatMul", f.op("ReduceMean", hidden, axes=[1], keepdims=0), signed((16, 4), 2))
    proto = f.model({"x": (1, 1, SAMPLES)})
    program = compile_model(proto, calibration=calibration(), precision=precision)
    # int8 weights and activations of the classifier
    assert min(snr(proto, program, gain) for gain in GAINS[:3]) >= 28


@pytest.mark.parametrize("square", ["pow", "mul", "mul of identity", "pow of abs"])
def test_squares_are_products(square: str) -> None:
    f = Form()
    a = f.op("MatMul", "x", np.linalg.qr(signed((16, 16), 1))[0])
    if square.startswith("pow"):
        f.op("Pow", f.op("Abs", a) if "abs" in square else a, 2.0)
    else:
        f.op("Mul", a, f.op("Identity", a) if "identity" in square else a)
    proto = f.model({"x": (1, 16)})
    x = np.random.default_rng(1).normal(size=(64, 16)).astype(np.float32)
    program = compile_model(proto, calibration=[{"x": x}], precision="int16")
    quiet = x * np.float32(0.1)
    (wanted,) = onnxruntime_outputs(f.model({"x": (64, 16)}), {"x": quiet}).values()
    (found,) = Session(program).run({"x": quiet}).values()
    noise = np.square(wanted - found, dtype=np.float64).sum()
    assert 10 * np.log10(np.square(wanted, dtype=np.float64).sum() / noise) >= 35


def test_cycles_behind_the_transform() -> None:
    """The bound that docs/numerics.md states."""
    program = compile_model(front_end("log mel"), calibration=calibration(), precision="int16")
    layers = estimate(program).layers
    transform = sum(layer.cycles for layer in layers if layer.macs > 100_000)
    frames = (SAMPLES - FFT) // HOP + 1
    assert sum(layer.cycles for layer in layers) - transform <= 1700 * frames
