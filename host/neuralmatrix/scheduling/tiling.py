# SPDX-License-Identifier: Apache-2.0
"""What Gemm and Window share when they choose tiles: candidates, operands, and the exposed ends.

In: sizes in words and positions, and the array's buffers.  Out: boxes and limits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..hardware.target import ArrayConfig
from .context import Box

KERNEL_LIMIT = 255  # largest count of the kernel loops' fields

GROUP_CYCLES = (1500, 5000)  # cycles of a group that hides the next group's transfers


@dataclass(frozen=True)
class OperandSize:
    """The size of t or u: its byte planes, and whether each output block has its own rows."""

    byte_planes: int
    each: bool


def operand_room(
    array: ArrayConfig, operands: Mapping[str, OperandSize], positions: int
) -> list[int]:
    """Return the number of output blocks whose operands fill half of their buffer."""
    rows = {"t": array.tbuf_rows, "u": array.ubuf_rows}
    return [rows[key] // 2 // positions for key, size in operands.items() if size.each]


def operand_limit(array: ArrayConfig, operands: Mapping[str, OperandSize]) -> int:
    """Return the positions of a tile whose operands fit."""
    rows = {"t": array.tbuf_rows, "u": array.ubuf_rows}
    return min((rows[key] for key in operands), default=1 << 30)


def operand_words(operands: Mapping[str, OperandSize], nb: int, groups: int) -> int:
    """Return the words that are loaded per position."""
    return sum(size.byte_planes * (nb if size.each else groups) for size in operands.values())


def boxes(height: int, width: int, tile: tuple[int, int]) -> list[Box]:
    """Return the tiles that cover height x width, row by row."""
    return [
        Box(r, min(r + tile[0], height), c, min(c + tile[1], width))
        for r in range(0, height, tile[0])
        for c in range(0, width, tile[1])
    ]


def tile_sizes(
    height: int, width: int, limit: int, widest: int = 1 << 30
) -> Iterator[tuple[int, int]]:
    """List candidate tiles of at most ``limit`` positions: even splits of the rows, then also of
    the columns."""
    splits = (*range(1, 9), 12, 16, 24, 32, 48, 64, 128, 256, 512, 1024)
    widest = max(1, min(limit, widest))
    least = -(-width // widest)  # images wider than the fixed splits allow
    more = (least * k for k in (1, 2, 4))
    for col_split in sorted({k for k in (*splits, *more) if least <= k <= width}):
        cols = -(-width // col_split)
        seen = set()
        for split in (*range(1, 33), 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, height):
            rows = -(-height // split)
            if rows * cols <= limit and rows not in seen:
                seen.add(rows)
                yield rows, cols
        if seen and height > 1:
            return
        if seen and col_split >= 64:
            return


def exposed_share(tiles: int) -> float:
    """Return the part of the first load and last store that no neighbouring operation hides: with
    tiles the next operation begins before this one ends."""
    return {1: 1.0, 2: 0.4}.get(tiles, 0.2)
