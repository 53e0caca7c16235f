# SPDX-License-Identifier: Apache-2.0
"""The lines of a table: slopes, intercepts that halve the worst error, joint integer rounding.

In: a ``Problem`` (quantised x, wanted y, caps) and an ``Index``.
Out: integer lines with their error over every quantised x.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...ir.types import Array
from .index import INT16_HI, INT16_LO, Index, apply_lines, segment_index, starts_in

MAX_SH = 31
PLACE_BITS = 4
PLACES = 1 << PLACE_BITS  # of an estimate, in every segment


@dataclass(frozen=True)
class Problem:
    """The function to fit: quantised x, wanted y in output steps (uncapped), and the caps.

    ``tolerance``: the error at every x relative to that at others; equal if None.
    """

    x: Array  # int64, consecutive
    y: Array  # float64, finite
    clip: tuple[int, int]
    kinks: tuple[int, ...]  # first x to the right of each kink
    tolerance: Array | None = None

    @cached_property
    def real_x(self) -> Array:
        """x as floats, which products with slopes need."""
        return self.x.astype(np.float64)

    @cached_property
    def capped(self) -> Array:
        """y after the epilogue's caps."""
        return np.asarray(np.clip(self.y, *self.clip))

    @cached_property
    def inside(self) -> Array:
        """Points strictly between the caps; a line that leaves the caps is cut to them."""
        return np.asarray((self.y > self.clip[0] + 1e-6) & (self.y < self.clip[1] - 1e-6))

    @cached_property
    def inside_from(self) -> Array:
        """Position of the first point inside the caps at or right of every point."""
        where = np.where(self.inside, np.arange(len(self.x)), len(self.x))
        return np.asarray(np.minimum.accumulate(where[::-1])[::-1])

    @cached_property
    def inside_until(self) -> Array:
        """Position of the last point inside the caps at or left of every point."""
        return np.asarray(np.maximum.accumulate(np.where(self.inside, np.arange(len(self.x)), -1)))


@dataclass(frozen=True)
class Lines:
    """Integer lines of the segments in use, and their errors in output steps."""

    k: Array
    b: Array
    sh: Array
    worst: Array
    total: Array

    @property
    def worst_error(self) -> float:
        """The largest error of all segments."""
        return float(self.worst.max())


def starts_of(i: Array) -> Array:
    """Return the position of the first x of every segment in use (equal numbers are neighbours)."""
    return np.concatenate(([0], np.flatnonzero(np.diff(i)) + 1))


def sizes_of(starts: Array, total: int) -> Array:
    """Return the number of points of every segment."""
    return np.diff(np.concatenate((starts, [total])))


def usable(problem: Problem, starts: Array) -> Array:
    """Return the points to fit: those inside the caps, or all where a segment has none."""
    sizes = sizes_of(starts, len(problem.x))
    none = problem.inside_from[starts] >= starts + sizes
    return np.asarray(problem.inside | np.repeat(none, sizes)) if none.any() else problem.inside


def chords(problem: Problem, use: Array, starts: Array) -> Array:
    """Return the slope between the first and the last usable point of every segment.

    ``use``: ``usable`` points, or all.
    """
    x, y = problem.x, problem.capped
    ends = starts + sizes_of(starts, len(x)) - 1
    first = np.where(use[starts], starts, problem.inside_from[starts])
    last = np.where(use[ends], ends, problem.inside_until[ends])
    return np.asarray((y[last] - y[first]) / np.maximum(x[last] - x[first], 1))


def _least_squares(x: Array, y: Array, use: Array, starts: Array) -> Array:
    """Return the slope of the regression line of every segment."""
    sizes = sizes_of(starts, len(x))
    n = np.maximum(np.add.reduceat(use.astype(np.float64), starts), 1)
    dx = np.where(use, x - np.repeat(np.add.reduceat(np.where(use, x, 0), starts) / n, sizes), 0.0)
    sxx = np.add.reduceat(dx * dx, starts)
    return np.asarray(np.add.reduceat(dx * np.where(use, y, 0.0), starts) / np.maximum(sxx, 1e-30))


def rises(problem: Problem, starts: Array, slope: Array) -> Array:
    """Return slope*x of every point."""
    found = np.repeat(slope, sizes_of(starts, len(problem.x)))
    found *= problem.real_x
    return found


def span(rest: Array, use: Array, starts: Array) -> tuple[Array, Array]:
    """Return the lowest and highest ``rest`` of the usable points of every segment."""
    seen = rest if use.all() else np.where(use, rest, np.nan)
    return np.fmin.reduceat(seen, starts), np.fmax.reduceat(seen, starts)


def chord_error(problem: Problem, index: Index) -> float:
    """Return the worst error, before rounding, of centred chords, one per position of ``index``."""
    starts = starts_in(index, problem.x)
    use = usable(problem, starts)
    line = rises(problem, starts, chords(problem, use, starts))
    lowest, highest = span(problem.capped - line, use, starts)
    line += np.repeat((lowest + highest) / 2, sizes_of(starts, len(line)))
    np.clip(line, *problem.clip, out=line)  # in place: new memory takes longer than the sums
    line -= problem.capped
    return float(max(line.max(), -line.min()))


