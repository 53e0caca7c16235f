# SPDX-License-Identifier: Apache-2.0
"""Capped piecewise-linear tables, as the epilogue evaluates them.

In: a scalar function, the codes and scales of its argument and of its result.
Out: ``Segments`` (slopes, intercepts, shifts) with the error measured over every code of the range.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .errors import BadInput
from .isa import SegKind

Array = npt.NDArray[Any]
Kind = Literal["uniform", "log", "auto"]

INT16_LO, INT16_HI = -32768, 32767
MAX_SEG_SHIFT = 15
MAX_SH = 31
# A table this close (in output steps, before rounding) is not worth improving further.
GOOD_ENOUGH = 1 / 64
FINALISTS = 3


@dataclass(frozen=True)
class Index:
    """How x selects its segment; the fields of an EPILOGUE instruction."""

    kind: SegKind
    x0: int
    shift: int
    count: int


@dataclass(frozen=True)
class Segments:
    """A fitted table: y = sat16((x*k[i] + b[i]) >> sh[i]), i = index(x).

    ``in_scale`` and ``out_scale`` are real units per code of x and y.  The errors are in output
    steps over ``x_range``, after the caps ``y_clip`` that the epilogue's lo and hi apply.
    """

    kind: SegKind
    x0: int
    shift: int
    k: Array  # int16
    b: Array  # int32
    sh: Array  # uint8
    in_scale: float
    out_scale: float
    worst_error: float
    mean_error: float

    @property
    def count(self) -> int:
        """Number of segments."""
        return len(self.k)

    @property
    def index(self) -> Index:
        """The index part of the table."""
        return Index(self.kind, self.x0, self.shift, self.count)


@dataclass(frozen=True)
class _Problem:
    """What is fitted: codes x, wanted y in output steps (uncapped), and the caps."""

    x: Array  # int64, consecutive
    y: Array  # float64, finite
    clip: tuple[int, int]
    kinks: tuple[int, ...]  # first code to the right of each kink

    @property
    def capped(self) -> Array:
        return np.asarray(np.clip(self.y, *self.clip))

    @property
    def inside(self) -> Array:
        """Points strictly between the caps; a line that leaves the caps is cut to them."""
        return np.asarray((self.y > self.clip[0] + 1e-6) & (self.y < self.clip[1] - 1e-6))


def segment_index(index: Index, x: Array) -> Array:
    """Segment number of every x, bit for bit as the lanes compute it."""
    x = np.asarray(x, np.int64)
    if index.kind == SegKind.UNIFORM:
        return np.asarray(np.clip((x - index.x0) >> index.shift, 0, index.count - 1))
    if index.kind == SegKind.LOG:
        d = np.maximum(x - index.x0, 1)
        e = np.frexp(d.astype(np.float64))[1].astype(np.int64) - 1
        mantissa = ((d << index.shift) >> e) - (1 << index.shift)
        return np.asarray(np.clip((e << index.shift) + mantissa, 0, index.count - 1))
    raise BadInput(f"segment kind {index.kind} has no index; use UNIFORM or LOG")


def lookup(seg: Segments, x: Array) -> Array:
    """y (int16) of every x, bit for bit as the lanes compute it."""
    x = np.asarray(x, np.int64)
    return _evaluate(seg.k, seg.b, seg.sh, segment_index(seg.index, x), x)


def _evaluate(k: Array, b: Array, sh: Array, i: Array, x: Array) -> Array:
    y = (x * k.astype(np.int64)[i] + b.astype(np.int64)[i]) >> sh.astype(np.int64)[i]
    return np.asarray(np.clip(y, INT16_LO, INT16_HI), np.int16)


# ---------------------------------------------------------------- fitting


def fit(
    function: Callable[[Array], Array],
    x_scale: float,
    x_range: tuple[int, int],
    y_scale: float,
    y_clip: tuple[int, int],
    max_segments: int,
    kind: Kind = "auto",
    kinks: Sequence[float] = (),
) -> Segments:
    """The best table of at most ``max_segments`` for ``function`` on codes ``x_range`` (inclusive).

    ``y_clip`` are the codes of y (zero point not included) at which the epilogue caps the result; a
    line may leave them.  With a Hadamard operand the cap comes after the product: give int16's own
    range.  ``kinks`` are real x at which the slope jumps; kinks that are visible in the values are
    found without being named.

    >>> relu = fit(lambda x: np.maximum(x, 0), 0.01, (-1000, 1000), 0.05, (-128, 127), 16)
    >>> relu.count, lookup(relu, np.array([-500, 0, 500])).tolist()
    (2, [0, 0, 100])
    """
    _check(x_scale, x_range, y_scale, y_clip, max_segments)
    problem = _pose(function, x_scale, x_range, y_scale, y_clip, kinks)
    finalists = _finalists(problem, _candidates(problem, max_segments, kind))
    tables = [_solve(problem, index, x_scale, y_scale) for index in finalists]
    return min(tables, key=lambda t: (round(t.worst_error, 3), t.mean_error, t.count))


def aligned_scale(largest: float, kinks: Sequence[float] = ()) -> float:
    """A scale of x, at least ``largest``/32766, that puts the kinks on a coarse grid of codes.

    With the smallest kink at a power of two codes, segment boundaries can meet every kink that is a
    multiple of it: hard swish (-3, 3) and ReLU6 (0, 6) become exact up to one rounding.
    """
    scale = max(largest, 1e-30) / (INT16_HI - 1)  # one code of room for rounding outwards
    steps = [abs(kink) for kink in kinks if kink != 0]
    if not steps or min(steps) < 2 * scale:
        return scale
    return float(min(steps) / 2 ** np.floor(np.log2(min(steps) / scale)))


def _check(
    x_scale: float,
    x_range: tuple[int, int],
    y_scale: float,
    y_clip: tuple[int, int],
    max_segments: int,
) -> None:
    for name, scale in (("x_scale", x_scale), ("y_scale", y_scale)):
        if not (np.isfinite(scale) and scale > 0):
            raise BadInput(f"{name} is {scale}; give a positive finite scale")
    for name, (lo, hi) in (("x_range", x_range), ("y_clip", y_clip)):
        if not INT16_LO <= lo <= hi <= INT16_HI:
            raise BadInput(
                f"{name} is {(lo, hi)}; allowed are int16 codes in rising order, "
                "choose a larger scale"
            )
    if max_segments < 2:
        raise BadInput(f"max_segments is {max_segments}; a table needs at least 2 segments")


def _pose(
    function: Callable[[Array], Array],
    x_scale: float,
    x_range: tuple[int, int],
    y_scale: float,
    y_clip: tuple[int, int],
    kinks: Sequence[float],
) -> _Problem:
    x = np.arange(x_range[0], x_range[1] + 1, dtype=np.int64)
    with np.errstate(all="ignore"):
        y = np.asarray(function(x * x_scale), np.float64) / y_scale
    if np.isnan(y).any():
        bad = x[np.isnan(y)][0] * x_scale
        raise BadInput(
            f"the function is not a number at x = {bad:g}; allowed is a range inside its domain, "
            "recalibrate or clip its input"
        )
    # Far beyond the cap only the cap matters; the bound keeps infinities out of the arithmetic.
    y = np.clip(y, 4 * INT16_LO, 4 * INT16_HI)
    named = [int(np.ceil(kink / x_scale)) for kink in kinks]
    found = _find_kinks(x, y)
    inner = sorted({c for c in (*named, *found) if x_range[0] < c <= x_range[1]})
    return _Problem(x, y, y_clip, tuple(inner))


def _find_kinks(x: Array, y: Array, reach: int = 4, limit: int = 8) -> list[int]:
    """First code to the right of every sudden change of slope (none where there are too many)."""
    if len(x) < 4 * reach:
        return []
    bend = np.zeros(len(x))
    bend[1:-1] = np.abs(np.diff(y, 2))
    around = np.full(len(x), np.inf)
    around[reach:-reach] = np.maximum(bend[: -2 * reach], bend[2 * reach :])
    floor = 1e-9 * max(1.0, float(np.abs(y).max()))
    sharp = np.flatnonzero(bend > 64 * around + floor)
    # Two neighbouring codes bend where the kink lies between them: the right one begins a segment.
    last = [int(p) for p in sharp if p + 1 not in sharp]
    return [int(x[p]) for p in last] if len(last) <= limit else []


def _candidates(problem: _Problem, most: int, kind: Kind) -> list[Index]:
    lo, hi = int(problem.x[0]), int(problem.x[-1])
    result: list[Index] = []
    if kind in ("uniform", "auto"):
        result += [Index(SegKind.UNIFORM, lo, MAX_SEG_SHIFT, 1)]
        result += _kink_indices(problem.kinks, most)
        result += _uniform_indices(lo, hi, most, problem.kinks)
    if kind in ("log", "auto"):
        result += _log_indices(lo, hi, most)
    if not result:
        raise BadInput(f"segment kind {kind!r} is unknown; use 'uniform', 'log' or 'auto'")
    return result


def _kink_indices(kinks: tuple[int, ...], most: int) -> list[Index]:
    """The fewest segments that begin exactly at every kink, if they are few enough."""
    if not kinks:
        return []
    gap = int(np.gcd.reduce(np.diff(kinks))) if len(kinks) > 1 else 1
    shift = min((gap & -gap).bit_length() - 1, MAX_SEG_SHIFT)
    count = ((kinks[-1] - kinks[0]) >> shift) + 2
    x0 = kinks[0] - (1 << shift)
    return [Index(SegKind.UNIFORM, x0, shift, count)] if count <= most and x0 >= INT16_LO else []


def _uniform_indices(lo: int, hi: int, most: int, kinks: tuple[int, ...]) -> list[Index]:
    """Windows of ``most`` segments; the first and the last segment reach beyond the window."""
    cover = 0
    while ((hi - lo) >> cover) >= most and cover < MAX_SEG_SHIFT:
        cover += 1
    result = []
    for shift in range(cover, max(cover - 5, -1), -1):
        starts = np.linspace(lo, max(lo, hi + 1 - (most << shift)), 1 if shift == cover else 9)
        for start in starts.astype(np.int64).tolist():
            result += [_window(x0, shift, hi, most) for x0 in _aligned(start, shift, kinks)]
    return result


def _aligned(start: int, shift: int, kinks: tuple[int, ...]) -> list[int]:
    """``start`` and the nearest starts to its left that put a kink on a boundary."""
    width = 1 << shift
    aligned = (start - (start - kink) % width for kink in kinks)
    return [start, *(x0 if x0 >= INT16_LO else x0 + width for x0 in aligned)]


def _window(x0: int, shift: int, hi: int, most: int) -> Index:
    return Index(SegKind.UNIFORM, x0, shift, max(1, min(most, ((hi - x0) >> shift) + 1)))


def _log_indices(lo: int, hi: int, most: int) -> list[Index]:
    """Logarithmic spacings that begin at several distances left of the range."""
    result = []
    for distance in (1 << j for j in range(16)):
        x0 = lo - distance
        if x0 < INT16_LO:
            break
        octaves = (hi - x0).bit_length()
        fine = (most // octaves).bit_length() - 1
        for bits in (fine, fine + 1):
            if bits >= 0:
                result.append(Index(SegKind.LOG, x0, bits, min(most, octaves << bits)))
    return result


# ---------------------------------------------------------------- lines


def _starts(i: Array) -> Array:
    """Position of the first x of every segment in use (i never falls)."""
    return np.concatenate(([0], np.flatnonzero(np.diff(i)) + 1))


def _sizes(starts: Array, total: int) -> Array:
    return np.diff(np.concatenate((starts, [total])))


def _usable(problem: _Problem, starts: Array) -> Array:
    """Points a line should pass: those inside the caps, or all where a segment has none."""
    some = np.logical_or.reduceat(problem.inside, starts)
    return np.asarray(problem.inside | np.repeat(~some, _sizes(starts, len(problem.x))))


def _chords(x: Array, y: Array, use: Array, starts: Array) -> Array:
    """Slope between the first and the last usable point of every segment."""
    where = np.arange(len(x))
    first = np.minimum.reduceat(np.where(use, where, len(x)), starts)
    last = np.maximum.reduceat(np.where(use, where, -1), starts)
    return np.asarray((y[last] - y[first]) / np.maximum(x[last] - x[first], 1))


def _least_squares(x: Array, y: Array, use: Array, starts: Array) -> Array:
    """Slope of the regression line of every segment."""
    sizes = _sizes(starts, len(x))
    n = np.maximum(np.add.reduceat(use.astype(np.float64), starts), 1)
    dx = np.where(use, x - np.repeat(np.add.reduceat(np.where(use, x, 0), starts) / n, sizes), 0.0)
    sxx = np.add.reduceat(dx * dx, starts)
    return np.asarray(np.add.reduceat(dx * np.where(use, y, 0.0), starts) / np.maximum(sxx, 1e-30))


def _span(x: Array, y: Array, use: Array, starts: Array, slope: Array) -> tuple[Array, Array]:
    """Lowest and highest y - slope*x of every segment."""
    rest = np.where(use, y - np.repeat(slope, _sizes(starts, len(x))) * x, np.nan)
    return np.fmin.reduceat(rest, starts), np.fmax.reduceat(rest, starts)


def _finalists(problem: _Problem, candidates: list[Index]) -> list[Index]:
    """The most promising spacings, judged by chords in real arithmetic."""
    scored: list[tuple[float, Index]] = []
    x, y = problem.x, problem.capped
    for index in candidates:
        starts = _starts(segment_index(index, x))
        use = _usable(problem, starts)
        lowest, highest = _span(x, y, use, starts, _chords(x, y, use, starts))
        scored.append((float((highest - lowest).max()) / 2, index))
        if scored[-1][0] <= GOOD_ENOUGH:
            break
    scored.sort(key=lambda pair: (pair[0], pair[1].count))
    return [index for _, index in scored[:FINALISTS]]


def _round_lines(slope: Array, level: Array, middle: Array) -> tuple[Array, Array, Array]:
    """Integer (k, b, sh) of lines that have ``level`` at x = ``middle``, with the finest shift."""
    reach = np.maximum(np.abs(level - slope * middle), np.abs(level)) + 1
    by_k = np.floor(np.log2(INT16_HI / np.maximum(np.abs(slope), 1e-12)))
    by_b = np.floor(np.log2((2.0**31 - 2**17) / reach))
    sh = np.clip(np.minimum(by_k, by_b), 0, MAX_SH)
    k = np.clip(np.rint(slope * 2**sh), INT16_LO, INT16_HI)
    half = np.where(sh > 0, 2.0 ** (sh - 1), 0.0)
    b = np.clip(np.rint(level * 2**sh - k * middle + half), -(2.0**31), 2.0**31 - 1)
    return k.astype(np.int16), b.astype(np.int32), sh.astype(np.uint8)


def _line_variants(problem: _Problem, starts: Array) -> list[tuple[Array, Array]]:
    """(slopes, usable points) worth trying; which is best differs from segment to segment."""
    everything = np.ones(len(problem.x), bool)
    variants = []
    for use in (_usable(problem, starts), everything):
        chord = _chords(problem.x, problem.capped, use, starts)
        regression = _least_squares(problem.x, problem.capped, use, starts)
        variants += [(slope, use) for slope in (chord, regression, (chord + regression) / 2)]
        if use.all():
            break
    return variants


def _solve(problem: _Problem, index: Index, x_scale: float, y_scale: float) -> Segments:
    """Fit, round and measure the lines of one spacing over every code."""
    x, y = problem.x, problem.capped
    starts = _starts(segment_index(index, x))
    sizes = _sizes(starts, len(x))
    part = np.repeat(np.arange(len(starts)), sizes)
    middle = x[starts] + sizes // 2
    best: tuple[Array, ...] | None = None
    for slope, use in _line_variants(problem, starts):
        lowest, highest = _span(x, y, use, starts, slope)
        line = _round_lines(slope, (lowest + highest) / 2 + slope * middle, middle)
        error = np.abs(np.clip(_evaluate(*line, part, x), *problem.clip) - y)
        worst = np.maximum.reduceat(error, starts)
        total = np.add.reduceat(error, starts)
        best = _better(best, (*line, worst, total))
    assert best is not None
    k, b, sh, worst, total = best
    every = _spread(index, segment_index(index, x[starts]))
    return Segments(
        index.kind,
        index.x0,
        index.shift,
        k[every],
        b[every],
        sh[every],
        x_scale,
        y_scale,
        float(worst.max()),
        float(total.sum() / len(x)),
    )


def _better(best: tuple[Array, ...] | None, new: tuple[Array, ...]) -> tuple[Array, ...]:
    """Segment by segment, the line with the smaller worst error (then mean error)."""
    if best is None:
        return new
    worst, total = len(new) - 2, len(new) - 1
    closer = new[worst] < best[worst] - 1e-9
    closer |= (new[worst] <= best[worst] + 1e-9) & (new[total] < best[total])
    return tuple(np.where(closer, n, b) for n, b in zip(new, best, strict=True))


def _spread(index: Index, used: Array) -> Array:
    """For every segment of the table the nearest one that has points."""
    return np.clip(np.searchsorted(used, np.arange(index.count)), 0, len(used) - 1)
