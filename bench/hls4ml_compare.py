# SPDX-License-Identifier: Apache-2.0
"""Measures a small CNN in our emulation and in hls4ml's compiled emulation, in one run.

In: models/zoo.small_cnn (random weights).  Out: images/s of both, on one thread, and their ratio.
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
    ])  # fmt: skip


if __name__ == "__main__":
    main()
