# SPDX-License-Identifier: Apache-2.0
"""Decomposes a rearrangement of channels and positions into transposed tiles.

In: for the words of one image and byte plane of a Move, the source address of every byte.  Out:
``Strip``s: rows of tiles.  A tile has the words that take one lane each of the same source words,
lane by lane: the transpose of up to lanes x lanes bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..ir.types import Array
from .move_blocks import CONST_FLAG


@dataclass(frozen=True)
class Tile:
    """``count`` result words, from address ``out`` on, ``step`` apart.

    Lane l of the i-th is lane ``lane`` + i * ``lane_step`` of the source word at ``base`` +
    ``words[l]``; -1: none.
    """

    words: tuple[int, ...]
    base: int
    out: int
    step: int
    count: int
    lane: int
    lane_step: int

    @property
    def kind(self) -> tuple[object, ...]:
        """What tiles of one strip have in common."""
        return (self.words, self.step, self.count, self.lane, self.lane_step)


@dataclass(frozen=True)
class Strip:
    """``number`` tiles like ``tile``, ``source`` and ``out`` bytes apart."""

    tile: Tile
    number: int
    source: int
    out: int


def strips_of(words: Array, out: Array, lanes: int) -> list[Strip] | None:
    """Return strips that make all ``words`` (K, lanes), which go to addresses ``out`` (K,).

    None if some word takes different lanes of its sources, or lacks one before another.
    """
    used = words >= 0
    count = used.sum(1)
    if not count.all() or count.max() < 2 or np.any(words >= CONST_FLAG // 2):
        return None
    if np.any(used != (np.arange(lanes) < count[:, None])):
        return None
    lane = words % lanes
    first = lane[np.arange(len(words)), used.argmax(1)]
    if np.any(used & (lane != first[:, None])):
        return None
    keys = np.where(used, words // lanes * lanes, -1)
    tiles = sorted(_tiles(keys, first, out), key=lambda tile: (tile.base, tile.out))
    return list(_strips(tiles))


def _tiles(keys: Array, lane: Array, out: Array) -> Iterator[Tile]:
    """Yield tiles of words with equal keys."""
    for group in _groups(keys):
        order = group[np.lexsort((out[group], lane[group]))]
        steps = np.stack([np.diff(out[order]), np.diff(lane[order])])
        key = keys[order[0]]
        base = int(key[key >= 0].min())
        offsets = tuple(int(word - base) if word >= 0 else -1 for word in key)
        start = 0
        while start < len(order):
            stop = start + 1
            while stop < len(order) and np.array_equal(steps[:, stop - 1], steps[:, start]):
                stop += 1
            step = (0, 0) if stop == start + 1 else steps[:, start]
            head = order[start]
            yield Tile(offsets, base, int(out[head]), int(step[0]), stop - start, int(lane[head]),
                       int(step[1]))  # fmt: skip
            start = stop


def _groups(keys: Array) -> Iterator[Array]:
    """Yield the numbers of equal rows."""
    factors = np.random.default_rng(0).integers(1, 1 << 62, keys.shape[1]) | 1
    mixed = (keys * factors).sum(1)  # equal rows have equal sums, modulo 2**64
    _, first, inverse = np.unique(mixed, return_index=True, return_inverse=True)
    if np.any(keys != keys[first[inverse]]):  # two rows with one sum
        _, first, inverse = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    inverse = inverse.reshape(-1)
    order = np.argsort(inverse, kind="stable")
    ends = np.cumsum(np.bincount(inverse))
    return iter(np.split(order, ends[:-1]))


def _strips(tiles: Iterable[Tile]) -> Iterator[Strip]:
    """Join tiles of one kind that are equally far apart."""
    strip: Strip | None = None
    for tile in tiles:
        longer = None if strip is None else _joined(strip, tile)
        if longer is None and strip is not None:
            yield strip
        strip = longer or Strip(tile, 1, 0, 0)
    if strip is not None:
        yield strip


def _joined(strip: Strip, tile: Tile) -> Strip | None:
    first = strip.tile
    if tile.kind != first.kind:
        return None
    if strip.number == 1:
        source, out = tile.base - first.base, tile.out - first.out
        return Strip(first, 2, source, out) if source > 0 and out > 0 else None
    at = strip.number
    ends = tile.base == first.base + at * strip.source and tile.out == first.out + at * strip.out
    return Strip(first, at + 1, strip.source, strip.out) if ends else None


__all__ = ["Strip", "Tile", "strips_of"]
