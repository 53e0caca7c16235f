# SPDX-License-Identifier: Apache-2.0
"""The shared state of the scheduler's parts, and the transfers that they emit.

In: one operation's tensors.  Out: LOADs of tiles and constants, and STOREs, in the emitter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..errors import DoesNotFit
from ..hardware.isa import Buffer, Opcode, Region
from ..hardware.target import ArrayConfig, Target
from ..hardware.tensor_layout import Blocked
from ..ir.matgraph.ops import Tensor
from ..ir.types import QParams
from .emitter import Emitter, Range, Rings, arena_range
from .memory_plan import ConstRegion, Place

PAD_LIMIT = 255


@dataclass
class Context:
    """The scheduler's tools; ``state`` has the last EPILOGUE's fields, ``age`` the number of the
    operation that makes a tensor (-1: an input or a constant)."""

    target: Target
    emitter: Emitter
    rings: Rings
    const: ConstRegion
    places: Mapping[str, Place]
    tensors: Mapping[str, Tensor]
    qparams: Mapping[str, QParams]
    age: Mapping[str, int] = field(default_factory=dict)
    state: dict[str, int] = field(default_factory=dict)
    fills: dict[int, int] = field(default_factory=dict)  # padding byte -> a constant word of it

    @property
    def array(self) -> ArrayConfig:
        return self.target.array

    @property
    def lanes(self) -> int:
        return self.target.word_bytes

    def older(self, names: tuple[str, ...], than: str) -> bool:
        """Return whether some tensors are all older than another: LOAD reads older ones first."""
        limit = self.age.get(than, -1)
        return all(self.age.get(name, -1) <= limit for name in names)


@dataclass(frozen=True)
class View:
    """A tensor's words as an affine grid: [block][byte plane][row][column], in bytes."""

    region: Region
    base: int
    image: int
    block: int
    plane: int
    row: int
    column: int
    height: int
    width: int
    byte_planes: int
    top: int = 0
    left: int = 0
    fill: tuple[int, int] = (0, 0)  # padding byte of the low and high byte plane


@dataclass(frozen=True)
class Box:
    """Rows and columns of a padded grid, stop exclusive."""

    r0: int
    r1: int
    c0: int
    c1: int

    @property
    def rows(self) -> int:
        return self.r1 - self.r0

    @property
    def cols(self) -> int:
        return self.c1 - self.c0

    @property
    def words(self) -> int:
        return self.rows * self.cols


def blocked_view(ctx: Context, name: str, flat: bool = False) -> View:
    """Return the grid of a blocked tensor; ``flat`` joins all positions to one row."""
    place = ctx.places[name]
    b = place.layout
    assert isinstance(b, Blocked)
    height, width = (1, b.h * b.w) if flat else (b.h, b.w)
    return View(
        place.region, place.offset, b.image_bytes, b.block_bytes, b.plane_bytes,
        width * b.lanes, b.lanes, height, width, b.byte_planes,
    )  # fmt: skip


# ------------------------------------------------------------------ LOAD


def load_grid(
    ctx: Context, view: View, image: int, box: Box, blocks: range, dest: Buffer, dst: int
) -> None:
    """Load a box of padded rows and columns of some channel blocks, all byte planes, to consecutive
    words.

    Word order: [block][byte plane][row][column].
    """
    if view.byte_planes == 2 and view.fill[0] != view.fill[1]:
        size = box.words
        for i, block in enumerate(blocks):
            for plane in (0, 1):
                _load_planes(ctx, view, image, box, range(block, block + 1), (plane, 1), dest,
                             dst + (2 * i + plane) * size)  # fmt: skip
        return
    _load_planes(ctx, view, image, box, blocks, (0, view.byte_planes), dest, dst)


def _load_planes(
    ctx: Context,
    view: View,
    image: int,
    box: Box,
    blocks: range,
    byte_planes: tuple[int, int],
    dest: Buffer,
    dst: int,
) -> None:
    first_plane, count = byte_planes
    planes = len(blocks) * count
    top, bottom, rows = _clip(box.r0 - view.top, box.rows, view.height)
    left, right, cols = _clip(box.c0 - view.left, box.cols, view.width)
    if max(top, bottom, left, right) > PAD_LIMIT:
        raise DoesNotFit(f"padding of {max(top, bottom, left, right)} exceeds {PAD_LIMIT}")
    row = max(0, box.r0 - view.top)
    col = max(0, box.c0 - view.left)
    plane_step = view.plane if count == 2 else view.block
    addr = view.base + image * view.image + blocks[0] * view.block + first_plane * view.plane
    values = dict(
        dest=int(dest), region=int(view.region), dst=dst, n2=planes, n1=rows, n0=cols,
        addr=addr + row * view.row + col * view.column,
        s2=plane_step, s1=view.row, s0=view.column, lane_stride=1,
        pad_top=top, pad_bottom=bottom, pad_left=left, pad_right=right,
        pad_value=view.fill[first_plane],
    )  # fmt: skip
    if rows == 0 or cols == 0:
        values.update(_padding_alone(ctx, box, view.fill[first_plane]))
    emit_load(ctx, values, planes * box.words)


