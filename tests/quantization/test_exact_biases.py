# SPDX-License-Identifier: Apache-2.0
"""Biases and outputs between prescribed scales.

In: QDQ convolutions with a normalisation behind them.  Out: onnxruntime's integers, all of them.
"""

from __future__ import annotations

import neuralmatrix as nm
import numpy as np
import pytest
from build_onnx import model, node, onnxruntime_outputs

F, I8 = np.float32, np.int8
SHAPE = (1, 6, 9, 9)


def convolution(top: int, transposed: bool, quantised: bool) -> object:
    """Return a convolution of weights -top..top with a normalisation and ReLU."""
    rng = np.random.default_rng(top)
    shape = (6, 8, 3, 3) if transposed else (8, 6, 3, 3)
    constants = {
        "sx": F(0.03), "zx": I8(0), "w": rng.integers(-top, top + 1, shape).astype(I8),
        "sw": (0.5 / top * rng.uniform(0.8, 1.2, 8)).astype(F), "zw": np.zeros(8, I8),
        "g": rng.uniform(0.5, 1.5, 8).astype(F), "b": rng.normal(size=8).astype(F),
        "m": rng.normal(size=8).astype(F), "v": rng.uniform(0.5, 1.5, 8).astype(F),
        "sy": F(0.11), "zy": np.uint8(0),
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", ["x", "sx", "zx"], ["q"]),
        node("DequantizeLinear", ["q", "sx", "zx"], ["d"]),
        node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], axis=int(transposed)),
        node("ConvTranspose" if transposed else "Conv", ["d", "wd"], ["c"]),
        node("BatchNormalization", ["c", "g", "b", "m", "v"], ["n" if quantised else "y"]),
    ]
    if quantised:
        nodes += [
            node("Relu", ["n"], ["r"]), node("QuantizeLinear", ["r", "sy", "zy"], ["p"]),
            node("DequantizeLinear", ["p", "sy", "zy"], ["y"]),
        ]  # fmt: skip
    return model(nodes, {"x": SHAPE}, ["y"], constants, opset=15)


@pytest.mark.gxx
@pytest.mark.parametrize("top", (1, 7, 127))
@pytest.mark.parametrize("transposed", (False, True), ids=("Conv", "ConvTranspose"))
@pytest.mark.parametrize("quantised", (False, True), ids=("float output", "integers"))
def test_a_normalisation_behind_prescribed_weights(
    top: int, transposed: bool, quantised: bool
) -> None:
    net = convolution(top, transposed, quantised)
    x = {"x": np.random.default_rng(1).normal(size=SHAPE).astype(F)}
    wanted = onnxruntime_outputs(net, x, optimize=False)["y"]
    program = nm.compile(net)
    found = np.asarray(nm.Session(program, threads=1).run(x)["y"])
    step = program.outputs[0].slot.qparams.scale
    exact = quantised or (top == 1 and not transposed)
    assert np.abs(found - wanted).max() <= (1e-5 if exact else 0.501 * step)
    assert nm.verify(net, program, x).ok


@pytest.mark.gxx
def test_a_mean_between_layers_is_not_rounded() -> None:
    rng = np.random.default_rng(3)
    constants = {
        "sx": F(2**-5), "zx": I8(0), "w": rng.integers(-127, 128, (8, 6, 3, 3)).astype(I8),
        "sw": F(2**-7), "sy": F(2**-3), "zy": I8(0),
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", ["x", "sx", "zx"], ["q"]),
        node("DequantizeLinear", ["q", "sx", "zx"], ["d"]),
        node("AveragePool", ["d"], ["a"], kernel_shape=[2, 2], strides=[1, 1]),
        node("DequantizeLinear", ["w", "sw", "zx"], ["wd"]),
        node("Conv", ["a", "wd"], ["c"]),
        node("QuantizeLinear", ["c", "sy", "zy"], ["p"]),
        node("DequantizeLinear", ["p", "sy", "zy"], ["y"]),
    ]
    net = model(nodes, {"x": SHAPE}, ["y"], constants, opset=15)
    x = {"x": np.random.default_rng(1).normal(size=SHAPE).astype(F)}
    found = nm.Session(nm.compile(net), threads=1).run(x)["y"]
    np.testing.assert_array_equal(found, onnxruntime_outputs(net, x, optimize=False)["y"])


def sum_of_two_paths() -> object:
    """Return a quantised sum of a tensor and a convolution of it, whose bias is a float."""
    rng = np.random.default_rng(5)
    constants = {
        "sx": F(0.031), "zx": np.uint8(128), "sy": F(0.0473), "zy": np.uint8(0),
        "w": rng.integers(-127, 128, (6, 6, 3, 3)).astype(I8), "zw": np.zeros(6, I8),
        "sw": (0.003 * rng.uniform(0.8, 1.2, 6)).astype(F), "b": rng.normal(size=6).astype(F),
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", ["x", "sx", "zx"], ["q"]),
        node("DequantizeLinear", ["q", "sx", "zx"], ["d"]),
        node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], axis=0),
        node("Conv", ["d", "wd", "b"], ["c"], pads=[1, 1, 1, 1]),
        node("Add", ["d", "c"], ["a"]), node("Relu", ["a"], ["r"]),
        node("QuantizeLinear", ["r", "sy", "zy"], ["p"]),
        node("DequantizeLinear", ["p", "sy", "zy"], ["y"]),
    ]  # fmt: skip
    return model(nodes, {"x": SUM_SHAPE}, ["y"], constants, opset=15)


SUM_SHAPE = (1, 6, 40, 40)


@pytest.mark.gxx
def test_a_bias_beside_a_sum_of_two_paths() -> None:
    net = sum_of_two_paths()
    x = {"x": np.random.default_rng(1).normal(size=SUM_SHAPE).astype(F)}
    wanted = onnxruntime_outputs(net, x, optimize=False)["y"]
    program = nm.compile(net)
    np.testing.assert_array_equal(nm.Session(program, threads=1).run(x)["y"], wanted)
    assert nm.verify(net, program, x).ok
