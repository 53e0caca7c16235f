# SPDX-License-Identifier: Apache-2.0
"""Free knots: cells of a uniform or logarithmic grid, assigned so that all errors are equal.

In: a ``Problem`` and the number of segments.  Out: indices with a map from cells to segments, and
a slope for every segment.

For an error E every point allows a vertical window y-E..y+E to its line (times its tolerance, where
a problem has one).  A line passes through the
windows of an interval if and only if the largest (low[j]-high[i])/(x[j]-x[i]) over i < j is at
most the smallest (high[j]-low[i])/(x[j]-x[i]).  Making every segment as long as that allows gives
the fewest segments for E, so the least E for the segments at hand is found by bisection.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np

from ...hardware.isa import MAP_CELLS, SegKind
from ...ir.types import Array
from .index import INT16_LO, MAX_SEG_SHIFT, Index, positions_of
from .lines import Problem, chord_estimate, sizes_of, starts_of

POINTS = 4  # samples in every cell
TAIL_POINTS = 33  # samples in a cell that extends far beyond the grid
GRID_SHIFTS = 7
PLACES = 3
LOOK = 48  # points that are compared with each other at a time
FINE = 32  # the error of a cell should be that many times smaller than that of a segment
STEP = 1.5  # ratio of errors in search of one that is too little
CLOSE = 1.1  # ratio of errors at which the bisection ends


@dataclass(frozen=True)
class Knots:
    """An index with free knots, and the best slope of each of its segments."""

    index: Index
    slopes: Array


@dataclass(frozen=True)
class _Samples:
    """Points of the cells in use; ``begin``: first point of the point's cell."""

    x: Array
    y: Array
    cell: Array
    begin: Array
    capped_low: Array
    capped_high: Array
    tolerance: Array


def free_error(problem: Problem, most: int) -> float:
    """Return the worst error, before rounding, of ``most`` segments whose knots lie anywhere."""
    return float((_density(problem).sum() / most) ** 2 / 16)


def _density(problem: Problem) -> Array:
    """Return the square root of the curvature at every x: the density that knots should have."""
    density = np.zeros(len(problem.x))
    density[1:-1] = np.sqrt(np.abs(np.diff(problem.capped, 2)))
    # At a kink or a cap the second difference is not a curvature: one knot is enough.
    smooth = np.ones(len(problem.x), bool)
    smooth[:-1] &= problem.inside[1:]
    smooth[1:] &= problem.inside[:-1]
    for kink in problem.kinks:
        at = kink - int(problem.x[0])
        smooth[max(at - 2, 0) : at + 2] = False
    return np.where(smooth & problem.inside, density, 0.0)


def free_knots(problem: Problem, most: int, enough: float) -> list[Knots]:
    """Return the best knots on a uniform grid and on a logarithmic one.

    ``enough``: an error below which fewer segments are better than less error.
    """
    bound = max(free_error(problem, most), enough)
    families = (_uniform_grids(problem), _log_grids(problem))
    grids = [_finest(problem, family, bound / FINE) for family in families if family]
    return [_partition(problem, grid, most, bound, enough) for grid in grids]


def covering_knots(problem: Problem, most: int, enough: float) -> Knots:
    """Return the best knots on the finest uniform grid that covers all of x."""
    bound = max(free_error(problem, most), enough)
    return _partition(problem, _uniform_grids(problem)[0], most, bound, enough)


# ---------------------------------------------------------------- grids


def _grid(kind: SegKind, x0: int, shift: int, cells: int) -> Index:
    cells = max(1, min(cells, MAP_CELLS))
    return Index(kind, x0, shift, cells, np.arange(cells, dtype=np.uint8))


