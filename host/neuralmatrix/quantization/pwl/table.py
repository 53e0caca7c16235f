# SPDX-License-Identifier: Apache-2.0
"""Capped piecewise-linear tables, as the epilogue evaluates them.

In: a scalar function, the quantised range and scales of its argument and of its result.
Out: ``PwlTable`` (slopes, intercepts, shifts, map) with the error measured over every quantised x.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import BadInput
from ...hardware.isa import MAP_CELLS, SegKind
from ...ir.types import Array
from .index import INT16_HI, INT16_LO, MAX_SEG_SHIFT, Index, apply_lines, segment_index
from .knots import free_knots
from .lines import Lines, Problem, chord_error, chord_estimate, fit_lines, starts_of

KINDS = ("uniform", "log", "mapped", "auto")

# A table with this error (in output steps, before rounding) is not improved further.
GOOD_ENOUGH = 1 / 64
# Rounding alone is half a step; a table with this error needs no map.
NO_MAP = 0.5 + 1 / 16
EQUAL = 1 / 32  # errors that differ by less count as equal, and the smaller table is better
FINALISTS = 3
JUMP = 8  # times the steps beside it
FINER = 3  # more factors of 2 are worth one value


@dataclass(frozen=True)
class PwlTable:
    """A fitted table: y = sat16((x*k[i] + b[i]) >> sh[i]), i = index(x).

    ``in_scale`` and ``out_scale`` are the scales of x and y.  The errors are in output steps over
    the quantised ``x_range``, after the caps ``y_clip`` that the epilogue's lo and hi apply.
    ``cells``: the segment of each cell (uint8), where the index goes through a map.
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
    cells: Array | None = None  # uint8
    x_range: tuple[int, int] = (INT16_LO, INT16_HI)
    y_clip: tuple[int, int] = (INT16_LO, INT16_HI)

    @property
    def count(self) -> int:
        """The number of segments."""
        return len(self.k)

    @property
    def index(self) -> Index:
        """The index part of the table."""
        return Index(self.kind, self.x0, self.shift, self.count, self.cells)

    @property
    def bar(self) -> float:
        """The worst error allowed: one output step at 8 bits, else 2^-12 of the int16 range."""
        return 1.0 if self.y_clip[1] - self.y_clip[0] < 256 else 2.0**16 / 2.0**12

    @property
    def table_bytes(self) -> int:
        """The size in parameter memory: 8 bytes per segment and 8 bytes per 8 cells."""
        return 8 * self.index.entries


def lookup(seg: PwlTable, x: Array) -> Array:
    """Return y (int16) of every x, bit for bit as the lanes compute it."""
    x = np.asarray(x, np.int64)
    return apply_lines(seg.k, seg.b, seg.sh, segment_index(seg.index, x), x)


# ---------------------------------------------------------------- fitting


def fit(
    function: Callable[[Array], Array],
    x_scale: float,
    x_range: tuple[int, int],
    y_scale: float,
    y_clip: tuple[int, int],
    max_segments: int,
    kind: str = "auto",
    kinks: Sequence[float] = (),
) -> PwlTable:
    """Return the best table of at most ``max_segments`` for ``function`` on quantised ``x_range``.

    ``x_range`` includes both ends.  ``y_clip`` are the quantised y (without zero point) at which
    the epilogue caps the result; a line may leave them.  With a Hadamard operand the cap comes
    after the product: give int16's own range.  ``kinks`` are real x at which the slope is
    discontinuous; kinks that are visible in the values are found without them.  ``x_scale`` may be
    negative: the quantised 1 is then a negative x.

    >>> relu = fit(lambda x: np.maximum(x, 0), 0.01, (-1000, 1000), 0.05, (-128, 127), 16)
    >>> relu.count, lookup(relu, np.array([-500, 0, 500])).tolist()
    (2, [0, 0, 100])
    """
    _check(x_scale, x_range, y_scale, y_clip, max_segments, kind)
    problem = pose(function, x_scale, x_range, y_scale, y_clip, kinks)
    index, lines = best_lines(problem, max_segments, kind)
    return _segments(problem, index, lines, x_scale, y_scale)


def table_of(
    problem: Problem, index: Index, x_scale: float, y_scale: float, slopes: Array
) -> PwlTable:
    """Return the table of a known index; ``slopes``: a proposal for each of its segments."""
    segment = segment_index(index, problem.x)
    used = segment[starts_of(segment)]
    lines = fit_lines(problem, index, slopes[used], near=True)
    return _segments(problem, index, lines, x_scale, y_scale)


def best_lines(problem: Problem, most: int, kind: str) -> tuple[Index, Lines]:
    """Return the index of at most ``most`` segments that fits best, and its lines."""
    indices = _finalists(problem, _candidates(problem, most, kind))
    fitted = [(index, fit_lines(problem, index)) for index in indices]
    if kind == "mapped" or (kind == "auto" and min(f[1].worst_error for f in fitted) > NO_MAP):
        knots = free_knots(problem, min(most, MAP_CELLS), GOOD_ENOUGH)
        fitted += [(k.index, fit_lines(problem, k.index, k.slopes)) for k in knots]
    return min(fitted, key=_cost)


