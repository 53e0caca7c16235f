# SPDX-License-Identifier: Apache-2.0
"""Convolutions and matrix products, of constants or of two run-time tensors.

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
from .context import Box, Context, View, blocked_view, load_grid, store_rows
from .emitter import Range
from .jobs import (
    Chunk,
    ConstWeights,
    Job,
    Runs,
    TensorWeights,
    Weights,
    plan_jobs,
    runs_of,
    shortest_gap,
)
from .operands import Operands, bases, can_flatten, operand_names, operand_sizes, strides
from .params import Params, load_params, replicate, set_epilogue
from .sparse import is_sparse, schedule_sparse
from .statistics import Finish, RowStatistics, row_statistics, store_statistics
from .tiling import GemmPlan, GemmProblem, boxes, plan_gemm

DENSE = 0.9  # share of nonzero blocks of weights from which all are computed


@dataclass(frozen=True)
class Setup:
    """A Gemm in words: the input grid and the kernel as the array sees them.

    ``runs``: the input blocks that each output block needs.
    """

    view: View
    weight: Array | None  # (KH, KW, CB*lanes, NB*lanes) int8; None for two run-time tensors
    weights: Weights
    kernel: tuple[int, int]
    cb: int
    runs: Runs
    strides: tuple[int, int]
    dilations: tuple[int, int]
    out_h: int
    out_w: int
    flat: bool


def schedule_gemm(ctx: Context, qop: QOp) -> dict[str, int]:
    """Emit a Gemm; returns the index of the last STORE of each tensor."""
    op, e = qop.op, qop.epilogue
    assert isinstance(op, Gemm) and e is not None
    stats = row_statistics(ctx, op, e)
    setup = _setup(ctx, op, qop.weight, e)
    if is_sparse(ctx, setup, op):
        return schedule_sparse(ctx, setup, e, op)
    plan = plan_gemm(ctx.array, _problem(ctx, setup, e, op, stats))
    groups = plan_jobs(setup.weights, plan, setup.kernel, setup.runs, ctx.lanes)
    if ctx.tensors[op.output].replicated:
        e = replicate(e, ctx.lanes)
    run = _Run(ctx, setup, plan, op, e, load_params(ctx, e), stats, Operands(ctx, e, setup.flat))
    for image in range(ctx.tensors[op.output].shape[0]):
        run.image(image, groups)
    return run.stores


# ------------------------------------------------------------------ geometry


def _setup(ctx: Context, op: Gemm, weight: Array | None, e: QEpilogue) -> Setup:
    _, h, w, _ = ctx.tensors[op.output].shape
    if weight is None:
        return _product_setup(ctx, op, e)
    source = ctx.places[op.input].layout
    if isinstance(source, Rows):
        return _rows_setup(ctx, op, weight, source, h, w)
    grid = _pad_channels(weight, op, ctx.lanes, ctx.tensors[op.output].replicated)
    pointwise = weight.shape[:2] == (1, 1) and not any(op.pads)
    if pointwise and op.strides == (1, 1) and can_flatten(ctx, e, h, w):
        view = blocked_view(ctx, op.input, True)
        return _const_setup(ctx, view, grid, (1, 1), (1, 1), 1, h * w, True)
    view = blocked_view(ctx, op.input)
    zero = ctx.qparams[op.input].zero_point
    if pointwise:
        view = replace(view, row=view.row * op.strides[0], column=view.column * op.strides[1],
                       height=h, width=w)  # fmt: skip
        return _const_setup(ctx, view, grid, (1, 1), (1, 1), h, w, False)
    view = replace(view, top=op.pads[0], left=op.pads[1], fill=(zero, 0))
    return _const_setup(ctx, view, grid, op.strides, op.dilations, h, w, False)


def _rows_setup(ctx: Context, op: Gemm, weight: Array, rows: Rows, h: int, w: int) -> Setup:
    """A word spans several kernel columns: the kernel becomes KH x 1 over KW*C channels."""
    kh, kw, c, m = weight.shape
    place = ctx.places[op.input]
    flat = replace(op, groups=1)
    replicated = ctx.tensors[op.output].replicated
    grid = _pad_channels(weight.reshape(kh, 1, kw * c, m), flat, ctx.lanes, replicated)
    view = View(place.region, place.offset, rows.image_bytes, ctx.lanes, 0, rows.row_bytes,
                op.strides[1] * c, rows.h, w, 1)  # fmt: skip
    strides, dilations = (op.strides[0], 1), (op.dilations[0], 1)
    return _const_setup(ctx, view, grid, strides, dilations, h, w, False)


def _product_setup(ctx: Context, op: Gemm, e: QEpilogue) -> Setup:
    """The weights are another tensor."""
    assert op.rhs is not None
    n, h, w, m = ctx.tensors[op.output].shape
    cb, nb = (-(-size // ctx.lanes) for size in (ctx.tensors[op.input].shape[3], m))
    weights = TensorWeights(ctx, blocked_view(ctx, op.rhs, True), op.rhs_transposed, n,
                            ctx.tensors[op.rhs].shape[0])  # fmt: skip
    flat = can_flatten(ctx, e, h, w)
    out_h, out_w = (1, h * w) if flat else (h, w)
    return Setup(blocked_view(ctx, op.input, flat), None, weights, (1, 1), cb, [[range(cb)]] * nb,
                 (1, 1), (1, 1), out_h, out_w, flat)  # fmt: skip


def _const_setup(
    ctx: Context, view: View, grid: Array, strides: tuple[int, int], dilations: tuple[int, int],
    out_h: int, out_w: int, flat: bool,
) -> Setup:  # fmt: skip
    """``grid``: weights (KH, KW, CB*lanes, NB*lanes) int8."""
    kh, kw, c, m = grid.shape
    lanes = ctx.lanes
    blocks = grid.reshape(kh, kw, c // lanes, lanes, m // lanes, lanes)
    blocks = blocks.transpose(4, 0, 1, 2, 3, 5)  # nb, kh, kw, cb, row, column
    used = blocks.any(axis=(1, 2, 4, 5))
    steps = kh * kw * view.digits * max(lanes, min(out_h * out_w, ctx.array.acc_rows))
    if used.mean() < DENSE:
        runs = [runs_of(row, shortest_gap(steps)) for row in used]
    else:
        runs = [[range(c // lanes)]] * len(used)
    return Setup(view, grid, ConstWeights(ctx, blocks), (kh, kw), c // lanes, runs, strides,
                 dilations, out_h, out_w, flat)  # fmt: skip


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


def _problem(ctx: Context, s: Setup, e: QEpilogue, op: Gemm, stats: RowStatistics) -> GemmProblem:
    images = ctx.tensors[op.output].shape[0]
    versions = len({s.weights.version(i) for i in range(images)})
    sparse = sum(len(run) for runs in s.runs for run in runs) < len(s.runs) * s.cb
    return GemmProblem(
        out_h=s.out_h, out_w=s.out_w, kernel=s.kernel, strides=s.strides, dilations=s.dilations,
        cb=s.cb, nb=len(s.runs), digits=s.view.digits,
        out_digits=2 if ctx.qparams[op.output].wide else 1, operands=operand_sizes(ctx, e),
        grouped=sparse, weight_digits=s.weights.digits, stat_planes=stats.planes,
        stored=op.output in ctx.places, images=images, alike=images // versions,
    )  # fmt: skip


# ------------------------------------------------------------------ emission


@dataclass
class _Tile:
    """An input tile on chip and the part of the K loop it serves."""

    image: int
    out: Box
    base: int
    box: Box
    serves: Chunk


@dataclass
class _Run:
    ctx: Context
    setup: Setup
    plan: GemmPlan
    op: Gemm
    epilogue: QEpilogue
    params: Params
    stats: RowStatistics
    operands: Operands
    stores: dict[str, int] = field(default_factory=dict)
    resident: dict[int, int] | None = None  # key of weights that stay -> WBUF word
    loaded: set[int] = field(default_factory=set)
    version: int = -1  # of the weights in WBUF
    tile: _Tile | None = None

    def image(self, image: int, groups: list[list[Job]]) -> None:
        """All tiles of one image, in the plan's order."""
        if self.setup.weights.version(image) != self.version:
            self.version, self.resident = self.setup.weights.version(image), None
            if self.plan.resident:
                self._reserve([job for group in groups for job in group])
        tiles = boxes(self.setup.out_h, self.setup.out_w, self.plan.tile)
        for box, group in self._order(tiles, groups):
            if self.plan.weights_outer and box == tiles[0]:
                self._reserve(group)
            self._group(image, box, group, groups)

    def _order(self, tiles: list[Box], groups: list[list[Job]]) -> Iterator[tuple[Box, list[Job]]]:
        if self.plan.weights_outer:
            return ((box, group) for group in groups for box in tiles)
        return ((box, group) for box in tiles for group in groups)

    def _group(self, image: int, box: Box, group: list[Job], groups: list[list[Job]]) -> None:
        """Sum all K chunks of a group of output blocks for one tile; store what is finished."""
        finishing = [job for job in group if job.last]
        for job in group:
            weights = self._weights(job, image)
            if not job.last:
                self._compute(job, self._input(image, box, job), box, weights, {}, (), ())
                continue
            first = group is groups[0] and job is finishing[0]
            last = group is groups[-1] and job is finishing[-1]
            self._finish(image, box, job, weights, Finish(first, last))

    def _finish(self, image: int, box: Box, job: Job, weights: int, finish: Finish) -> None:
        """The last part of a sum: epilogue and stores."""
        ctx, stored = self.ctx, self.op.output in self.ctx.places
        tile: _Tile | None = None
        if not ctx.older(operand_names(self.epilogue), self.op.input):
            tile = self._input(image, box, job)
        operands = self.operands.load(image, box, job.nb)
        tile = tile or self._input(image, box, job)
        rows = box.words * (len(job.nb) if stored else 1)
        planes = self.stats.planes if finish.last else 0
        out = ctx.rings.obuf.take(rows + planes * box.words)
        set_epilogue(ctx, self.epilogue, self.params, ctx.qparams[self.op.output].wide,
                     {**strides(operands), **self.stats.fields})  # fmt: skip
        values = dict(
            p_nb=1, p_base=self.params.base + job.nb.start, o_base=out,
            o_nb=box.words if stored else 0, r_base=out + rows, **bases(operands), **finish.fields,
        )  # fmt: skip
        reads = tuple(operand.read for operand in operands.values())
        base = self.params.base
        reads += (Range("pbuf", base + job.nb.start, base + job.nb.stop),)
        writes = (Range("obuf", out, out + rows + planes * box.words),)
        self._compute(job, tile, box, weights, values, reads, writes)
        flat = self.setup.flat
        if stored:
            name = self.op.output
            self.stores[name] = store_rows(ctx, name, image, box, job.nb, out, flat)
        if planes:
            self.stores.update(store_statistics(ctx, self.stats, image, box, out + rows, flat))

    def _weights(self, job: Job, image: int) -> int:
        if self.resident is not None and job.key in self.loaded:
            return self.resident[job.key]
        ring = self.ctx.rings.wbuf
        base = ring.take(job.words) if self.resident is None else self.resident[job.key]
        self.setup.weights.load(job, image, base)
        self.loaded.add(job.key)
        return base

    def _reserve(self, jobs: list[Job]) -> None:
        """One range for all weights, so that none overwrites another."""
        base = self.ctx.rings.wbuf.take(sum(job.words for job in jobs))
        starts = np.cumsum([0, *(job.words for job in jobs)])
        self.resident = {
            job.key: base + int(start) for job, start in zip(jobs, starts, strict=False)
        }
        self.loaded = set()

    def _input(self, image: int, box: Box, job: Job) -> _Tile:
        """Load the input words of an output tile, unless they are the ones loaded last."""
        s, ctx, serves = self.setup, self.ctx, job.serves
        tile = self.tile
        if tile is not None and (tile.image, tile.out, tile.serves) == (image, box, serves):
            return tile
        grid = input_box(box, s.strides, s.dilations, serves)
        base = ctx.rings.ibuf.take(len(serves.cb) * s.view.digits * grid.words)
        load_grid(ctx, s.view, image, grid, serves.cb, Buffer.IBUF, base)
        self.tile = _Tile(image, box, base, grid, serves)
        return self.tile

    def _compute(
        self, job: Job, tile: _Tile, box: Box, weights: int, more: dict[str, int],
        reads: tuple[Range, ...], writes: tuple[Range, ...],
    ) -> None:  # fmt: skip
        s, ctx, chunk = self.setup, self.ctx, job.chunk
        digits = s.view.digits
        plane, cols = tile.box.words, tile.box.cols
        first_plane = tile.base + (chunk.cb.start - tile.serves.cb.start) * digits * plane
        x_base = first_plane + s.dilations[0] * cols * (chunk.kh.start - tile.serves.kh.start)
        x_base += s.dilations[1] * (chunk.kw.start - tile.serves.kw.start)
        values = dict(
            mode=int(Mode.GEMM), reduce=int(Reduce.ADD), first=int(job.first), last=int(job.last),
            transpose=int(self.op.rhs_transposed), x_wide=digits - 1,
            w_wide=s.weights.digits - 1, m1=box.rows, m0=box.cols, nb=len(job.nb),
            cb=len(chunk.cb), kh=len(chunk.kh), kw=len(chunk.kw), stride_h=1, stride_w=1, win_h=1,
            win_w=1, x_base=x_base, x_m1=s.strides[0] * cols, x_m0=s.strides[1],
            x_kh=s.dilations[0] * cols, x_kw=s.dilations[1], x_cb=digits * plane, x_half=plane,
            w_base=weights, w_nb=job.words // len(job.nb), acc_base=job.acc * box.words, **more,
        )  # fmt: skip
        x = Range("ibuf", first_plane, first_plane + len(chunk.cb) * digits * plane)
        w = Range("wbuf", weights, weights + job.words)
        ctx.emitter.emit(Opcode.COMPUTE, values, (x, w, *reads), writes)


def input_box(box: Box, strides: tuple[int, int], dilations: tuple[int, int], chunk: Chunk) -> Box:
    """Padded input rows and columns that an output tile reads for part of the kernel."""
    r0 = box.r0 * strides[0] + chunk.kh.start * dilations[0]
    c0 = box.c0 * strides[1] + chunk.kw.start * dilations[1]
    rows = (box.rows - 1) * strides[0] + (len(chunk.kh) - 1) * dilations[0] + 1
    cols = (box.cols - 1) * strides[1] + (len(chunk.kw) - 1) * dilations[1] + 1
    return Box(r0, r0 + rows, c0, c0 + cols)


__all__ = ["input_box", "schedule_gemm"]
