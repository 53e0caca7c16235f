# SPDX-License-Identifier: Apache-2.0
"""The import of whole small models.

In: ONNX models.  Out: golden texts of the model and of its Graph; onnxruntime's values.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from build_onnx import model, node, onnxruntime_outputs
from golden_passes import exact
from golden_text import check_golden
from graph_text import graph_text
from neuralmatrix.frontend.onnx.import_onnx import import_onnx
from neuralmatrix.ir.graph.operators import run_graph

CONV = model(
    [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", "gamma", "beta", "mean", "var"], ["n"], epsilon=0.0),
        node("Relu", ["n"], ["r"]),
        node("GlobalAveragePool", ["r"], ["y"]),
    ],
    {"x": (1, 2, 4, 4)},
    ["y"],
    {
        "w": exact(1, 3, 2, 3, 3),
        "gamma": exact(2, 3),
        "beta": exact(3, 3),
        "mean": exact(4, 3),
        "var": np.full(3, 4.0, np.float32),
    },
)
FOLDED = model(
    [
        node("Add", ["a", "b"], ["shape"]),
        node("Reshape", ["x", "shape"], ["t"]),
        node("Softmax", ["t"], ["y"], axis=-1),
    ],
    {"x": (2, 6)},
    ["y"],
    {"a": np.array([1, 2], np.int64), "b": np.array([2, 2], np.int64)},
)
QUANTIZED = model(
    [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("DequantizeLinear", ["w", "ws"], ["v"]),
        node("MatMul", ["d", "v"], ["y"]),
    ],
    {"x": (1, 4)},
    ["y"],
    {
        "s": np.float32(0.125),
        "z": np.int8(3),
        "w": np.arange(-6, 6, dtype=np.int8).reshape(4, 3),
        "ws": np.float32(0.25),
    },
)
CASES = {"convolution": CONV, "folded_shape": FOLDED, "quantized": QUANTIZED}


def model_text(proto: onnx.ModelProto) -> str:
    """Return one line per input, constant and node of an ONNX model."""
    graph = proto.graph
    shapes = ([d.dim_value for d in i.type.tensor_type.shape.dim] for i in graph.input)
    lines = [f"input {i.name}: {shape}" for i, shape in zip(graph.input, shapes, strict=True)]
    lines += [f"constant {t.name}: {list(t.dims)}" for t in graph.initializer]
    for n in graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in n.attribute}
        lines.append(f"{', '.join(n.output)} = {n.op_type}({', '.join(n.input)}) {attributes}")
    return "\n".join([*lines, *(f"output {o.name}" for o in graph.output), ""])


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    proto = CASES[case]
    graph = import_onnx(proto, {})
    check_golden(request, f"import_onnx/{case}.in.txt", model_text(proto))
    check_golden(request, f"import_onnx/{case}.out.txt", graph_text(graph))
    feeds = {name: exact(5, *shape) for name, shape in graph.shapes.items() if name == "x"}
    found, wanted = run_graph(graph, feeds), onnxruntime_outputs(proto, feeds)
    # float32 sums of at most 18 products in another order
    np.testing.assert_allclose(found["y"], wanted["y"], rtol=1e-5, atol=1e-6)
