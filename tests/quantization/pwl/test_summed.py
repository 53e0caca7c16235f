# SPDX-License-Identifier: Apache-2.0
"""Tables of powers that are added up by the thousand: their sum is as exact as one of them.

In: differences from a maximum, of narrow and of wide distributions.  Out: sums of results.
"""

from __future__ import annotations

import numpy as np
import pytest
from neuralmatrix.ir.types import Function
from neuralmatrix.quantization.pwl.near import fit_near
from neuralmatrix.quantization.pwl.summed import fit_summed
from neuralmatrix.quantization.pwl.table import PwlTable, lookup

EXP = Function("exp")
X_SCALE, Y_SCALE = -16 / 32000, 1 / 32000
SIZES = (X_SCALE, (0, 32000), Y_SCALE, (0, 32639), 64)


def sum_error(table: PwlTable, spread: float) -> float:
    """Return the relative error of the sum of exp(x - max x) over 100,000 normal x."""
    x = np.random.default_rng(3).standard_normal(100_000) * spread
    codes = np.clip(np.rint((x - x.max()) / X_SCALE), 0, 32000).astype(np.int64)
    real = np.exp(x - x.max()).sum()
    return float(abs(lookup(table, codes).sum() * Y_SCALE - real) / real)


@pytest.mark.parametrize("spread", [0.5, 1, 2, 3, 5])
def test_a_sum_keeps_40_decibels(spread: float) -> None:
    assert sum_error(fit_summed(EXP, *SIZES), spread) < 0.01


def test_equal_errors_would_not() -> None:
    assert sum_error(fit_near(EXP, *SIZES), 2) > 0.02
    assert sum_error(fit_near(EXP, *SIZES), 5) > 1


def test_large_powers_stay_within_the_bar() -> None:
    table = fit_summed(EXP, *SIZES)
    assert table.count <= 64 and table.worst_error < table.bar
    small = np.arange(16000, 32001)
    errors = np.abs(lookup(table, small) - np.exp(small * X_SCALE) / Y_SCALE)
    assert errors.max() < 1  # of half a step, rounding alone


def test_int8_powers_are_summed_too() -> None:
    """Scores of attention: 0 to 127."""
    table = fit_summed(EXP, X_SCALE, (0, 32000), 1 / 127, (0, 127), 64)
    codes = np.arange(32001)
    errors = np.abs(lookup(table, codes) - np.exp(codes * X_SCALE) * 127)
    assert errors.max() < 1
