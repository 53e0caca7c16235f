# SPDX-License-Identifier: Apache-2.0
"""How a tensor lies in DRAM.

In: integer arrays of shape (N, H, W, C).  Out: their bytes as docs/numerics.md lays them out, and
back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def split_byte_planes(q: Array) -> tuple[Array, Array]:
    """Split int16 values into byte planes (lo, hi): q == 256*hi + lo, both int8."""
    q = np.asarray(q, np.int32)
    lo = ((q + 128) & 0xFF) - 128
    return lo.astype(np.int8), ((q - lo) >> 8).astype(np.int8)


@dataclass(frozen=True)
class Blocked:
    """[N][channel block][byte plane][H][W][lane]; ``broadcast``: C == 1 and all lanes hold the same
    value."""

    n: int
    h: int
    w: int
    c: int
    lanes: int
    int16: bool = False
    broadcast: bool = False

    @property
    def blocks(self) -> int:
        return -(-self.c // self.lanes)

    @property
    def byte_planes(self) -> int:
        return 2 if self.int16 else 1

    @property
    def plane_bytes(self) -> int:
        """Bytes of one byte plane of one channel block of one image."""
        return self.h * self.w * self.lanes

    @property
    def block_bytes(self) -> int:
        return self.byte_planes * self.plane_bytes

    @property
    def image_bytes(self) -> int:
        return self.blocks * self.block_bytes

    @property
    def nbytes(self) -> int:
        return self.n * self.image_bytes

    def offset(self, n: int, block: int, byte_plane: int, h: int, w: int) -> int:
        """Return the byte offset of a word."""
        plane = (n * self.blocks + block) * self.byte_planes + byte_plane
        return plane * self.plane_bytes + (h * self.w + w) * self.lanes

    def pack(self, q: Array, fill: int = 0) -> Array:
        """Pack (N,H,W,C) integers; lanes past C hold ``fill`` (broadcast: the value)."""
        lanes = self.blocks * self.lanes
        if self.broadcast:
            full = np.broadcast_to(q, (self.n, self.h, self.w, lanes))
        else:
            full = np.full((self.n, self.h, self.w, lanes), fill, np.int16)
            full[..., : self.c] = q
        split = full.reshape(self.n, self.h, self.w, self.blocks, self.lanes)
        split = split.transpose(0, 3, 1, 2, 4)
        planes = np.stack(split_byte_planes(split), 2) if self.int16 else split[:, :, None]
        return np.ascontiguousarray(planes, np.int8).reshape(-1)

    def unpack(self, data: Array) -> Array:
        """Unpack bytes to (N,H,W,C) int16."""
        planes = np.asarray(data).view(np.int8)
        planes = planes.reshape(self.n, self.blocks, self.byte_planes, self.h, self.w, self.lanes)
        value = planes[:, :, 0].astype(np.int16)
        if self.int16:
            value = value + planes[:, :, 1].astype(np.int16) * 256
        value = value.transpose(0, 2, 3, 1, 4).reshape(self.n, self.h, self.w, -1)
        return np.asarray(value[..., : self.c])


@dataclass(frozen=True)
class Rows:
    """[N][H][W*C bytes]: few-channel inputs, spatial padding included, words start at any byte.

    ``h``/``w`` include the padding (``top``, ``left`` of it before the data); each row has room
    for a whole word past its end.
    """

    n: int
    h: int
    w: int
    c: int
    lanes: int
    top: int
    left: int
    data_h: int
    data_w: int
    slack: int = 0

    @property
    def row_bytes(self) -> int:
        return self.w * self.c + self.slack

    @property
    def image_bytes(self) -> int:
        return self.h * self.row_bytes

    @property
    def nbytes(self) -> int:
        return self.n * self.image_bytes

    def pack(self, q: Array, fill: int = 0) -> Array:
        """Pack (N,data_h,data_w,C) int8 values; padding and slack hold ``fill``."""
        rows = np.full((self.n, self.h, self.row_bytes), fill, np.int8)
        grid = rows[:, :, : self.w * self.c].reshape(self.n, self.h, self.w, self.c)
        below, right = self.top + self.data_h, self.left + self.data_w
        grid[:, self.top : below, self.left : right] = q
        rows[:, :, : self.w * self.c] = grid.reshape(self.n, self.h, -1)
        return rows.reshape(-1)

    def unpack(self, data: Array) -> Array:
        """Unpack bytes to (N,data_h,data_w,C) int16."""
        rows = np.asarray(data).view(np.int8).reshape(self.n, self.h, self.row_bytes)
        grid = rows[:, :, : self.w * self.c].reshape(self.n, self.h, self.w, self.c)
        below, right = self.top + self.data_h, self.left + self.data_w
        return grid[:, self.top : below, self.left : right].astype(np.int16)


Layout = Blocked | Rows