def _cost(fitted: tuple[Index, Lines]) -> tuple[float, int, float]:
    """Return the sort key: worst error in steps of EQUAL, then size, then mean error."""
    index, lines = fitted
    return math.ceil(lines.worst_error / EQUAL - 1e-6), index.entries, float(lines.total.sum())


def _segments(
    problem: Problem, index: Index, lines: Lines, x_scale: float, y_scale: float
) -> PwlTable:
    """Return the table of ``lines``; segments without points get a line too."""
    every = spread(index, problem)
    return PwlTable(
        kind=index.kind,
        x0=index.x0,
        shift=index.shift,
        k=lines.k[every],
        b=lines.b[every],
        sh=lines.sh[every],
        in_scale=x_scale,
        out_scale=y_scale,
        worst_error=lines.worst_error,
        mean_error=float(lines.total.sum() / len(problem.x)),
        cells=index.cells,
        x_range=(int(problem.x[0]), int(problem.x[-1])),
        y_clip=problem.clip,
    )


def spread(index: Index, problem: Problem) -> Array:
    """Return for every segment of the table the nearest one that has points, among those."""
    segment = segment_index(index, problem.x)
    used = segment[starts_of(segment)]
    return np.clip(np.searchsorted(used, np.arange(index.count)), 0, len(used) - 1)


def aligned_scale(largest: float, kinks: Sequence[float] = ()) -> float:
    """Return a scale of x, at least ``largest``/32766, that puts the kinks on a coarse grid.

    With the smallest kink at a power of two steps, segment boundaries can meet every kink that is
    a multiple of it: hard swish (-3, 3) and ReLU6 (0, 6) become exact up to one rounding.
    """
    scale = max(largest, 1e-30) / (INT16_HI - 1)  # one step of room for rounding outwards
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
    kind: str,
) -> None:
    for name, scale in (("x_scale", x_scale), ("y_scale", y_scale)):
        if not np.isfinite(scale) or scale == 0 or (scale < 0 and name == "y_scale"):
            raise BadInput(f"{name} is {scale}; give a positive finite scale")
    for name, (lo, hi) in (("x_range", x_range), ("y_clip", y_clip)):
        if not INT16_LO <= lo <= hi <= INT16_HI:
            raise BadInput(
                f"{name} is {(lo, hi)}; allowed are int16 values in rising order, "
                "choose a larger scale"
            )
    if max_segments < 2:
        raise BadInput(f"max_segments is {max_segments}; a table needs at least 2 segments")
    if kind not in KINDS:
        raise BadInput(f"segment kind {kind!r} is unknown; use one of {', '.join(KINDS)}")


def pose(
    function: Callable[[Array], Array],
    x_scale: float,
    x_range: tuple[int, int],
    y_scale: float,
    y_clip: tuple[int, int],
    kinks: Sequence[float],
) -> Problem:
    """Return the problem of fitting ``function``.  BadInput: it is not a number in the range."""
    x = np.arange(x_range[0], x_range[1] + 1, dtype=np.int64)
    with np.errstate(all="ignore"):
        y = np.asarray(function(x * x_scale), np.float64) / y_scale
    if np.isnan(y).any():
        bad = x[np.isnan(y)][0] * x_scale
        raise BadInput(
            f"the function is not a number at x = {bad:g}; allowed is a range inside its domain, "
            "recalibrate or clip its input"
        )
    # Far beyond the cap only the cap matters; the bound avoids infinities in the arithmetic.
    y = np.clip(y, 4 * INT16_LO, 4 * INT16_HI)
    y, firsts = _jumps_apart(y, [int(np.rint(kink / x_scale)) - x_range[0] for kink in kinks])
    jumps = [int(x[i]) for i in firsts]
    named = [int(np.ceil(kink / x_scale)) for kink in kinks]
    found = _find_kinks(x, y) + _find_poles(x, y, y_clip) + _find_points(x, y, y_clip)
    bends = [c for c in (*named, *found) if all(abs(c - jump) > 1 for jump in jumps)]
    inner = sorted({c for c in (*bends, *jumps) if x_range[0] < c <= x_range[1]})
    return Problem(x, y, y_clip, tuple(inner))


def _jumps_apart(y: Array, near: Sequence[int]) -> tuple[Array, list[int]]:
    """Return ``y`` with its jumps a multiple of a power of two apart, if one value each need change
    for that, and the first index behind each: segments then begin at all of them.

    ``near``: indices of corners.  Where x > c and x < -c decide, the jumps are an odd number of
    steps apart; a value that lies at one may be either side's, by the rounding of x.
    """
    jumps = sorted({at for i in near for at in (i, i + 1) if _is_jump(y, at)})
    moved, firsts = y.copy(), jumps[:1]
    for jump in jumps[1:]:
        by = max((0, -1, 1), key=lambda by: _twos(jump + by - firsts[0]) - FINER * abs(by))
        if by:
            moved[min(jump, jump + by)] = y[jump if by < 0 else jump - 1]
        firsts.append(jump + by)
    return moved, firsts


