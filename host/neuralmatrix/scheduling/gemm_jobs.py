# SPDX-License-Identifier: Apache-2.0
"""Cuts the K loop of a Gemm into COMPUTEs, and loads their weights.

In: the nonzero blocks of weights, a plan.  Out: per group of output blocks its jobs, and the
LOADs of their weights: constants, or a tensor of the arena.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from ..hardware.instruction_costs import compute_overhead
from ..hardware.isa import Buffer
from ..hardware.target import ArrayConfig
from ..ir.types import Array
from .context import Context, View, emit_load, load_const
from .gemm_tiling import GemmPlan

# Per output block: runs of input blocks that are not zero, in order.
Runs = list[list[range]]


@dataclass(frozen=True)
class Chunk:
    """Part of the K loop: kernel rows, kernel columns, input blocks."""

    kh: range
    kw: range
    cb: range

    @property
    def blocks(self) -> int:
        """The number of blocks of weights per output block."""
        return len(self.kh) * len(self.kw) * len(self.cb)


@dataclass(frozen=True)
class Job:
    """One COMPUTE: a chunk of the K loop for some output blocks.

    ``first`` and ``last``: whether it begins or ends their sums; ``acc`` numbers the sums that are
    open at the same time; ``serves`` is the part of the input that must be on chip; ``key`` names
    the weights.
    """

    nb: range
    chunk: Chunk
    serves: Chunk
    first: bool
    last: bool
    acc: int
    key: int
    words: int


class Weights(Protocol):
    """A source of weight words in COMPUTE's order."""

    @property
    def byte_planes(self) -> int: ...

    def add(self, nb: range, chunk: Chunk) -> int:
        """Announce weights that will be loaded; returns their key."""

    def version(self, image: int) -> int:
        """Return an image's version; images with the same version have the same weights."""

    def load(self, job: Job, image: int, base: int) -> None:
        """Load a job's weights to WBUF words ``base`` on."""


def plan_jobs(
    weights: Weights, plan: GemmPlan, kernel: tuple[int, int], runs: Runs, lanes: int
) -> list[list[Job]]:
    """Plan the jobs per group of output blocks; each group's jobs complete its sums.

    ``runs`` may leave out any input blocks whose weights are all zero, but needs one per output.
    """
    whole = Chunk(range(kernel[0]), range(kernel[1]), range(max(r[-1].stop for r in runs)))
    starts = range(0, len(runs), plan.nb_step)
    groups = [range(nb, min(nb + plan.nb_step, len(runs))) for nb in starts]
    return [_group_jobs(weights, plan, whole, runs, lanes, nb) for nb in groups]


def _group_jobs(
    weights: Weights, plan: GemmPlan, whole: Chunk, runs: Runs, lanes: int, nb: range
) -> list[Job]:
    chunks = _chunks(whole, plan.chunk)
    equal_runs = len(chunks) == 1 and len(runs[nb.start]) == 1
    equal_runs = equal_runs and all(runs[b] == runs[nb.start] for b in nb)
    blocks = [nb] if equal_runs else [range(b, b + 1) for b in nb]
    parts = [part for chunk in chunks for part in _parts(chunk, blocks, runs)]
    order = [block for block, _, _ in parts]
    first = {block: i for i, block in reversed(list(enumerate(order)))}
    last = {block: i for i, block in enumerate(order)}
    return [
        Job(
            block, chunk, serves if plan.chunked_input else whole, first[block] == i,
            last[block] == i, block.start - nb.start if len(chunks) > 1 else 0,
            weights.add(block, chunk),
            len(block) * chunk.blocks * weights.byte_planes * lanes,
        )
        for i, (block, chunk, serves) in enumerate(parts)
    ]  # fmt: skip


def _parts(chunk: Chunk, blocks: list[range], runs: Runs) -> list[tuple[range, Chunk, Chunk]]:
    """Yield output blocks, their part of a chunk, and the part that all of them need."""
    found = [(b, cb) for b in blocks for cb in _overlaps(runs[b.start], chunk.cb)]
    if not found:
        return []
    hull = range(min(cb.start for _, cb in found), max(cb.stop for _, cb in found))
    serves = replace(chunk, cb=hull)
    return [(block, replace(chunk, cb=cb), serves) for block, cb in found]


