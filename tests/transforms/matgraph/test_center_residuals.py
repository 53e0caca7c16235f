# SPDX-License-Identifier: Apache-2.0
"""Streams that only normalisations and their own sums read get a mean of 0 over the channels.

In: small graphs.  Out: golden texts before and after the pass; the same values.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from golden_passes import check_pass, exact
from lowering_graphs import graph
from neuralmatrix.ir.graph.nodes import Binary, Concat, Graph, MatMul, Node, Normalize

ROWS = {"x": (1, 3, 8)}
WEIGHTS = {
    "w": exact(1, 8, 8),
    "v": exact(2, 8, 8),
    "place": exact(3, 3, 8),
    "token": exact(4, 1, 1, 8),
}


def norm(x: str, y: str) -> Normalize:
    return Normalize((x,), y, f"{y}.node", (2,), 1e-5)


def make(*nodes: Node, outputs: Sequence[str] = ()) -> Graph:
    used = {n for node in nodes for n in node.inputs}
    return graph(nodes, ROWS, {n: a for n, a in WEIGHTS.items() if n in used}, outputs)


STREAM = (MatMul(("x", "w"), "h"), Binary(("h", "place"), "s"), norm("s", "n"),
          MatMul(("n", "v"), "o"), Binary(("s", "o"), "t"), norm("t", "y"))  # fmt: skip
CASES = {
    "residual": make(*STREAM),
    "class_token": make(
        MatMul(("x", "w"), "h"), Concat(("token", "h"), "s", axis=1), norm("s", "y")
    ),
    "kept_output": make(*STREAM, outputs=("t", "y")),
    "kept_another_reader": make(*STREAM, MatMul(("t", "w"), "z"), outputs=("y", "z")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    check_pass(request, "center_residuals", case, CASES[case])
