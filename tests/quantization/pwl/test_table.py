# SPDX-License-Identifier: Apache-2.0
"""Piecewise-linear tables against their functions and against the documented arithmetic.

In: scalar functions and ranges.
Out: error bounds, exactness at kinks, bit-exact evaluation, clear refusals.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neuralmatrix.errors import BadInput
from neuralmatrix.hardware.isa import SegKind
from neuralmatrix.ir.functions import FUNCTIONS, evaluate
from neuralmatrix.ir.graph.nodes import Graph, Unary
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float
from neuralmatrix.ir.types import Function
from neuralmatrix.quantization.pwl import table
from neuralmatrix.quantization.pwl.index import Index, positions_of, starts_in
from neuralmatrix.quantization.pwl.lines import starts_of
from neuralmatrix.quantization.pwl.report import Wanted, make_table, table_report
from neuralmatrix.quantization.pwl.table import PwlTable, aligned_scale, fit, lookup, segment_index
from neuralmatrix.transforms.lowering.range_reduction import CURVES
from slow import slow_repeats
from targets import lower

# parameters, then the ranges that a table of the function meets; wider ones are composed
# (lowering/range_reduction.py) or reported, see test_what_one_table_does_not_hold
RANGES = {
    "identity": ((), (-5, 7), (0.5, 3)),
    "relu": ((), (-3, 7), (-20, 1)),
    "leaky_relu": ((0.1,), (-3, 7), (-20, 1)),
    "clip": ((-1.5, 4.5), (-9, 9), (-2, 30)),
    "elu": ((1.0,), (-8, 8), (-1, 40)),
    "selu": ((1.67326, 1.0507), (-8, 8), (-20, 2)),
    "celu": ((0.5,), (-6, 9), (-2, 2)),
    "sigmoid": ((), (-40, 40), (-1, 3)),
    "tanh": ((), (-5, 5), (-30, 30), (-0.5, 2)),
    "hard_sigmoid": ((0.2, 0.5), (-9, 9), (-4, 7)),
    "hard_swish": ((), (-8, 8), (-20, 5)),
    "mish": ((), (-10, 10), (-40, 40)),
    "softplus": ((), (-10, 10), (-40, 40)),
    "softsign": ((), (-5, 5), (0, 1000)),
    "silu": ((), (-10, 10), (-40, 4)),
    "quick_gelu": ((1.702,), (-8, 8), (-30, 30)),
    "neg": ((), (-5, 7)),
    "abs": ((), (-7, 5)),
    "exp": ((), (-16, 0), (-16, 16), (-60, 2)),
    "log": ((), (0.01, 100), (1e-4, 1)),
    "sqrt": ((), (0, 100), (0.5, 4)),
    "reciprocal": ((), (1, 64), (0.01, 30), (-30, -0.01)),
    "rsqrt": ((), (0.01, 100), (1e-3, 30)),
    "power": ((-1.5,), (0.2, 8), (1, 100)),
    "erf": ((), (-6, 6), (-1, 30)),
    "gelu": ((), (-8, 8), (-40, 40), (-3, 0.5)),
    "gelu_tanh": ((), (-8, 8), (-2, 20)),
    "square": ((), (-10, 10), (0, 3)),
    "sin": ((), (-math.pi / 2, math.pi / 2), (-1, 3)),
    "cos": ((), (-math.pi / 2, math.pi / 2), (0, 3)),
    "triangle": ((), (-20, 20), (-90, 90), (0, 3)),
    "tan": ((), (-1, 1), (-1.3, 1.3)),
    "asin": ((), (0, math.sqrt(0.5)), (-0.9, 0.9)),
    "acos": ((), (-0.9, 0.9)),
    "atan": ((), (-4, 4), (0, 1000)),
    "sinh": ((), (-5, 5), (-1, 9)),
    "cosh": ((), (-5, 5), (0, 9)),
    "asinh": ((), (-10, 10), (0, 1000)),
    "acosh": ((), (1, 20), (1, 1000)),
    "atanh": ((), (-0.9, 0.9)),
    "thresholded_relu": ((1.0,), (-4, 6), (0, 30)),
    "shrink": ((0.5, 0.5), (-3, 3)),
    "truth": ((), (-5, 5), (0, 100)),
    "sign": ((), (-3, 7), (-100, 1)),
    "log_floor": ((), (0.01, 100), (1e-4, 1)),
    "log_share": ((), (0.01, 100), (1e-4, 1)),
    "log_above": ((0.5,), (0, 16), (0, 3)),
    "abs_below": ((2.0,), (-2.5, 2.5)),
    "log_abs": ((), (0.01, 100)),
    "log_sum": ((), (-12, 12), (-12, 40)),
    "exp_wide": ((), (-16, 0), (-4, 2)),
    "exp_part": ((5.5, 2**-8), (-12, 0), (-9, -3)),
}
CASES = [(name, 16, x_range) for name, (_, *ranges) in RANGES.items() for x_range in ranges]
CASES += [(name, 8, ranges[-1]) for name, (_, *ranges) in RANGES.items()]


def wanted(name, x_range, bits, **more):
    return Wanted(Function(name, RANGES[name][0]), x_range, bits, **more)


def scalar(name):
    return lambda x: evaluate(Function(name, RANGES[name][0]), x)


def all_codes(seg):
    return np.arange(seg.x_range[0], seg.x_range[1] + 1)


def errors(seg, function):
    """Return the errors at every x of the range, in output steps, after the caps."""
    x = all_codes(seg)
    exact = np.clip(function(x * seg.in_scale) / seg.out_scale, *seg.y_clip)
    return np.abs(np.clip(lookup(seg, x), *seg.y_clip) - exact)


def case_id(case):
    name, bits, (low, high) = case
    return f"{name}-{bits}-{low}..{high}"


def test_every_scalar_function_has_a_range_here():
    assert set(RANGES) == set(FUNCTIONS)


@pytest.mark.parametrize("case", slow_repeats(CASES, lambda case: case[0]), ids=case_id)
def test_every_function_meets_its_bar_over_every_code(case):
    name, bits, x_range = case
    seg = make_table(wanted(name, x_range, bits))
    error = errors(seg, scalar(name))
    # one side of zero has half of the 65,536 values
    assert len(error) > 2**14
    assert seg.count <= 64 and (seg.cells is None or len(seg.cells) <= 256)
    assert error.max() <= (1.0 if bits == 8 else 2**16 * 2**-12)
    assert error.max() == pytest.approx(seg.worst_error)
    assert error.mean() == pytest.approx(seg.mean_error)


# (function, range, bits): functions that the index cannot resolve, and a lower bound of the error
BEYOND = [
    ("softsign", (-20, 20), 16),  # a kink at 0, slow saturation on both sides
    ("atan", (-30, 30), 16),
    ("asinh", (-100, 100), 16),
    ("sin", (0, 20), 16),  # three periods
    ("asin", (-1, 1), 16),  # vertical at both ends
    ("atanh", (-0.999, 0.999), 8),
    ("tan", (-1.55, 1.55), 8),
]


@pytest.mark.parametrize(("name", "x_range", "bits"), BEYOND)
def test_what_one_table_does_not_hold_is_measured(name, x_range, bits):
    request = wanted(name, x_range, bits)
    seg = make_table(request)
    assert errors(seg, scalar(name)).max() == pytest.approx(seg.worst_error)
    assert seg.worst_error > seg.bar
    assert not table_report(request, seg)["meets_bar"]


@pytest.mark.parametrize(("ratio", "bits"), [(32, 8), (8, 16)])
def test_reciprocal_of_both_signs(ratio, bits):
    """The table covers both branches of 1/x from 1 to ``ratio``; the caps apply within -1..1."""
    y_scale, clip = (1 / 127, (-128, 127)) if bits == 8 else (1 / 32000, (-32640, 32639))
    seg = fit(scalar("reciprocal"), ratio / 32766, (-32766, 32766), y_scale, clip, 64)
    x = all_codes(seg)
    error = errors(seg, scalar("reciprocal"))
    assert np.isfinite(error).all() and len(x) == 65533
    assert error.max() == pytest.approx(seg.worst_error)
    assert seg.worst_error <= seg.bar


CURVE_FEEDS = {
    "sin": (-30, 30),
    "cos": (-30, 30),
    "softsign": (-50, 50),
    "atan": (-50, 50),
    "asinh": (-50, 50),
    "asin": (-1, 1),
    "acos": (-1, 1),
    "atanh": (-0.99, 0.99),
    "truth": (-30, 30),
    "log_abs": (-50, 50),
    "exp_wide": (-8, 3),
    "square": (-30, 30),
}


@pytest.mark.parametrize("name", CURVES)
def test_compositions_are_exact_in_real_numbers(name):
    x = np.linspace(*CURVE_FEEDS[name], 1001)
    node = Unary(("x",), "y", "node", function=Function(name))
    shapes = {"x": (1, 1001), "y": (1, 1001)}
    lowered = lower(Graph(("x",), ("y",), (node,), {}, shapes))
    found = port_outputs(lowered, run_float(lowered, {"x": x[None]}))["y"]
    # float32 between the steps; the angle of acos and asin doubles what the root loses
    np.testing.assert_allclose(found[0], scalar(name)(x), atol=3e-6, rtol=2e-5)


KINKS = {
    "relu": (-3, 7),
    "leaky_relu": (-3, 7),
    "abs": (-7, 5),
    "clip": (-9, 9),
    "hard_sigmoid": (-9, 9),
    "triangle": (-20, 20),
    "truth": (-5, 5),
    "sign": (-3, 7),
    "thresholded_relu": (-4, 6),
    "shrink": (-3, 3),
}


@pytest.mark.parametrize("name", KINKS)
def test_kinks_and_jumps_cost_one_rounding(name):
    seg = make_table(wanted(name, KINKS[name], 8))
    # Half a step is the rounding itself; 1/64 is the slope's 16-bit rounding over 256 steps.
    assert seg.worst_error <= 0.5 + 1 / 64


def test_hard_swish_is_exact_where_it_is_straight():
    seg = make_table(wanted("hard_swish", (-8, 8), 8))
    straight = np.abs(all_codes(seg) * seg.in_scale) >= 3
    # Half a step is the rounding itself; 1/64 is the slope's 16-bit rounding over 256 steps.
    assert errors(seg, scalar("hard_swish"))[straight].max() <= 0.5 + 1 / 64


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "abs"])
def test_kink_at_zero_is_exact_at_int16_without_being_named(name):
    lo, hi = RANGES[name][1]
    x_scale = aligned_scale(max(abs(lo), hi))
    x_range = (round(lo / x_scale), round(hi / x_scale))
    seg = fit(scalar(name), x_scale, x_range, x_scale, (-32640, 32639), 64)
    assert seg.count == 2
    # Half a step is the rounding itself; k has 15 bits, so 32767 steps add at most one half more.
    assert seg.worst_error <= 1.0


def test_reciprocal_needs_octaves_and_free_knots():
    worst = {
        kind: make_table(wanted("reciprocal", (1, 64), 16, kind=kind)).worst_error
        for kind in ("uniform", "log", "mapped", "auto")
    }
    assert worst["auto"] == worst["mapped"] < worst["log"] / 4 < worst["uniform"] / 4
    auto = make_table(wanted("reciprocal", (1, 64), 16))
    assert auto.kind == SegKind.LOG and auto.cells is not None


def test_negative_and_positive_reciprocals_are_mirror_images():
    positive = make_table(wanted("reciprocal", (0.01, 30), 16))
    negative = make_table(wanted("reciprocal", (-30, -0.01), 16))
    assert negative.in_scale == -positive.in_scale
    assert negative.worst_error == pytest.approx(positive.worst_error, abs=0.5)


def test_free_knots_beat_equal_ones_where_the_bend_is_local():
    for name, x_range in (("sigmoid", (-40, 40)), ("exp", (-60, 2)), ("tanh", (-5, 5))):
        equal, free = (
            make_table(wanted(name, x_range, 16, kind=kind)).worst_error
            for kind in ("uniform", "mapped")
        )
        assert free < equal / 2


def test_free_knots_equalise_the_error():
    request = wanted("square", (-10, 10), 16, kind="mapped", segments=20)
    rows = table_report(request, make_table(request))["rows"]
    worst = np.array([row["worst_steps"] for row in rows])
    # cells and rounding keep them from being equal; one segment covers the rest
    assert np.sort(worst)[1] > 0.9 * worst.max()


def test_more_segments_are_never_worse():
    tables = [make_table(wanted("tanh", (-5, 5), 16, segments=n)) for n in (4, 16, 64)]
    worst = [seg.worst_error for seg in tables]
    assert [seg.count for seg in tables] <= [4, 16, 64]
    # a line's error falls with the square of its length
    assert worst[0] > 8 * worst[1] > 64 * worst[2] > 0


def test_a_plain_table_is_kept_where_a_map_gains_nothing():
    assert make_table(wanted("square", (0, 3), 8)).cells is None
    assert make_table(wanted("relu", (-3, 7), 16)).table_bytes == 16


@pytest.mark.parametrize(
    "x_range", [(-32768, 32767), (-32768, -32767), (32700, 32767), (0, 0), (5, 6)]
)
@pytest.mark.parametrize("count", [2, 3, 17, 64])
@pytest.mark.parametrize("kind", ["auto", "mapped"])
def test_ranges_at_the_ends_of_int16(x_range, count, kind):
    seg = fit(np.tanh, 1e-4, x_range, 1 / 127, (-128, 127), count, kind)
    assert seg.count <= count
    assert (seg.k.dtype, seg.b.dtype, seg.sh.dtype) == (np.int16, np.int32, np.uint8)
    assert -32768 <= seg.x0 <= 32767 and 0 <= seg.shift <= 15 and seg.sh.max() <= 31
    assert seg.cells is None or (seg.cells.dtype == np.uint8 and seg.cells.max() < seg.count)
    assert seg.worst_error < 64


def test_infinities_are_capped_and_steep_lines_fit_their_format():
    seg = fit(lambda x: np.log(np.maximum(x, 0)), 1.0, (0, 1000), 0.05, (-128, 127), 64)
    assert lookup(seg, np.array([0]))[0] <= -128
    step = fit(lambda x: np.where(x > 0, 1e9, -1e9), 1.0, (-100, 100), 1.0, (-128, 127), 8)
    assert step.worst_error == 0


def plain_index(seg: PwlTable, x: int) -> int:
    """Evaluate a table as docs/numerics.md defines it, in plain Python."""
    if seg.kind != SegKind.LOG:
        i = (x - seg.x0) >> seg.shift
    else:
        d = max(x - seg.x0, 1)
        e = d.bit_length() - 1
        f = seg.shift
        mantissa = ((d >> (e - f)) if e >= f else (d << (f - e))) - (1 << f)
        i = (e << f) + mantissa
    last = len(seg.k if seg.cells is None else seg.cells) - 1
    i = min(max(i, 0), last)
    return i if seg.cells is None else int(seg.cells[i])


def plain_lookup(seg: PwlTable, x: int) -> int:
    i = plain_index(seg, x)
    y = (x * int(seg.k[i]) + int(seg.b[i])) >> int(seg.sh[i])
    return min(max(y, -32768), 32767)


tables = st.integers(1, 64).flatmap(
    lambda n: st.builds(
        lambda kind, mapped, x0, shift, seed: random_table(kind, mapped, x0, shift, n, seed),
        st.sampled_from([SegKind.UNIFORM, SegKind.LOG, SegKind.MAPPED]),
        st.booleans(),
        st.integers(-32768, 32767),
        st.integers(0, 15),
        st.integers(0, 2**32 - 1),
    )
)


def random_table(kind: SegKind, mapped: bool, x0: int, shift: int, n: int, seed: int) -> PwlTable:
    rng = np.random.default_rng(seed)
    k = rng.integers(-32768, 32768, n).astype(np.int16)
    b = rng.integers(-(2**31), 2**31, n).astype(np.int32)
    sh = rng.integers(0, 32, n).astype(np.uint8)
    has_map = kind == SegKind.MAPPED or (mapped and kind == SegKind.LOG)
    cells = rng.integers(0, n, rng.integers(1, 257)).astype(np.uint8) if has_map else None
    bits = shift % 8 if kind == SegKind.LOG else shift
    return PwlTable(kind, x0, bits, k, b, sh, 1, 1, 0, 0, cells)


@pytest.mark.parametrize("kind", [SegKind.UNIFORM, SegKind.LOG])
def test_starts_of_positions_are_known_without_looking(kind: SegKind) -> None:
    rng = np.random.default_rng(int(kind))
    for _ in range(300):
        lo, hi = sorted(rng.integers(-32768, 32768, 2).tolist())
        x0, shift, count = rng.integers((-32768, 0, 1), (32768, 16, 257)).tolist()
        index, x = Index(kind, x0, shift, count), np.arange(lo, hi + 1)
        assert np.array_equal(starts_in(index, x), starts_of(positions_of(index, x))), (index, lo)


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
        ({"x_range": (5, -5)}, "x_range is (5, -5); allowed are int16 values in rising order"),
        ({"y_clip": (-40000, 127)}, "y_clip is (-40000, 127)"),
        ({"max_segments": 1}, "at least 2 segments"),
        (
            {"kind": "cubic"},
            "segment kind 'cubic' is unknown; use one of uniform, log, mapped, auto",
        ),
        ({"function": np.sqrt}, "not a number at x = -1; allowed is a range inside its domain"),
    ],
)
def test_bad_requests_are_refused(change, text):
    with pytest.raises(BadInput) as caught:
        fit(**{**GOOD, **change})
    assert text in str(caught.value)


def test_a_table_without_an_index_is_refused():
    seg = replace(fit(**GOOD), kind=SegKind.NONE)
    with pytest.raises(BadInput, match="use UNIFORM, LOG or MAPPED"):
        lookup(seg, np.zeros(1, np.int16))


@pytest.mark.parametrize("cells", [None, np.zeros(0, np.uint8), np.zeros(257, np.uint8)])
def test_a_map_has_1_to_256_cells(cells):
    seg = replace(fit(**GOOD), kind=SegKind.MAPPED, cells=cells)
    with pytest.raises(BadInput, match="cells"):
        lookup(seg, np.zeros(1, np.int16))


def test_module_example():
    import doctest

    result = doctest.testmod(table)
    assert result.attempted > 0 and result.failed == 0


def test_a_single_point_beside_a_cap_is_exact() -> None:
    """1/x from 0 on, and 0 at 0."""

    def share(x: np.ndarray) -> np.ndarray:
        return np.where(x == 0, 0.0, 1.0 / np.where(x == 0, 1.0, x))

    table = fit(share, 0.001, (0, 32000), 0.002, (0, 255), 64)
    assert lookup(table, np.array([0])).tolist() == [0]
    assert lookup(table, np.array([1, 2])).min() >= 255
