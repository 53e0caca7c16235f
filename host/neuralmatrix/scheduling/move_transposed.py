# SPDX-License-Identifier: Apache-2.0
"""Moves between channels and positions: source words take the place of the weights, transposed.

In: strips of tiles.  Out: per strip a LOAD of its source words to WBUF, a COMPUTE that multiplies
unit vectors by their transpose, and a STORE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..hardware.instruction_costs import WORD_CYCLES, gather_cycles, transfer_overhead
from ..hardware.isa import Buffer, Mode, Opcode, Reduce, Region
from ..hardware.target import Target
from .context import Context, View, arena_reads, emit_load, load_const
from .emitter import Range
from .epilogue_parameters import set_epilogue
from .move_blocks import plain_epilogue
from .move_tiles import Strip
from .parameter_pages import Params, load_params

STRIDED_CYCLES = 3  # of a word that is no part of a burst, on the narrowest port


def pays(target: Target, strips: Sequence[Strip]) -> bool:
    """Return whether tiles cost less than copies that gather every byte of a word."""
    tiles = sum(strip.number for strip in strips)
    words = sum(strip.number * strip.tile.count for strip in strips)
    lanes = target.word_bytes
    fixed = 2 * transfer_overhead(target.timing) * len(strips)
    mine = fixed + tiles * lanes * WORD_CYCLES + STRIDED_CYCLES * words
    return mine < words * gather_cycles(lanes) / 2


@dataclass
class Turner:
    """Emits strips; ``units``: IBUF word of the unit vectors, until something else is loaded
    there."""

    ctx: Context
    fill: int
    units: int
    params: dict[bytes, Params] = field(default_factory=dict)

    def parameters(self, strip: Strip) -> Params:
        """Return parameters whose bias is the fill in the lanes without a source."""
        empty = np.asarray(strip.tile.words) < 0
        key = empty.tobytes()
        if key not in self.params:
            bias = np.where(empty, self.fill, 0)
            self.params = {key: load_params(self.ctx, plain_epilogue(bias))}
        return self.params[key]


def turner(ctx: Context, fill: int) -> Turner:
    """Load the unit vectors."""
    units = ctx.rings.ibuf.take(ctx.lanes)
    eye = ctx.const.add(np.eye(ctx.lanes, dtype=np.int8))
    load_const(ctx, Buffer.IBUF, units, eye, ctx.lanes)
    return Turner(ctx, fill, units)


def schedule_strips(turner: Turner, strips: Sequence[Strip]) -> int:
    """Emit strips, whose tiles' ``out`` are arena addresses.  Returns the last STORE."""
    return [_strip(turner, part) for strip in strips for part in _parts(turner.ctx, strip)][-1]


def _parts(ctx: Context, strip: Strip) -> list[Strip]:
    """Cut a strip into parts that fit half of the buffers."""
    most = min(ctx.array.wbuf_words // ctx.lanes, ctx.array.obuf_rows // strip.tile.count) // 2
    most = max(1, most)
    return [
        replace(
            strip,
            tile=replace(strip.tile, base=strip.tile.base + i * strip.source,
                         out=strip.tile.out + i * strip.out),
            number=min(most, strip.number - i),
        )
        for i in range(0, strip.number, most)
    ]  # fmt: skip


def _strip(turner: Turner, strip: Strip) -> int:
    ctx, tile = turner.ctx, strip.tile
    params = turner.parameters(strip)
    words = strip.number * ctx.lanes
    weights = ctx.rings.wbuf.take(words)
    _load(ctx, strip, weights)
    set_epilogue(ctx, plain_epilogue(0), params.table, False, {})
    rows = strip.number * tile.count
    out = ctx.rings.obuf.take(rows)
    values = dict(
        mode=int(Mode.GEMM), reduce=int(Reduce.ADD), first=1, last=1, transpose=1, m1=1,
        m0=tile.count, nb=strip.number, cb=1, kh=1, kw=1, stride_h=1, stride_w=1, win_h=1, win_w=1,
        x_base=turner.units + tile.lane, x_m0=tile.lane_step, w_base=weights, w_nb=ctx.lanes,
        p_base=params.row(range(1)), o_base=out, o_nb=tile.count,
    )  # fmt: skip
    reads = (
        Range("ibuf", turner.units, turner.units + ctx.lanes),
        Range("wbuf", weights, weights + words),
        params.reads(range(1)),
    )
    ctx.emitter.emit(Opcode.COMPUTE, values, reads, (Range("obuf", out, out + rows),))
    values = dict(plane=0, addr=tile.out, src=out, n2=1, n1=strip.number, n0=tile.count, s2=0,
                  s1=strip.out, s0=tile.step)  # fmt: skip
    return ctx.emitter.emit(
        Opcode.STORE, values, (Range("obuf", out, out + rows),), arena_reads(ctx, values)
    )


def _load(ctx: Context, strip: Strip, weights: int) -> None:
    """Load the source words of all tiles, zeros in the place of those that are missing."""
    tile, lanes = strip.tile, ctx.lanes
    used = [word for word in tile.words if word >= 0]
    steps = set(np.diff(used).tolist())
    if len(steps) <= 1:
        step = steps.pop() if steps else lanes
        number, width = strip.number, len(used)
        if width == lanes and strip.source == lanes * step:  # one row of words
            number, width = 1, strip.number * lanes
        values = dict(n1=number, n0=width, s1=strip.source, s0=step, pad_right=-width % lanes)
        _emit(ctx, tile.base + (used[0] if used else 0), weights, values)
        return
    for i in range(strip.number):
        for lane, count, step in _lane_runs(used):
            pad = lanes - len(used) if lane + count == len(used) else 0
            values = dict(n1=1, n0=count, s1=0, s0=step, pad_right=pad)
            start = tile.base + i * strip.source + used[lane]
            _emit(ctx, start, weights + i * lanes + lane, values)


def _emit(ctx: Context, addr: int, dst: int, values: dict[str, int]) -> None:
    words = values["n1"] * (values["n0"] + values["pad_right"])
    plain = dict(dest=int(Buffer.WBUF), region=int(Region.ARENA), n2=1, s2=0, lane_stride=1)
    emit_load(ctx, {**plain, "addr": addr, "dst": dst, **values}, words)


def _lane_runs(words: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return (lane, count, step) of lanes whose words are equally far apart."""
    runs, lane = [], 0
    while lane < len(words):
        stop = lane + 1
        step = words[stop] - words[lane] if stop < len(words) else 0
        while stop < len(words) and words[stop] - words[stop - 1] == step:
            stop += 1
        runs.append((lane, stop - lane, step))
        lane = stop
    return runs


def result_addresses(view: View, blocks: int, positions: int, lanes: int) -> np.ndarray:
    """Return the address of every word [block][position] relative to the first."""
    at = np.arange(positions) * lanes
    return np.asarray((np.arange(blocks)[:, None] * view.block + at).reshape(-1))
