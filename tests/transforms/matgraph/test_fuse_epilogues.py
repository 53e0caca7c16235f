# SPDX-License-Identifier: Apache-2.0
"""Element-wise windows move into the epilogue or the weights of what makes their input.

In: small graphs.  Out: golden texts before and after the pass; the same values.
"""

from __future__ import annotations

from typing import Any

import pytest
from golden_passes import check_pass, exact
from lowering_graphs import graph
from neuralmatrix.ir.graph.nodes import Binary, Conv, Graph, MatMul, Node, Pad, Unary
from neuralmatrix.ir.types import Function, QParams

IMAGE = {"x": (1, 4, 3, 3)}
WEIGHTS = {
    "w": exact(1, 4, 4, 3, 3),
    "v": exact(2, 4, 4, 1, 1),
    "b": exact(3, 4),
    "k": exact(4, 4, 1, 1),
}
RELU = Function("relu")


def conv(x: str, w: str, y: str) -> Conv:
    pads = (1,) * 4 if w == "w" else (0,) * 4
    return Conv((x, w, "b"), y, f"{y}.node", (1, 1), pads, (1, 1))


def relu(x: str, y: str) -> Unary:
    return Unary((x,), y, f"{y}.node", function=RELU)


def make(*nodes: Node, **more: Any) -> Graph:
    used = {n for node in nodes for n in node.inputs}
    return graph(nodes, IMAGE, {n: a for n, a in WEIGHTS.items() if n in used}, **more)


RESIDUAL = (conv("x", "w", "c"), relu("c", "r"), conv("r", "v", "d"),
            Binary(("d", "x"), "s", kind="add"), relu("s", "y"))  # fmt: skip
CASES = {
    "residual": make(*RESIDUAL),
    "factors_and_terms": make(
        conv("x", "v", "c"), Binary(("c", "k"), "m", kind="mul"),
        Binary(("k", "m"), "s", kind="sub"), Binary(("s", "x"), "y", kind="mul"),
    ),
    "behind_a_move": make(
        conv("x", "v", "c"), Pad(("c",), "p", pads=((0, 0), (0, 0), (1, 0), (0, 1)), value=-2.0),
        relu("p", "y"),
    ),
    "kept_prescribed": make(
        conv("x", "v", "c"), relu("c", "y"),
        quant={"x": QParams(0.1), "c": QParams(0.2, 3), "y": QParams(0.05)},
    ),
    "kept_product": graph([MatMul(("x", "w"), "y")], {"x": (3, 4)}, {"w": exact(5, 4, 4)}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    check_pass(request, "fuse_epilogues", case, CASES[case])
