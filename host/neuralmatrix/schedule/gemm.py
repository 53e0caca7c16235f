# SPDX-License-Identifier: Apache-2.0
"""Convolutions and matrix products.

In: a QOp whose op is a Gemm.  Out: its instructions: per tile of output positions and group of
output blocks, loads, computes and stores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from ..ir import Array, Gemm
from ..isa import Buffer, Mode, Opcode, Reduce
from ..layout import Rows
from ..qgraph import QEpilogue, QOp
from .context import (
    Box,
    Context,
    Params,
    View,
    blocked_view,
    load_const,
    load_grid,
    load_params,
    replicate,
    set_epilogue,
    store_rows,
)
from .emitter import Range
from .operands import can_flatten, load_operands, rows_per_block
from .tiling import GemmPlan, GemmProblem, boxes, plan_gemm


@dataclass(frozen=True)
class Chunk:
    """Part of the K loop: kernel rows, kernel columns, input blocks."""

    kh: range
    kw: range
    cb: range


@dataclass(frozen=True)
class Job:
    """One chunk of the K loop for some output blocks; first and last of their sums or not."""

    nb: range
    chunk: Chunk
    first: bool
    last: bool
    offset: int  # of its weights in CONST
    words: int


@dataclass(frozen=True)
class Setup:
    """A Gemm in words: the input grid, kernel and weights as the array sees them."""

    view: View
    weight: Array  # (KH, KW, CB*lanes, NB*lanes) int8
    strides: tuple[int, int]
    dilations: tuple[int, int]
    out_h: int
    out_w: int
    flat: bool


def schedule_gemm(ctx: Context, qop: QOp) -> int:
    """Emit a Gemm; returns the index of its last STORE."""
    op, e = qop.op, qop.epilogue
    assert isinstance(op, Gemm) and e is not None and qop.weight is not None
    setup = _setup(ctx, op, qop.weight, e)
    plan = plan_gemm(ctx.array, _problem(ctx, setup, e, op))
    jobs = _jobs(ctx, setup, plan, op)
    if ctx.tensors[op.output].replicated:
        e = replicate(e, ctx.lanes)
    params = load_params(ctx, e)
    run = _Run(ctx, setup, plan, e, params, op.output)
    last = 0
    for image in range(ctx.tensors[op.output].shape[0]):
        last = run.image(image, jobs)
    return last


# ------------------------------------------------------------------ geometry


def _setup(ctx: Context, op: Gemm, weight: Array, e: QEpilogue) -> Setup:
    _, h, w, _ = ctx.tensors[op.output].shape
    replicated = ctx.tensors[op.output].replicated
    source = ctx.places[op.input].layout
    if isinstance(source, Rows):
        return _rows_setup(ctx, op, weight, source, h, w)
    grid = _pad_channels(weight, op, ctx.lanes, replicated)
    pointwise = weight.shape[:2] == (1, 1) and not any(op.pads)
    if pointwise and op.strides == (1, 1) and can_flatten(ctx, e, h, w):
        return Setup(blocked_view(ctx, op.input, True), grid, (1, 1), (1, 1), 1, h * w, True)
    view = blocked_view(ctx, op.input)
    zero = ctx.qparams[op.input].zero_point
    if pointwise:
        view = replace(view, row=view.row * op.strides[0], column=view.column * op.strides[1],
                       height=h, width=w)  # fmt: skip
        return Setup(view, grid, (1, 1), (1, 1), h, w, False)
    view = replace(view, top=op.pads[0], left=op.pads[1], fill=(zero, 0))
    return Setup(view, grid, op.strides, op.dilations, h, w, False)


def _rows_setup(ctx: Context, op: Gemm, weight: Array, rows: Rows, h: int, w: int) -> Setup:
    """A word spans several kernel columns: the kernel becomes KH x 1 over KW*C channels."""
    kh, kw, c, m = weight.shape
    place = ctx.places[op.input]
    flat = replace(op, groups=1)
    grid = _pad_channels(weight.reshape(kh, 1, kw * c, m), flat, ctx.lanes, False)
    view = View(place.region, place.offset, rows.image_bytes, ctx.lanes, 0, rows.row_bytes,
                op.strides[1] * c, rows.h, w, 1)  # fmt: skip
    return Setup(view, grid, (op.strides[0], 1), (op.dilations[0], 1), h, w, False)


def _pad_channels(weight: Array, op: Gemm, lanes: int, replicated: bool) -> Array:
    """Dense (KH, KW, CB*lanes, NB*lanes) int8: groups become diagonal blocks."""
    kh, kw, per_group, m = weight.shape
    c = per_group * op.groups
    if replicated:
        weight, m = np.repeat(weight, lanes, -1), lanes
    out = np.zeros((kh, kw, -(-c // lanes) * lanes, -(-m // lanes) * lanes), np.int8)
    per_out = m // op.groups
    for g in range(op.groups):
        cs, ms = g * per_group, g * per_out
        out[:, :, cs : cs + per_group, ms : ms + per_out] = weight[..., ms : ms + per_out]
    return out


def _problem(ctx: Context, s: Setup, e: QEpilogue, op: Gemm) -> GemmProblem:
    kh, kw, c, m = s.weight.shape
    wide = ctx.qparams[op.output].wide
    return GemmProblem(
        out_h=s.out_h, out_w=s.out_w, kernel=(kh, kw), strides=s.strides, dilations=s.dilations,
        cb=c // ctx.lanes, nb=m // ctx.lanes, digits=s.view.digits, out_digits=2 if wide else 1,
        operands=rows_per_block(ctx, e, 1), grouped=op.groups > 1,
    )  # fmt: skip


# ------------------------------------------------------------------ weights


def _jobs(ctx: Context, s: Setup, plan: GemmPlan, op: Gemm) -> list[list[Job]]:
    """Jobs per group of output blocks; each group's jobs complete its sums."""
    lanes = ctx.lanes
    kh, kw, c, m = s.weight.shape
    blocks = s.weight.reshape(kh, kw, c // lanes, lanes, m // lanes, lanes)
    blocks = blocks.transpose(4, 0, 1, 2, 3, 5)  # nb, kh, kw, cb, row, column
    groups = []
    for nb0 in range(0, m // lanes, plan.nb_step):
        nb = range(nb0, min(nb0 + plan.nb_step, m // lanes))
        used = _used_blocks(blocks[nb.start : nb.stop]) if op.groups > 1 else range(c // lanes)
        chunks = [
            Chunk(rows, cols, cb)
            for rows in _parts(range(kh), plan.chunk[0])
            for cols in _parts(range(kw), plan.chunk[1])
            for cb in _parts(used, plan.chunk[2])
        ]
        groups.append([
            _job(ctx, blocks, nb, chunk, chunk is chunks[0], chunk is chunks[-1])
            for chunk in chunks
        ])  # fmt: skip
    return groups


def _parts(whole: range, step: int) -> list[range]:
    return [range(i, min(i + step, whole.stop)) for i in range(whole.start, whole.stop, step)]


def _used_blocks(blocks: Array) -> range:
    """Input blocks with any nonzero weight, as one range (at least one block)."""
    used = np.flatnonzero(blocks.any(axis=(0, 1, 2, 4, 5)))
    return range(int(used[0]), int(used[-1]) + 1) if used.size else range(1)


def _job(ctx: Context, blocks: Array, nb: range, chunk: Chunk, first: bool, last: bool) -> Job:
    parts = (slice(part.start, part.stop) for part in (nb, chunk.kh, chunk.kw, chunk.cb))
    data = blocks[tuple(parts)]
    return Job(nb, chunk, first, last, ctx.const.add(data), data.size // ctx.lanes)


# ------------------------------------------------------------------ emission


@dataclass
class _Tile:
    """An input tile on chip and the part of the K loop it serves."""

    base: int
    box: Box
    serves: Chunk


@dataclass
class _Run:
    ctx: Context
    setup: Setup
    plan: GemmPlan
    epilogue: QEpilogue
    params: Params
    output: str
    resident: dict[int, int] | None = None  # CONST offset -> WBUF word, of weights that stay
    loaded: set[int] = field(default_factory=set)

    def image(self, image: int, groups: list[list[Job]]) -> int:
        """All tiles of one image, in the plan's order."""
        if self.resident is None and self.plan.resident:
            self.resident = self._reserve([job for group in groups for job in group])
        last = 0
        for box, group in self._order(groups):
            if self.plan.weights_outer and box == self._first_box:
                self.resident, self.loaded = self._reserve(group), set()
            last = self._group(image, box, group)
        return last

    def _order(self, groups: list[list[Job]]) -> Iterator[tuple[Box, list[Job]]]:
        tiles = boxes(self.setup.out_h, self.setup.out_w, self.plan.tile)
        self._first_box = tiles[0]
        if self.plan.weights_outer:
            return ((box, group) for group in groups for box in tiles)
        return ((box, group) for box in tiles for group in groups)

    _first_box: Box | None = None
    _loaded: tuple[int, Box, Chunk] | None = None
    _tile: _Tile | None = None

    def _group(self, image: int, box: Box, group: list[Job]) -> int:
        """Sum all K chunks of a group of output blocks for one tile, then store it."""
        ctx, nb = self.ctx, group[0].nb
        flat = self.setup.flat
        weights = [self._weights(job) if i == 0 else -1 for i, job in enumerate(group)]
        operands, steps = load_operands(ctx, self.epilogue, image, box, nb, flat)
        out = ctx.rings.obuf.take(len(nb) * box.words)
        wide = ctx.qparams[self.output].wide
        set_epilogue(ctx, self.epilogue, self.params, wide, steps)
        for i, job in enumerate(group):
            if i:
                weights[i] = self._weights(job)
            tile = self._input(image, box, job.chunk)
            reads = [operand.read for operand in operands.values()] if job.last else []
            bases = {f"{key}_base": operand.base for key, operand in operands.items()}
            self._compute(job, tile, box, weights[i], out, bases, reads)
        return store_rows(ctx, self.output, image, box, nb, out, flat)

    def _weights(self, job: Job) -> int:
        if self.resident is not None and job.offset in self.loaded:
            return self.resident[job.offset]
        ring = self.ctx.rings.wbuf
        base = ring.take(job.words) if self.resident is None else self.resident[job.offset]
        load_const(self.ctx, Buffer.WBUF, base, job.offset, job.words)
        self.loaded.add(job.offset)
        return base

    def _reserve(self, jobs: list[Job]) -> dict[int, int]:
        """One range for all weights, so that none overwrites another."""
        base = self.ctx.rings.wbuf.take(sum(job.words for job in jobs))
        starts = np.cumsum([0, *(job.words for job in jobs)])
        return {job.offset: base + int(start) for job, start in zip(jobs, starts, strict=False)}

    def _input(self, image: int, box: Box, chunk: Chunk) -> _Tile:
        """Load the input words of an output tile, unless they are the ones loaded last."""
        s, ctx = self.setup, self.ctx
        kh, kw, c = s.weight.shape[:3]
        serves = chunk if self.plan.chunked_input else Chunk(
            range(kh), range(kw), range(c // ctx.lanes)
        )  # fmt: skip
        if self._tile is not None and self._loaded == (image, box, serves):
            return self._tile
        grid = input_box(box, s.strides, s.dilations, serves)
        base = ctx.rings.ibuf.take(len(serves.cb) * s.view.digits * grid.words)
        load_grid(ctx, s.view, image, grid, serves.cb, Buffer.IBUF, base)
        self._loaded, self._tile = (image, box, serves), _Tile(base, grid, serves)
        return self._tile

    def _compute(
        self, job: Job, tile: _Tile, box: Box, weights: int, out: int,
        bases: dict[str, int], reads: list[Range],
    ) -> None:  # fmt: skip
        s, ctx, chunk = self.setup, self.ctx, job.chunk
        digits = s.view.digits
        plane, cols = tile.box.words, tile.box.cols
        first_plane = tile.base + (chunk.cb.start - tile.serves.cb.start) * digits * plane
        x_base = first_plane + s.dilations[0] * cols * (chunk.kh.start - tile.serves.kh.start)
        x_base += s.dilations[1] * (chunk.kw.start - tile.serves.kw.start)
        values = dict(
            mode=int(Mode.GEMM), reduce=int(Reduce.ADD), first=int(job.first), last=int(job.last),
            x_wide=digits - 1, m1=box.rows, m0=box.cols, nb=len(job.nb), cb=len(chunk.cb),
            kh=len(chunk.kh), kw=len(chunk.kw), stride_h=1, stride_w=1, win_h=1, win_w=1,
            x_base=x_base, x_m1=s.strides[0] * cols, x_m0=s.strides[1],
            x_kh=s.dilations[0] * cols, x_kw=s.dilations[1], x_cb=digits * plane, x_half=plane,
            w_base=weights, w_nb=job.words // len(job.nb), p_nb=1,
            p_base=self.params.base + job.nb.start,
            o_base=out, o_nb=box.words, **bases,
        )  # fmt: skip
        words = len(chunk.cb) * digits * plane
        ranges = [Range("ibuf", first_plane, first_plane + words)]
        ranges.append(Range("wbuf", weights, weights + job.words))
        writes: tuple[Range, ...] = ()
        if job.last:
            base = self.params.base
            ranges.append(Range("pbuf", base + job.nb.start, base + job.nb.stop))
            writes = (Range("obuf", out, out + len(job.nb) * box.words),)
        ctx.emitter.emit(Opcode.COMPUTE, values, (*ranges, *reads), writes)


def input_box(box: Box, strides: tuple[int, int], dilations: tuple[int, int], chunk: Chunk) -> Box:
    """Padded input rows and columns that an output tile reads for part of the kernel."""
    r0 = box.r0 * strides[0] + chunk.kh.start * dilations[0]
    c0 = box.c0 * strides[1] + chunk.kw.start * dilations[1]
    rows = (box.rows - 1) * strides[0] + (len(chunk.kh) - 1) * dilations[0] + 1
    cols = (box.cols - 1) * strides[1] + (len(chunk.kw) - 1) * dilations[1] + 1
    return Box(r0, r0 + rows, c0, c0 + cols)


__all__ = ["input_box", "schedule_gemm"]
