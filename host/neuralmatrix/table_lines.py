# SPDX-License-Identifier: Apache-2.0
"""The lines of a table: slopes, intercepts that halve the worst error, joint integer rounding.

In: a ``Problem`` (codes x, wanted y, caps) and an ``Index``.
Out: integer lines with their error over every code.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .table_index import INT16_HI, INT16_LO, Array, Index, apply_lines, segment_index

MAX_SH = 31


@dataclass(frozen=True)
class Problem:
    """What is fitted: codes x, wanted y in output steps (uncapped), and the caps."""

    x: Array  # int64, consecutive
    y: Array  # float64, finite
    clip: tuple[int, int]
    kinks: tuple[int, ...]  # first code to the right of each kink

    @cached_property
    def capped(self) -> Array:
        """y as the epilogue's caps leave it."""
        return np.asarray(np.clip(self.y, *self.clip))

    @cached_property
    def inside(self) -> Array:
        """Points strictly between the caps; a line that leaves the caps is cut to them."""
        return np.asarray((self.y > self.clip[0] + 1e-6) & (self.y < self.clip[1] - 1e-6))


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
    """Position of the first x of every segment in use (equal numbers are neighbours)."""
    return np.concatenate(([0], np.flatnonzero(np.diff(i)) + 1))


def sizes_of(starts: Array, total: int) -> Array:
    """Number of points of every segment."""
    return np.diff(np.concatenate((starts, [total])))


def usable(problem: Problem, starts: Array) -> Array:
    """Points a line should pass: those inside the caps, or all where a segment has none."""
    some = np.logical_or.reduceat(problem.inside, starts)
    return np.asarray(problem.inside | np.repeat(~some, sizes_of(starts, len(problem.x))))


def chords(x: Array, y: Array, use: Array, starts: Array) -> Array:
    """Slope between the first and the last usable point of every segment."""
    where = np.arange(len(x))
    first = np.minimum.reduceat(np.where(use, where, len(x)), starts)
    last = np.maximum.reduceat(np.where(use, where, -1), starts)
    return np.asarray((y[last] - y[first]) / np.maximum(x[last] - x[first], 1))


def _least_squares(x: Array, y: Array, use: Array, starts: Array) -> Array:
    """Slope of the regression line of every segment."""
    sizes = sizes_of(starts, len(x))
    n = np.maximum(np.add.reduceat(use.astype(np.float64), starts), 1)
    dx = np.where(use, x - np.repeat(np.add.reduceat(np.where(use, x, 0), starts) / n, sizes), 0.0)
    sxx = np.add.reduceat(dx * dx, starts)
    return np.asarray(np.add.reduceat(dx * np.where(use, y, 0.0), starts) / np.maximum(sxx, 1e-30))


def span(x: Array, y: Array, use: Array, starts: Array, slope: Array) -> tuple[Array, Array]:
    """Lowest and highest y - slope*x of every segment."""
    rest = np.where(use, y - np.repeat(slope, sizes_of(starts, len(x))) * x, np.nan)
    return np.fmin.reduceat(rest, starts), np.fmax.reduceat(rest, starts)


def chord_error(problem: Problem, position: Array) -> float:
    """Worst error, before rounding, of centred chords; ``position``: the segment of every x."""
    x, y = problem.x, problem.capped
    starts = starts_of(position)
    use = usable(problem, starts)
    slope = chords(x, y, use, starts)
    lowest, highest = span(x, y, use, starts, slope)
    sizes = sizes_of(starts, len(x))
    line = np.repeat(slope, sizes) * x + np.repeat((lowest + highest) / 2, sizes)
    return float(np.abs(np.clip(line, *problem.clip) - y).max())


def _round_lines(
    problem: Problem, starts: Array, slope: Array, use: Array
) -> tuple[Array, Array, Array]:
    """(k, b, sh) near ``slope`` with the finest shift; b is centred for the slope as rounded."""
    x, y = problem.x, problem.capped
    middle = x[starts] + sizes_of(starts, len(x)) // 2
    lowest, highest = span(x, y, use, starts, slope)
    level = (lowest + highest) / 2
    reach = np.maximum(np.abs(level), np.abs(level + slope * middle)) + 1
    by_k = np.floor(np.log2(INT16_HI / np.maximum(np.abs(slope), 1e-12)))
    by_b = np.floor(np.log2((2.0**31 - 2**17) / reach))
    sh = np.clip(np.minimum(by_k, by_b), 0, MAX_SH)
    k = np.clip(np.rint(slope * 2**sh), INT16_LO, INT16_HI)
    lowest, highest = span(x, y, use, starts, k / 2**sh)
    half = np.where(sh > 0, 2.0 ** (sh - 1), 0.0)
    b = np.rint((lowest + highest) / 2 * 2**sh + half)
    b = np.clip(b, -(2.0**31), 2.0**31 - 1)
    return k.astype(np.int16), b.astype(np.int32), sh.astype(np.uint8)


def _slopes(problem: Problem, starts: Array) -> list[tuple[Array, Array]]:
    """(slopes, usable points) worth trying; which is best differs from segment to segment."""
    everything = np.ones(len(problem.x), bool)
    variants = []
    for use in (usable(problem, starts), everything):
        chord = chords(problem.x, problem.capped, use, starts)
        regression = _least_squares(problem.x, problem.capped, use, starts)
        variants += [(slope, use) for slope in (chord, regression, (chord + regression) / 2)]
        if use.all():
            break
    return variants


def fit_lines(problem: Problem, index: Index, slopes: Array | None = None) -> Lines:
    """Fit, round and measure the lines of one index over every code.

    ``slopes``: one more proposal, for every segment in use.
    """
    starts = starts_of(segment_index(index, problem.x))
    part = np.repeat(np.arange(len(starts)), sizes_of(starts, len(problem.x)))
    variants = _slopes(problem, starts)
    if slopes is not None:
        variants.append((slopes, usable(problem, starts)))
    best: Lines | None = None
    for slope, use in variants:
        k, b, sh = _round_lines(problem, starts, slope, use)
        y = np.clip(apply_lines(k, b, sh, part, problem.x), *problem.clip)
        error = np.abs(y - problem.capped)
        worst, total = np.maximum.reduceat(error, starts), np.add.reduceat(error, starts)
        best = _better(best, Lines(k, b, sh, worst, total))
    assert best is not None
    return best


def _better(best: Lines | None, new: Lines) -> Lines:
    """Segment by segment, the line with the smaller worst error (then mean error)."""
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
