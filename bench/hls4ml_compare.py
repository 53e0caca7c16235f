# SPDX-License-Identifier: Apache-2.0
"""Measures small networks in our emulation and in hls4ml's compiled emulation, in one run.

In: models/zoo.small_cnn, an MLP, a softmax and an LSTM (random weights), by hls4ml's converter.
Out: images/s of both, on one thread, and their ratio; which outputs of the backend NeuralMatrix are
those of hls4ml's own emulation; distance from float; seconds of both ``compile()``.
Needs the extras onnx and hls4ml, torch and a C++ compiler.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from common import Row, compile_for, emulation, median_seconds, report
from onnx import numpy_helper
from torch import nn
from zoo import small_cnn

SIZE = 16
SEED = 0
IMAGES = 64  # images of our emulation; hls4ml runs HLS_IMAGES of them
HLS_IMAGES = 16
PRECISION = "ap_fixed<16,6>"
STRIDES = {"conv1": 1, "conv2": 2, "conv3": 1}


def torch_twin(model: onnx.ModelProto) -> nn.Module:
    """Convert the ONNX network to a torch module with batch normalisation folded."""
    w = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    layers: list[nn.Module] = []
    for name, stride in STRIDES.items():
        gain = w[f"{name}.bn.scale"] / np.sqrt(w[f"{name}.bn.var"] + 1e-5)
        kernel = w[f"{name}.weight"] * gain[:, None, None, None]
        bias = w[f"{name}.bn.bias"] - w[f"{name}.bn.mean"] * gain
        conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, stride, 1)
        conv.load_state_dict({"weight": torch.from_numpy(kernel), "bias": torch.from_numpy(bias)})
        layers += [conv, nn.ReLU()]
    fc = nn.Linear(*w["fc.weight"].shape[::-1])
    fc.load_state_dict({
        "weight": torch.from_numpy(w["fc.weight"].copy()),
        "bias": torch.from_numpy(w["fc.bias"].copy()),
    })  # fmt: skip
    return nn.Sequential(*layers, nn.AvgPool2d(SIZE // 2), nn.Flatten(), fc).eval()


def hls4ml_emulation(module: nn.Module, folder: Path) -> tuple[Any, float]:
    """Return hls4ml's compiled model and the seconds of its build."""
    import hls4ml

    began = time.perf_counter()
    config = hls4ml.utils.config_from_pytorch_model(
        module, (3, SIZE, SIZE), granularity="name", default_precision=PRECISION,
        channels_last_conversion="full", backend="Vitis",
    )  # fmt: skip
    config["Model"]["Strategy"] = "Resource"
    model = hls4ml.converters.convert_from_pytorch_model(
        module, hls_config=config, output_dir=str(folder), backend="Vitis", io_type="io_stream"
    )
    model.compile()
    return model, time.perf_counter() - began


def agreement(y: Any, float_y: Any) -> float:
    """Return the percentage of images with the float model's top-1."""
    return 100.0 * float((y.argmax(1) == float_y.argmax(1)).mean())


# ---------------------------------------------------------------- through hls4ml's backend

ROUNDED = {"8 bits": "fixed<8,4,RND_CONV,SAT>", "16 bits": "fixed<16,6,RND,SAT>"}
SAMPLES = 100
FREE = "fixed<16,6,RND,SAT>"  # of the networks whose functions are tables


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 5)
    )


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


def softmax() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8), nn.Softmax(-1))


