# SPDX-License-Identifier: Apache-2.0
"""Schedules products with a sparse constant: all-zero blocks are neither loaded nor computed.

In: a 1x1 Gemm many of whose ROWS x COLS weight blocks are zero.  Out: its instructions: x stays in
IBUF, the blocks that are left stream through WBUF in order of use, and one COMPUTE adds up as many
blocks of an output as its three nested loops over x can reach.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from math import prod

import numpy as np

from ..hardware.isa import Buffer, Mode, Opcode, Reduce
from ..hardware.target import ArrayConfig
from ..ir.matgraph.blocks import block_pattern
from ..ir.matgraph.ops import Gemm
from ..ir.types import Array
from ..quantization.qgraph import QEpilogue
from .context import Box, Context, load_const, load_grid, store_rows
from .emitter import Range
from .epilogue_operands import Operand, Operands, strides
from .epilogue_parameters import set_epilogue
from .gemm_setup import Setup
from .parameter_pages import Params, load_params

DENSEST = 0.75  # share of nonzero blocks above which the dense schedule is as fast
LEAST_BLOCKS = 4
LONG_RUN = 8  # consecutive blocks that are taken without a search
BEAM = (16, 6, 1)  # number of steps tried per loop
STEP_LIMIT = 0xFFFF  # largest step of x per loop, in words
COUNT_LIMIT = 0xFF

Loops = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Nest:
    """Blocks start + i*step0 + j*step1 + k*step2 of the input, i outermost: (count, step) each."""

    start: int
    loops: Loops

    @property
    def blocks(self) -> tuple[int, ...]:
        """The blocks in the order of the K loop."""
        found = [self.start]
        for count, step in self.loops:
            found = [b + i * step for b in found for i in range(count)]
        return tuple(found)


@dataclass(frozen=True)
class Step:
    """One COMPUTE: the nest that it adds to output block ``nb``, and its weights in the load."""

    nb: int
    nest: Nest
    first: bool
    last: bool
    load: int
    word: int


@dataclass(frozen=True)
class Load:
    """Consecutive weight blocks: first word in CONST order, and words."""

    start: int
    words: int


def is_sparse(ctx: Context, s: Setup, op: Gemm) -> bool:
    """Return whether there are enough zero blocks, and x's whole depth fits on chip."""
    if s.weight is None or not s.flat or s.kernel != (1, 1) or op.groups > 1:
        return False
    if op.epilogue.rows or ctx.tensors[op.output].broadcast:
        return False
    used = block_pattern(s.weight[0, 0], ctx.lanes)
    few = used.size >= LEAST_BLOCKS and used.sum() <= DENSEST * used.size
    return bool(few) and used.shape[0] * s.view.byte_planes <= ctx.array.ibuf_words


def share_of_blocks(op: Gemm, lanes: int) -> float:
    """Return the share of a matrix product that is computed; 1 where zero blocks are few."""
    if op.weight is None or op.weight.shape[:2] != (1, 1) or op.groups > 1:
        return 1.0
    share = float(block_pattern(op.weight[0, 0], lanes).mean())
    return share if share <= DENSEST else 1.0


def schedule_sparse(ctx: Context, s: Setup, e: QEpilogue, op: Gemm) -> dict[str, int]:
    """Emit the product; returns the index of the output's last STORE."""
    assert s.weight is not None
    images, _, _, _ = ctx.tensors[op.output].shape
    size = _tile(ctx, s, e)
    steps, loads = _steps(ctx, s, s.weight[0, 0], size)
    offset = ctx.const.add(_packed(s.weight[0, 0], steps, ctx.lanes))
    operands = Operands(ctx, e, True)
    run = _Run(ctx, s, e, load_params(ctx, e), operands, op.output, steps, loads, offset)
    last = 0
    for image in range(images):
        for start in range(0, s.out_w, size):
            last = run.tile(image, Box(0, 1, start, min(start + size, s.out_w)))
    return {op.output: last}


