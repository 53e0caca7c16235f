# SPDX-License-Identifier: Apache-2.0
"""Schedules Moves that need copies through the array.

In: a QOp whose op is a Move.  Out: the product of a selection of channels; else per affine piece, a
gathering LOAD for every source, one WINDOW pass per source that picks its lanes (weights 0 and 1),
and a STORE.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..hardware.isa import Buffer, Mode, Opcode, Reduce, Region
from ..hardware.tensor_layout import Blocked
from ..ir.matgraph.ops import Move
from ..ir.types import Array
from ..quantization.qgraph import QOp
from .context import Box, Context, View, arena_reads, blocked_view, emit_load, load_const
from .emitter import Range
from .epilogue_parameters import set_epilogue
from .memory_plan import word_addresses
from .move_blocks import CONST_FLAG, FILL, IDLE, Piece, plain_epilogue, take_apart
from .move_selection import fits, schedule_selection, selections_of
from .move_tiles import strips_of
from .move_transposed import Turner, pays, result_addresses, schedule_strips, turner
from .parameter_pages import Params, load_params
from .tiling import boxes


@dataclass
class _Copier:
    """Emits pieces and loads weights and parameters when they change; what another form of Move
    has loaded since may lie in their place."""

    ctx: Context
    fill: int
    weights: tuple[bytes, int, int] | None = None  # masks in WBUF, their first word, their words
    params: tuple[bytes, Params] | None = None
    turner: Turner | None = None

    def forget_loaded(self) -> None:
        """Let the next copy load its weights and parameters again."""
        self.weights = self.params = None


def schedule_move(ctx: Context, qop: QOp) -> dict[str, int]:
    """Emit a Move; returns the index of its output's last STORE."""
    op = qop.op
    assert isinstance(op, Move)
    out = ctx.places[op.output].layout
    assert isinstance(out, Blocked)
    lo = ((qop.fill + 128) & 0xFF) - 128
    fills = (lo, (qop.fill - lo) >> 8)
    view = blocked_view(ctx, op.output)
    last = 0
    for plane in range(out.byte_planes):
        copier = _Copier(ctx, fills[plane])
        planes = _addresses(ctx, op, plane, out)
        for image in range(out.n):
            base = view.base + image * view.image + plane * view.plane
            last = _image(copier, planes[image], view, base)
    return {op.output: last}


def _image(copier: _Copier, plane: Array, view: View, base: int) -> int:
    """Emit the cheapest form of one image's plane (H, W, blocks, lanes), else of its blocks."""
    ctx, last = copier.ctx, 0
    selections = selections_of(copier.ctx.target, plane)
    if selections and all(fits(ctx, s) for s in selections):
        copier.turner = None
        copier.forget_loaded()
        return [schedule_selection(ctx, s, view, base, copier.fill) for s in selections][-1]
    whole = _transposed(copier, plane, view, base)
    if whole is not None:
        return whole
    for block in range(plane.shape[2]):
        part, start = plane[:, :, block : block + 1], base + block * view.block
        turned = _transposed(copier, part, view, start) if plane.shape[2] > 1 else None
        if turned is not None:
            last = turned
            continue
        copier.turner = None
        for piece in take_apart(part[:, :, 0]):
            last = _copy(copier, piece, start, view.row)
    return last


def _transposed(copier: _Copier, plane: Array, view: View, base: int) -> int | None:
    """Emit a plane as transposed tiles if that pays; returns the last STORE."""
    h, w, blocks, lanes = plane.shape
    words = plane.transpose(2, 0, 1, 3).reshape(-1, lanes)
    strips = strips_of(words, base + result_addresses(view, blocks, h * w, lanes), lanes)
    if strips is None or not pays(copier.ctx.target, strips):
        return None
    copier.forget_loaded()
    copier.turner = copier.turner or turner(copier.ctx, copier.fill)
    return schedule_strips(copier.turner, strips)


def _addresses(ctx: Context, op: Move, plane: int, out: Blocked) -> Array:
    """Return the source address of every byte of one byte plane: (N, H, W, blocks, lanes)."""
    parts = []
    for name in op.inputs:
        place = ctx.places[name]
        layout = place.layout
        assert isinstance(layout, Blocked)
        flag = CONST_FLAG if place.region == Region.CONST else 0
        shift = place.offset + plane * layout.plane_bytes + flag
        parts.append(word_addresses(layout).reshape(-1) + shift)
    source = np.concatenate(parts)
    address = np.where(op.index < 0, FILL, source[op.index])
    if out.broadcast:
        full = np.broadcast_to(address, (*address.shape[:3], out.lanes))
    else:
        full = np.full((*address.shape[:3], out.blocks * out.lanes), IDLE, np.int64)
        full[..., : out.c] = address
    return full.reshape(*address.shape[:3], -1, out.lanes)