def chord_estimate(problem: Problem, index: Index) -> float:
    """Return about ``chord_error``, from ``PLACES`` + 1 points between the caps of every
    position."""
    starts = starts_in(index, problem.x)
    ends = starts + sizes_of(starts, len(problem.x)) - 1
    first, last = problem.inside_from[starts], problem.inside_until[ends]
    none = first > last
    first, last = np.where(none, starts, first), np.where(none, ends, last)
    at = first[:, None] + ((last - first)[:, None] * np.arange(PLACES + 1) >> PLACE_BITS)
    x, y = problem.real_x[at], problem.capped[at]
    line = (y[:, -1:] - y[:, :1]) / np.maximum(x[:, -1:] - x[:, :1], 1) * x
    rest = y - line
    line += (rest.min(1, keepdims=True) + rest.max(1, keepdims=True)) / 2
    return float(np.abs(np.clip(line, *problem.clip) - y).max())


def _round_lines(
    problem: Problem, starts: Array, slope: Array, use: Array
) -> tuple[Array, Array, Array]:
    """Return (k, b, sh) near ``slope`` with the finest shift; b is centred for the rounded
    slope."""
    x, y = problem.x, problem.capped
    middle = x[starts] + sizes_of(starts, len(x)) // 2
    lowest, highest = span(y - rises(problem, starts, slope), use, starts)
    level = (lowest + highest) / 2
    reach = np.maximum(np.abs(level), np.abs(level + slope * middle)) + 1
    by_k = np.floor(np.log2(INT16_HI / np.maximum(np.abs(slope), 1e-12)))
    by_b = np.floor(np.log2((2.0**31 - 2**17) / reach))
    sh = np.clip(np.minimum(by_k, by_b), 0, MAX_SH)
    k = np.clip(np.rint(slope * 2**sh), INT16_LO, INT16_HI)
    lowest, highest = span(y - rises(problem, starts, k / 2**sh), use, starts)
    half = np.where(sh > 0, 2.0 ** (sh - 1), 0.0)
    b = np.rint((lowest + highest) / 2 * 2**sh + half)
    b = np.clip(b, -(2.0**31), 2.0**31 - 1)
    return k.astype(np.int16), b.astype(np.int32), sh.astype(np.uint8)


def _slopes(
    problem: Problem, starts: Array, more: Array | None, near: bool
) -> Iterator[tuple[Array, Array]]:
    """Yield (the closest slopes in real arithmetic, usable points): of the points between the
    caps, and of all where some are beyond."""
    everything = np.ones(len(problem.x), bool)
    for use in (usable(problem, starts), everything):
        yield _closest(problem, starts, use, _proposals(problem, starts, use, more, near)), use
        if use.all():
            return


def _proposals(
    problem: Problem, starts: Array, use: Array, more: Array | None, near: bool
) -> list[Array]:
    """Return slopes of every segment."""
    chord = chords(problem, use, starts)
    given = [] if more is None else [more]
    if near:
        return [chord, *given]
    regression = _least_squares(problem.real_x, problem.capped, use, starts)
    return [chord, regression, (chord + regression) / 2, *given]


def _closest(problem: Problem, starts: Array, use: Array, proposals: list[Array]) -> Array:
    """Return per segment the slope whose centred line has the least error."""
    errors = []
    for slope in proposals:
        lowest, highest = span(problem.capped - rises(problem, starts, slope), use, starts)
        errors.append(highest - lowest)
    return np.asarray(np.choose(np.argmin(errors, axis=0), proposals))


def fit_lines(
    problem: Problem, index: Index, slopes: Array | None = None, near: bool = False
) -> Lines:
    """Fit, round and measure the lines of one index over every x.

    ``slopes``: one more proposal, for every segment in use; ``near``: it is a good one.
    """
    starts = starts_of(segment_index(index, problem.x))
    part = np.repeat(np.arange(len(starts)), sizes_of(starts, len(problem.x)))
    best: Lines | None = None
    for slope, use in _slopes(problem, starts, slopes, near):
        k, b, sh = _round_lines(problem, starts, slope, use)
        y = np.clip(apply_lines(k, b, sh, part, problem.x), *problem.clip)
        error = np.abs(y - problem.capped)
        worst, total = np.maximum.reduceat(error, starts), np.add.reduceat(error, starts)
        best = _better(best, Lines(k, b, sh, worst, total))
    assert best is not None
    return best


def _better(best: Lines | None, new: Lines) -> Lines:
    """Return per segment the line with the smaller worst error (then mean error)."""
    if best is None:
        return new
    closer = new.worst < best.worst - 1e-9
    closer |= (new.worst <= best.worst + 1e-9) & (new.total < best.total)
    pairs = (
        (new.k, best.k),
        (new.b, best.b),
        (new.sh, best.sh),
        (new.worst, best.worst),
        (new.total, best.total),
    )
    return Lines(*(np.where(closer, n, b) for n, b in pairs))
