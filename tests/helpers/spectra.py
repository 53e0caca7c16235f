# SPDX-License-Identifier: Apache-2.0
"""Networks with a spectrum inside, written like those that people export, and audio for them.

In: the name of a front end.  Out: its ONNX model on a waveform; synthetic speech of any loudness.

The transform is a convolution with windowed cosines and sines, as in silero-vad, openWakeWord and
nnAudio; the filters are triangles on the mel scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx_forms import Form

RATE, FFT, HOP, MELS = 16_000, 256, 128, 24
BINS = FFT // 2 + 1
SAMPLES = FFT + 15 * HOP


def speech(count: int, samples: int = SAMPLES, seed: int = 0) -> np.ndarray:
    """Return (count, samples) of vowels (harmonics under formants), hiss and their pauses."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / RATE
    found = []
    for _ in range(count):
        pitch = rng.uniform(90, 250)
        harmonics = np.arange(1, int(7000 / pitch)) * pitch
        gain = sum(
            level / (1 + ((harmonics - rng.uniform(*band)) / 120) ** 2)
            for band, level in (((300, 800), 1.0), ((900, 2200), 0.4), ((2300, 3200), 0.1))
        )
        phases = rng.uniform(0, 2 * np.pi, len(harmonics))
        vowel = (gain * np.cos(2 * np.pi * np.outer(time, harmonics) + phases)).sum(1)
        hiss = np.diff(rng.normal(size=samples + 1)) * 0.1
        share = np.clip(1.5 * np.cos(2 * np.pi * (time * rng.uniform(4, 9) + rng.uniform())), 0, 1)
        wave = vowel * share + hiss * (1 - share) * rng.uniform() + 1e-4 * rng.normal(size=samples)
        found.append(wave / np.abs(wave).max() * 0.5)
    return np.asarray(found, np.float32)


def transform() -> np.ndarray:
    """Return (2 * BINS, 1, FFT): cosines, then sines, under a Hann window."""
    n, k = np.arange(FFT), np.arange(BINS)[:, None]
    angle = 2 * np.pi * k * n / FFT
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / FFT)
    return np.concatenate([np.cos(angle), -np.sin(angle)])[:, None] * window


def mel_filters() -> np.ndarray:
    """Return (BINS, MELS) triangles."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, MELS + 2) / 2595) - 1)
    at = np.arange(BINS)[:, None] * RATE / FFT
    rise = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - at) / (edges[2:] - edges[1:-1])
    return np.maximum(np.minimum(rise, fall), 0.0)


def cosines(count: int = 13) -> np.ndarray:
    """Return (MELS, count): the orthonormal DCT-II."""
    k, n = np.arange(count), np.arange(MELS)[:, None]
    return np.cos(np.pi * k * (2 * n + 1) / (2 * MELS)) * np.sqrt(2 / MELS)


def parts(f: Form, joint: bool = True) -> tuple[str, str]:
    """Return real and imaginary part (1, BINS, frames), of one convolution or of two."""
    if not joint:
        halves = np.split(transform(), 2)
        return tuple(f.op("Conv", "x", half, strides=[HOP]) for half in halves)  # type: ignore[return-value]
    both = f.op("Conv", "x", transform(), strides=[HOP])
    ends = ((0, BINS), (BINS, 2 * BINS))
    return tuple(f.op("Slice", both, *map(np.atleast_1d, (*end, 1))) for end in ends)  # type: ignore[return-value]


def power(f: Form, joint: bool = True) -> str:
    real, imaginary = parts(f, joint)
    return f.op("Add", f.op("Pow", real, 2.0), f.op("Mul", imaginary, imaginary))


def _mel(f: Form, x: str) -> str:
    return f.op("MatMul", f.op("Transpose", x, perm=[0, 2, 1]), mel_filters())


def _stacked(f: Form) -> str:
    """Return (1, BINS, frames, 2), as STFT operators return."""
    axis = np.array([3])
    return f.op("Concat", *(f.op("Unsqueeze", part, axis) for part in parts(f)), axis=3)


def _stft(f: Form) -> str:
    """Return the result of the operator STFT: (1, frames, BINS, 2)."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)
    wave = f.op("Reshape", "x", np.array([1, SAMPLES]))
    return f.op("STFT", wave, np.array(HOP), window, np.array(FFT), onesided=1)


FRONT_ENDS: Mapping[str, Callable[[Form], str]] = {
    "magnitude": lambda f: f.op("Sqrt", power(f)),
    "log power": lambda f: f.op("Log", f.op("Add", power(f), 1e-6)),
    "log mel": lambda f: f.op("Log", f.op("Add", _mel(f, power(f)), 1e-6)),
    "decibel": lambda f: f.op(
        "Mul", f.op("Log", f.op("Clip", _mel(f, power(f, False)), 1e-10)), 10 / np.log(10)
    ),
    "mfcc": lambda f: f.op(
        "MatMul", f.op("Log", f.op("Add", _mel(f, power(f)), 1e-6)), cosines()
    ),
    "mel of magnitudes": lambda f: f.op("Log", f.op("Max", _mel(f, f.op("Sqrt", power(f))), 1e-5)),
    "cube root": lambda f: f.op("Pow", _mel(f, power(f)), 0.3),
    "operator": lambda f: f.op("Log", f.op("Add", f.op("MatMul", f.op(
        "ReduceSum", f.op("Pow", _stft(f), 2.0), np.array([3]), keepdims=0), mel_filters()), 1e-6)),
    "norm of parts": lambda f: f.op("ReduceL2", _stacked(f), axes=[3], keepdims=0),
    "log energy": lambda f: f.op(
        "Log", f.op("Add", f.op("ReduceSum", power(f), np.array([1]), keepdims=1), 1e-8)
    ),
}  # fmt: skip


def front_end(name: str) -> onnx.ModelProto:
    """Return the model of a front end alone."""
    f = Form()
    FRONT_ENDS[name](f)
    return f.model({"x": (1, 1, SAMPLES)})