def _tile(ctx: Context, s: Setup, e: QEpilogue) -> int:
    """Return the positions per tile: all of x's depth lies in IBUF."""
    a: ArrayConfig = ctx.array
    room = [s.out_w, a.acc_rows, *_rooms(a, e)]
    return min(*room, a.ibuf_words // (s.cb * s.view.byte_planes))


def _rooms(a: ArrayConfig, e: QEpilogue) -> list[int]:
    """Return half of every buffer that holds rows of results or operands."""
    room = [a.obuf_rows // 2]
    room += [a.tbuf_rows // 2] if e.residual else []
    return room + ([a.ubuf_rows // 2] if e.hadamard else [])


# ------------------------------------------------------------------ nests of COMPUTEs


def _steps(ctx: Context, s: Setup, weight: Array, size: int) -> tuple[list[Step], list[Load]]:
    """Plan all COMPUTEs of a tile and the loads of their weights, in order."""
    chunk = ctx.array.wbuf_words // 4
    reach = STEP_LIMIT // (size * s.view.byte_planes)
    steps: list[Step] = []
    loads: list[Load] = []
    start = words = 0
    for nb, used in enumerate(block_pattern(weight, ctx.lanes).T):
        nests = cover(np.flatnonzero(used), chunk // ctx.lanes, reach)
        for i, nest in enumerate(nests):
            mine = len(nest.blocks) * ctx.lanes
            if words + mine > chunk:
                loads.append(Load(start, words))
                start, words = start + words, 0
            steps.append(Step(nb, nest, i == 0, i == len(nests) - 1, len(loads), words))
            words += mine
    return steps, [*loads, Load(start, words)]


def cover(blocks: Array, most: int, reach: int) -> list[Nest]:
    """Cover every block once by few nests of at most ``most`` blocks each; block 0 if none is
    given."""
    if not len(blocks):
        return [Nest(0, ())]
    nests, mask = _long_runs(blocks, most)
    while mask:
        nest = _largest(mask, most, reach)
        nests.append(nest)
        for block in nest.blocks:
            mask &= ~(1 << block)
    return nests


def _long_runs(blocks: Array, most: int) -> tuple[list[Nest], int]:
    """Return nests of neighbouring blocks, and a bit mask of the blocks in no long run."""
    nests, mask = [], 0
    for run in np.split(blocks, np.flatnonzero(np.diff(blocks) != 1) + 1):
        if len(run) < LONG_RUN:
            mask |= sum(1 << int(block) for block in run)
            continue
        for start in range(0, len(run), most):
            part = run[start : start + most]
            nests.append(Nest(int(part[0]), ((len(part), 1),)))
    return nests, mask


def _largest(mask: int, most: int, reach: int) -> Nest:
    """Find a large nest within ``mask``: per loop the steps that fit most often are extended."""
    best = Nest((mask & -mask).bit_length() - 1, ())
    size = 1
    level: list[tuple[int, Loops, int]] = [(mask, (), 1)]
    for width in BEAM:
        grown: list[tuple[int, Loops, int]] = []
        for starts, loops, count in level:
            for new_starts, loop in _loops(starts, reach):
                total = count * loop[0]
                if total <= most and _is_distinct((*loops, loop)):
                    grown.append((new_starts, (*loops, loop), total))
        for starts, loops, total in grown:
            if total > size:
                size, best = total, Nest((starts & -starts).bit_length() - 1, loops)
        level = sorted(grown, key=lambda g: -g[2] * g[0].bit_count())[:width]
    return best


def _loops(starts: int, reach: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """List every (count, step) whose loop stays within ``starts``, and its possible starts."""
    places = [i for i in range(starts.bit_length()) if starts >> i & 1]
    for step in sorted({b - a for a, b in combinations(places, 2)}):
        if step > reach:
            return
        count, left = 2, starts & starts >> step
        while left and count <= COUNT_LIMIT:
            yield left, (count, step)
            left &= starts >> (count * step)
            count += 1


def _is_distinct(loops: Loops) -> bool:
    return len(set(Nest(0, loops).blocks)) == prod(count for count, _ in loops)


def _packed(weight: Array, steps: list[Step], lanes: int) -> Array:
    """Pack the weight blocks in order of use."""
    blocks = weight.reshape(weight.shape[0] // lanes, lanes, -1, lanes).transpose(2, 0, 1, 3)
    return np.concatenate([blocks[step.nb, list(step.nest.blocks)] for step in steps])


# ------------------------------------------------------------------ emission


@dataclass
class _Run:
    ctx: Context
    setup: Setup
    epilogue: QEpilogue
    params: Params
    operands: Operands
    output: str
    steps: list[Step]
    loads: list[Load]
    offset: int  # offset of the weights in CONST
    held: int = -1  # the load that is in WBUF
    base: int = 0  # first word of that load

    def tile(self, image: int, box: Box) -> int:
        """Emit all output blocks of one tile of positions; return the index of its last STORE."""
        ctx, s = self.ctx, self.setup
        x = ctx.rings.ibuf.take(s.cb * s.view.byte_planes * box.words)
        load_grid(ctx, s.view, image, box, range(s.cb), Buffer.IBUF, x)
        self.held = -1
        last = 0
        for group in self._groups(box.words):
            blocks = range(group[0].nb, group[-1].nb + 1)
            self.params.row(blocks)
            operands = self.operands.load(image, box, blocks)
            out = ctx.rings.obuf.take(len(blocks) * box.words)
            int16 = ctx.qparams[self.output].int16
            set_epilogue(ctx, self.epilogue, self.params.table, int16, strides(operands))
            for step in group:
                row = step.nb - blocks.start
                self._compute(step, box, x, out + row * box.words, row, operands)
            last = store_rows(ctx, self.output, image, box, blocks, out, True)
        return last

    def _groups(self, words: int) -> Iterator[list[Step]]:
        """Group steps whose results are stored together: whole output blocks, at most half a
        buffer.
        """
        count = max(1, min(_rooms(self.ctx.array, self.epilogue)) // words)
        count = min(count, self.params.page)
        group: list[Step] = []
        for step in self.steps:
            if group and step.nb // count != group[0].nb // count:
                yield group
                group = []
            group.append(step)
        yield group

    def _weights(self, step: Step) -> int:
        """Return the first weight word of a step, loaded if needed."""
        if step.load != self.held:
            load = self.loads[step.load]
            self.held, self.base = step.load, self.ctx.rings.wbuf.take(load.words)
            at = self.offset + load.start * self.ctx.lanes
            load_const(self.ctx, Buffer.WBUF, self.base, at, load.words)
        return self.base + step.word

    def _compute(
        self, step: Step, box: Box, x: int, out: int, row: int, operands: Mapping[str, Operand]
    ) -> None:
        """Emit a step; ``row``: its output block, counted within its group."""
        ctx, byte_planes = self.ctx, self.setup.view.byte_planes
        weights = self._weights(step)
        block = byte_planes * box.words
        loops = ((1, 0),) * (3 - len(step.nest.loops)) + step.nest.loops
        (kh, s_kh), (kw, s_kw), (cb, s_cb) = loops
        words = len(step.nest.blocks) * ctx.lanes
        params = self.params.reads(range(step.nb, step.nb + 1))
        first = x + step.nest.start * block
        values = dict(
            mode=int(Mode.GEMM), reduce=int(Reduce.ADD), first=int(step.first),
            last=int(step.last), x_wide=byte_planes - 1, m1=1, m0=box.words, nb=1, cb=cb, kh=kh,
            kw=kw,
            stride_h=1, stride_w=1, win_h=1, win_w=1, x_base=first, x_m0=1, x_kh=s_kh * block,
            x_kw=s_kw * block, x_cb=s_cb * block, x_half=box.words, w_base=weights, w_nb=words,
            p_base=params.start, p_nb=1, o_base=out, o_nb=box.words,
        )  # fmt: skip
        for key, operand in operands.items():
            values[f"{key}_base"] = operand.base + row * operand.steps[f"{key}_nb"]
        furthest = x + (max(step.nest.blocks) + 1) * block
        ranges = [Range("ibuf", first, furthest), Range("wbuf", weights, weights + words)]
        writes: tuple[Range, ...] = ()
        if step.last:
            ranges += [params]
            ranges += [operand.read for operand in operands.values()]
            writes = (Range("obuf", out, out + box.words),)
        ctx.emitter.emit(Opcode.COMPUTE, values, tuple(ranges), writes)


__all__ = ["Nest", "cover", "is_sparse", "schedule_sparse", "share_of_blocks"]
