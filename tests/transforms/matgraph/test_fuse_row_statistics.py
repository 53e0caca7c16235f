# SPDX-License-Identifier: Apache-2.0
"""Statistics move into the operation that makes their tensor; a maximum left over is a RowMax.

In: small graphs.  Out: golden texts before and after the pass; the same values.
"""

from __future__ import annotations

import pytest
from golden_passes import check_pass, exact
from lowering_graphs import graph
from neuralmatrix.ir.graph.nodes import Binary, MatMul, Normalize, Softmax

ROWS = {"x": (1, 3, 8)}
WEIGHTS = {"w": exact(1, 8, 8)}


def norm(x: str, y: str) -> Normalize:
    return Normalize((x,), y, f"{y}.node", (2,), 1e-5)


CASES = {
    "moments_of_a_product": graph([MatMul(("x", "w"), "h"), norm("h", "y")], ROWS, WEIGHTS),
    "kept_moments_of_an_input": graph([norm("x", "y")], ROWS),
    "maximum_of_an_input": graph([Softmax(("x",), "y", axis=2)], ROWS),
    "maximum_of_a_product": graph(
        [MatMul(("x", "w"), "h"), Softmax(("h",), "y", axis=2)], ROWS, WEIGHTS
    ),
    "kept_beside_a_factor": graph(
        [MatMul(("x", "w"), "h"), Binary(("h", "x"), "g", kind="mul"), norm("g", "y")],
        ROWS, WEIGHTS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    check_pass(request, "fuse_row_statistics", case, CASES[case])