class Recurrent(nn.Module):
    """hls4ml's LSTM of a torch module returns the last state."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(6, 16, batch_first=True)

    def forward(self, x: Any) -> Any:
        y, _ = self.rnn(x)
        return y


def through(backend: str, module: nn.Module, shape: tuple[int, ...], precision: str, folder: Path,
            layout: str = "full") -> tuple[Any, float]:  # fmt: skip
    """Return a model of a backend, compiled, and the seconds of ``compile()``."""
    import hls4ml

    config = hls4ml.utils.config_from_pytorch_model(
        module, shape, granularity="name", default_precision=precision, backend=backend,
        channels_last_conversion=layout,
    )  # fmt: skip
    for layer in config["LayerName"].values():  # results as wide as auto has them need no rounding
        if "weight" in layer["Precision"]:
            layer["Precision"]["result"] = precision
    model = hls4ml.converters.convert_from_pytorch_model(
        module, hls_config=config, output_dir=str(folder / backend), backend=backend
    )
    began = time.perf_counter()
    model.compile()
    return model, time.perf_counter() - began


def both(
    make: Any, shape: tuple[int, ...], precision: str, layout: str = "full"
) -> tuple[Any, ...]:
    """Return hls4ml's outputs, ours, the float module's, and how often faster our compile is."""
    torch.manual_seed(SEED)
    module = make().eval()
    x = np.random.default_rng(SEED).normal(size=(SAMPLES, *shape)).astype(np.float32) * 1.5
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        models = [through(b, module, shape, precision, Path(folder), layout)
                  for b in ("Vitis", "NeuralMatrix")]  # fmt: skip
        theirs, ours = (np.asarray(m.predict(x)).reshape(SAMPLES, -1) for m, _ in models)
    with torch.no_grad():
        real = module(torch.from_numpy(x)).numpy()
    real = real[:, -1] if real.ndim == 3 else real
    return theirs, ours, real, models[0][1] / models[1][1]


def steps_apart(theirs: Any, ours: Any, step: float) -> tuple[float, float]:
    """Return the percentage of equal outputs, and the largest distance in steps."""
    return 100.0 * float((theirs == ours).mean()), float(np.abs(theirs - ours).max()) / step


def backend_rows() -> list[Row]:
    """Compare the backend with hls4ml's own emulation."""
    rows = []
    for bits, precision in ROUNDED.items():
        for name, make, shape in (("MLP", mlp, (16,)), ("CNN", cnn, (3, 16, 16))):
            theirs, ours, _, faster = both(make, shape, precision)
            step = 2.0**-4 if bits == "8 bits" else 2.0**-10
            equal, apart = steps_apart(theirs, ours, step)
            least = 100.0 if bits == "8 bits" else None
            rows += [
                Row(f"{name}, {bits}: equal outputs", equal, "%", "emulated", at_least=least),
                Row(f"{name}, {bits}: largest distance", apart, "steps", "emulated", at_most=1),
                Row(f"{name}, {bits}: compile faster", faster, "x", "measured", at_least=20),
            ]
    for name, make, shape, layout in (("softmax", softmax, (16,), "full"),
                                      ("LSTM", Recurrent, (10, 6), "off")):  # fmt: skip
        theirs, ours, real, faster = both(make, shape, FREE, layout)
        error = [float(np.sqrt(np.mean((y - real) ** 2))) for y in (theirs, ours)]
        rows += [
            Row(f"{name}: RMS error of hls4ml", 1e3 * error[0], "1e-3", "emulated"),
            Row(
                f"{name}: RMS error of ours",
                1e3 * error[1],
                "1e-3",
                "emulated",
                at_most=1e3 * error[0],
            ),
            Row(f"{name}: compile faster", faster, "x", "measured", at_least=20),
        ]
    return rows


def main() -> None:
    model = small_cnn(SIZE, SEED)
    x = np.random.default_rng(SEED).normal(size=(IMAGES, 3, SIZE, SIZE)).astype(np.float32)
    module = torch_twin(model)
    with torch.no_grad():
        float_y = module(torch.from_numpy(x)).numpy()
    with tempfile.TemporaryDirectory() as folder:
        # hls4ml prints its topology; standard output is for JSON lines.
        with redirect_stdout(sys.stderr):
            hls, build_seconds = hls4ml_emulation(module, Path(folder))
        few = np.ascontiguousarray(x[:HLS_IMAGES].transpose(0, 2, 3, 1))
        hls_y = np.asarray(hls.predict(few)).reshape(HLS_IMAGES, -1)
        hls_speed = HLS_IMAGES / median_seconds(lambda: hls.predict(few), 3)
    program = compile_for(model, "input", x[:1].shape, [{"input": x}])
    run = emulation(program, threads=1)
    our_y = run({"input": x})["logits"]
    our_speed = IMAGES / median_seconds(lambda: run({"input": x}))
    report("hls4ml", [
        Row("hls4ml build", build_seconds, "s", "measured"),
        Row("hls4ml emulation", hls_speed, "images/s", "measured"),
        Row("hls4ml top-1 as float", agreement(hls_y, float_y[:HLS_IMAGES]), "%", "emulated"),
        Row("our emulation", our_speed, "images/s", "measured"),
        Row("our top-1 as float", agreement(our_y, float_y), "%", "emulated"),
        Row("ratio", our_speed / hls_speed, "x", "measured", at_least=20),
        *backend_rows(),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