def _uniform_grids(problem: Problem) -> list[Index]:
    """Return grids from coarse to fine; a window of fine cells covers the largest curvature."""
    lo, hi = int(problem.x[0]), int(problem.x[-1])
    mass = np.concatenate(([0.0], np.cumsum(_density(problem))))
    cover = max(int(hi - lo).bit_length() - MAP_CELLS.bit_length() + 1, 0)
    grids = []
    for shift in range(min(cover, MAX_SEG_SHIFT), max(cover - GRID_SHIFTS, -1), -1):
        for x0 in _places(problem, mass, MAP_CELLS << shift):
            starts = {x0, *(x0 - (x0 - kink) % (1 << shift) for kink in problem.kinks[:2])}
            for start in sorted(s for s in starts if s >= INT16_LO):
                grids.append(_grid(SegKind.MAPPED, start, shift, ((hi - start) >> shift) + 1))
    return grids


def _places(problem: Problem, mass: Array, width: int) -> list[int]:
    """Return left ends of windows of ``width`` values: that of most curvature, and some others."""
    lo, last = int(problem.x[0]), len(problem.x) - width
    if last <= 0:
        return [lo]
    caught = mass[width:] - mass[:-width]
    best = np.flatnonzero(caught >= caught.max() * (1 - 1e-6))
    return sorted({lo + int(best[len(best) // 2]), *np.linspace(lo, lo + last, PLACES).astype(int)})


def _log_grids(problem: Problem) -> list[Index]:
    """Return grids of octaves from several distances left of the first point between the caps."""
    inside = problem.x[problem.inside]
    lo, hi = int(inside[0] if len(inside) else problem.x[0]), int(problem.x[-1])
    distances = sorted({d for j in range(16) for d in (1 << j, 3 << j >> 1)})
    grids = []
    for x0, extra in product((lo - d for d in distances), (0, 1)):
        octaves = max(hi - x0, 1).bit_length()
        bits = (MAP_CELLS // octaves).bit_length() - 1 + extra
        if x0 >= INT16_LO:
            grids.append(_grid(SegKind.LOG, x0, bits, octaves << bits))
    return grids


def _finest(problem: Problem, grids: list[Index], enough: float) -> Index:
    """Return the first grid whose cells all have errors up to ``enough``, else the best."""
    scored: list[tuple[float, int]] = []
    for number, grid in enumerate(grids):
        scored.append((chord_estimate(problem, grid), number))
        if scored[-1][0] <= enough:
            break
    return grids[min(scored)[1]]


# ---------------------------------------------------------------- knots


def _samples(problem: Problem, grid: Index) -> _Samples:
    cell = positions_of(grid, problem.x)
    starts = starts_of(cell)
    sizes = sizes_of(starts, len(cell))
    usual = POINTS * float(np.median(sizes))
    counts = np.minimum(sizes, np.where(sizes > usual, TAIL_POINTS, POINTS))
    begin = np.repeat(np.cumsum(counts) - counts, counts)
    step = np.arange(len(begin)) - begin
    ratio = np.repeat((sizes - 1) / np.maximum(counts - 1, 1), counts)
    at = np.repeat(starts, counts) + np.floor(step * ratio).astype(np.int64)
    y = problem.capped[at]
    return _Samples(
        problem.x[at].astype(np.float64),
        y,
        cell[at],
        begin,
        problem.y[at] <= problem.clip[0],
        problem.y[at] >= problem.clip[1],
        np.ones(len(at)) if problem.tolerance is None else problem.tolerance[at],
    )


def _partition(problem: Problem, grid: Index, most: int, guess: float, enough: float) -> Knots:
    """Return the knots of the least error that ``most`` segments reach."""
    points = _samples(problem, grid)
    too_little, error = 0.0, max(guess, enough)
    found = _segments(points, error, most)
    while found is None:
        too_little, error = error, STEP * error
        found = _segments(points, error, most)
    while error > enough and error > CLOSE * too_little:
        middle = float(np.sqrt(error * too_little)) if too_little else max(error / STEP, enough)
        better = _segments(points, middle, most)
        if better is None:
            too_little = middle
        else:
            found, error = better, middle
    firsts, slopes = found
    owner = np.searchsorted(points.cell[firsts], np.arange(grid.positions), "right") - 1
    cells = np.maximum(owner, 0).astype(np.uint8)
    return Knots(replace(grid, count=len(firsts), cells=cells), slopes)


def _segments(points: _Samples, error: float, most: int) -> tuple[Array, Array] | None:
    """Return first points and slopes of the fewest segments for ``error``; None if over
    ``most``."""
    windows = error * points.tolerance
    low = np.where(points.capped_low, -np.inf, points.y - windows)
    high = np.where(points.capped_high, np.inf, points.y + windows)
    firsts: list[int] = []
    slopes: list[float] = []
    at = 0
    while at < len(points.x):
        end, slope = _longest(points, low, high, at)
        if end == at or len(firsts) == most:
            return None
        firsts.append(at)
        slopes.append(slope)
        at = end
    return np.asarray(firsts), np.asarray(slopes)


def _looks(at: int, total: int) -> Iterator[Array]:
    """Yield LOOK points from longer and longer stretches from ``at`` on."""
    count = LOOK
    while at + count < total:
        count *= 2
        yield np.linspace(at, min(at + count, total) - 1, LOOK).astype(np.int64)


def _longest(points: _Samples, low: Array, high: Array, at: int) -> tuple[int, float]:
    """Return the end of the longest run of cells from ``at`` that one line fits, and its slope."""
    part = slice(at, at + LOOK)
    least, largest, bad = _slopes(points.x[part], low[part], high[part])
    if bad < len(least):
        end = int(points.begin[at + bad])
        good = max(end - at - 1, 0)
        return end, _between(least[good], largest[good])
    return _longer(points, low, high, at, _between(least[-1], largest[-1]))


def _longer(points: _Samples, low: Array, high: Array, at: int, slope: float) -> tuple[int, float]:
    """Return what ``_longest`` returns for a run of LOOK points or more, or of all that are left;
    ``slope``: of these."""
    for look in _looks(at, len(points.x)):
        least, largest, bad = _slopes(points.x[look], low[look], high[look])
        if bad < len(look):
            break
        slope = _between(least[-1], largest[-1])
    else:
        return len(points.x), slope
    if look[bad] - look[bad - 1] > 1:  # check the points that were skipped
        look = np.concatenate((look[:bad], np.arange(look[bad - 1] + 1, look[bad] + 1)))
        least, largest, bad = _slopes(points.x[look], low[look], high[look])
    end = int(points.begin[look[bad]])
    good = max(int(np.searchsorted(look, end)) - 1, 0)
    return end, _between(least[good], largest[good])


@lru_cache(maxsize=256)
def _pairs(count: int) -> tuple[Array, Array, Array]:
    """Return i and j of all pairs i < j by rising j, and the first pair of every j from 1 on."""
    j, i = np.tril_indices(count, -1)
    number = np.arange(1, count)
    return i, j, number * (number - 1) // 2


def _slopes(x: Array, low: Array, high: Array) -> tuple[Array, Array, int]:
    """Return the least and largest slope of lines through the windows of points 0..j, per j.

    Third: the first j for which there is none.
    """
    least, largest = np.full(len(x), -np.inf), np.full(len(x), np.inf)
    if len(x) > 1:
        i, j, firsts = _pairs(len(x))
        dx = x[j] - x[i]
        np.maximum.reduceat((low[j] - high[i]) / dx, firsts, out=least[1:])
        np.minimum.reduceat((high[j] - low[i]) / dx, firsts, out=largest[1:])
    least, largest = np.maximum.accumulate(least), np.minimum.accumulate(largest)
    none = least > largest
    return least, largest, int(none.argmax()) if none[-1] else len(x)


def _between(least: float, largest: float) -> float:
    if np.isfinite(least) and np.isfinite(largest):
        return float(least + largest) / 2
    return float(np.nan_to_num(least if np.isfinite(least) else largest, posinf=0.0, neginf=0.0))
