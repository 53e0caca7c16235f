# SPDX-License-Identifier: Apache-2.0
"""Rearrangements of channels and positions as transposed tiles.

In: source addresses of words.  Out: strips, and the bytes that they would move.
"""

from __future__ import annotations

import numpy as np
import pytest
from neuralmatrix.ir.types import Array
from neuralmatrix.scheduling.move_blocks import CONST_FLAG, FILL, IDLE
from neuralmatrix.scheduling.move_tiles import Strip, strips_of

LANES = 16


def addresses(h: int, w: int, c: int) -> Array:
    """Return the byte address of every element (H, W, C) of a blocked tensor."""
    y, x, k = np.ogrid[:h, :w, :c]
    return np.asarray(((k // LANES * h + y) * w + x) * LANES + k % LANES)


def words_of(elements: Array) -> Array:
    """Return (H, W, C) source addresses as words [block][position], unused lanes idle."""
    h, w, c = elements.shape
    blocks = -(-c // LANES)
    full = np.full((h, w, blocks * LANES), IDLE, np.int64)
    full[..., :c] = elements
    return full.reshape(h * w, blocks, LANES).transpose(1, 0, 2).reshape(-1, LANES)


def moved(strips: list[Strip], size: int) -> Array:
    """Return for every result byte its source address, as the strips' instructions copy them."""
    found = np.full((size, LANES), -9, np.int64)
    for strip in strips:
        tile = strip.tile
        for n, i in np.ndindex(strip.number, tile.count):
            out = tile.out + n * strip.out + i * tile.step
            source = np.asarray(tile.words) + tile.base + n * strip.source
            lane = tile.lane + i * tile.lane_step
            assert out % LANES == 0 and (found[out // LANES] == -9).all()
            found[out // LANES] = np.where(np.asarray(tile.words) < 0, IDLE, source + lane)
    return found


PERMS = [(1, 2, 0), (2, 0, 1), (2, 1, 0), (0, 2, 1)]
SIZES = [(9, 9, 21), (2, 40, 32), (5, 16, 48), (3, 33, 3)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("perm", PERMS)
def test_every_byte_has_its_source(size: tuple[int, int, int], perm: tuple[int, ...]) -> None:
    words = words_of(addresses(*size).transpose(perm))
    strips = strips_of(words, np.arange(len(words)) * LANES, LANES)
    assert strips is not None
    np.testing.assert_array_equal(moved(strips, len(words)), words)
    tiles = sum(strip.number for strip in strips)
    assert tiles <= 3 * (np.prod(size) / 256 + sum(size))


def test_a_transposed_matrix_is_one_strip_for_each_block() -> None:
    words = words_of(addresses(1, 64, 32).transpose(0, 2, 1))
    strips = strips_of(words, np.arange(len(words)) * LANES, LANES)
    assert strips is not None and [(s.number, s.tile.count) for s in strips] == [(4, 16)] * 2


def test_what_is_no_transposition() -> None:
    plain = words_of(addresses(2, 3, 16))
    out = np.arange(len(plain)) * LANES
    assert strips_of(plain, out, LANES) is None  # copies of words
    turned = words_of(addresses(2, 16, 16).transpose(0, 2, 1))
    out = np.arange(len(turned)) * LANES
    assert strips_of(turned + CONST_FLAG, out, LANES) is None
    assert strips_of(np.full_like(turned, FILL), out, LANES) is None
    turned[3, 5] += 1
    assert strips_of(turned, out, LANES) is None
