# SPDX-License-Identifier: Apache-2.0
"""Decomposes an arbitrary rearrangement into affine copies.

In: for one plane of words (H, W, lanes) the source address of every byte.  Out: ``Piece``s, each a
grid of words whose lanes come from a few affine sources.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..ir.types import Array
from ..quantization.qgraph import QEpilogue

CONST_FLAG = 1 << 40  # added to addresses in the CONST region
FILL = -1  # the lane holds the fill value
IDLE = -2  # the lane is not read
PHASES = (1, 2, 3, 4, 5, 6, 7, 8)  # row and column interleaves of whole planes that are tried
INTERLEAVED = 12  # most runs that may be interleaved in a part of a row


@dataclass(frozen=True)
class Source:
    """Lanes l0..l1-1 of every word: address = base + row*row_step + col*col_step +
    lane*lane_step."""

    l0: int
    l1: int
    base: int
    row_step: int
    col_step: int
    lane_step: int


@dataclass(frozen=True)
class Piece:
    """Words (row + i*row_stride, col + j*col_stride), i < rows, j < cols; lanes without a source
    hold fill."""

    row: int
    col: int
    rows: int
    cols: int
    row_stride: int
    col_stride: int
    sources: tuple[Source, ...]


def take_apart(plane: Array) -> list[Piece]:
    """Decompose a plane of addresses into pieces, few where the rearrangement is regular."""
    for ph in PHASES:
        for pw in PHASES:
            pieces = _interleaved(plane, ph, pw)
            if pieces is not None:
                return pieces
    return list(_by_rows(plane))


def _interleaved(plane: Array, ph: int, pw: int) -> list[Piece] | None:
    """Return one piece per phase if every phase is affine as a whole."""
    if ph > plane.shape[0] or pw > plane.shape[1]:
        return None
    pieces = []
    for i in range(ph):
        for j in range(pw):
            grid = plane[i::ph, j::pw]
            steps = affine_steps(grid)
            if steps is None:
                return None
            sources = lane_sources(grid[0, 0], *steps)
            pieces.append(Piece(i, j, len(grid), grid.shape[1], ph, pw, sources))
    return pieces


def affine_steps(grid: Array) -> tuple[int, int] | None:
    """Return row and column step of a grid of words, equal for all used lanes, or None."""
    used = grid[0, 0] >= 0
    if np.any((grid >= 0) != used) or np.any(grid[:, :, ~used] != grid[0, 0, ~used]):
        return None
    if not used.any():
        return 0, 0
    lanes = grid[:, :, used]
    if np.any((lanes >= CONST_FLAG // 2) != (lanes[0, 0] >= CONST_FLAG // 2)):
        return None
    row = int(lanes[1, 0, 0] - lanes[0, 0, 0]) if len(lanes) > 1 else 0
    col = int(lanes[0, 1, 0] - lanes[0, 0, 0]) if lanes.shape[1] > 1 else 0
    i, j = np.arange(len(lanes))[:, None, None], np.arange(lanes.shape[1])[None, :, None]
    if np.any(lanes != lanes[0, 0] + i * row + j * col):
        return None
    return row, col


def lane_sources(word: Array, row_step: int, col_step: int) -> tuple[Source, ...]:
    """Group the used lanes of a word into affine runs."""
    found: list[Source] = []
    lane = 0
    while lane < len(word):
        if word[lane] < 0:
            lane += 1
            continue
        stop = lane + 1
        step = int(word[stop] - word[lane]) if stop < len(word) and word[stop] >= 0 else 1
        if abs(step) >= CONST_FLAG // 2:  # the next lane comes from the other region
            step = 1
        while stop < len(word) and word[stop] >= 0 and word[stop] - word[stop - 1] == step:
            stop += 1
        if stop == lane + 1:
            step = 1
        found.append(Source(lane, stop, int(word[lane]) - lane * step, row_step, col_step, step))
        lane = stop
    return tuple(found)


def _by_rows(plane: Array) -> Iterator[Piece]:
    """Cut every row where its pattern breaks; join equal cuts of following rows."""
    cuts = [_cut(row) for row in plane]
    start = 0
    while start < len(plane):
        stop = start + 1
        while stop < len(plane) and cuts[stop] == cuts[start] and _joins(plane, start, stop, cuts):
            stop += 1
        for cut in cuts[start]:
            for first, part in cut.phases():
                steps = affine_steps(plane[start:stop, part])
                assert steps is not None
                sources = lane_sources(plane[start, first], *steps)
                cols = len(range(first, cut.stop, cut.step))
                yield Piece(start, first, stop - start, cols, 1, cut.step, sources)
        start = stop


def _joins(plane: Array, start: int, stop: int, cuts: list[list[_Cut]]) -> bool:
    return all(
        affine_steps(plane[start : stop + 1, part]) is not None
        for cut in cuts[start]
        for _, part in cut.phases()
    )


@dataclass(frozen=True)
class _Cut:
    """Words start..stop-1 of a row, of which every ``step``-th continues an affine run."""

    start: int
    stop: int
    step: int

    @property
    def each(self) -> float:
        """The number of words of a piece."""
        return (self.stop - self.start) / self.step

    def phases(self) -> Iterator[tuple[int, slice]]:
        """Yield the first word of every run, and the slice of its words."""
        for first in range(self.start, min(self.start + self.step, self.stop)):
            yield first, slice(first, self.stop, self.step)


def _cut(row: Array) -> list[_Cut]:
    """Cut a row's words into the longest affine runs, interleaved ones too, from the left."""
    cuts: list[_Cut] = []
    breaks = {1: _breaks(row, 1)}
    start = 0
    while start < len(row):
        best = _Cut(start, _end(breaks[1], start, 1, len(row)), 1)
        if best.stop < len(row):
            for step in range(2, min(INTERLEAVED, len(row) - start) + 1):
                if step not in breaks:
                    breaks[step] = _breaks(row, step)
                other = _Cut(start, _end(breaks[step], start, step, len(row)), step)
                best = other if other.each >= 2 * best.each else best
        cuts.append(best)
        start = best.stop
    return cuts


def _breaks(row: Array, step: int) -> tuple[Array, Array]:
    """Return the words of a row that do not continue to the word ``step`` further, and those of
    which the next two such steps differ."""
    ahead, used = row[step:], row[:-step] >= 0
    if not len(ahead):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    difference = np.where(used, ahead - row[:-step], 0)
    one = np.where(used.any(1), difference[np.arange(len(used)), used.argmax(1)], 0)
    same = np.where(used, difference == one[:, None], ahead == row[:-step]).all(1)
    same &= ((ahead >= 0) == used).all(1)
    same &= ((ahead >= CONST_FLAG // 2) == (row[:-step] >= CONST_FLAG // 2)).all(1)
    return np.flatnonzero(~same), np.flatnonzero(one[step:] != one[:-step])


def _end(breaks: tuple[Array, Array], start: int, step: int, size: int) -> int:
    """Return the end of the longest interleaved runs from ``start`` on."""
    ends = [size]
    for reach, found in zip((step, 2 * step), breaks, strict=True):
        i = np.searchsorted(found, start)
        if i < len(found):
            ends.append(int(found[i]) + reach)
    return min(ends)


def plain_epilogue(bias: Array | int) -> QEpilogue:
    """Return the epilogue q = acc + bias."""
    bias = np.atleast_1d(np.asarray(bias, np.int32))
    ones = np.full(bias.shape, 1 << 14, np.int32)
    shift = np.full(bias.shape, 14, np.uint8)
    return QEpilogue(bias, ones, shift, 0, 0, 0, 0, 0, 0, -128, 127)