def _chunks(whole: Chunk, size: tuple[int, int, int]) -> list[Chunk]:
    return [
        Chunk(rows, cols, blocks)
        for rows in _cut(whole.kh, size[0])
        for cols in _cut(whole.kw, size[1])
        for blocks in _cut(whole.cb, size[2])
    ]


def _cut(whole: range, step: int) -> list[range]:
    return [range(i, min(i + step, whole.stop)) for i in range(whole.start, whole.stop, step)]


def _overlaps(runs: list[range], part: range) -> list[range]:
    cut = [range(max(run.start, part.start), min(run.stop, part.stop)) for run in runs]
    return [run for run in cut if run]


def runs_of(used: Array, shortest_gap: int) -> list[range]:
    """Return runs of true entries, joined over gaps below ``shortest_gap``; at least one block."""
    found = np.flatnonzero(used)
    if not found.size:
        return [range(1)]
    cuts = np.flatnonzero(np.diff(found) > shortest_gap)
    starts, stops = found[[0, *(cuts + 1)]], found[[*cuts, -1]] + 1
    return [range(int(a), int(b)) for a, b in zip(starts, stops, strict=True)]


def shortest_gap(array: ArrayConfig, steps: int) -> int:
    """Return how many zero blocks of ``steps`` cycles cost as much as another COMPUTE."""
    return max(1, -(-compute_overhead(array) // steps))


# ------------------------------------------------------------------ sources


@dataclass(frozen=True)
class ConstWeights:
    """Constant int8 blocks (NB, KH, KW, CB, lanes, lanes) in CONST; a key is their offset."""

    ctx: Context
    blocks: Array
    byte_planes: int = 1

    def add(self, nb: range, chunk: Chunk) -> int:
        parts = (slice(part.start, part.stop) for part in (nb, chunk.kh, chunk.kw, chunk.cb))
        return self.ctx.const.add(self.blocks[tuple(parts)])

    def version(self, image: int) -> int:
        return 0

    def load(self, job: Job, image: int, base: int) -> None:
        load_const(self.ctx, Buffer.WBUF, base, job.key, job.words)


@dataclass(frozen=True)
class TensorWeights:
    """A tensor of the arena, (N', 1, K, M), or (N', 1, M, K) where it is ``transposed``."""

    ctx: Context
    view: View  # view of its positions as one row
    transposed: bool
    images: int  # blocks of the output
    own_images: int

    @property
    def byte_planes(self) -> int:
        return self.view.byte_planes

    def add(self, nb: range, chunk: Chunk) -> int:
        return nb.start << 20 | chunk.cb.start

    def version(self, image: int) -> int:
        return image * self.own_images // self.images

    def load(self, job: Job, image: int, base: int) -> None:
        origin = self.view.base + self.version(image) * self.view.image
        if self.transposed:
            first = origin + job.chunk.cb.start * self.view.block
            planes = (len(job.chunk.cb) * self.byte_planes, self.view.plane)
            self._load(first, job.nb, planes, base)
            return
        each = job.words // len(job.nb)
        for i, block in enumerate(job.nb):
            first = origin + block * self.view.block
            self._load(first, job.chunk.cb, (self.byte_planes, self.view.plane), base + i * each)

    def _load(self, origin: int, blocks: range, planes: tuple[int, int], base: int) -> None:
        """Load words [block of positions][plane][position], zero past the last position."""
        lanes, count = self.ctx.lanes, len(blocks)
        rest = self.view.width - blocks.start * lanes  # positions that exist
        full = min(count, rest // lanes)
        for start, number, width in ((0, full, lanes), (full, count - full, rest - full * lanes)):
            if number:
                self._load_blocks(
                    origin + (blocks.start + start) * lanes * lanes, (number, width), planes,
                    base + start * planes[0] * lanes,
                )  # fmt: skip

    def _load_blocks(
        self, addr: int, size: tuple[int, int], planes: tuple[int, int], base: int
    ) -> None:
        lanes, (number, width) = self.ctx.lanes, size
        if planes[0] == 1 and width == lanes:  # one burst
            number, width = 1, number * lanes
        values = dict(
            dest=int(Buffer.WBUF), region=int(self.view.region), dst=base, addr=addr, n2=number,
            n1=planes[0], n0=width, s2=lanes * lanes, s1=planes[1], s0=lanes, lane_stride=1,
            pad_right=-width % lanes,
        )  # fmt: skip
        emit_load(self.ctx, values, number * planes[0] * (width + -width % lanes))
