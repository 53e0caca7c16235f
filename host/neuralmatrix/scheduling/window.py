# SPDX-License-Identifier: Apache-2.0
"""Schedules depthwise convolutions, pooling, element-wise operators and row maxima.

In: a QOp whose op is a Window or RowMax.  Out: its instructions in WINDOW mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from ..hardware.isa import Buffer, Mode, Opcode, Reduce
from ..ir.matgraph.ops import RowMax, Window
from ..ir.types import Array
from ..quantization.qgraph import QEpilogue, QOp
from .context import Box, Context, View, blocked_view, load_const, load_grid, store_rows
from .emitter import Range
from .epilogue_operands import (
    Operand,
    Operands,
    bases,
    can_flatten,
    operand_names,
    operand_sizes,
    strides,
)
from .epilogue_parameters import broadcast_parameters, set_epilogue
from .parameter_pages import Params, load_params, page_limit, sections
from .row_statistics import Finish, RowStatistics, row_statistics, store_statistics
from .tiling import boxes
from .window_tiling import WindowPlan, WindowProblem, plan_window, window_grid


@dataclass(frozen=True)
class Weights:
    """Tap blocks on chip: first word, words from one channel block to the next, total words."""

    base: int
    step: int
    words: int


@dataclass(frozen=True)
class Setup:
    """A Window in lane vectors.  ``minus``: the grid of those that are subtracted from x."""

    view: View
    problem: WindowProblem
    weight: Array  # (KH, KW, C or 1)
    reduce: Reduce
    flat: bool
    minus: View | None = None


def schedule_window(ctx: Context, qop: QOp) -> dict[str, int]:
    """Emit a Window or RowMax; returns the index of the last STORE of each tensor."""
    op, e = qop.op, qop.epilogue
    assert isinstance(op, (Window, RowMax)) and e is not None
    stats = row_statistics(ctx, op, e)
    if isinstance(op, RowMax):
        setup, stored = _row_max(ctx, op, stats, page_limit(ctx, e)), False
    else:
        stored = op.output in ctx.places
        setup = _setup(ctx, op, qop.weight, e, stats)
        if ctx.tensors[op.output].broadcast:
            e = broadcast_parameters(e, ctx.lanes)
    plan = plan_window(ctx.target, setup.problem)
    operands = Operands(ctx, e, setup.flat)
    params = load_params(ctx, e, plan.nb_step)
    run = _Run(ctx, setup, plan, op, stored, e, params, stats, operands)
    for image in range(ctx.tensors[op.output].shape[0]):
        run.image(image)
    return run.stores


def _row_max(ctx: Context, op: RowMax, stats: RowStatistics, page: int) -> Setup:
    """Make an identity window whose only result is the row statistic."""
    n, h, w, c = ctx.tensors[op.input].shape
    view = blocked_view(ctx, op.input, flat=True)
    problem = WindowProblem(
        1, h * w, (1, 1), (1, 1), (1, 1), -(-c // ctx.lanes), view.byte_planes, view.byte_planes,
        {}, False,
        shared_weights=True, stat_planes=stats.planes, stored=False, page=page, images=n,
    )  # fmt: skip
    return Setup(view, problem, np.ones((1, 1, 1), np.int32), Reduce.ADD, True)


def _setup(
    ctx: Context, op: Window, weight: Array | None, e: QEpilogue, stats: RowStatistics
) -> Setup:
    assert weight is not None
    n, h, w, c = ctx.tensors[op.output].shape
    weight = _dilate(weight, op.dilations)
    kh, kw = weight.shape[:2]
    flat = (kh, kw) == (1, 1) and op.strides == (1, 1) and not any(op.pads)
    flat = flat and can_flatten(ctx, e, h, w)
    view = replace(blocked_view(ctx, op.input, flat), top=op.pads[0], left=op.pads[1],
                   fill=_fill(ctx, op))  # fmt: skip
    minus = blocked_view(ctx, op.minus, flat) if op.minus else None
    if minus:  # a first tap, with the negated weight
        weight = np.concatenate([-weight, weight])
    tiles = (-(-kh // ctx.array.win), -(-kw // ctx.array.win))
    taps = (-(-kh // tiles[0]), -(-kw // tiles[1]))
    out_h, out_w = (1, h * w) if flat else (h, w)
    problem = WindowProblem(
        out_h, out_w, taps, tiles, op.strides, -(-c // ctx.lanes), view.byte_planes,
        2 if ctx.qparams[op.output].int16 else 1, operand_sizes(ctx, e),
        ctx.tensors[op.input].broadcast and not ctx.tensors[op.output].broadcast,
        weight.shape[2] == 1, stats.planes, op.output in ctx.places, minus is not None,
        page_limit(ctx, e), n, op.reduce == "max",
    )  # fmt: skip
    reduce = Reduce.MAX if op.reduce == "max" else Reduce.ADD
    return Setup(view, problem, weight, reduce, flat, minus)


def _fill(ctx: Context, op: Window) -> tuple[int, int]:
    """Return the padding by byte plane."""
    if op.reduce == "max":
        return -128, -127  # the byte planes of the lowest int16 value, -32640; int8 uses the first
    return ctx.qparams[op.input].zero_point, 0


def _dilate(weight: Array, dilations: tuple[int, int]) -> Array:
    """Dilate the kernel; the taps between have weight 0."""
    dh, dw = dilations
    kh, kw, c = weight.shape
    out = np.zeros(((kh - 1) * dh + 1, (kw - 1) * dw + 1, c), weight.dtype)
    out[::dh, ::dw] = weight
    return out


@dataclass(frozen=True)
class _Group:
    """Channel blocks of a tile whose results are stored together."""

    image: int
    box: Box
    nb: range
    finish: Finish


@dataclass(frozen=True)
class _Input:
    """Words of x on chip: of the first block, of all blocks; of the subtracted tensor, or -1."""

    base: int
    words: int
    grid: Box
    minus: int = -1


@dataclass
class _Run:
    ctx: Context
    setup: Setup
    plan: WindowPlan
    op: Window | RowMax
    stored: bool
    epilogue: QEpilogue
    params: Params
    stats: RowStatistics
    operands: Operands
    stores: dict[str, int] = field(default_factory=dict)
    weights: tuple[range, Weights] | None = None
    span: tuple[int, Box, int, int] | None = None  # image, tile, span, first word

    def image(self, image: int) -> None:
        for group in self._groups(image):
            self._group(group)

    def _groups(self, image: int) -> Iterator[_Group]:
        """Yield all tiles and blocks.  Weights per block, and parameters of as many blocks as a
        page has, stay on chip over all tiles, but a row statistic needs all blocks of a tile
        together."""
        p = self.setup.problem
        parts = [
            range(nb, min(nb + self.plan.nb_step, start + self.plan.span, p.nb))
            for start in range(0, p.nb, self.plan.span)
            for nb in range(start, min(start + self.plan.span, p.nb), self.plan.nb_step)
        ]
        tiles = boxes(p.out_h, p.out_w, self.plan.tile)
        if p.shared_weights or p.stat_planes:
            cuts = [slice(None)] if p.stat_planes else sections(parts, self.params.page)
            order = [(box, nb) for cut in cuts for box in tiles for nb in parts[cut]]
        else:
            order = [(box, nb) for nb in parts for box in tiles]
        for box, nb in order:
            yield _Group(image, box, nb, Finish(nb is parts[0], nb is parts[-1]))

    # -------------------------------------------------------------- weights

    def _weights_for(self, nb: range, first_row: int) -> Weights:
        """Return a COMPUTE's weights, which stay on chip while in use unless the sum is split."""
        split = self.plan.tap_rows < self.setup.problem.tiles[0]
        blocks = range(1) if self.setup.problem.shared_weights else nb
        if self.weights is None or self.weights[0] != blocks or split:
            self.weights = (blocks, self._load_weights(blocks, first_row))
        return self.weights[1]

    def _load_weights(self, blocks: range, first_row: int) -> Weights:
        """Load the tap blocks of some channel blocks (one for all where the weights are shared)."""
        ctx, s = self.ctx, self.setup
        rows = range(first_row, min(first_row + self.plan.tap_rows, s.problem.tiles[0]))
        if s.minus:
            rows = range(2)
        data = np.concatenate([self._tap_blocks(block, rows) for block in blocks])
        words = data.size // ctx.lanes
        base = ctx.rings.wbuf.take(words)
        load_const(ctx, Buffer.WBUF, base, ctx.const.add(data), words)
        return Weights(base, 0 if s.problem.shared_weights else words // len(blocks), words)

    def _tap_blocks(self, block: int, rows: range) -> Array:
        """Return the weights of one channel block, [tap tile][ROWS][COLS] int8."""
        lanes, p, weight = self.ctx.lanes, self.setup.problem, self.setup.weight
        (th, tw), (ah, aw) = p.tiles, p.taps
        th = max(th, len(rows))  # the subtracted tensor is a tile of its own
        grid = np.zeros((th * ah, tw * aw, lanes), np.int8)
        shared = p.shared_weights
        mine = weight if shared else weight[:, :, block * lanes : (block + 1) * lanes]
        width = lanes if shared else mine.shape[2]
        grid[: weight.shape[0], : weight.shape[1], :width] = mine
        tiles = grid.reshape(th, ah, tw, aw, lanes).transpose(0, 2, 1, 3, 4)[rows.start : rows.stop]
        out = np.zeros((len(rows), tw, lanes, lanes), np.int8)
        out[:, :, : ah * aw] = tiles.reshape(len(rows), tw, ah * aw, lanes)
        return out.reshape(-1)

    # -------------------------------------------------------------- tiles

    def _group(self, g: _Group) -> None:
        ctx, s, tiles = self.ctx, self.setup, self.setup.problem.tiles[0]
        self.params.row(g.nb)
        self._weights_for(g.nb, 0)  # before any LOAD that waits for an earlier layer
        x: _Input | None = None
        if not ctx.older(operand_names(self.epilogue), self.op.input):
            x = self._input(g, 0)
        operands = self.operands.load(g.image, g.box, g.nb)
        planes = self.stats.planes if g.finish.last else 0
        rows = g.box.words * (len(g.nb) if self.stored else 1)
        out = ctx.rings.obuf.take(rows + planes * g.box.words)
        set_epilogue(ctx, self.epilogue, self.params.table, ctx.qparams[self.op.output].int16,
                     {**strides(operands), **self.stats.fields})  # fmt: skip
        for first_row in range(0, tiles, self.plan.tap_rows):
            x = x if x and first_row == 0 else self._input(g, first_row)
            if s.minus:
                for block in g.nb:
                    self._compute(g, range(block, block + 1), 0, x, out, operands)
            else:
                self._compute(g, g.nb, first_row, x, out, operands)
        if self.stored:
            name = self.op.output
            self.stores[name] = store_rows(ctx, name, g.image, g.box, g.nb, out, s.flat)
        if planes:
            found = store_statistics(ctx, self.stats, g.image, g.box, out + rows, s.flat)
            self.stores.update(found)

    def _input(self, g: _Group, first_row: int) -> _Input:
        """Load x for a group, and the subtracted tensor if it is not on chip yet."""
        ctx, s, p = self.ctx, self.setup, self.setup.problem
        grid = self._grid(g.box, first_row, min(self.plan.tap_rows, p.tiles[0] - first_row))
        blocks = range(1) if p.same_input else g.nb
        each = p.byte_planes * grid.words
        if s.minus is None:
            base = ctx.rings.ibuf.take(len(blocks) * each)
            load_grid(ctx, s.view, g.image, grid, blocks, Buffer.IBUF, base)
            return _Input(base, len(blocks) * each, grid)
        span = g.nb.start // self.plan.span
        fresh = self.span is None or self.span[:3] != (g.image, g.box, span)
        if fresh:
            count = min(self.plan.span, p.nb - span * self.plan.span)
            take = ctx.rings.ibuf.take((1 if p.same_input else count) * each + each)
            self.span = (g.image, g.box, span, take)
        assert self.span is not None
        minus = self.span[3]
        offset = 0 if p.same_input else g.nb.start - span * self.plan.span
        base = minus + each * (1 + offset)
        load_grid(ctx, s.view, g.image, grid, blocks, Buffer.IBUF, base)
        if fresh:
            load_grid(ctx, s.minus, g.image, grid, range(1), Buffer.IBUF, minus)
        return _Input(base, len(blocks) * each, grid, minus)

    def _compute(
        self, g: _Group, nb: range, first_row: int, x: _Input, out: int,
        operands: dict[str, Operand],
    ) -> None:  # fmt: skip
        ctx, s, p, grid = self.ctx, self.setup, self.setup.problem, x.grid
        weights = self._weights_for(g.nb, first_row)
        tap_rows = min(self.plan.tap_rows, p.tiles[0] - first_row)
        skip = nb.start - g.nb.start  # blocks of the group before these
        each = p.byte_planes * grid.words
        base = x.base + (0 if p.same_input else skip * each)
        o_step = g.box.words if self.stored else 0
        last = first_row + tap_rows == p.tiles[0]
        params = self.params.reads(nb)
        stat_last = g.finish.last and nb.stop == g.nb.stop
        r_base = out + g.box.words * (len(g.nb) if self.stored else 1)
        values = dict(
            mode=int(Mode.WINDOW), reduce=int(s.reduce), first=int(first_row == 0), last=int(last),
            x_wide=p.byte_planes - 1, win_h=p.taps[0], win_w=p.taps[1], m1=g.box.rows,
            m0=g.box.cols,
            nb=len(nb), cb=1, kh=tap_rows, kw=p.tiles[1], stride_h=p.strides[0],
            stride_w=p.strides[1], x_base=base, x_m1=grid.cols, x_m0=1, x_kh=p.taps[0] * grid.cols,
            x_kw=p.taps[1], x_half=grid.words, x_nb=0 if p.same_input else each,
            w_base=weights.base + skip * weights.step, w_nb=weights.step,
            p_base=params.start, p_nb=self.params.step, o_base=out + skip * o_step, o_nb=o_step,
            r_base=r_base, stat_first=int(g.finish.first and skip == 0), stat_last=int(stat_last),
            **self._operand_bases(operands, skip),
        )  # fmt: skip
        if x.minus >= 0:
            values.update(x_base=x.minus, x_kh=base - x.minus, kh=2)
        reads = (
            Range("ibuf", base, base + (1 if p.same_input else len(nb)) * each),
            *([Range("ibuf", x.minus, x.minus + each)] if x.minus >= 0 else []),
            Range("wbuf", weights.base, weights.base + weights.words),
            params,
            *(operand.read for operand in operands.values()),
        )
        stop = r_base + (self.stats.planes * g.box.words if stat_last else 0)
        ctx.emitter.emit(Opcode.COMPUTE, values, reads, (Range("obuf", out, stop),))

    def _operand_bases(self, operands: dict[str, Operand], skip: int) -> dict[str, int]:
        """Return the first rows of t and u for block ``skip`` of its group."""
        found = bases(operands)
        return {name: base + skip * operands[name[0]].steps[f"{name[0]}_nb"]
                for name, base in found.items()}  # fmt: skip

    def _grid(self, box: Box, first_row: int, tap_rows: int) -> Box:
        p = self.setup.problem
        rows, cols = window_grid(p, (box.rows, box.cols), tap_rows)
        r0 = box.r0 * p.strides[0] + first_row * p.taps[0]
        c0 = box.c0 * p.strides[1]
        return Box(r0, r0 + rows, c0, c0 + cols)


__all__ = ["schedule_window"]
