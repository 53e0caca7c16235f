# SPDX-License-Identifier: Apache-2.0
"""Identity windows in front of operations that need their operand stored in another way.

In: small graphs.  Out: golden texts before and after the pass; the same values.
"""

from __future__ import annotations

import numpy as np
import pytest
from golden_passes import Exact, check_pass, exact
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph
from neuralmatrix.ir.types import Function, QParams


def scores(
    depth: int, function: str = "", bias: bool = False, quant: dict[str, QParams] | None = None
) -> MatGraph:
    """q k^T of four rows, k behind an activation."""
    b = Exact()
    b.tensor("x", (1, 1, 4, 8))
    b.gemm("q", "x", depth)
    b.gemm("k", "x", depth, epilogue=Epilogue(activation=Function(function) if function else None))
    terms = exact(9, 4) if bias else np.zeros(4, np.float32)
    b.product("y", "q", "k", 4, rhs_transposed=True, bias=terms)
    return b.graph(quant)


def moments(quant: dict[str, QParams] | None = None) -> MatGraph:
    """A product whose mean is taken and subtracted."""
    b = Exact()
    b.tensor("x", (1, 1, 3, 8))
    rows = b.rows((1, 1, 3, 8), ("mean", "mean"), ("square", "square"))
    b.gemm("g", "x", 8, epilogue=Epilogue(rows=rows))
    b.window("y", "g", minus="mean", epilogue=Epilogue(hadamard="square"))
    return b.graph(quant)


CASES = {
    "shifted_zero_points": scores(8, quant={"q": QParams(0.03, 5), "k": QParams(0.03, -7)}),
    "padding_lanes": scores(20, "sigmoid"),
    "bias_of_a_product": scores(8, bias=True),
    "mean_of_prescribed_int8": moments({"x": QParams(0.03, 3), "g": QParams(0.05, -9)}),
    "kept_relu_fills_zeros": scores(20, "relu"),
    "kept_whole_words": scores(32, "sigmoid"),
    "kept_moments": moments(),
}


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    check_pass(request, "legalize_operands", case, CASES[case])
