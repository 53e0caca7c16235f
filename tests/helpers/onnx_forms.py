# SPDX-License-Identifier: Apache-2.0
"""Decomposed forms of exporters, written like arithmetic.

In: a chain of ONNX nodes.  Out: its model, and the simplified graph, checked against onnxruntime.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from build_onnx import model, node, onnxruntime_outputs, signed
from neuralmatrix.frontend.onnx.import_onnx import import_onnx
from neuralmatrix.ir.graph.nodes import Graph
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float
from neuralmatrix.transforms.graph.simplify import simplify
from targets import lower

Nodes = list[onnx.NodeProto]


Constants = dict[str, np.ndarray]


class Form:
    """A chain of ONNX nodes that is written like arithmetic."""

    def __init__(self) -> None:
        self.nodes: Nodes = []
        self.constants: Constants = {}

    def op(self, kind: str, *inputs: object, **attributes: object) -> str:
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        out = f"t{len(self.nodes)}"
        self.nodes.append(node(kind, names, [out], **attributes))
        return out

    def constant(self, value: object) -> str:
        name = f"c{len(self.constants)}"
        array = np.asarray(value)
        self.constants[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
        return name

    def mean(self, x: str, axes: Sequence[int] = (-1,)) -> str:
        return self.op("ReduceMean", x, axes=list(axes), keepdims=1)

    def model(self, inputs: dict[str, Sequence[int]], **types: int) -> onnx.ModelProto:
        return model(self.nodes, inputs, [self.nodes[-1].output[0]], self.constants, types=types)


def checked(
    proto: onnx.ModelProto, feeds: dict[str, np.ndarray] | None = None, tolerance: float = 2e-5
) -> Graph:
    """Return the simplified graph; its lowered form has to agree with onnxruntime."""
    shapes = {
        i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in proto.graph.input
    }
    feeds = feeds or {name: signed(shape, 3 + i) for i, (name, shape) in enumerate(shapes.items())}
    simple = simplify(import_onnx(proto))
    mg = lower(simple)
    found = port_outputs(mg, run_float(mg, feeds))
    for name, wanted in onnxruntime_outputs(proto, feeds).items():
        # float32 sums of a few dozen terms in another order
        np.testing.assert_allclose(found[name], wanted, rtol=tolerance, atol=tolerance)
    return simple


def kinds(graph: Graph) -> list[str]:
    return [type(n).__name__ for n in graph.nodes]


def layer_norm(form: Form, x: str, square: str, divide: str) -> str:
    """Append (x - mean) / sqrt(variance + epsilon) in one of its forms."""
    centered = form.op("Sub", x, form.mean(x))
    again = form.op("Sub", x, form.mean(x)) if square == "twice" else centered
    if square == "mul":
        power = form.op("Mul", again, again)
    else:
        power = form.op("Pow", again, 2.0)
    shifted = form.op("Add", form.mean(power), 1e-5)
    if divide == "pow":
        return form.op("Mul", centered, form.op("Pow", shifted, -0.5))
    root = form.op("Sqrt", shifted)
    if divide == "div":
        return form.op("Div", centered, root)
    if divide == "one-over":
        return form.op("Mul", centered, form.op("Div", 1.0, root))
    return form.op("Mul", form.op("Reciprocal", root), centered)
