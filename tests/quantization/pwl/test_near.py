# SPDX-License-Identifier: Apache-2.0
"""Tables that share the search for an index against tables that search for their own.

In: functions, ranges and scales that differ little.
Out: errors like those of the own search, shared indices, results independent of the order.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from neuralmatrix.ir.functions import evaluate, kinks
from neuralmatrix.ir.types import Function
from neuralmatrix.quantization.pwl import near
from neuralmatrix.quantization.pwl.near import fit_near, rounded_up
from neuralmatrix.quantization.pwl.table import fit, lookup

INT8 = (-128, 127)
# function, real range, scale of y
CASES = [("gelu", (-8, 8), 0.05), ("exp", (-10, 0), 1 / 127), ("sigmoid", (-9, 9), 1 / 127),
         ("rsqrt", (0.02, 4), 0.05), ("hard_swish", (-6, 6), 0.05)]  # fmt: skip


def asked(name, x_range, y_scale, clip=INT8):
    largest = max(-x_range[0], x_range[1])
    scale = rounded_up(largest / 32766) * (-1 if x_range[1] <= 0 else 1)
    ends = sorted(end / scale for end in x_range)
    return Function(name), scale, (int(np.floor(ends[0])), int(np.ceil(ends[1]))), y_scale, clip, 64


@pytest.mark.parametrize(("name", "x_range", "y_scale"), CASES)
@pytest.mark.parametrize("factor", [1.0, 0.93, 1.07])
def test_errors_are_like_those_of_an_own_search(name, x_range, y_scale, factor):
    function, *rest = asked(name, x_range, y_scale * factor)
    seg = fit_near(function, *rest)
    own = fit(partial(evaluate, function), *rest, kinks=kinks(function))
    # a tenth: the shared problem's range and caps are up to 9 % wider
    assert seg.worst_error <= 1.1 * own.worst_error + 0.05
    x = np.arange(seg.x_range[0], seg.x_range[1] + 1)
    exact = np.clip(evaluate(function, x * seg.in_scale) / seg.out_scale, *seg.y_clip)
    error = np.abs(np.clip(lookup(seg, x), *seg.y_clip) - exact)
    assert error.max() == pytest.approx(seg.worst_error)


def test_scales_nearby_share_one_search_and_order_does_not_matter():
    first, second = asked("gelu", (-7.7, 8), 0.0707), asked("gelu", (-7.75, 8), 0.0750)
    near._near.cache_clear()
    a, b = fit_near(*first), fit_near(*second)
    assert near._near.cache_info().misses == 1
    near._near.cache_clear()
    c, d = fit_near(*second), fit_near(*first)
    for one, other in ((a, d), (b, c)):
        np.testing.assert_array_equal(one.k, other.k)
        np.testing.assert_array_equal(one.b, other.b)
        np.testing.assert_array_equal(one.sh, other.sh)
    assert a.out_scale == 0.0707 and b.out_scale == 0.0750


@pytest.mark.parametrize(("name", "x_range"), [("asin", (-1, 1)), ("sqrt", (0, 4))])
def test_no_range_leaves_the_domain(name, x_range):
    """The rounded range of arcsin would leave it, so that its table searches on its own."""
    function, scale, _, *rest = asked(name, x_range, 0.02)
    codes = tuple(int(end / scale) for end in x_range)
    assert np.isfinite(fit_near(function, scale, codes, *rest).worst_error)


def test_rounded_up():
    assert rounded_up(1.0) == 1.0 and rounded_up(1.01) == 2 ** (1 / 16)
    assert 1.0 <= rounded_up(0.97) / 0.97 < 2 ** (1 / 16)


def test_a_table_that_misses_its_bar_is_no_worse_than_its_own_search():
    """Three steps from the pole of rsqrt the shared index would have ten times the error."""
    function, scale, codes, _, _, _ = asked("rsqrt", (0.01, 100), 1.0)
    y_scale, clip = 9.0 / 32767, (-32768, 32767)
    seg = fit_near(function, scale, codes, y_scale, clip, 32)
    own = fit(partial(evaluate, function), scale, codes, y_scale, clip, 32)
    assert seg.worst_error <= max(seg.bar, own.worst_error)
