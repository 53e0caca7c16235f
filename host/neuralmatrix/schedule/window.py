# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolutions, pooling, element-wise operators and row maxima.

In: a QOp whose op is a Window or RowMax.  Out: its instructions in WINDOW mode.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..ir import Array, RowMax, Window
from ..isa import Buffer, Mode, Opcode, Reduce, Stat
from ..qgraph import QEpilogue, QOp
from .context import (
    IDLE_BIAS,
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
from .tiling import WindowPlan, WindowProblem, boxes, plan_window, window_grid


@dataclass(frozen=True)
class Weights:
    """Tap blocks on chip: first word, words from one channel block to the next, words in all."""

    base: int
    step: int
    words: int


@dataclass(frozen=True)
class Setup:
    view: View
    problem: WindowProblem
    weight: Array  # (KH, KW, C or 1)
    reduce: Reduce
    flat: bool
    stat: Stat = Stat.NONE


def schedule_window(ctx: Context, qop: QOp) -> int:
    """Emit a Window or RowMax; returns the index of its last STORE."""
    op, e = qop.op, qop.epilogue
    assert isinstance(op, (Window, RowMax)) and e is not None
    setup = _row_max(ctx, op, e) if isinstance(op, RowMax) else _setup(ctx, op, qop, e)
    plan = plan_window(ctx.array, setup.problem)
    if ctx.tensors[op.output].replicated and not isinstance(op, RowMax):
        e = replicate(e, ctx.lanes)
    idle = IDLE_BIAS if isinstance(op, RowMax) else 0
    run = _Run(ctx, setup, plan, e, load_params(ctx, e, idle), op.output)
    last = 0
    for image in range(ctx.tensors[op.output].shape[0]):
        last = run.image(image)
    return last


def _row_max(ctx: Context, op: RowMax, e: QEpilogue) -> Setup:
    """An identity window whose only result is the row statistic of all blocks."""
    _, h, w, c = ctx.tensors[op.input].shape
    view = blocked_view(ctx, op.input, flat=True)
    digits = view.digits
    problem = WindowProblem(1, h * w, (1, 1), (1, 1), (1, 1), -(-c // ctx.lanes), digits, digits,
                            {}, False, shared_weights=True, all_blocks=True)  # fmt: skip
    return Setup(view, problem, np.ones((1, 1, 1), np.int32), Reduce.ADD, True, Stat.MAX)


def _setup(ctx: Context, op: Window, qop: QOp, e: QEpilogue) -> Setup:
    assert qop.weight is not None
    _, h, w, c = ctx.tensors[op.output].shape
    weight = _dilate(qop.weight, op.dilations)
    kh, kw = weight.shape[:2]
    flat = (kh, kw) == (1, 1) and op.strides == (1, 1) and not any(op.pads)
    flat = flat and can_flatten(ctx, e, h, w)
    view = blocked_view(ctx, op.input, flat)
    source = ctx.qparams[op.input]
    if op.reduce == "max":
        fill = (-128, -127)  # the lowest int16 code, -32640, has these digits; int8 uses the first
    else:
        fill = (source.zero_point, 0)
    view = replace(view, top=op.pads[0], left=op.pads[1], fill=fill)
    tiles = (-(-kh // ctx.array.win), -(-kw // ctx.array.win))
    taps = (-(-kh // tiles[0]), -(-kw // tiles[1]))
    out_h, out_w = (1, h * w) if flat else (h, w)
    problem = WindowProblem(
        out_h, out_w, taps, tiles, op.strides, -(-c // ctx.lanes), view.digits,
        2 if ctx.qparams[op.output].wide else 1, rows_per_block(ctx, e, 1),
        ctx.tensors[op.input].replicated and not ctx.tensors[op.output].replicated,
        shared_weights=weight.shape[2] == 1,
    )  # fmt: skip
    return Setup(view, problem, weight, Reduce.MAX if op.reduce == "max" else Reduce.ADD, flat)


def _dilate(weight: Array, dilations: tuple[int, int]) -> Array:
    """Spread the taps; the taps between weigh 0."""
    dh, dw = dilations
    kh, kw, c = weight.shape
    out = np.zeros(((kh - 1) * dh + 1, (kw - 1) * dw + 1, c), weight.dtype)
    out[::dh, ::dw] = weight
    return out


@dataclass
class _Run:
    ctx: Context
    setup: Setup
    plan: WindowPlan
    epilogue: QEpilogue
    params: Params
    output: str

    def image(self, image: int) -> int:
        p = self.setup.problem
        last = 0
        for nb0 in range(0, p.nb, self.plan.nb_step):
            nb = range(nb0, min(nb0 + self.plan.nb_step, p.nb))
            self._weights = None
            for box in boxes(p.out_h, p.out_w, self.plan.tile):
                last = self._tile(image, box, nb)
        return last

    # -------------------------------------------------------------- weights

    _weights: Weights | None = None

    def _weights_for(self, nb: range, first_row: int) -> Weights:
        """Weights of a COMPUTE; they stay on chip between tiles unless the sum is split."""
        if self._weights is None or self.plan.tap_rows < self.setup.problem.tiles[0]:
            self._weights = self._load_weights(nb, first_row)
        return self._weights

    def _load_weights(self, nb: range, first_row: int) -> Weights:
        """Load the tap blocks of some channel blocks (one for all where the weights are shared)."""
        ctx, s = self.ctx, self.setup
        rows = range(first_row, min(first_row + self.plan.tap_rows, s.problem.tiles[0]))
        shared = s.weight.shape[2] == 1
        channels = range(1) if shared else nb
        data = np.concatenate([self._tap_blocks(block, rows, shared) for block in channels])
        words = data.size // ctx.lanes
        base = ctx.rings.wbuf.take(words)
        load_const(ctx, Buffer.WBUF, base, ctx.const.add(data), words)
        return Weights(base, 0 if shared else words // len(nb), words)

    def _tap_blocks(self, block: int, rows: range, shared: bool) -> Array:
        """[tap tile][ROWS][COLS] int8 of one channel block."""
        lanes, p, weight = self.ctx.lanes, self.setup.problem, self.setup.weight
        (th, tw), (ah, aw) = p.tiles, p.taps
        grid = np.zeros((th * ah, tw * aw, lanes), np.int8)
        mine = weight if shared else weight[:, :, block * lanes : (block + 1) * lanes]
        width = lanes if shared else mine.shape[2]
        grid[: weight.shape[0], : weight.shape[1], :width] = mine
        tiles = grid.reshape(th, ah, tw, aw, lanes).transpose(0, 2, 1, 3, 4)[rows.start : rows.stop]
        out = np.zeros((len(rows), tw, lanes, lanes), np.int8)
        out[:, :, : ah * aw] = tiles.reshape(len(rows), tw, ah * aw, lanes)
        return out.reshape(-1)

    # -------------------------------------------------------------- tiles

    def _tile(self, image: int, box: Box, nb: range) -> int:
        ctx, s = self.ctx, self.setup
        self._weights_for(nb, 0)  # before anything that waits for an earlier layer
        operands, steps = load_operands(ctx, self.epilogue, image, box, nb, s.flat)
        stat = s.stat != Stat.NONE
        rows = len(nb) * box.words
        out = ctx.rings.obuf.take(rows + box.words if stat else rows)
        set_epilogue(ctx, self.epilogue, self.params, ctx.qparams[self.output].wide,
                     {**steps, "stat": int(s.stat)} if stat else steps)  # fmt: skip
        bases = {f"{key}_base": operand.base for key, operand in operands.items()}
        reads = tuple(operand.read for operand in operands.values())
        for first_row in range(0, s.problem.tiles[0], self.plan.tap_rows):
            weights = self._weights_for(nb, first_row)
            self._compute(image, box, nb, first_row, weights, out, bases, reads)
        if stat:
            return store_rows(ctx, self.output, image, box, range(1), out + rows, s.flat)
        return store_rows(ctx, self.output, image, box, nb, out, s.flat)

    def _compute(
        self, image: int, box: Box, nb: range, first_row: int, weights: Weights, out: int,
        bases: dict[str, int], operand_reads: tuple[Range, ...],
    ) -> None:  # fmt: skip
        ctx, s, p = self.ctx, self.setup, self.setup.problem
        tap_rows = min(self.plan.tap_rows, p.tiles[0] - first_row)
        grid = self._grid(box, first_row, tap_rows)
        blocks = range(1) if p.same_input else nb
        words = len(blocks) * p.digits * grid.words
        base = ctx.rings.ibuf.take(words)
        load_grid(ctx, s.view, image, grid, blocks, Buffer.IBUF, base)
        last = first_row + tap_rows == p.tiles[0]
        values = dict(
            mode=int(Mode.WINDOW), reduce=int(s.reduce), first=int(first_row == 0), last=int(last),
            x_wide=p.digits - 1, win_h=p.taps[0], win_w=p.taps[1], m1=box.rows, m0=box.cols,
            nb=len(nb), cb=1, kh=tap_rows, kw=p.tiles[1], stride_h=p.strides[0],
            stride_w=p.strides[1], x_base=base, x_m1=grid.cols, x_m0=1, x_kh=p.taps[0] * grid.cols,
            x_kw=p.taps[1], x_half=grid.words, x_nb=0 if p.same_input else p.digits * grid.words,
            w_base=weights.base, w_nb=weights.step, p_base=self.params.base + nb.start, p_nb=1,
            o_base=out, o_nb=box.words, **bases,
        )  # fmt: skip
        rows = len(nb) * box.words
        if s.stat != Stat.NONE:
            values["r_base"] = out + rows
            rows += box.words
        reads = (
            Range("ibuf", base, base + words),
            Range("wbuf", weights.base, weights.base + weights.words),
            Range("pbuf", self.params.base + nb.start, self.params.base + nb.stop),
            *operand_reads,
        )
        ctx.emitter.emit(Opcode.COMPUTE, values, reads, (Range("obuf", out, out + rows),))

    def _grid(self, box: Box, first_row: int, tap_rows: int) -> Box:
        p = self.setup.problem
        rows, cols = window_grid(p, (box.rows, box.cols), tap_rows)
        r0 = box.r0 * p.strides[0] + first_row * p.taps[0]
        c0 = box.c0 * p.strides[1]
        return Box(r0, r0 + rows, c0, c0 + cols)


__all__ = ["schedule_window"]
