# SPDX-License-Identifier: Apache-2.0
"""Scale migration: golden texts, exactness in real arithmetic, and where it must not be done.

In: small networks with uneven channels.  Out: factors in weights; less error in integers.
"""

from __future__ import annotations

import numpy as np
import pytest
from blocks import Maker
from golden_passes import check_texts, equalized, exact, same_values
from graph_text import graph_text
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph


def scaled_rows(step: float, epilogue: Epilogue | None = None) -> MatGraph:
    """A window whose channels grow by ``step``, read by a product that makes up for it."""
    b = Maker()
    b.tensor("x", (1, 1, 24, 8))
    gamma = step ** np.arange(-4.0, 4.0)
    b.window("n", "x", weight=gamma.reshape(1, 1, 8), epilogue=epilogue or Epilogue())
    b.gemm("y", "n", 4)
    weight = b.ops[-1].weight  # type: ignore[union-attr]
    weight[:] = exact(1, 1, 1, 8, 4) / gamma.reshape(8, 1)  # type: ignore[index]
    return b.graph()


CASES = {
    "uneven_channels": scaled_rows(4.0),
    "kept_even_channels": scaled_rows(1.0),
    "kept_with_a_residual": scaled_rows(4.0, Epilogue("x")),
}


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    mg = CASES[case]
    found = equalized(mg, [{"x": exact(seed, 1, 1, 24, 8)} for seed in (2, 3)])
    check_texts(request, f"equalize/{case}", graph_text(mg), graph_text(found))
    same_values(mg, found)
