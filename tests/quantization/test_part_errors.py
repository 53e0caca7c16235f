# SPDX-License-Identifier: Apache-2.0
"""Errors by part: a part that one scale rounds away counts, however small it is.

In: a table of two columns, one a thousand times smaller.  Out: decades of squared error.
"""

from __future__ import annotations

import numpy as np
import pytest
from blocks import Maker
from neuralmatrix.ir.matgraph.facts import facts_of
from neuralmatrix.ir.matgraph.ops import Epilogue
from neuralmatrix.ir.types import Function
from neuralmatrix.quantization.fake_quant import sample
from neuralmatrix.quantization.part_errors import LEAST_ERROR, PartErrors
from neuralmatrix.quantization.split_scales import scale_groups
from neuralmatrix.quantization.unit_labels import labels_of

UNIT = np.array([1.0, 1e-3])


def errors(gemm: bool, precision: str) -> tuple[PartErrors, dict[int, float]]:
    """Return the errors around x, and the divisors that make its columns equal."""
    b = Maker()
    b.tensor("x", (1, 1, 1, 2))
    if gemm:
        b.gemm("y", "x", 3)
        b.ops[-1].weight[:] /= UNIT[:, None]  # type: ignore[union-attr,index]
    else:
        b.window("y", "x", epilogue=Epilogue(activation=Function("relu")))
    mg, rng = b.graph(), np.random.default_rng(0)
    seen = sample(mg, [{"x": np.float32(UNIT * rng.normal(size=(1, 1, 1, 2)))} for _ in range(16)])
    facts = facts_of(mg, scale_groups(mg))
    labels = labels_of(mg, facts, 16)
    divisors = dict(zip(labels["x"].ravel().tolist(), UNIT.tolist(), strict=True))
    return PartErrors(mg, facts, seen.values, labels, precision), divisors


@pytest.mark.parametrize("gemm", [True, False])
def test_a_lost_part_shows(gemm: bool) -> None:
    found, divisors = errors(gemm, "int8")
    before, after = found.of([("x",)], {}), found.of([("x",)], divisors)
    # the small column is lost: its squared error is its square, 6 decades above the least
    assert before > np.log10(1 / LEAST_ERROR) / 2
    assert after < before - 1.5


def test_int16_keeps_more() -> None:
    coarse, fine = (errors(False, precision)[0].of([("x",)], {}) for precision in ("int8", "int16"))
    assert fine < coarse - 2
