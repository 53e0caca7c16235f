# SPDX-License-Identifier: Apache-2.0
"""All that is refused of a model stands in one list, whichever stage refuses it.

In: models with an obstacle for the importer, the lowering, the outputs and the quantiser.
Out: every obstacle named in the first error, and nothing else.
"""

from __future__ import annotations

import neuralmatrix as nm
import numpy as np
import onnx
import pytest
from build_onnx import model, node, signed
from neuralmatrix.errors import NeuralMatrixError, UnsupportedModel

SCALE, ZERO_POINT = np.float32(0.1), np.int16(3)


def _refused(net: onnx.ModelProto, shape: tuple[int, ...]) -> list[str]:
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.normal(size=shape).astype(np.float32)} for _ in range(4)]
    with pytest.raises(UnsupportedModel) as caught:
        nm.compile(net, calibration=feeds)
    return [found.name for found in caught.value.nodes]


def test_importer_and_lowering_in_the_order_of_the_model() -> None:
    nodes = [
        node("Conv", ["x", "w"], ["c"]),
        node("Div", ["c", "zeros"], ["d"]),  # the lowering
        node("GlobalAveragePool", ["d"], ["m"]),
        node("PRelu", ["d", "m"], ["p"]),  # the importer, whose result is guessed
        node("Relu", ["p"], ["r"]),
        node("Div", ["r", "zeros"], ["e"]),  # the lowering, behind the guess
        node("QuantizeLinear", ["e", "scale", "zero"], ["q"]),  # the importer
        node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    constants = {"w": signed((4, 3, 3, 3)), "zeros": np.zeros((4, 1, 1), np.float32),
                 "scale": SCALE, "zero": ZERO_POINT}  # fmt: skip
    net = model(nodes, {"x": (1, 3, 8, 8)}, ["y"], constants, opset=21)
    assert _refused(net, (1, 3, 8, 8)) == ["Div:d", "PRelu:p", "Div:e", "QuantizeLinear:q"]


def test_the_host_the_lowering_and_the_importer() -> None:
    nodes = [
        node("TopK", ["x", "k"], ["v", "i"], axis=-1),  # the host, but not in the middle
        node("Div", ["x", "zeros"], ["d"]),
        node("MatMul", ["v", "w"], ["m"]),
        node("PRelu", ["m", "x"], ["p"]),
        node("Concat", ["p", "d"], ["y"], axis=-1),
    ]
    constants = {"k": np.array([8], np.int64), "w": signed((8, 8)),
                 "zeros": np.zeros(8, np.float32)}  # fmt: skip
    net = model(nodes, {"x": (1, 8)}, ["y"], constants, opset=17)
    assert _refused(net, (1, 8)) == ["TopK:v", "Div:d", "PRelu:p"]


def test_an_operator_of_the_lowering_has_its_own_name() -> None:
    net = model([node("Div", ["x", "zeros"], ["y"])], {"x": (1, 4)}, ["y"],
                {"zeros": np.zeros(4, np.float32)})  # fmt: skip
    with pytest.raises(UnsupportedModel, match=r"Div:y: Div .*divides by a constant that holds 0"):
        nm.compile(net, calibration=[{"x": np.ones((1, 4), np.float32)}])


def test_all_layers_that_the_quantiser_refuses() -> None:
    """Poles of a tangent within its range: known once inputs are, so that no list of nodes is."""
    nodes = [
        node("Tan", ["x"], ["t"]),
        node("MatMul", ["x", "w"], ["m"]),
        node("Tan", ["m"], ["u"]),
        node("Add", ["t", "u"], ["y"]),
    ]
    net = model(nodes, {"x": (1, 4)}, ["y"], {"w": 3 * np.eye(4, dtype=np.float32)})
    feeds = [{"x": np.linspace(-3, 3, 4, dtype=np.float32)[None]}]
    with pytest.raises(NeuralMatrixError) as caught:
        nm.compile(net, calibration=feeds, precision="int16")
    text = str(caught.value)
    assert "2 layers" in text and text.count("tan is infinite") == 2


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_rows_far_from_each_other_in_front_of_a_softmax(op: str) -> None:
    """What int8 holds to its 20 dB, int16 does not hold to its 35."""
    net = model([node(op, ["x"], ["y"], axis=-1)], {"x": (2, 4)}, ["y"])
    feeds = [{"x": np.arange(4, dtype=np.float32) + np.array([[0], [1e4]], np.float32)}]
    with pytest.raises(NeuralMatrixError, match=r"'x' spans 0 to 1e\+04, in steps of 0.31"):
        nm.compile(net, calibration=feeds, precision="int16")
    nm.compile(net, calibration=feeds)
    nm.compile(net, calibration=[{"x": feeds[0]["x"] % 100}], precision="int16")
