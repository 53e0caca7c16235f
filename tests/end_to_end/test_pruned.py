# SPDX-License-Identifier: Apache-2.0
"""Pruned networks: sparse layers between dense ones, convolutions whose weights are all zero.

In: chains and residual blocks with random weights.  Out: onnxruntime's results, bit for bit those
of the integer reference.
"""

from __future__ import annotations

import neuralmatrix as nm
import numpy as np
import onnx
import pytest
from build_onnx import model, node, onnxruntime_outputs

pytestmark = pytest.mark.gxx

WIDTH = 128


def chain(plan: str) -> onnx.ModelProto:
    """Return layers with ReLU: "s" keeps 5 % of its weights, "d" all."""
    rng = np.random.default_rng(0)
    nodes, constants, last = [], {}, "x"
    for i, kind in enumerate(plan):
        share = 0.05 if kind == "s" else 1.0
        kept = rng.random((WIDTH, WIDTH)) < share
        weight = rng.normal(0, 1 / np.sqrt(WIDTH * share), (WIDTH, WIDTH)) * kept
        constants[f"w{i}"] = weight.astype(np.float32)
        nodes += [node("MatMul", [last, f"w{i}"], [f"c{i}"]), node("Relu", [f"c{i}"], [f"r{i}"])]
        last = f"r{i}"
    return model(nodes, {"x": (1, 8, WIDTH)}, [last], constants)


def zero_block(channels: int, size: int) -> onnx.ModelProto:
    """Return a convolution with weights of 0, plus an input."""
    weight = np.zeros((channels, channels, 3, 3), np.float32)
    nodes = [node("Conv", ["x", "w"], ["c"], pads=[1] * 4), node("Add", ["c", "r"], ["y"])]
    shape = (1, channels, size, size)
    return model(nodes, {"x": shape, "r": shape}, ["y"], {"w": weight})


@pytest.mark.parametrize(
    "proto", [chain("sdss"), chain("ssds"), zero_block(512, 2)], ids=["sdss", "ssds", "zero"]
)
def test_pruned_networks_run(proto: onnx.ModelProto) -> None:
    rng = np.random.default_rng(1)
    shapes = {
        i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in proto.graph.input
    }
    feeds = {name: rng.normal(size=s).astype(np.float32) for name, s in shapes.items()}
    program = nm.compile(proto, calibration=[feeds])
    found = nm.Session(program, threads=1).run(feeds)
    for name, right in onnxruntime_outputs(proto, feeds).items():
        error = np.linalg.norm(found[name] - right) / np.linalg.norm(right)
        assert error < 0.04
    assert nm.verify(proto, program, feeds).ok
