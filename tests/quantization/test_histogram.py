# SPDX-License-Identifier: Apache-2.0
"""The gap that divides far values from all others.

In: values with and without far ones.  Out: a magnitude between them, or None.
"""

from __future__ import annotations

import numpy as np
import pytest
from neuralmatrix.quantization.histogram import FAR, FAR_OF_FEW, FEW, Histogram


def counted(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(np.asarray(part, np.float32))
    return histogram


def normal(count: int = 4000) -> np.ndarray:
    return np.random.default_rng(0).normal(size=count)


@pytest.mark.parametrize("far", [-20.0, 100.0, -1e4, 1e9, -1e30, -3.4028235e38])
def test_the_gap_lies_between_far_values_and_the_others(far: float) -> None:
    for parts in ((normal(), [far]), ([far], normal()), (normal(), np.full(9000, far))):
        gap = counted(*parts).last_gap
        assert gap is not None
        assert np.abs(normal()).max() < gap < abs(far)


@pytest.mark.parametrize("power", [1, 3, 5])
def test_smooth_tails_have_no_gap(power: int) -> None:
    assert counted(normal(100_000) ** power).last_gap is None


@pytest.mark.parametrize(("count", "far"), [(10 * FEW, FAR), (FEW // 10, FAR_OF_FEW)])
def test_only_a_factor_makes_a_gap(count: int, far: float) -> None:
    ones = np.linspace(0.9, 1, count)
    assert counted(ones, [0.9 * far]).last_gap is None
    assert counted(ones, [1.1 * far]).last_gap is not None


def test_whole_numbers_are_known() -> None:
    assert counted([1, 2, -1e9]).whole_numbers
    assert not counted([1, 2], [0.5], [3]).whole_numbers


def test_zeros_and_negligible_values_have_no_gap() -> None:
    assert counted(np.zeros(5)).last_gap is None
    assert counted([1e-38, 1e-35]).last_gap is None
    assert counted([0, 0, -1e9]).last_gap is None  # 0 is not counted


def test_the_share_below_a_magnitude() -> None:
    found = counted(np.full(30, 0.1), np.full(10, 100.0))
    assert found.share_below(1) == pytest.approx(0.75)
    assert counted(np.zeros(3)).share_below(1) == 0
