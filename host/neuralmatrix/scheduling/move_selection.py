# SPDX-License-Identifier: Apache-2.0
"""Moves that select channels: a product with weights of 0 and 1.

In: for one image and byte plane of a Move the source address of every byte.  Out: a ``Selection``
for every phase, if every lane comes from a word at the same position, and its LOADs, COMPUTEs and
STOREs: all source words of a tile are loaded once, and every output block sums the few that hold
its channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..hardware.instruction_costs import (
    WORD_CYCLES,
    compute_overhead,
    gather_cycles,
    transfer_overhead,
)
from ..hardware.isa import Buffer, Mode, Opcode, Reduce, Region
from ..hardware.target import ArrayConfig, Target
from ..ir.types import Array
from .context import Box, Context, View, arena_reads, emit_load, load_const
from .emitter import Range
from .epilogue_parameters import set_epilogue
from .gemm_jobs import runs_of, shortest_gap
from .move_blocks import CONST_FLAG, PHASES, affine_steps, lane_sources, plain_epilogue
from .parameter_pages import Params, load_params
from .tiling import boxes

TILES = 3  # so that loads, products and stores overlap
LEAST_TILE = 64  # positions, below which instructions cost more than that gains


@dataclass(frozen=True)
class Selection:
    """``words`` (S,): address of the first word of every source; ``masks`` (blocks, S, lanes,
    lanes): 1 where a source's lane is an output lane.  Positions: ``rows`` x ``cols``.
    ``out``: word of the first result; ``out_row``, ``out_col``: words between rows and columns."""

    words: Array
    masks: Array
    rows: int
    cols: int
    row_step: int
    col_step: int
    out: int
    out_row: int
    out_col: int

    @property
    def used(self) -> Array:
        """Return (blocks, S): whether an output block needs a source."""
        return np.asarray(self.masks.any(axis=(2, 3)))


def selections_of(target: Target, plane: Array) -> list[Selection]:
    """Return (H, W, blocks, lanes) source addresses as selections that beat copies, one for each
    phase of interleaved rows and columns; none if they are none."""
    rows, cols, blocks, lanes = plane.shape
    for ph, pw in ((ph, pw) for ph in PHASES for pw in PHASES if ph <= rows and pw <= cols):
        found, copies = [], 0.0
        for i, j in np.ndindex(ph, pw):
            selection = _selection(plane[i::ph, j::pw], i * cols + j, ph * cols, pw)
            if selection is None:
                break
            found.append(selection)
            copies += _cycles_of_copies(target, plane[i, j], selection)
        if len(found) == ph * pw:
            return found if sum(_cycles(target, each) for each in found) < copies else []
        if not found and _never(plane, lanes):
            return []
    return []


def _never(plane: Array, lanes: int) -> bool:
    """Return whether the first word has no source, or one in the CONST region."""
    first = plane[0, 0].reshape(-1)
    used = first[first >= 0]
    return used.size == 0 or bool(np.any(used >= CONST_FLAG // 2))


def _selection(plane: Array, out: int, out_row: int, out_col: int) -> Selection | None:
    rows, cols, blocks, lanes = plane.shape
    grid = plane.reshape(rows, cols, -1)
    first = grid[0, 0]
    used = first >= 0
    if not used.any() or np.any(first[used] >= CONST_FLAG // 2):
        return None
    steps = affine_steps(grid)
    if steps is None or any(step % lanes for step in steps):
        return None
    words, which = np.unique(first[used] // lanes, return_inverse=True)
    masks = np.zeros((blocks, len(words), lanes, lanes), np.int8)
    lane = np.flatnonzero(used)
    masks[lane // lanes, which, first[used] % lanes, lane % lanes] = 1
    words, masks = _by_reader(words, masks)
    row_step, col_step = steps
    if rows > 1 and cols == 1:  # one row of what was a column
        rows, cols, col_step, out_col = 1, rows, row_step, out_row
    elif row_step == cols * col_step and out_row == cols * out_col:
        rows, cols = 1, rows * cols
    return Selection(words * lanes, masks, rows, cols, row_step, col_step, out, out_row, out_col)


def _by_reader(words: Array, masks: Array) -> tuple[Array, Array]:
    """Return sources in the order of the output blocks that need them: each then needs few runs."""
    used = np.asarray(masks.any(axis=(2, 3)))
    mean = (used * np.arange(len(used))[:, None]).sum(0) / used.sum(0)
    order = np.argsort(mean, kind="stable")
    return words[order], masks[:, order]


def _cycles(target: Target, s: Selection) -> float:
    """Return the cycles of the slowest unit, and of the others where tiles do not overlap."""
    positions, (blocks, lanes) = s.rows * s.cols, s.masks.shape[::3]
    passes = sum(len(run) for runs in _runs(target.array, s, positions) for run in runs)
    load = WORD_CYCLES * (len(s.words) * positions + passes * lanes)
    compute = passes * max(positions, lanes) + compute_overhead(target.array) * blocks
    store = WORD_CYCLES * blocks * positions
    units = (load + transfer_overhead(target.timing) * len(s.words), compute, store)
    tiles = -(-positions // max(LEAST_TILE, -(-positions // TILES)))
    return float(max(units) + (sum(units) - max(units)) / tiles)


def _cycles_of_copies(target: Target, first: Array, s: Selection) -> float:
    """Return the cycles of loading the sources of every output block on their own."""
    positions, lanes = s.rows * s.cols, s.masks.shape[-1]
    cycles = 0.0
    for word in first:
        for source in lane_sources(word, s.row_step, s.col_step):
            gathers = source.lane_step != 1
            each = gather_cycles(lanes) if gathers else WORD_CYCLES
            cycles += each * positions + transfer_overhead(target.timing) + WORD_CYCLES * lanes
    return cycles


def _runs(array: ArrayConfig, s: Selection, positions: int) -> list[list[range]]:
    gap = shortest_gap(array, max(positions, s.masks.shape[-1]))
    return [runs_of(row, gap) for row in s.used]


# ------------------------------------------------------------------ instructions


@dataclass
class _Job:
    """A selection on its way into instructions; ``weights``: WBUF word of every resident run."""

    ctx: Context
    selection: Selection
    view: View  # of the output
    base: int  # address of the output's first block
    runs: list[list[range]]
    params: Params
    rows: Array  # parameter row of every block
    offsets: list[list[int]]  # of every run's weights in CONST
    weights: dict[int, int]


def schedule_selection(ctx: Context, s: Selection, view: View, base: int, fill: int) -> int:
    """Emit a selection into the blocks from ``base`` on; returns the index of the last STORE."""
    tile = _tile(ctx, s)
    runs = _runs(ctx.array, s, min(tile[0] * tile[1], s.rows * s.cols))
    empty = ~s.masks.any(axis=(1, 2))
    biases, rows = np.unique(np.where(empty, fill, 0), axis=0, return_inverse=True)
    params = load_params(ctx, plain_epilogue(biases.reshape(-1)))
    offsets = [
        [ctx.const.add(s.masks[b, run.start : run.stop]) for run in block]
        for b, block in enumerate(runs)
    ]
    job = _Job(ctx, s, view, base, runs, params, rows.reshape(-1), offsets, {})
    if sum(len(run) for block in runs for run in block) * ctx.lanes <= ctx.array.wbuf_words:
        _load_all(job)
    set_epilogue(ctx, plain_epilogue(0), params.table, False, {})
    last = 0
    for box in boxes(s.rows, s.cols, tile):
        x = _load_sources(job, box)
        for group in _groups(ctx, len(runs), box.words):
            last = _group(job, box, x, group)
    return last


def fits(ctx: Context, s: Selection) -> bool:
    """Return whether one position of all sources fits half of the input buffer."""
    return 2 * len(s.words) <= ctx.array.ibuf_words and len(s.masks) <= ctx.array.pbuf_rows


def _tile(ctx: Context, s: Selection) -> tuple[int, int]:
    room = min(ctx.array.obuf_rows // 2, ctx.array.acc_rows)
    part = max(LEAST_TILE, -(-s.rows * s.cols // TILES))
    room = max(1, min(room, part, ctx.array.ibuf_words // 2 // len(s.words)))
    cols = min(s.cols, room)
    return min(s.rows, room // cols), cols


def _groups(ctx: Context, blocks: int, positions: int) -> list[range]:
    """Return groups of output blocks that one STORE writes."""
    step = max(1, ctx.array.obuf_rows // 4 // positions)
    return [range(b, min(b + step, blocks)) for b in range(0, blocks, step)]


def _load_all(job: _Job) -> None:
    """Load the weights of all blocks, which stay."""
    ctx = job.ctx
    sizes = [len(run) * ctx.lanes for block in job.runs for run in block]
    flat = [offset for block in job.offsets for offset in block]
    word = ctx.rings.wbuf.take(sum(sizes))
    for offset, size in zip(flat, sizes, strict=True):
        load_const(ctx, Buffer.WBUF, word, offset, size)
        job.weights[offset] = word
        word += size


def _load_sources(job: _Job, box: Box) -> int:
    """Load the words of all sources for a tile, several equally distant ones by one LOAD."""
    ctx, s = job.ctx, job.selection
    base = ctx.rings.ibuf.take(len(s.words) * box.words)
    for start, count, step in _progressions(s.words):
        addr = int(s.words[start]) + box.r0 * s.row_step + box.c0 * s.col_step
        values = dict(
            dest=int(Buffer.IBUF), region=int(Region.ARENA), dst=base + start * box.words,
            addr=addr, n2=count, n1=box.rows, n0=box.cols, s2=step, s1=s.row_step, s0=s.col_step,
            lane_stride=1,
        )  # fmt: skip
        emit_load(ctx, values, count * box.words)
    return base


def _progressions(words: Array) -> Iterator[tuple[int, int, int]]:
    """Yield (start, count, step) of runs of equally distant addresses."""
    start = 0
    while start < len(words):
        stop = start + 1
        step = int(words[stop] - words[start]) if stop < len(words) else 0
        while stop < len(words) and words[stop] - words[stop - 1] == step:
            stop += 1
        yield start, stop - start, step if stop - start > 1 else 0
        start = stop


def _group(job: _Job, box: Box, x: int, group: range) -> int:
    """Emit the products of some output blocks, and their STORE."""
    ctx, view = job.ctx, job.view
    out = ctx.rings.obuf.take(len(group) * box.words)
    for i, block in enumerate(group):
        _product(job, box, x, block, out + i * box.words)
    s = job.selection
    row, col = s.out_row * ctx.lanes, s.out_col * ctx.lanes
    first = job.base + group.start * view.block + s.out * ctx.lanes
    values = dict(
        plane=0, src=out, n2=len(group), n1=box.rows, n0=box.cols, s2=view.block, s1=row, s0=col,
        addr=first + box.r0 * row + box.c0 * col,
    )  # fmt: skip
    reads = (Range("obuf", out, out + len(group) * box.words),)
    return ctx.emitter.emit(Opcode.STORE, values, reads, arena_reads(ctx, values))


def _product(job: _Job, box: Box, x: int, block: int, out: int) -> None:
    """Sum the sources of one output block."""
    ctx, runs = job.ctx, job.runs[block]
    for run, offset in zip(runs, job.offsets[block], strict=True):
        last = run is runs[-1]
        words = len(run) * ctx.lanes
        weights = job.weights.get(offset, -1)
        if weights < 0:
            weights = ctx.rings.wbuf.take(words)
            load_const(ctx, Buffer.WBUF, weights, offset, words)
        row = int(job.rows[block])
        param = job.params.row(range(row, row + 1))
        first_x = x + run.start * box.words
        values = dict(
            mode=int(Mode.GEMM), reduce=int(Reduce.ADD), first=int(run is runs[0]), last=int(last),
            m1=box.rows, m0=box.cols, nb=1, cb=len(run), kh=1, kw=1, stride_h=1, stride_w=1,
            win_h=1, win_w=1, x_base=first_x, x_m1=box.cols, x_m0=1, x_cb=box.words,
            w_base=weights, w_nb=words, p_base=param, o_base=out, o_nb=box.words,
        )  # fmt: skip
        reads = [
            Range("ibuf", first_x, first_x + len(run) * box.words),
            Range("wbuf", weights, weights + words),
        ]
        writes = (Range("obuf", out, out + box.words),) if last else ()
        reads += [Range("pbuf", param, param + 1)] if last else []
        ctx.emitter.emit(Opcode.COMPUTE, values, tuple(reads), writes)