def _padding_alone(ctx: Context, box: Box, fill: int) -> dict[str, int]:
    """Return the fields of a LOAD of padding: it reads one word, which is a constant of the same
    value."""
    if fill not in ctx.fills:
        ctx.fills[fill] = ctx.const.add(np.full(ctx.lanes, fill, np.int8))
    return dict(
        region=int(Region.CONST), addr=ctx.fills[fill], n1=1, n0=1, s2=0, pad_top=0, pad_left=0,
        pad_bottom=box.rows - 1, pad_right=box.cols - 1,
    )  # fmt: skip


def _clip(start: int, count: int, size: int) -> tuple[int, int, int]:
    """Split start..start+count on 0..size: padding before, padding after, and data cells."""
    before = min(count, max(0, -start))
    after = min(count - before, max(0, start + count - size))
    return before, after, count - before - after


SPACE_OF = {
    Buffer.IBUF: "ibuf", Buffer.WBUF: "wbuf", Buffer.PBUF: "pbuf",
    Buffer.T_LO: "t", Buffer.T_HI: "t", Buffer.U_LO: "u", Buffer.U_HI: "u",
}  # fmt: skip
PARAM_WORDS = 8  # words per parameter row


def emit_load(ctx: Context, values: dict[str, int], words: int) -> None:
    """Emit a LOAD of ``words`` words with the ranges it accesses."""
    scale = PARAM_WORDS if values["dest"] == Buffer.PBUF else 1
    space = SPACE_OF[Buffer(values["dest"])]
    writes = (Range(space, values["dst"] // scale, (values["dst"] + words) // scale),)
    reads = arena_reads(ctx, values) if values["region"] == Region.ARENA else ()
    ctx.emitter.emit(Opcode.LOAD, values, reads, writes)


def arena_reads(ctx: Context, v: dict[str, int]) -> tuple[Range, ...]:
    """Return one range per n2 step; a strided step is covered from first to last byte."""
    low, high = _extent(
        [(v["n1"], v["s1"]), (v["n0"], v["s0"]), (ctx.lanes, v.get("lane_stride", 1))]
    )
    starts = [v["addr"] + i * v["s2"] for i in range(v["n2"])]
    return tuple(arena_range(start + low, start + high) for start in starts)


def _extent(loops: list[tuple[int, int]]) -> tuple[int, int]:
    """Return lowest and highest offset of nested affine loops (count, step)."""
    ends = [(count - 1) * step for count, step in loops]
    return sum(min(0, e) for e in ends), sum(max(0, e) for e in ends)


def load_const(ctx: Context, dest: Buffer, dst: int, offset: int, words: int) -> None:
    """Load contiguous words of the CONST region."""
    while words > 0:
        now = min(words, 0xFFFF)
        values = dict(
            dest=int(dest), region=int(Region.CONST), dst=dst, addr=offset, n2=1, n1=1, n0=now,
            s2=0, s1=now * ctx.lanes, s0=ctx.lanes, lane_stride=1,
        )  # fmt: skip
        emit_load(ctx, values, now)
        words, dst, offset = words - now, dst + now, offset + now * ctx.lanes


# ------------------------------------------------------------------ STORE


def store_rows(
    ctx: Context, name: str, image: int, box: Box, blocks: range, src: int, flat: bool
) -> int:
    """Store finished rows [block][row][column] of a tensor; returns the last instruction's
    index."""
    view = blocked_view(ctx, name, flat)
    addr = view.base + image * view.image + blocks[0] * view.block
    addr += box.r0 * view.row + box.c0 * view.column
    last = 0
    for i in range(view.byte_planes):
        values = dict(
            plane=i, addr=addr + i * view.plane, src=src, n2=len(blocks), n1=box.rows,
            n0=box.cols, s2=view.block, s1=view.row, s0=view.column,
        )  # fmt: skip
        writes = arena_reads(ctx, values)
        reads = (Range("obuf", src, src + len(blocks) * box.words),)
        last = ctx.emitter.emit(Opcode.STORE, values, reads, writes)
    return last
