# SPDX-License-Identifier: Apache-2.0
"""Segment tables against the functions they stand for and against the written arithmetic.

In: scalar functions and ranges.
Out: error bars, exactness at kinks, bit-exact look-up, clear refusals.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neuralmatrix import segments
from neuralmatrix.errors import BadInput
from neuralmatrix.functions import FUNCTIONS, evaluate
from neuralmatrix.ir import Function
from neuralmatrix.isa import SegKind
from neuralmatrix.segments import Segments, aligned_scale, fit, lookup, segment_index

RANGES = {
    "identity": ((), -5, 7),
    "relu": ((), -3, 7),
    "leaky_relu": ((0.1,), -3, 7),
    "clip": ((-1.5, 4.5), -9, 9),
    "elu": ((1.0,), -8, 8),
    "selu": ((1.67326, 1.0507), -8, 8),
    "celu": ((0.5,), -6, 9),
    "sigmoid": ((), -40, 40),
    "tanh": ((), -5, 5),
    "hard_sigmoid": ((1 / 6, 0.5), -9, 9),
    "hard_swish": ((), -8, 8),
    "mish": ((), -10, 10),
    "softplus": ((), -10, 10),
    "softsign": ((), -5, 5),
    "silu": ((), -10, 10),
    "neg": ((), -5, 7),
    "abs": ((), -7, 5),
    "exp": ((), -16, 0),
    "log": ((), 0.01, 100),
    "sqrt": ((), 0, 100),
    "reciprocal": ((), 1, 64),
    "rsqrt": ((), 0.01, 100),
    "erf": ((), -6, 6),
    "gelu": ((), -8, 8),
    "gelu_tanh": ((), -8, 8),
    "square": ((), -10, 10),
}
KINKS = {
    "relu": (0,),
    "leaky_relu": (0,),
    "abs": (0,),
    "clip": (-1.5, 4.5),
    "hard_sigmoid": (-3, 3),
}


def scalar(name):
    """The function and its range."""
    params, lo, hi = RANGES[name]
    return (lambda x: evaluate(Function(name, params), x)), lo, hi


def quantised(function, lo, hi, kinks=()):
    """Scales that use the whole int16 input and the whole int8 output."""
    x_scale = aligned_scale(max(abs(lo), abs(hi)), kinks)
    codes = (int(np.ceil(lo / x_scale)), int(np.floor(hi / x_scale)))
    y = function(np.arange(codes[0], codes[1] + 1) * x_scale)
    y_lo, y_hi = min(y.min(), 0), max(y.max(), 0)
    y_scale = (y_hi - y_lo) / 255
    zero_point = -128 - round(y_lo / y_scale)
    return x_scale, codes, y_scale, (-128 - zero_point, 127 - zero_point)


def test_every_scalar_function_has_a_range_here():
    assert set(RANGES) == set(FUNCTIONS)


@pytest.mark.parametrize("name", RANGES)
def test_int8_output_is_within_one_step_with_64_segments(name):
    function, lo, hi = scalar(name)
    x_scale, codes, y_scale, clip = quantised(function, lo, hi)
    seg = fit(function, x_scale, codes, y_scale, clip, 64)
    x = np.arange(codes[0], codes[1] + 1)
    y = np.clip(lookup(seg, x), *clip)
    error = np.abs(y - np.clip(function(x * x_scale) / y_scale, *clip))
    assert seg.count <= 64
    assert error.max() <= 1.0
    assert error.max() == pytest.approx(seg.worst_error)
    assert error.mean() == pytest.approx(seg.mean_error)


@pytest.mark.parametrize("name", KINKS)
def test_kinks_cost_one_rounding(name):
    function, lo, hi = scalar(name)
    x_scale, codes, y_scale, clip = quantised(function, lo, hi, KINKS[name])
    seg = fit(function, x_scale, codes, y_scale, clip, 64, kinks=KINKS[name])
    # Half a step is the rounding itself; 1/64 is the slope's 16-bit rounding over 256 steps.
    assert seg.worst_error <= 0.5 + 1 / 64


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs"])
def test_kink_at_zero_is_exact_at_int16_without_being_named(name):
    function, lo, hi = scalar(name)
    x_scale = aligned_scale(max(abs(lo), hi))
    codes = (round(lo / x_scale), round(hi / x_scale))
    seg = fit(function, x_scale, codes, x_scale, (-32640, 32639), 64)
    assert seg.count == 2
    # Half a step is the rounding itself; k has 15 bits, so 32767 codes add at most one half more.
    assert seg.worst_error <= 1.0


def test_reciprocal_prefers_the_logarithmic_index():
    function, lo, hi = scalar("reciprocal")
    tables = {
        kind: fit(function, *quantised(function, lo, hi), 64, kind=kind)
        for kind in ("uniform", "log", "auto")
    }
    assert tables["auto"].kind == SegKind.LOG
    assert tables["auto"].worst_error == tables["log"].worst_error < tables["uniform"].worst_error


def test_wide_softsign_needs_128_segments():
    function = scalar("softsign")[0]
    for count, bar in ((64, 2.0), (128, 1.0)):
        assert fit(function, *quantised(function, -20, 20), count).worst_error <= bar


def test_more_segments_are_never_worse():
    function, lo, hi = scalar("tanh")
    errors = [fit(function, *quantised(function, lo, hi), n).worst_error for n in (4, 16, 64)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 4 * errors[2]


def test_int16_output_reaches_12_bits_with_256_segments():
    codes = (-32767, 32767)
    for name in ("sigmoid", "tanh", "gelu", "silu"):
        function, lo, hi = scalar(name)
        x_scale = max(abs(lo), hi) / 32767
        y_scale = np.abs(function(np.array([lo, hi], float))).max() / 32639
        seg = fit(function, x_scale, codes, y_scale, (-32640, 32639), 256)
        assert seg.worst_error <= 65536 * 2**-12


@pytest.mark.parametrize(
    "codes", [(-32768, 32767), (-32768, -32767), (32700, 32767), (0, 0), (5, 6)]
)
@pytest.mark.parametrize("count", [2, 3, 17, 64])
def test_ranges_at_the_ends_of_int16(codes, count):
    seg = fit(np.tanh, 1e-4, codes, 1 / 127, (-128, 127), count)
    assert seg.count <= count
    assert (seg.k.dtype, seg.b.dtype, seg.sh.dtype) == (np.int16, np.int32, np.uint8)
    assert -32768 <= seg.x0 <= 32767 and 0 <= seg.shift <= 15 and seg.sh.max() <= 31
    assert seg.worst_error < 64


def test_infinities_are_capped_and_steep_lines_fit_their_format():
    seg = fit(lambda x: np.log(np.maximum(x, 0)), 1.0, (0, 1000), 0.05, (-128, 127), 64)
    assert lookup(seg, np.array([0]))[0] <= -128
    step = fit(lambda x: np.where(x > 0, 1e9, -1e9), 1.0, (-100, 100), 1.0, (-128, 127), 8)
    assert step.worst_error == 0


def plain_index(seg: Segments, x: int) -> int:
    """docs/numerics.md in plain Python."""
    if seg.kind == SegKind.UNIFORM:
        i = (x - seg.x0) >> seg.shift
    else:
        d = max(x - seg.x0, 1)
        e = d.bit_length() - 1
        f = seg.shift
        mantissa = ((d >> (e - f)) if e >= f else (d << (f - e))) - (1 << f)
        i = (e << f) + mantissa
    return min(max(i, 0), len(seg.k) - 1)


def plain_lookup(seg: Segments, x: int) -> int:
    i = plain_index(seg, x)
    y = (x * int(seg.k[i]) + int(seg.b[i])) >> int(seg.sh[i])
    return min(max(y, -32768), 32767)


tables = st.integers(1, 64).flatmap(
    lambda n: st.builds(
        lambda kind, x0, shift, seed: random_table(kind, x0, shift, n, seed),
        st.sampled_from([SegKind.UNIFORM, SegKind.LOG]),
        st.integers(-32768, 32767),
        st.integers(0, 15),
        st.integers(0, 2**32 - 1),
    )
)


def random_table(kind: SegKind, x0: int, shift: int, n: int, seed: int) -> Segments:
    rng = np.random.default_rng(seed)
    k = rng.integers(-32768, 32768, n).astype(np.int16)
    b = rng.integers(-(2**31), 2**31, n).astype(np.int32)
    sh = rng.integers(0, 32, n).astype(np.uint8)
    return Segments(kind, x0, shift if kind == SegKind.UNIFORM else shift % 8, k, b, sh, 1, 1, 0, 0)


@settings(max_examples=200, deadline=None)
@given(tables, st.lists(st.integers(-32768, 32767), min_size=1, max_size=20))
def test_lookup_is_the_written_arithmetic(seg, xs):
    xs = [*xs, -32768, -1, 0, 1, 32767, seg.x0, max(seg.x0 - 1, -32768), min(seg.x0 + 1, 32767)]
    assert segment_index(seg.index, np.array(xs)).tolist() == [plain_index(seg, x) for x in xs]
    y = lookup(seg, np.array(xs, np.int16))
    assert y.dtype == np.int16
    assert y.tolist() == [plain_lookup(seg, x) for x in xs]


GOOD = {
    "function": np.tanh,
    "x_scale": 0.001,
    "x_range": (-1000, 1000),
    "y_scale": 0.01,
    "y_clip": (-128, 127),
    "max_segments": 16,
}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"x_scale": 0.0}, "x_scale is 0.0; give a positive finite scale"),
        ({"y_scale": float("nan")}, "y_scale is nan"),
        ({"x_range": (5, -5)}, "x_range is (5, -5); allowed are int16 codes in rising order"),
        ({"y_clip": (-40000, 127)}, "y_clip is (-40000, 127)"),
        ({"max_segments": 1}, "at least 2 segments"),
        ({"kind": "cubic"}, "segment kind 'cubic' is unknown; use 'uniform', 'log' or 'auto'"),
        ({"function": np.sqrt}, "not a number at x = -1; allowed is a range inside its domain"),
    ],
)
def test_bad_requests_are_refused(change, text):
    with pytest.raises(BadInput) as caught:
        fit(**{**GOOD, **change})
    assert text in str(caught.value)


def test_a_table_without_an_index_is_refused():
    seg = replace(fit(**GOOD), kind=SegKind.NONE)
    with pytest.raises(BadInput, match="use UNIFORM or LOG"):
        lookup(seg, np.zeros(1, np.int16))


def test_module_example():
    import doctest

    result = doctest.testmod(segments)
    assert result.attempted > 0 and result.failed == 0
