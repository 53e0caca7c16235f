# SPDX-License-Identifier: Apache-2.0
"""Schedules convolutions, matrix products with constants and activation-activation matmuls.

In: a QOp whose op is a Gemm.  Out: its instructions: per tile of output positions and group of
output blocks, loads, computes and stores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..hardware.isa import Buffer, Mode, Opcode, Reduce
from ..ir.matgraph.ops import Gemm
from ..quantization.qgraph import QEpilogue, QOp
from .context import Box, Context, load_grid, store_rows
from .emitter import Range
from .epilogue_operands import Operands, bases, operand_names, operand_sizes, strides
from .epilogue_parameters import broadcast_parameters, set_epilogue
from .gemm_jobs import Chunk, Job, plan_jobs
from .gemm_setup import Setup, setup_of
from .gemm_sparse import is_sparse, schedule_sparse
from .gemm_tiling import GemmPlan, GemmProblem, plan_gemm
from .parameter_pages import Params, load_params, page_limit, sections
from .row_statistics import Finish, RowStatistics, row_statistics, store_statistics
from .tiling import boxes


def schedule_gemm(ctx: Context, qop: QOp) -> dict[str, int]:
    """Emit a Gemm; returns the index of the last STORE of each tensor."""
    op, e = qop.op, qop.epilogue
    assert isinstance(op, Gemm) and e is not None
    stats = row_statistics(ctx, op, e)
    setup = setup_of(ctx, op, qop.weight, e)
    if is_sparse(ctx, setup, op):
        return schedule_sparse(ctx, setup, e, op)
    plan = plan_gemm(ctx.target, _problem(ctx, setup, e, op, stats))
    groups = plan_jobs(setup.weights, plan, setup.kernel, setup.runs, ctx.lanes)
    if ctx.tensors[op.output].broadcast:
        e = broadcast_parameters(e, ctx.lanes)
    params = load_params(ctx, e, plan.nb_step)
    run = _Run(ctx, setup, plan, op, e, params, stats, Operands(ctx, e, setup.flat))
    for image in range(ctx.tensors[op.output].shape[0]):
        run.image(image, groups)
    return run.stores


def _problem(ctx: Context, s: Setup, e: QEpilogue, op: Gemm, stats: RowStatistics) -> GemmProblem:
    images = ctx.tensors[op.output].shape[0]
    versions = len({s.weights.version(i) for i in range(images)})
    sparse = sum(len(run) for runs in s.runs for run in runs) < len(s.runs) * s.cb
    return GemmProblem(
        out_h=s.out_h, out_w=s.out_w, kernel=s.kernel, strides=s.strides, dilations=s.dilations,
        cb=s.cb, nb=len(s.runs), byte_planes=s.view.byte_planes,
        out_byte_planes=2 if ctx.qparams[op.output].int16 else 1, operands=operand_sizes(ctx, e),
        grouped=sparse, weight_byte_planes=s.weights.byte_planes, stat_planes=stats.planes,
        stored=op.output in ctx.places, page=page_limit(ctx, e), images=images,
        images_per_weights=images // versions,
    )  # fmt: skip


@dataclass
class _Tile:
    """An input tile on chip and its part of the K loop."""

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
    resident: dict[int, int] | None = None  # key of resident weights -> WBUF word
    loaded: set[int] = field(default_factory=set)
    version: int = -1  # key of the weights in WBUF
    tile: _Tile | None = None

    def image(self, image: int, groups: list[list[Job]]) -> None:
        """Schedule all tiles of one image, in the plan's order."""
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
        """Yield all tiles and groups.  Groups whose parameters are on chip together take all tiles
        before the next, but a row statistic needs all groups of a tile together."""
        blocks = [range(group[0].nb.start, group[-1].nb.stop) for group in groups]
        parts = [slice(None)] if self.stats.planes else sections(blocks, self.params.page)
        if self.plan.weights_outer:
            return ((box, group) for group in groups for box in tiles)
        return ((box, group) for part in parts for box in tiles for group in groups[part])

    def _group(self, image: int, box: Box, group: list[Job], groups: list[list[Job]]) -> None:
        """Sum all K chunks of a group of output blocks for one tile; store finished rows."""
        finishing = [job for job in group if job.last]
        self.params.row(range(group[0].nb.start, group[-1].nb.stop))
        for job in group:
            weights = self._weights(job, image)
            if not job.last:
                self._compute(job, self._input(image, box, job), box, weights, {}, (), ())
                continue
            first = group is groups[0] and job is finishing[0]
            last = group is groups[-1] and job is finishing[-1]
            self._finish(image, box, job, weights, Finish(first, last))

    def _finish(self, image: int, box: Box, job: Job, weights: int, finish: Finish) -> None:
        """Emit the last part of a sum: epilogue and stores."""
        ctx, stored = self.ctx, self.op.output in self.ctx.places
        tile: _Tile | None = None
        if not ctx.older(operand_names(self.epilogue), self.op.input):
            tile = self._input(image, box, job)
        operands = self.operands.load(image, box, job.nb)
        tile = tile or self._input(image, box, job)
        rows = box.words * (len(job.nb) if stored else 1)
        planes = self.stats.planes if finish.last else 0
        params = self.params.reads(job.nb)
        out = ctx.rings.obuf.take(rows + planes * box.words)
        set_epilogue(ctx, self.epilogue, self.params.table, ctx.qparams[self.op.output].int16,
                     {**strides(operands), **self.stats.fields})  # fmt: skip
        values = dict(
            p_nb=self.params.step, p_base=params.start, o_base=out,
            o_nb=box.words if stored else 0, r_base=out + rows, **bases(operands), **finish.fields,
        )  # fmt: skip
        reads = tuple(operand.read for operand in operands.values())
        reads += (params,)
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
        """Reserve one range for all weights, so that none overwrites another."""
        base = self.ctx.rings.wbuf.take(sum(job.words for job in jobs))
        starts = np.cumsum([0, *(job.words for job in jobs)])
        self.resident = {
            job.key: base + int(start) for job, start in zip(jobs, starts, strict=False)
        }
        self.loaded = set()

    def _input(self, image: int, box: Box, job: Job) -> _Tile:
        """Load the input words of an output tile unless they were loaded last."""
        s, ctx, serves = self.setup, self.ctx, job.serves
        tile = self.tile
        if tile is not None and (tile.image, tile.out, tile.serves) == (image, box, serves):
            return tile
        grid = input_box(box, s.strides, s.dilations, serves)
        base = ctx.rings.ibuf.take(len(serves.cb) * s.view.byte_planes * grid.words)
        load_grid(ctx, s.view, image, grid, serves.cb, Buffer.IBUF, base)
        self.tile = _Tile(image, box, base, grid, serves)
        return self.tile

    def _compute(
        self, job: Job, tile: _Tile, box: Box, weights: int, more: dict[str, int],
        reads: tuple[Range, ...], writes: tuple[Range, ...],
    ) -> None:  # fmt: skip
        s, ctx, chunk = self.setup, self.ctx, job.chunk
        byte_planes = s.view.byte_planes
        plane, cols = tile.box.words, tile.box.cols
        first_plane = tile.base + (chunk.cb.start - tile.serves.cb.start) * byte_planes * plane
        x_base = first_plane + s.dilations[0] * cols * (chunk.kh.start - tile.serves.kh.start)
        x_base += s.dilations[1] * (chunk.kw.start - tile.serves.kw.start)
        values = dict(
            mode=int(Mode.GEMM), reduce=int(Reduce.ADD), first=int(job.first), last=int(job.last),
            transpose=int(self.op.rhs_transposed), x_wide=byte_planes - 1,
            w_wide=s.weights.byte_planes - 1, m1=box.rows, m0=box.cols, nb=len(job.nb),
            cb=len(chunk.cb), kh=len(chunk.kh), kw=len(chunk.kw), stride_h=1, stride_w=1, win_h=1,
            win_w=1, x_base=x_base, x_m1=s.strides[0] * cols, x_m0=s.strides[1],
            x_kh=s.dilations[0] * cols, x_kw=s.dilations[1], x_cb=byte_planes * plane, x_half=plane,
            w_base=weights, w_nb=job.words // len(job.nb), acc_base=job.acc * box.words, **more,
        )  # fmt: skip
        x = Range("ibuf", first_plane, first_plane + len(chunk.cb) * byte_planes * plane)
        w = Range("wbuf", weights, weights + job.words)
        ctx.emitter.emit(Opcode.COMPUTE, values, (x, w, *reads), writes)


def input_box(box: Box, strides: tuple[int, int], dilations: tuple[int, int], chunk: Chunk) -> Box:
    """Return the padded input rows and columns that an output tile reads for part of the kernel."""
    r0 = box.r0 * strides[0] + chunk.kh.start * dilations[0]
    c0 = box.c0 * strides[1] + chunk.kw.start * dilations[1]
    rows = (box.rows - 1) * strides[0] + (len(chunk.kh) - 1) * dilations[0] + 1
    cols = (box.cols - 1) * strides[1] + (len(chunk.kw) - 1) * dilations[1] + 1
    return Box(r0, r0 + rows, c0, c0 + cols)
