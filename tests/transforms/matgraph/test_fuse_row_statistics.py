# SPDX-License-Identifier: Apache-2.0
"""Statistics are fused into the producer of their tensor; any other maximum is a RowMax.

In: small graphs.  Out: golden texts before and after the pass; the same values.
"""

from __future__ import annotations

import numpy as np
import pytest
from golden_passes import check_pass, exact
from lowering_graphs import check, graph
from neuralmatrix.ir.graph.nodes import Binary, MatMul, Normalize, Softmax, Unary
from neuralmatrix.ir.matgraph.ops import Gemm, RowMax
from neuralmatrix.ir.types import Function
from norm_graphs import WEIGHTS, make, norm, rows, sizes

ROWS = {"x": (1, 3, 8)}
SMALL = {"w": exact(1, 8, 8)}


def small_norm(x: str, y: str) -> Normalize:
    return Normalize((x,), y, f"{y}.node", (2,), 1e-5)


CASES = {
    "moments_of_a_product": graph([MatMul(("x", "w"), "h"), small_norm("h", "y")], ROWS, SMALL),
    "kept_moments_of_an_input": graph([small_norm("x", "y")], ROWS),
    "maximum_of_an_input": graph([Softmax(("x",), "y", axis=2)], ROWS),
    "maximum_of_a_product": graph(
        [MatMul(("x", "w"), "h"), Softmax(("h",), "y", axis=2)], ROWS, SMALL
    ),
    "kept_beside_a_factor": graph(
        [MatMul(("x", "w"), "h"), Binary(("h", "x"), "g", kind="mul"), small_norm("g", "y")],
        ROWS, SMALL,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    check_pass(request, "fuse_row_statistics", case, CASES[case])


def test_statistics_come_from_the_producing_product() -> None:
    """x W makes mean and square; two operations on rows and one pass follow, none for beta."""
    mg = check(make(
        MatMul(("x", "w"), "h"), Unary(("h",), "a", function=Function("tanh")),
        norm("a", "n", "gamma", "beta"), MatMul(("n", "v"), "y"),
    ))  # fmt: skip
    assert rows(mg) == {"a": ("mean", "square")}
    assert [type(op).__name__ for op in mg.ops] == ["Gemm", "Window", "Window", "Window", "Gemm"]
    assert sizes(mg) == [5, 5, 120]
    last = mg.ops[-1]
    assert isinstance(last, Gemm)
    # one float32 product with a float64 sum
    np.testing.assert_allclose(last.bias, WEIGHTS["beta"] @ WEIGHTS["v"], rtol=1e-5, atol=1e-6)


def test_statistics_beside_a_product_of_two_take_a_pass() -> None:
    """The square uses the multiplier of the Hadamard operand."""
    mg = check(make(MatMul(("x", "w"), "h"), Binary(("h", "x"), "g"), norm("g", "y")))
    assert rows(mg) == {"g": ("mean", "square")}
    product = Binary(("h", "x"), "g", kind="mul")
    mg = check(make(MatMul(("x", "w"), "h"), product, norm("g", "y")))
    assert "g" not in rows(mg) and len(rows(mg)) == 1


def test_maximum_of_a_stored_tensor_is_a_row_maximum() -> None:
    mg = check(graph([Softmax(("x",), "y", axis=1)], {"x": (3, 7)}))
    assert isinstance(mg.ops[0], RowMax)
    mg = check(make(MatMul(("x", "w"), "h"), Softmax(("h",), "y", axis=2)))
    assert rows(mg) == {"h": ("max",), "y:exp": ("sum",)}
