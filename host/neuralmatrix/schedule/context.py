# SPDX-License-Identifier: Apache-2.0
"""What all parts of the scheduler share, and the instructions they all emit.

In: one operation's tensors and numbers.  Out: LOADs of tiles, parameters and operands, EPILOGUEs
and STOREs in the emitter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..config import ArrayConfig
from ..errors import DoesNotFit
from ..ir import Array, QParams, Tensor
from ..isa import Buffer, Opcode, Region, SegKind, Stat
from ..layout import Blocked
from ..qgraph import QEpilogue
from .emitter import Emitter, Range, Rings, arena_range
from .memory import ConstRegion, Place

PAD_LIMIT = 255
PARAM_BYTES = 8
IDLE_BIAS = -(2**24)  # makes a lane without a channel lose every maximum


@dataclass
class Context:
    """The scheduler's tools; ``state`` is what the last EPILOGUE set."""

    array: ArrayConfig
    emitter: Emitter
    rings: Rings
    const: ConstRegion
    places: Mapping[str, Place]
    tensors: Mapping[str, Tensor]
    qparams: Mapping[str, QParams]
    state: dict[str, int] = field(default_factory=dict)

    @property
    def lanes(self) -> int:
        return self.array.rows


@dataclass(frozen=True)
class View:
    """A tensor's words as an affine grid: [block][digit][row][column], in bytes."""

    region: Region
    base: int
    image: int
    block: int
    digit: int
    row: int
    column: int
    height: int
    width: int
    digits: int
    top: int = 0
    left: int = 0
    fill: tuple[int, int] = (0, 0)  # padding byte of the low and high digit plane


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
    """The natural grid of a blocked tensor; ``flat`` makes all positions one row."""
    place = ctx.places[name]
    b = place.layout
    assert isinstance(b, Blocked)
    height, width = (1, b.h * b.w) if flat else (b.h, b.w)
    return View(
        place.region, place.offset, b.image_bytes, b.block_bytes, b.plane_bytes,
        width * b.lanes, b.lanes, height, width, b.digits,
    )  # fmt: skip


# ------------------------------------------------------------------ LOAD


def load_grid(
    ctx: Context, view: View, image: int, box: Box, blocks: range, dest: Buffer, dst: int
) -> None:
    """Load a box of padded rows and columns of some channel blocks, all digits, to consecutive
    words.

    Word order: [block][digit][row][column].
    """
    if view.digits == 2 and view.fill[0] != view.fill[1]:
        size = box.words
        for i, block in enumerate(blocks):
            for digit in (0, 1):
                _load_planes(ctx, view, image, box, range(block, block + 1), (digit, 1), dest,
                             dst + (2 * i + digit) * size)  # fmt: skip
        return
    _load_planes(ctx, view, image, box, blocks, (0, view.digits), dest, dst)


def _load_planes(
    ctx: Context,
    view: View,
    image: int,
    box: Box,
    blocks: range,
    digits: tuple[int, int],
    dest: Buffer,
    dst: int,
) -> None:
    first_digit, count = digits
    planes = len(blocks) * count
    top, bottom, rows = _clip(box.r0 - view.top, box.rows, view.height)
    left, right, cols = _clip(box.c0 - view.left, box.cols, view.width)
    if max(top, bottom, left, right) > PAD_LIMIT:
        raise DoesNotFit(f"padding of {max(top, bottom, left, right)} exceeds {PAD_LIMIT}")
    row = max(0, box.r0 - view.top)
    col = max(0, box.c0 - view.left)
    plane_step = view.digit if count == 2 else view.block
    addr = view.base + image * view.image + blocks[0] * view.block + first_digit * view.digit
    values = dict(
        dest=int(dest), region=int(view.region), dst=dst, n2=planes, n1=rows, n0=cols,
        addr=addr + row * view.row + col * view.column,
        s2=plane_step, s1=view.row, s0=view.column, lane_stride=1,
        pad_top=top, pad_bottom=bottom, pad_left=left, pad_right=right,
        pad_value=view.fill[first_digit],
    )  # fmt: skip
    if rows == 0 or cols == 0:  # a tile of padding only still needs a legal shape
        values.update(n1=0, n0=0, pad_top=box.rows, pad_bottom=0, pad_left=box.cols, pad_right=0)
        values["addr"] = view.base
    emit_load(ctx, values, planes * box.words)


def _clip(start: int, count: int, size: int) -> tuple[int, int, int]:
    """Padding before, padding after, and data cells of start..start+count on 0..size."""
    before = min(count, max(0, -start))
    after = min(count - before, max(0, start + count - size))
    return before, after, count - before - after


SPACE_OF = {
    Buffer.IBUF: "ibuf", Buffer.WBUF: "wbuf", Buffer.PBUF: "pbuf",
    Buffer.T_LO: "t", Buffer.T_HI: "t", Buffer.U_LO: "u", Buffer.U_HI: "u",
}  # fmt: skip
PARAM_WORDS = 8  # words per parameter row


