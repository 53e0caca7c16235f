# SPDX-License-Identifier: Apache-2.0
"""A constant added per channel moves on into the readers' own biases.

In: small graphs.  Out: golden texts before and after the pass; the same values.
"""

from __future__ import annotations

import pytest
from golden_passes import check_pass, exact
from lowering_graphs import graph
from neuralmatrix.ir.graph.nodes import Binary, Concat, MatMul, Normalize, Slice

ROWS = {"x": (1, 3, 8)}
WEIGHTS = {"w": exact(1, 8, 4), "gamma": exact(2, 8), "beta": exact(3, 8)}
NORM = Normalize(("x", "gamma", "beta"), "n", "n.node", (2,), 1e-5)
CASES = {
    "into_a_product": graph([NORM, MatMul(("n", "w"), "y")], ROWS, WEIGHTS),
    "through_a_move": graph(
        [NORM, Slice(("n",), "s", slices=((0, None, 1), (1, None, 1), (0, None, 1))),
         MatMul(("s", "w"), "y")],
        ROWS, WEIGHTS,
    ),
    "into_a_residual": graph(
        [NORM, MatMul(("x", "v"), "h"), Binary(("h", "n"), "y")], 
        ROWS, {**WEIGHTS, "v": exact(4, 8, 8)},
    ),
    "read_as_it_is_too": graph(
        [NORM, MatMul(("n", "w"), "h"), Concat(("h", "n"), "y", axis=2)], ROWS, WEIGHTS
    ),
    "kept_output": graph([NORM], ROWS, {n: WEIGHTS[n] for n in ("gamma", "beta")}),
    "kept_without_bias": graph(
        [Normalize(("x", "gamma"), "n", "", (2,)), MatMul(("n", "w"), "y")],
        ROWS, {n: WEIGHTS[n] for n in ("gamma", "w")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    check_pass(request, "defer_bias", case, CASES[case])
