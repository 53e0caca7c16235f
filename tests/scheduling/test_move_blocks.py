# SPDX-License-Identifier: Apache-2.0
"""Decomposition of rearrangements into affine pieces.

In: planes of addresses.  Out: pieces that cover them exactly.
"""

from __future__ import annotations

import numpy as np
import pytest
from neuralmatrix.ir.types import Array
from neuralmatrix.scheduling.move_blocks import CONST_FLAG, FILL, IDLE, Piece, take_apart


def rebuild(plane: Array, pieces: list[Piece]) -> Array:
    """Return the plane of addresses that the pieces describe."""
    out = np.full(plane.shape, -99, np.int64)
    for p in pieces:
        rows = p.row + p.row_stride * np.arange(p.rows)
        cols = p.col + p.col_stride * np.arange(p.cols)
        out[np.ix_(rows, cols)] = FILL
        i, j = np.arange(p.rows)[:, None, None], np.arange(p.cols)[None, :, None]
        for s in p.sources:
            lane = np.arange(s.l0, s.l1)
            value = s.base + i * s.row_step + j * s.col_step + lane * s.lane_step
            out[np.ix_(rows, cols, lane)] = value
    return out


def planes() -> dict[str, Array]:
    rng = np.random.default_rng(5)
    grid = np.arange(6 * 8 * 16).reshape(6, 8, 16)
    up = grid.repeat(2, 0).repeat(2, 1)
    padded = np.pad(grid, ((1, 2), (0, 3), (0, 0)), constant_values=FILL)
    short = np.where(np.arange(16) < 5, grid, IDLE)
    joined = np.concatenate([grid[..., :9], grid[..., :7] + 5000 + CONST_FLAG], 2)
    return {
        "identity": grid, "transposed": grid.transpose(1, 0, 2), "upsampled": up,
        "padded": padded, "few lanes": short, "joined": joined, "flipped": grid[::-1, ::-1],
        "random": rng.integers(0, 9999, (3, 4, 16)), "all fill": np.full((2, 3, 16), FILL),
        "anchors": anchors(), "two lengths": np.concatenate([anchors()[:, :30], grid[:1]], 1),
        "columns in turn": grid[:2, [0, 4, 1, 5, 2, 6, 3, 7, 0, 0]],
        "fill in turn": np.where(np.arange(8)[:, None] % 2, FILL, grid),
        "lanes from columns": grid.transpose(2, 0, 1)[:, :, [*range(8), *range(8)]],
    }  # fmt: skip


def anchors() -> Array:
    """Return rows of 5 channels each, of 15 channels of 20 positions and 15 of 6 positions."""
    parts = [start + np.arange(n)[:, None] * 16 + np.arange(15) for start, n in ((0, 20), (999, 6))]
    flat = np.concatenate([part.reshape(-1, 5) for part in parts])
    return np.pad(flat, ((0, 0), (0, 11)), constant_values=IDLE)[None]


@pytest.mark.parametrize("name", planes())
def test_pieces_cover_the_plane_exactly(name: str) -> None:
    plane = planes()[name]
    found = rebuild(plane, take_apart(plane))
    np.testing.assert_array_equal(found[plane != IDLE], plane[plane != IDLE])


@pytest.mark.parametrize(
    "name, most",
    [("identity", 1), ("upsampled", 4), ("padded", 4), ("anchors", 6), ("columns in turn", 5)],
)
def test_regular_moves_need_few_pieces(name: str, most: int) -> None:
    assert len(take_apart(planes()[name])) <= most