def _is_jump(y: Array, at: int) -> bool:
    """Return whether y rises or falls between at - 1 and ``at`` far more than beside it."""
    if not 2 <= at < len(y) - 1:
        return False
    steps = np.abs(np.diff(y[at - 2 : at + 2]))
    return bool(steps[1] > JUMP * max(steps[0], steps[2], GOOD_ENOUGH))


def _twos(gap: int) -> int:
    """Return how many times 2 divides a gap."""
    return (gap & -gap).bit_length()


def _find_kinks(x: Array, y: Array, reach: int = 4, limit: int = 8) -> list[int]:
    """Return the first x to the right of every sudden change of slope (none if there are too
    many)."""
    if len(x) < 4 * reach:
        return []
    bend = np.zeros(len(x))
    bend[1:-1] = np.abs(np.diff(y, 2))
    around = np.full(len(x), np.inf)
    around[reach:-reach] = np.maximum(bend[: -2 * reach], bend[2 * reach :])
    floor = 1e-9 * max(1.0, float(np.abs(y).max()))
    sharp = np.flatnonzero(bend > 64 * around + floor)
    # The slope changes at both neighbours of a kink: the right one begins a segment.
    last = [int(p) for p in sharp if p + 1 not in sharp]
    return [int(x[p]) for p in last] if len(last) <= limit else []


def _find_poles(x: Array, y: Array, clip: tuple[int, int]) -> list[int]:
    """Return the first x to the right of every jump from one cap to the other."""
    side = (y >= clip[1]).astype(np.int64) - (y <= clip[0])
    return [int(c) for c in x[1:][np.abs(np.diff(side)) == 2]]


def _find_points(x: Array, y: Array, clip: tuple[int, int]) -> list[int]:
    """Return both ends of every single x at which the values fall far below those beside it, as a
    quotient that is 0 where its divisor is."""
    capped = np.clip(y, *clip)
    far = np.abs(np.diff(capped)) > (clip[1] - clip[0]) / 3
    step = np.diff(np.abs(capped))
    falls = np.concatenate(([True], far & (step < 0)))
    rises = np.concatenate((far & (step > 0), [True]))
    return [int(c) for point in x[falls & rises] for c in (point, point + 1)]


def _candidates(problem: Problem, most: int, kind: str) -> list[Index]:
    lo, hi = int(problem.x[0]), int(problem.x[-1])
    result: list[Index] = []
    if kind in ("uniform", "auto"):
        result += [Index(SegKind.UNIFORM, lo, MAX_SEG_SHIFT, 1)]
        result += _kink_indices(problem.kinks, most)
        result += _uniform_indices(lo, hi, most, problem.kinks)
    if kind in ("log", "auto"):
        result += _log_indices(lo, hi, most)
    return result


def _kink_indices(kinks: tuple[int, ...], most: int) -> list[Index]:
    """Return the fewest segments that begin exactly at every kink, if they are few enough."""
    if not kinks:
        return []
    gap = int(np.gcd.reduce(np.diff(kinks))) if len(kinks) > 1 else 1
    shift = min((gap & -gap).bit_length() - 1, MAX_SEG_SHIFT)
    count = ((kinks[-1] - kinks[0]) >> shift) + 2
    x0 = kinks[0] - (1 << shift)
    return [Index(SegKind.UNIFORM, x0, shift, count)] if count <= most and x0 >= INT16_LO else []


def _uniform_indices(lo: int, hi: int, most: int, kinks: tuple[int, ...]) -> list[Index]:
    """Return windows of ``most`` segments; the first and last segment extend beyond the window."""
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
    """Return ``start`` and the nearest starts to its left that put a kink on a boundary."""
    width = 1 << shift
    aligned = (start - (start - kink) % width for kink in kinks)
    return [start, *(x0 if x0 >= INT16_LO else x0 + width for x0 in aligned)]


def _window(x0: int, shift: int, hi: int, most: int) -> Index:
    return Index(SegKind.UNIFORM, x0, shift, max(1, min(most, ((hi - x0) >> shift) + 1)))


def _log_indices(lo: int, hi: int, most: int) -> list[Index]:
    """Return logarithmic indices that begin at several distances left of the range."""
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


def _finalists(problem: Problem, candidates: list[Index]) -> list[Index]:
    """Return the indices of least error, estimated by chords in real arithmetic."""
    scored: list[tuple[float, Index]] = []
    for index in candidates:
        estimate = chord_estimate(problem, index)
        if estimate <= GOOD_ENOUGH:
            estimate = chord_error(problem, index)
        scored.append((estimate, index))
        if estimate <= GOOD_ENOUGH:
            break
    scored.sort(key=_size)
    exact = [(chord_error(problem, index), index) for _, index in scored[: 2 * FINALISTS]]
    return [index for _, index in sorted(exact, key=_size)[:FINALISTS]]


def _size(scored: tuple[float, Index]) -> tuple[float, int]:
    """Return the sort key: error, then number of segments."""
    return scored[0], scored[1].count
