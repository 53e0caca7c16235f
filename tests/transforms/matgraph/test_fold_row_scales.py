# SPDX-License-Identifier: Apache-2.0
"""Columns are broadcast to all lanes, and factors of rows multiply the result of a product.

In: small graphs.  Out: golden texts before and after the pass; the same values.
"""

from __future__ import annotations

import pytest
from golden_passes import check_pass, exact
from graph_models import (
    dense_gat,
    features,
)
from graph_networks import GRAPH, check_floats, moves
from lowering_graphs import graph
from neuralmatrix.ir.graph.nodes import (
    Binary,
    Expand,
    Graph,
    MatMul,
    Node,
    Normalize,
    Reduce,
    Take,
    Transpose,
    Unary,
)
from neuralmatrix.ir.matgraph.ops import Gemm
from neuralmatrix.ir.types import Function

ROWS = {"x": (5, 8)}
WEIGHTS = {"w": exact(1, 8, 4), "v": exact(3, 8, 8), "a": exact(2, 8, 1), "b": exact(4, 8, 1),
           "c": exact(5, 4)}  # fmt: skip


def make(*nodes: Node) -> Graph:
    used = {n for node in nodes for n in node.inputs}
    return graph(nodes, ROWS, {n: c for n, c in WEIGHTS.items() if n in used})


NORM = Normalize(("x",), "n", "n.node", (1,), 1e-5, centered=False)
CASES = {
    "column_of_a_product": graph(
        [MatMul(("x", "a"), "l"), MatMul(("x", "b"), "r"), Transpose(("r",), "t", perm=(1, 0)),
         Binary(("l", "t"), "s"), Unary(("s",), "y", function=Function("relu"))],
        ROWS, {n: WEIGHTS[n] for n in "ab"},
    ),
    "moved_maximum": make(
        Reduce(("x",), "m", kind="max", axes=(1,)), Take(("m",), "t", indices=(4, 3, 2, 1, 0)),
        MatMul(("x", "v"), "h"), Expand(("t",), "e", shape=(5, 8)),
        Unary(("e",), "z", function=Function("sigmoid")), Binary(("z", "h"), "y", kind="mul"),
    ),
    "factor_behind_a_product": make(NORM, MatMul(("n", "w"), "y")),
    "factor_and_bias_behind_a_product": make(
        NORM, MatMul(("n", "w"), "h"), Binary(("h", "c"), "s"),
        Unary(("s",), "y", function=Function("relu")),
    ),
    "kept_scaled_rows": make(NORM, Binary(("n", "x"), "y", kind="mul")),
    "kept_product": make(MatMul(("x", "w"), "y")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    check_pass(request, "fold_row_scales", case, CASES[case])


def test_dense_gat_reads_columns_and_scales_rows_in_passing() -> None:
    mg = check_floats(dense_gat(GRAPH), {"x": features(GRAPH)})
    assert not moves(mg)
    last = mg.ops[-1]
    assert isinstance(last, Gemm) and last.epilogue.hadamard and last.rhs
