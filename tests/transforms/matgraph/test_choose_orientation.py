# SPDX-License-Identifier: Apache-2.0
"""Which matrices lie transposed, so that as few as possible are transposed by copying.

In: small graphs.  Out: golden texts before and after the pass; the same values.
"""

from __future__ import annotations

import pytest
from golden_passes import check_pass, exact
from lowering_graphs import graph
from neuralmatrix.ir.graph.nodes import Binary, Graph, MatMul, Node, Softmax, Transpose, Unary
from neuralmatrix.ir.types import Function

ROWS = {"x": (20, 8)}
WEIGHTS = {"a": exact(1, 20, 20) / 8, "w": exact(2, 8, 6), "b": exact(3, 6)}


def make(*nodes: Node) -> Graph:
    used = {n for node in nodes for n in node.inputs}
    return graph(nodes, ROWS, {n: c for n, c in WEIGHTS.items() if n in used})


LAYER = (MatMul(("x", "w"), "h", "h.node"), MatMul(("a", "h"), "p", "p.node"),
         Binary(("p", "b"), "s"), Unary(("s",), "y", function=Function("relu")))  # fmt: skip
CASES = {
    "graph_layer": make(*LAYER),
    "kept_transposed_by_the_host": make(*LAYER[:1], Transpose(("h",), "y", perm=(1, 0))),
    "transposed_between": make(
        MatMul(("x", "w"), "h"), Transpose(("h",), "t", perm=(1, 0)), MatMul(("t", "a"), "y")
    ),
    "kept_softmax": make(
        MatMul(("a", "x"), "h"), Softmax(("h",), "s", axis=1), Transpose(("s",), "t", perm=(1, 0)),
        Softmax(("t",), "y", axis=1),
    ),
    "kept_product": make(MatMul(("x", "w"), "y")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    check_pass(request, "choose_orientation", case, CASES[case])
