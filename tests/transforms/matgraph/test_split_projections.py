# SPDX-License-Identifier: Apache-2.0
"""A product that is only read in slices of its channels becomes one product per slice.

In: small graphs.  Out: golden texts before and after the pass; the same values.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from golden_passes import check_pass, exact
from lowering_graphs import check, gemms, graph, random
from neuralmatrix.ir.graph.nodes import Binary, Graph, MatMul, Node, Slice, Unary
from neuralmatrix.ir.matgraph.ops import Gemm
from neuralmatrix.ir.types import Function

JOINT = (MatMul(("x", "w"), "p", "p.node"), Binary(("p", "bias"), "h"))
ROWS = {"x": (1, 3, 4)}
WEIGHTS = {"w": exact(1, 4, 8), "bias": exact(2, 8)}


def part(start: int, stop: int, y: str) -> Slice:
    """Return a slice of the product's channels."""
    return Slice(("h",), y, f"{y}.node", slices=((0, None, 1), (0, None, 1), (start, stop, 1)))


def make(*nodes: Node, outputs: Sequence[str] = ()) -> Graph:
    return graph([*JOINT, *nodes], ROWS, WEIGHTS, outputs)


PRODUCT = Binary(("a", "b"), "y", kind="mul")
CASES = {
    "halves": make(part(0, 4, "a"), part(4, 8, "b"), PRODUCT),
    "some_rows": make(
        part(1, 4, "a"), Slice(("h",), "b", slices=((0, None, 1), (0, 1, 1), (5, None, 1))),
        PRODUCT,
    ),
    "kept_overlap": make(part(0, 4, "a"), part(3, 7, "b"), PRODUCT),
    "kept_output": make(part(0, 4, "a"), part(4, 8, "b"), PRODUCT, outputs=("h", "y")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    check_pass(request, "split_projections", case, CASES[case])


def test_slices_that_overlap_keep_one_product() -> None:
    whole = (0, None, 1)
    nodes = [MatMul(("x", "w"), "h"), Slice(("h",), "a", slices=(whole, (0, 5, 1))),
             Slice(("h",), "b", slices=(whole, (4, 9, 1))), Binary(("a", "b"), "y")]  # fmt: skip
    mg = check(graph(nodes, {"x": (3, 6)}, {"w": random(1, 6, 9)}))
    assert len(gemms(mg)) == 1


def test_gate_and_operand_of_one_product() -> None:
    """The halves of a joint projection become two products without Moves."""
    whole = (0, None, 1)
    nodes = [
        MatMul(("x", "w"), "h"), Slice(("h",), "a", slices=(whole, (0, 8, 1))),
        Slice(("h",), "b", slices=(whole, (8, 16, 1))),
        Unary(("a",), "s", function=Function("silu")), Binary(("s", "b"), "y", kind="mul"),
    ]  # fmt: skip
    mg = check(graph(nodes, {"x": (3, 6)}, {"w": random(1, 6, 16)}))
    assert [type(op) for op in mg.ops] == [Gemm, Gemm]
