# SPDX-License-Identifier: Apache-2.0
"""QDQ models: the importer keeps scales, zero points and quantised values unchanged.

In: hand-made QDQ graphs and models made by onnxruntime.quantization.  Out: annotated Graphs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from build_onnx import model, node, onnxruntime_outputs, signed
from neuralmatrix.errors import UnsupportedModel
from neuralmatrix.frontend.onnx.import_onnx import import_onnx
from neuralmatrix.ir.graph.nodes import Conv, Graph, Transpose
from neuralmatrix.ir.graph.operators import run_graph
from neuralmatrix.ir.types import QParams
from neuralmatrix.transforms.graph.simplify import simplify
from onnx import TensorProto
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

KINDS = {
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int16": TensorProto.INT16,
    "uint16": TensorProto.UINT16,
}


def _params(name: str, scale: float, zero: int, dtype: str) -> dict[str, np.ndarray]:
    return {
        f"{name}_s": np.asarray(scale, np.float32),
        f"{name}_z": np.asarray(zero, np.dtype(dtype)),
    }


def _quantize(x: str, y: str, p: str) -> onnx.NodeProto:
    return node("QuantizeLinear", [x, f"{p}_s", f"{p}_z"], [y])


def _dequantize(x: str, y: str, p: str) -> onnx.NodeProto:
    return node("DequantizeLinear", [x, f"{p}_s", f"{p}_z"], [y])


def _float_feeds(feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: x.astype(np.float32) for name, x in feeds.items()}


def _check(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> Graph:
    """Imported, simplified and rounded at every annotation, the model equals onnxruntime."""
    graph = simplify(import_onnx(proto))
    wanted = onnxruntime_outputs(proto, feeds, optimize=False)
    found = run_graph(graph, _float_feeds(feeds), quantized=True)
    for name, array in wanted.items():
        # quantised values are equal; their reals may be rounded to float32 differently
        np.testing.assert_allclose(found[name], array.astype(np.float32), rtol=1e-6, atol=1e-6)
    return graph


@pytest.mark.parametrize(
    ("dtype", "zero", "expected"),
    [
        ("int8", 3, QParams(0.125, 3)),
        ("int8", -128, QParams(0.125, -128)),
        ("uint8", 0, QParams(0.125, -128)),
        ("uint8", 200, QParams(0.125, 72)),
        ("int16", 0, QParams(0.125, 0, True)),
        ("uint16", 32768, QParams(0.125, 0, True)),
    ],
)
def test_a_pair_becomes_an_annotation(dtype: str, zero: int, expected: QParams) -> None:
    nodes = [node("Relu", ["x"], ["r"]), _quantize("r", "q", "p"), _dequantize("q", "d", "p")]
    nodes.append(node("Neg", ["d"], ["y"]))
    constants = _params("p", 0.125, zero, dtype)
    proto = model(nodes, {"x": (3, 5)}, ["y"], constants, opset=21)
    graph = _check(proto, {"x": signed((3, 5))})
    assert [type(n).__name__ for n in graph.nodes] == ["Unary", "Unary"]
    assert graph.quant == {"r": expected}


def test_microsoft_nodes_are_the_same() -> None:
    nodes = [_quantize("x", "q", "p"), _dequantize("q", "d", "p"), node("Relu", ["d"], ["y"])]
    for one in nodes[:2]:
        one.domain = "com.microsoft"
    constants = _params("p", 0.25, 100, "uint16") | _params("p", 0.25, 32768, "uint16")
    proto = model(nodes, {"x": (3, 5)}, ["y"], constants, domains=["com.microsoft"])
    assert _check(proto, {"x": signed((3, 5))}).quant == {"x": QParams(0.25, 0, True)}


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_integer_inputs_and_outputs_hold_the_source_integers(dtype: str) -> None:
    nodes = [_dequantize("x", "d", "p"), node("Neg", ["d"], ["n"]), _quantize("n", "y", "r")]
    constants = _params("p", 0.5, 7, dtype) | _params("r", 0.375, 20, dtype)
    types = {"x": KINDS[dtype], "y": KINDS[dtype]}
    proto = model(nodes, {"x": (1, 256)}, ["y"], constants, types=types)
    limits = np.iinfo(dtype)
    every = np.arange(limits.min, limits.max + 1).astype(dtype)[None]
    graph = _check(proto, {"x": every})
    raw = QParams(1.0, 0 if dtype == "int8" else -128)
    assert graph.quant["x"] == graph.quant["y"] == raw


def test_layout_operators_between_a_pair_keep_the_codes() -> None:
    nodes = [
        _quantize("x", "q", "p"),
        node("MaxPool", ["q"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Transpose", ["m"], ["t"], perm=[0, 2, 3, 1]),
        node("Reshape", ["t", "shape"], ["f"]),
        _dequantize("f", "y", "p"),
    ]
    constants = _params("p", 0.1, 5, "uint8") | {"shape": np.asarray([2, -1], np.int64)}
    graph = _check(model(nodes, {"x": (2, 3, 4, 6)}, ["y"], constants), {"x": signed((2, 3, 4, 6))})
    assert set(graph.quant.values()) == {QParams(float(np.float32(0.1)), -123)}
    assert set(graph.quant) == {"x", *(n.output for n in graph.nodes)}


def test_codes_as_an_output_behind_a_layout_operator() -> None:
    nodes = [_quantize("x", "q", "p"), node("Transpose", ["q"], ["y"], perm=[1, 0])]
    constants = _params("p", 0.1, 5, "uint8")
    proto = model(nodes, {"x": (2, 3)}, ["y"], constants, types={"y": TensorProto.UINT8})
    _check(proto, {"x": signed((2, 3))})


def test_a_tensor_also_read_unrounded_keeps_its_reals() -> None:
    nodes = [node("Neg", ["x"], ["n"]), _quantize("n", "q", "p"), _dequantize("q", "d", "p")]
    nodes.append(node("Sub", ["n", "d"], ["y"]))
    graph = _check(
        model(nodes, {"x": (3, 5)}, ["y"], _params("p", 0.5, 0, "int8")), {"x": signed((3, 5))}
    )
    assert "n" not in graph.quant
    assert len(graph.quant) == 1


def test_two_scales_in_a_row_round_twice() -> None:
    nodes = [_quantize("x", "q", "p"), _dequantize("q", "d", "p")]
    nodes += [_quantize("d", "q2", "r"), _dequantize("q2", "d2", "r"), node("Neg", ["d2"], ["y"])]
    constants = _params("p", 0.3, 0, "int8") | _params("r", 0.5, 10, "int8")
    graph = _check(model(nodes, {"x": (3, 50)}, ["y"], constants), {"x": signed((3, 50))})
    assert len(graph.quant) == 2


def test_dequantising_with_another_scale_is_arithmetic() -> None:
    nodes = [_quantize("x", "q", "p"), _dequantize("q", "y", "r")]
    constants = _params("p", 0.25, 3, "int8") | _params("r", 0.5, -2, "int8")
    _check(model(nodes, {"x": (3, 5)}, ["y"], constants), {"x": signed((3, 5))})


def _convolution(weight: np.ndarray, scale: Any, zero: np.ndarray, **attrs: Any) -> onnx.ModelProto:
    nodes = [
        _quantize("x", "q", "p"),
        _dequantize("q", "d", "p"),
        node("DequantizeLinear", ["w", "w_s", "w_z"], ["wd"], **attrs),
        node("DequantizeLinear", ["b", "b_s"], ["bd"]),
        node("Conv", ["d", "wd", "bd"], ["c"]),
        node("Relu", ["c"], ["r"]),
        _quantize("r", "s", "o"),
        _dequantize("s", "y", "o"),
    ]
    constants = _params("p", 0.0625, 4, "int8") | _params("o", 0.25, -128, "int8")
    constants |= {"w": weight, "w_s": np.asarray(scale, np.float32), "w_z": zero}
    constants |= {"b": np.asarray([100, -50], np.int32), "b_s": np.asarray(0.001, np.float32)}
    return model(nodes, {"x": (1, 3, 6, 5)}, ["y"], constants)


def _quantized_values(dtype: str, low: int, high: int) -> np.ndarray:
    rng = np.random.default_rng(2)
    return rng.integers(low, high + 1, (2, 3, 3, 3)).astype(dtype)


@pytest.mark.parametrize(
    ("weight", "scale", "zero", "attrs"),
    [
        (_quantized_values("int8", -128, 127), 0.01, np.int8(0), {}),
        (_quantized_values("int8", -127, 127), [0.01, 0.003], np.zeros(2, np.int8), {"axis": 0}),
        (_quantized_values("uint8", 28, 255), 0.01, np.uint8(128), {}),
        (_quantized_values("int8", -100, 100), 0.01, np.int8(5), {}),
    ],
)
def test_weights_keep_their_codes(
    weight: np.ndarray, scale: Any, zero: np.ndarray, attrs: dict[str, Any]
) -> None:
    proto = _convolution(weight, scale, np.asarray(zero), **attrs)
    graph = _check(proto, {"x": signed((1, 3, 6, 5))})
    (conv,) = (n for n in graph.nodes if isinstance(n, Conv))
    name = conv.inputs[1]
    quantized_values = graph.constants[name] / graph.weight_scales[name]
    shape = (-1, 1, 1, 1)
    expected = weight.astype(np.int64) - np.asarray(zero, np.int64).reshape(shape)
    np.testing.assert_array_equal(np.rint(quantized_values), expected)
    assert [type(n).__name__ for n in graph.nodes] == ["Conv", "Unary"]
    assert set(graph.quant) == {"x", "y"}


def test_weights_that_int8_cannot_hold_are_refused() -> None:
    proto = _convolution(_quantized_values("int16", -300, 300), 0.01, np.asarray(5, np.int16))
    with pytest.raises(
        UnsupportedModel, match=r"reach -\d+..\d+; -128..127 is supported: quantise"
    ):
        import_onnx(proto)


def test_a_transposed_weight_keeps_its_scales() -> None:
    nodes = [
        node("DequantizeLinear", ["w", "w_s"], ["wd"], axis=0),
        node("Transpose", ["wd"], ["wt"], perm=[1, 0]),
        node("MatMul", ["x", "wt"], ["y"]),
    ]
    weight = np.random.default_rng(0).integers(-127, 128, (4, 3)).astype(np.int8)
    constants = {"w": weight, "w_s": np.asarray([0.1, 0.2, 0.3, 0.4], np.float32)}
    graph = import_onnx(model(nodes, {"x": (2, 3)}, ["y"], constants))
    assert graph.weight_scales["wt"].shape == (1, 4)
    quantized_values = graph.constants["wt"] / graph.weight_scales["wt"]
    np.testing.assert_array_equal(np.rint(quantized_values), weight.T)


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_weights_keep_their_scales(transposed: int) -> None:
    weight = np.random.default_rng(0).integers(-127, 128, (4, 3)).astype(np.int8)
    nodes = [
        node("DequantizeLinear", ["w", "w_s"], ["wd"], axis=1 - transposed),
        node("Gemm", ["x", "wd"], ["y"], transB=transposed, alpha=0.5),
    ]
    scales = np.asarray([0.1, 0.2, 0.3, 0.4], np.float32)
    constants = {"w": weight if transposed else weight.T.copy(), "w_s": scales}
    graph = import_onnx(model(nodes, {"x": (2, 3)}, ["y"], constants))
    (product,) = graph.nodes
    name = product.inputs[1]
    quantized_values = graph.constants[name] / graph.weight_scales[name]
    np.testing.assert_array_equal(np.rint(quantized_values), weight.T)


def test_a_constant_operand_is_annotated_not_a_weight() -> None:
    nodes = [_dequantize("c", "cd", "p"), node("Add", ["x", "cd"], ["y"])]
    constants = _params("p", 0.1, 100, "uint8") | {"c": np.asarray([0, 100, 255], np.uint8)}
    graph = import_onnx(model(nodes, {"x": (2, 3)}, ["y"], constants))
    assert graph.quant["cd"] == QParams(float(np.float32(0.1)), -28)


@pytest.mark.parametrize(
    ("nodes", "constants", "text"),
    [
        (
            [_quantize("x", "q", "p"), _dequantize("q", "y", "p")],
            _params("p", 0.1, 3, "int16"),
            "16-bit tensors are supported with zero point 0",
        ),
        (
            [_quantize("x", "q", "p"), node("Abs", ["q"], ["h"]), _dequantize("h", "y", "p")],
            _params("p", 0.1, 3, "int8"),
            "computes with quantised integers; put DequantizeLinear before it",
        ),
        (
            [
                _quantize("x", "q", "p"),
                _quantize("x", "r", "o"),
                node("Concat", ["q", "r"], ["c"], axis=0),
                _dequantize("c", "y", "p"),
            ],
            _params("p", 0.1, 3, "int8") | _params("o", 0.2, 3, "int8"),
            "joins integers of different scales",
        ),
        (
            [_quantize("x", "q", "p"), _dequantize("q", "y", "p")],
            {"p_s": np.asarray([0.1, 0.2], np.float32), "p_z": np.zeros(2, np.int8)},
            "one scale per channel of an activation; one per tensor is supported",
        ),
    ],
)
def test_refused_quantisation(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], text: str
) -> None:
    with pytest.raises(UnsupportedModel, match=text):
        import_onnx(model(nodes, {"x": (2, 2)}, ["y"], constants, opset=21))


# ---------------------------------------------------------------- onnxruntime.quantization


class _Random(CalibrationDataReader):
    def __init__(self, count: int) -> None:
        rng = np.random.default_rng(0)
        shape = (1, 3, 12, 10)
        self.feeds = iter([{"x": rng.normal(size=shape).astype(np.float32)} for _ in range(count)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.feeds, None)


def _network() -> onnx.ModelProto:
    """Return convolutions, residual, concatenation, pools, reshape, a dense layer, softmax."""
    rng = np.random.default_rng(3)

    def weight(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.4, shape).astype(np.float32)

    constants = {
        "w1": weight(8, 3, 3, 3),
        "b1": weight(8),
        "w2": weight(8, 1, 3, 3),
        "w3": weight(16, 10),
        "b3": weight(10),
        "shape": np.asarray([0, -1], np.int64),
    }
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 1]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1], group=8),
        node("Add", ["c2", "r1"], ["s"]),
        node("Concat", ["s", "r1"], ["k"], axis=1),
        node("MaxPool", ["k"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Sigmoid", ["m"], ["g"]),
        node("GlobalAveragePool", ["g"], ["a"]),
        node("Reshape", ["a", "shape"], ["f"]),
        node("Gemm", ["f", "w3", "b3"], ["y"]),
    ]
    return model(nodes, {"x": (1, 3, 12, 10)}, ["y"], constants, opset=13)


@pytest.mark.parametrize("activation", [QuantType.QInt8, QuantType.QUInt8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_models_of_quantize_static(
    tmp_path: Path, activation: QuantType, per_channel: bool
) -> None:
    source, target = tmp_path / "float.onnx", tmp_path / "qdq.onnx"
    onnx.save(_network(), source)
    quantize_static(
        source,
        target,
        _Random(8),
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
        activation_type=activation,
        weight_type=QuantType.QInt8,
    )
    graph = simplify(import_onnx(target))
    weights = [n.inputs[1] for n in graph.nodes if isinstance(n, Conv)]
    assert all(graph.weight_scales[w].size == (8 if per_channel else 1) for w in weights)
    output = graph.quant[graph.outputs[0]]
    steps = 0.0
    for seed in range(20):
        x = signed((1, 3, 12, 10), seed)
        wanted = onnxruntime_outputs(onnx.load(target), {"x": x}, optimize=False)["y"]
        found = run_graph(graph, {"x": x}, quantized=True)["y"]
        steps = max(steps, float(np.abs(found - wanted).max()) / output.scale)
    # float32 sums in another order can round to the other side: one step, and one more where that
    # happened inside the network
    assert steps < 2.01


def test_transposed_annotations_survive_simplification() -> None:
    """Two transposes around a tensor of the same prescribed scale are removed, of another stay."""
    nodes = [
        _quantize("x", "q", "p"),
        _dequantize("q", "d", "p"),
        node("Transpose", ["d"], ["t"], perm=[1, 0]),
        _quantize("t", "tq", "r"),
        _dequantize("tq", "td", "r"),
        node("Transpose", ["td"], ["u"], perm=[1, 0]),
        node("Neg", ["u"], ["y"]),
    ]
    for scale, left in ((0.25, 0), (0.5, 2)):
        constants = _params("p", 0.25, 0, "int8") | _params("r", scale, 0, "int8")
        graph = _check(model(nodes, {"x": (2, 3)}, ["y"], constants), {"x": signed((2, 3))})
        assert sum(isinstance(n, Transpose) for n in graph.nodes) == left
