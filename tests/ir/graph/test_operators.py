# SPDX-License-Identifier: Apache-2.0
"""Shape rules, verification and text of Graphs, beyond what the operator cases cover.

In: nodes and Graphs, sound and broken.  Out: shapes, errors by their text, readable lines.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from neuralmatrix.errors import BadInput, BadModel
from neuralmatrix.ir.graph.nodes import (
    Binary,
    Concat,
    Conv,
    Expand,
    Graph,
    MatMul,
    Node,
    Pad,
    Pool,
    Reduce,
    Reshape,
    Slice,
    Take,
    Transpose,
    Unary,
)
from neuralmatrix.ir.graph.operators import RULES, ShapeError, evaluate, infer_shape, run_graph
from neuralmatrix.ir.graph.verify import to_text, verify_graph
from neuralmatrix.ir.types import Function, QParams

SHAPES = {"a": (2, 3), "b": (3, 4), "c": (5,), "i": (1, 3, 4, 4), "w": (6, 2, 3, 3)}
WINDOW = {"strides": (1, 1), "pads": (0,) * 4, "dilations": (1, 1)}

WRONG: list[tuple[Node, str]] = [
    (Binary(("a", "b"), "y"), "do not broadcast"),
    (MatMul(("a", "c"), "y"), r"inner sizes of \(2, 3\) and \(5,\) differ"),
    (Reshape(("a",), "y", shape=(4,)), r"\(2, 3\) does not reshape to \(4,\)"),
    (Transpose(("a",), "y", perm=(0, 0)), "perm"),
    (Slice(("a",), "y", slices=((0, None, 1),)), "1 slices of a tensor"),
    (Slice(("a",), "y", slices=((0, None, -1),) * 2), "steps must be positive"),
    (Pad(("a",), "y", pads=((0, 0), (-1, 0))), "must not be negative"),
    (Concat(("a", "b"), "y", axis=0), "do not concatenate on axis 0"),
    (Concat(("a", "c"), "y", axis=0), "do not concatenate"),
    (Expand(("a",), "y", shape=(2, 1)), "does not expand"),
    (Take(("a",), "y", axis=1, indices=(3,)), r"outside 0\.\.2"),
    (Reduce(("a",), "y", axes=(2,)), "axes"),
    (Conv(("i", "w"), "y", **WINDOW), "3 channels, but weight"),
    (Conv(("i", "w"), "y", **(WINDOW | {"strides": (1,)})), "entries for 2 spatial axes"),
    (Pool(("i",), "y", kernel=(5, 1), **WINDOW), r"spans \(5, 1\), more than the padded"),
    (Pool(("i",), "y", kernel=(3,), **WINDOW), "kernel"),
]


@pytest.mark.parametrize(("node", "text"), WRONG)
def test_operands_that_do_not_fit(node: Node, text: str) -> None:
    with pytest.raises(ShapeError, match=text):
        infer_shape(node, SHAPES)


def test_every_graph_node_has_a_rule() -> None:
    assert set(RULES) == set(Node.__subclasses__())


def test_results_keep_the_float_type() -> None:
    node = Unary(("a",), "y", function=Function("tanh"))
    for dtype in (np.float32, np.float64):
        assert evaluate(node, np.ones((2, 3), dtype)).dtype == dtype


def _graph() -> Graph:
    nodes = (
        MatMul(("x", "w"), "p", "product"),
        Unary(("p",), "y", "activation", function=Function("clip", (0.0, 6.0))),
    )
    constants = {"w": np.ones((3, 4), np.float32)}
    shapes = {"x": (2, 3), "w": (3, 4), "p": (2, 4), "y": (2, 4)}
    return Graph(("x",), ("y",), nodes, constants, shapes, {"y": QParams(0.5, -128)}, opset=17)


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "order": ({"nodes": _graph().nodes[::-1]}, "Unary 'y' .* reads 'p' before anything defines it"),
    "twice": ({"nodes": (*_graph().nodes, _graph().nodes[0])}, "defines a name that exists"),
    "shape": ({"shapes": {**_graph().shapes, "p": (2, 5)}}, r"has shape \(2, 4\), but the graph"),
    "output": ({"outputs": ("z",)}, "nothing defines the output 'z'"),
    "quant": ({"quant": {"z": QParams(1.0)}}, "a quantisation is given for 'z'"),
    "constant": ({"constants": {"w": np.ones((3, 5))}}, r"constant 'w' is \(3, 5\), not \(3, 4\)"),
    "nan": ({"constants": {"w": np.full((3, 4), np.nan)}}, "12 of 12 values are NaN or infinite"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_graphs_are_found(what: str) -> None:
    changes, text = BROKEN[what]
    graph = _graph()
    assert verify_graph(graph) is graph
    with pytest.raises(BadModel, match=text):
        verify_graph(replace(graph, **changes))


def test_running_needs_every_input() -> None:
    with pytest.raises(BadInput, match=r"no feed for \['x'\]; the inputs are \['x'\]"):
        run_graph(_graph(), {})


def test_running_with_and_without_rounding() -> None:
    x = np.asarray([[0.1, 0.2, 0.3], [-1, -2, -3]], np.float32)
    np.testing.assert_allclose(run_graph(_graph(), {"x": x})["y"][:, 0], [0.6, 0.0], rtol=1e-6)
    everything = run_graph(_graph(), {"x": x}, quantized=True, keep_all=True)
    np.testing.assert_array_equal(everything["y"][:, 0], [0.5, 0.0])
    assert set(everything) == {"x", "w", "p", "y"}


def test_text_of_a_graph() -> None:
    assert to_text(_graph()) == (
        "opset 17\n"
        "input x: 2x3\n"
        "constant w: 3x4\n"
        "p: 2x4 = MatMul(x, w)\n"
        "y: 2x4 [scale 0.5 zero -128] = Unary(p) function=clip(0.0, 6.0)\n"
        "outputs y\n"
    )
