# SPDX-License-Identifier: Apache-2.0
"""Networks for the driver's tests, compiled once per process.

In: a name.  Out: a Program, and feeds for it; nothing is trained, only bytes are compared.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import neuralmatrix as nm
import numpy as np
from conftest import ROOT
from neuralmatrix.demo.tasks import task
from neuralmatrix.program.host_io import zero_feeds
from neuralmatrix.program.program import Program

from models.data_sets import find_data

Feeds = Mapping[str, Any]


def resnet8(size: int = 32) -> Any:
    """Return one residual block per stage, as MLPerf Tiny's network for CIFAR-10."""
    zoo = _zoo()

    def body(b: Any) -> None:
        x = b.unit("input", "stem", 16, 3)
        b.classifier(zoo._stages(b, x, zoo.basic_block, [16, 32, 64], [1, 1, 1]), 10)

    return zoo.network("resnet8", 3, size, ("logits", [1, 10]), body)


def _zoo() -> Any:
    folder = str(ROOT / "models")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    import zoo

    return zoo


@dataclass(frozen=True)
class Network:
    """Return a model and the shape of its one input; batch 1 unless it is a whole graph."""

    model: Callable[[], Any]
    shape: tuple[int, ...]
    precision: str = "int8"


def _demo(name: str) -> Callable[[], Path]:
    return lambda: task(name).model


def _trained_resnet8() -> Path:
    folder = find_data()
    assert folder is not None
    return folder / "mlperf_tiny" / "pretrainedResnet.onnx"


NETWORKS = {
    "cnn": Network(resnet8, (1, 3, 32, 32)),
    "transformer": Network(_demo("transformer"), (1, 1, 8, 8)),
    "gnn": Network(_demo("gnn"), (34, 34)),
    "int16": Network(_demo("digits"), (1, 1, 8, 8), "int16"),
    "mixed": Network(_demo("transformer"), (1, 1, 8, 8), "mixed"),
    "digits": Network(_demo("digits"), (1, 1, 8, 8)),
    "large": Network(lambda: _zoo().ZOO["mobilenet_v2"](size=64), (1, 3, 64, 64)),
    "trained": Network(_trained_resnet8, (1, 3, 32, 32)),
}


def _images(shape: tuple[int, ...], count: int, seed: int) -> Any:
    """Return signed values, beyond the calibrated ranges, and a share of exact zeros."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 1.5, (count, *shape[1:]) if shape[0] == 1 else shape)
    return np.where(rng.random(x.shape) < 0.1, 0, x).astype(np.float32)


@lru_cache(maxsize=16)
def program(name: str, board: str = "pynq-z2") -> Program:
    """Return the network compiled for a board."""
    net = NETWORKS[name]
    model = net.model()
    source = model if isinstance(model, Path) else model.SerializeToString()
    inputs = (name for name in _input_names(source))
    calibration = [{name: _images(net.shape, 16, 1) for name in inputs}]
    return nm.compile(source, board=board, calibration=calibration, precision=net.precision)


def _input_names(source: Any) -> list[str]:
    import onnx

    model = onnx.load(str(source)) if isinstance(source, Path) else onnx.load_from_string(source)
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value.name for value in model.graph.input if value.name not in constants]


def feeds(program: Program, images: int = 1, seed: int = 2) -> dict[str, Any]:
    """Return random feeds of that many images; a network whose batch is not 1 gets one batch."""
    shapes = {name: x.shape for name, x in zero_feeds(program.inputs).items()}
    return {name: _images(shape, images, seed) for name, shape in shapes.items()}