def _copy(copier: _Copier, piece: Piece, base: int, row_bytes: int) -> int:
    ctx = copier.ctx
    room = min(ctx.array.obuf_rows // 2, ctx.array.acc_rows)
    room = min(room, ctx.array.ibuf_words // 2 // max(1, len(piece.sources)))
    cols = min(piece.cols, room, ctx.array.line_words)
    tile = (min(piece.rows, room // cols), cols)
    last = 0
    for box in boxes(piece.rows, piece.cols, tile):
        last = _copy_box(copier, piece, box, base, row_bytes)
    return last


def _copy_box(copier: _Copier, piece: Piece, box: Box, base: int, row_bytes: int) -> int:
    ctx = copier.ctx
    weights, w_words = _load_masks(copier, piece)
    params = _load_fill(copier, piece)
    x_base = ctx.rings.ibuf.take(max(1, len(piece.sources)) * box.words)
    for i, s in enumerate(piece.sources):
        addr = s.base + box.r0 * s.row_step + box.c0 * s.col_step
        region = Region.CONST if addr >= CONST_FLAG // 2 else Region.ARENA
        values = dict(
            dest=int(Buffer.IBUF), region=int(region), dst=x_base + i * box.words,
            addr=addr - (CONST_FLAG if region == Region.CONST else 0), n2=1, n1=box.rows,
            n0=box.cols, s2=0, s1=s.row_step, s0=s.col_step, lane_stride=s.lane_step,
        )  # fmt: skip
        emit_load(ctx, values, box.words)
    set_epilogue(ctx, plain_epilogue(0), params.table, False, {})
    out = ctx.rings.obuf.take(box.words)
    _compute(ctx, piece, box, x_base, weights, w_words, params, out)
    return _store(ctx, piece, box, base, row_bytes, out)


def _compute(
    ctx: Context, piece: Piece, box: Box, x_base: int, weights: int, w_words: int, params: Params,
    out: int,
) -> None:  # fmt: skip
    empty = not piece.sources  # a pass with weights of zero, always on the same word
    values = dict(
        mode=int(Mode.WINDOW), reduce=int(Reduce.ADD), first=1, last=1, win_h=1, win_w=1,
        m1=box.rows, m0=box.cols, nb=1, cb=1, kh=1, kw=max(1, len(piece.sources)), stride_h=1,
        stride_w=1, x_base=x_base, x_m1=0 if empty else box.cols, x_m0=0 if empty else 1,
        x_kw=box.words, w_base=weights, p_base=params.row(range(1)), o_base=out, o_nb=box.words,
    )  # fmt: skip
    reads = (
        Range("ibuf", x_base, x_base + max(1, len(piece.sources)) * box.words),
        Range("wbuf", weights, weights + w_words),
        params.reads(range(1)),
    )
    ctx.emitter.emit(Opcode.COMPUTE, values, reads, (Range("obuf", out, out + box.words),))


def _store(ctx: Context, piece: Piece, box: Box, base: int, row_bytes: int, out: int) -> int:
    row = piece.row + box.r0 * piece.row_stride
    col = piece.col + box.c0 * piece.col_stride
    values = dict(
        plane=0, addr=base + row * row_bytes + col * ctx.lanes, src=out, n2=1, n1=box.rows,
        n0=box.cols, s2=0, s1=piece.row_stride * row_bytes, s0=piece.col_stride * ctx.lanes,
    )  # fmt: skip
    reads = (Range("obuf", out, out + box.words),)
    return ctx.emitter.emit(Opcode.STORE, values, reads, arena_reads(ctx, values))


def _load_masks(copier: _Copier, piece: Piece) -> tuple[int, int]:
    """Load one weight block per source: 1 on its lanes."""
    ctx = copier.ctx
    masks = np.zeros((max(1, len(piece.sources)), ctx.lanes, ctx.lanes), np.int8)
    for i, s in enumerate(piece.sources):
        masks[i, 0, s.l0 : s.l1] = 1
    key = masks.tobytes()
    if copier.weights is None or copier.weights[0] != key:
        words = masks.size // ctx.lanes
        base = ctx.rings.wbuf.take(words)
        load_const(ctx, Buffer.WBUF, base, ctx.const.add(masks), words)
        copier.weights = (key, base, words)
    return copier.weights[1:]


def _load_fill(copier: _Copier, piece: Piece) -> Params:
    """Load parameters whose bias is the fill value on the lanes without a source."""
    ctx = copier.ctx
    bias = np.full(ctx.lanes, copier.fill, np.int32)
    for s in piece.sources:
        bias[s.l0 : s.l1] = 0
    key = bias.tobytes()
    if copier.params is None or copier.params[0] != key:
        copier.params = (key, load_params(ctx, plain_epilogue(bias)))
    return copier.params[1]