def emit_load(ctx: Context, values: dict[str, int], words: int) -> None:
    """Emit a LOAD of ``words`` words with the ranges it touches."""
    scale = PARAM_WORDS if values["dest"] == Buffer.PBUF else 1
    space = SPACE_OF[Buffer(values["dest"])]
    writes = (Range(space, values["dst"] // scale, (values["dst"] + words) // scale),)
    reads = arena_reads(ctx, values) if values["region"] == Region.ARENA else ()
    ctx.emitter.emit(Opcode.LOAD, values, reads, writes)


def arena_reads(ctx: Context, v: dict[str, int]) -> tuple[Range, ...]:
    """One range per n2 step; strided steps are covered from their first to their last byte."""
    if v["n1"] == 0 or v["n0"] == 0:
        return ()
    low, high = _extent(
        [(v["n1"], v["s1"]), (v["n0"], v["s0"]), (ctx.lanes, v.get("lane_stride", 1))]
    )
    starts = [v["addr"] + i * v["s2"] for i in range(v["n2"])]
    return tuple(arena_range(start + low, start + high) for start in starts)


def _extent(loops: list[tuple[int, int]]) -> tuple[int, int]:
    """Lowest and highest offset of nested affine loops (count, step)."""
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


# ------------------------------------------------------------------ parameters and EPILOGUE


@dataclass(frozen=True)
class Params:
    """Where an operation's parameters lie: first row of its channels, first row of its segments."""

    base: int
    seg_base: int


def load_params(ctx: Context, e: QEpilogue, idle_bias: int = 0) -> Params:
    """Put channel parameters and segments into PBUF.  Lanes past the last channel get
    ``idle_bias``."""
    rows = pack_params(e, ctx.lanes, idle_bias)
    table = pack_segments(e, ctx.lanes)
    count = (rows.size + table.size) // ctx.lanes
    if count > ctx.array.pbuf_rows:
        raise DoesNotFit(
            f"{len(e.m)} channels need {count} parameter rows, the board has {ctx.array.pbuf_rows}"
        )
    base = ctx.rings.pbuf.take(count)
    offset = ctx.const.add(np.concatenate([rows, table]))
    load_const(ctx, Buffer.PBUF, base * PARAM_WORDS, offset, count * PARAM_WORDS)
    return Params(base, base + rows.size // ctx.lanes)


def replicate(e: QEpilogue, lanes: int) -> QEpilogue:
    """The parameters of a replicated tensor's one channel, for every lane."""
    return replace(
        e, bias=np.repeat(e.bias, lanes), m=np.repeat(e.m, lanes), s=np.repeat(e.s, lanes)
    )


def pack_params(e: QEpilogue, lanes: int, idle_bias: int = 0) -> Array:
    """64-bit parameters, padded to whole rows."""
    count = -(-len(e.m) // lanes) * lanes
    packed = np.full(count, np.uint64(idle_bias & 0xFFFFFFFF), np.uint64)
    if idle_bias:
        packed |= np.uint64(0x4000) << np.uint64(32)
    bias = e.bias.astype(np.int64).astype(np.uint64) & np.uint64(0xFFFFFFFF)
    m = e.m.astype(np.int64).astype(np.uint64) & np.uint64(0xFFFFFF)
    packed[: len(m)] = bias | m << np.uint64(32) | e.s.astype(np.uint64) << np.uint64(56)
    return packed


def pack_segments(e: QEpilogue, lanes: int) -> Array:
    """64-bit segments, padded to whole rows; empty without a table."""
    if e.table is None:
        return np.zeros(0, np.uint64)
    seg = e.table
    packed = np.zeros(-(-len(seg.k) // lanes) * lanes, np.uint64)
    b = seg.b.astype(np.int64).astype(np.uint64) & np.uint64(0xFFFFFFFF)
    k = seg.k.astype(np.int64).astype(np.uint64) & np.uint64(0xFFFF)
    packed[: len(k)] = b | k << np.uint64(32) | seg.sh.astype(np.uint64) << np.uint64(48)
    return packed


def set_epilogue(
    ctx: Context, e: QEpilogue, params: Params, out_wide: bool, extra: Mapping[str, int]
) -> None:
    """Emit an EPILOGUE unless the unit is already in that state."""
    values = dict(
        t_en=int(e.residual is not None), u_en=int(e.hadamard is not None),
        t_wide=int(e.residual is not None and ctx.qparams[e.residual].wide),
        u_wide=int(e.hadamard is not None and ctx.qparams[e.hadamard].wide),
        out_wide=int(out_wide), f_shift=e.f_shift, u_shift=e.u_shift, off=e.off, mt=e.mt, uz=e.uz,
        zp=e.zp, lo=e.lo, hi=e.hi, stat=int(Stat.NONE), seg_kind=int(SegKind.NONE),
    )  # fmt: skip
    values.update(extra)
    reads: tuple[Range, ...] = ()
    if e.table is not None:
        count = len(e.table.k)
        values.update(seg_kind=int(e.table.kind), seg_x0=e.table.x0, seg_shift=e.table.shift,
                      seg_base=params.seg_base, seg_count=count)  # fmt: skip
        reads = (Range("pbuf", params.seg_base, params.seg_base + -(-count // ctx.lanes)),)
    if values == ctx.state:
        return
    ctx.state = dict(values)
    ctx.emitter.emit(Opcode.EPILOGUE, values, reads)


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
    for digit in range(view.digits):
        values = dict(
            plane=digit, addr=addr + digit * view.digit, src=src, n2=len(blocks), n1=box.rows,
            n0=box.cols, s2=view.block, s1=view.row, s0=view.column,
        )  # fmt: skip
        writes = arena_reads(ctx, values)
        reads = (Range("obuf", src, src + len(blocks) * box.words),)
        last = ctx.emitter.emit(Opcode.STORE, values, reads, writes)
    return last
