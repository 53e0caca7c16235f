# SPDX-License-Identifier: Apache-2.0
"""Tile sizes and loop order of a Gemm.

In: the size of one operation in words and blocks, and the array's buffers.  Out: the plan with the
least estimated time; OverBuffers when no tile fits.

The estimate here only ranks candidates; cycles that are reported come from ``estimate``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ..hardware.instruction_costs import (
    WORD_CYCLES,
    Work,
    compute_cycles,
    edge_cycles,
    overlapped_cycles,
)
from ..hardware.target import ArrayConfig, Target
from .context import PARAM_WORDS, OverBuffers
from .tiling import (
    GROUP_CYCLES,
    KERNEL_LIMIT,
    OperandSize,
    boxes,
    exposed_share,
    operand_limit,
    operand_room,
    operand_words,
    tile_sizes,
)


@dataclass(frozen=True)
class GemmProblem:
    out_h: int
    out_w: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    cb: int
    nb: int
    byte_planes: int
    out_byte_planes: int
    operands: Mapping[str, OperandSize]  # operands by buffer
    grouped: bool  # most blocks of weights are zero, and each output block has others
    weight_byte_planes: int = 1
    stat_planes: int = 0  # rows of row statistics per position
    stored: bool = True  # results are stored
    page: int = 1 << 30  # output blocks whose parameters are on chip at a time
    images: int = 1
    images_per_weights: int = 1  # images that share their weights


@dataclass(frozen=True)
class GemmPlan:
    """``tile``: output rows x columns; ``nb_step``: output blocks per group; ``chunk``: kernel
    rows, kernel columns and input blocks per job.  Several chunks: the sums of a whole group stay
    in the accumulators, and a chunk of the input is loaded once for all of them."""

    tile: tuple[int, int]
    nb_step: int
    chunk: tuple[int, int, int]
    resident: bool  # all weights stay in WBUF across tiles
    weights_outer: bool  # loop over weights outside, tiles inside
    chunked_input: bool  # only a job's part of the input is on chip
    cost: float


def plan_gemm(target: Target, p: GemmProblem) -> GemmPlan:
    """Return the cheapest plan; raise OverBuffers if not even one output row of one block fits."""
    array = target.array
    limit = min(array.acc_rows, array.obuf_rows // (1 + p.stat_planes))
    limit = min(limit, operand_limit(array, p.operands))
    best: GemmPlan | None = None
    for tile in tile_sizes(p.out_h, p.out_w, limit):
        for plan in _plans(target, p, tile):
            if best is None or plan.cost < best.cost:
                best = plan
    if best is None:
        raise OverBuffers(
            f"a {p.kernel[0]}x{p.kernel[1]} kernel over {p.cb} blocks of channels needs more than "
            f"the {array.ibuf_words} words of input buffer and {array.wbuf_words} of weight buffer"
        )
    return best


def _plans(target: Target, p: GemmProblem, tile: tuple[int, int]) -> Iterator[GemmPlan]:
    array = target.array
    found = _chunk(array, p, tile)
    if found is None:
        return
    chunk, chunked_input = found
    tiles = len(boxes(p.out_h, p.out_w, tile))
    chunks = _chunks(p, chunk)
    words = p.kernel[0] * p.kernel[1] * p.cb * p.weight_byte_planes * array.rows
    uses = tiles * p.images_per_weights
    resident = uses > 1 and words * p.nb <= array.wbuf_words and not p.grouped
    for nb_step in _group_sizes(array, p, tile[0] * tile[1], chunks):
        may_stay = chunks == 1 and words * nb_step <= array.wbuf_words
        may_stay = may_stay or words * nb_step <= array.wbuf_words // 2
        outer = tiles > 1 and not resident and may_stay and not p.stat_planes
        for weights_outer in (False, True) if outer else (False,):
            plan = GemmPlan(tile, nb_step, chunk, resident, weights_outer, chunked_input, 0.0)
            yield _with_cost(target, p, plan, tiles)


def _chunk(
    array: ArrayConfig, p: GemmProblem, tile: tuple[int, int]
) -> tuple[tuple[int, int, int], bool] | None:
    """Return the largest part of the K loop whose weights fit half of WBUF, and whether the
    input must be cut in the same way.

    A chunk's input then takes half of IBUF.  None if a single tap's input does not fit.
    """
    blocks = array.wbuf_words // 2 // array.rows // p.weight_byte_planes
    room = array.ibuf_words // 2
    whole = _input_words(p, tile, p.kernel) * p.byte_planes * p.cb <= array.ibuf_words
    cols = min(p.kernel[1], blocks, KERNEL_LIMIT)
    rows = min(p.kernel[0], blocks // cols, KERNEL_LIMIT) if cols == p.kernel[1] else 1
    while not whole and _input_words(p, tile, (rows, cols)) * p.byte_planes > room:
        if rows == cols == 1:
            return None
        rows, cols = (-(-rows // 2), cols) if rows > 1 else (1, -(-cols // 2))
    depth = min(p.cb, max(1, blocks // (rows * cols)))
    if not whole:
        depth = min(depth, max(1, room // (_input_words(p, tile, (rows, cols)) * p.byte_planes)))
    depth = _cdiv(p.cb, _cdiv(p.cb, depth))  # chunks of equal size
    return (rows, cols, depth), not whole


def _cdiv(a: int, b: int) -> int:
    return -(-a // b)


def _chunks(p: GemmProblem, chunk: tuple[int, int, int]) -> int:
    rows, cols, depth = chunk
    return _cdiv(p.kernel[0], rows) * _cdiv(p.kernel[1], cols) * _cdiv(p.cb, depth)


def _input_words(p: GemmProblem, tile: tuple[int, int], kernel: tuple[int, int]) -> int:
    rows = (tile[0] - 1) * p.strides[0] + (kernel[0] - 1) * p.dilations[0] + 1
    cols = (tile[1] - 1) * p.strides[1] + (kernel[1] - 1) * p.dilations[1] + 1
    return rows * cols


def _group_sizes(array: ArrayConfig, p: GemmProblem, positions: int, chunks: int) -> list[int]:
    """List output blocks per group: at most half of every buffer, and no more than useful."""
    if chunks > 1:
        most = min(p.nb, array.acc_rows // positions, p.page)
        return sorted({1, _cdiv(p.nb, _cdiv(p.nb, max(1, most)))})
    if p.grouped:
        return [1]
    taps = p.kernel[0] * p.kernel[1]
    room = [array.wbuf_words // 2 // (taps * p.cb * p.weight_byte_planes * array.rows), p.page]
    if p.stored:
        room.append((array.obuf_rows - p.stat_planes * positions) // 2 // positions)
    room += operand_room(array, p.operands, positions)
    one = taps * p.cb * p.byte_planes * p.weight_byte_planes * max(positions, array.rows)
    return sorted({max(1, min(p.nb, *room, -(-cycles // one))) for cycles in GROUP_CYCLES})


def _with_cost(target: Target, p: GemmProblem, plan: GemmPlan, tiles: int) -> GemmPlan:
    lanes = target.word_bytes
    taps = p.kernel[0] * p.kernel[1]
    positions = plan.tile[0] * plan.tile[1]
    groups = -(-p.nb // plan.nb_step)
    chunks = _chunks(p, plan.chunk)
    computes = groups if chunks == 1 else p.nb * chunks
    weights = taps * p.cb * p.nb * p.weight_byte_planes * lanes
    passes = taps * p.cb * p.byte_planes * p.weight_byte_planes * p.nb
    tile_words = _tile_words(p, plan)
    pages = 1 if p.nb <= p.page else _cdiv(p.nb, p.page // plan.nb_step * plan.nb_step)
    again = 1 if tiles == 1 or p.stat_planes else pages  # each page's groups take all tiles
    input_loads = tiles * (groups if plan.weights_outer or plan.chunked_input else again)
    params = PARAM_WORDS * p.nb * (tiles if p.stat_planes else 1) if pages > 1 else 0
    weight_loads = 1.0 if plan.weights_outer else float(tiles)
    if plan.resident:
        weight_loads = 1 / p.images_per_weights
    operands = tiles * positions * operand_words(p.operands, p.nb, groups)
    work = Work(
        passes=tiles * (passes * max(positions, lanes) + p.stat_planes * positions),
        computes=tiles * computes,
        loaded=tile_words * input_loads + weights * weight_loads + operands + params,
        loads=input_loads + weight_loads * computes + tiles * groups * len(p.operands),
        stored=tiles * positions * (p.nb * p.out_byte_planes * p.stored + p.stat_planes * 2),
        stores=tiles * groups,
    )
    overlap = tile_words * 2 <= target.array.ibuf_words or tiles * p.images == 1
    serial = compute_cycles(target, work) + WORD_CYCLES * tile_words * input_loads
    steady = overlapped_cycles(target, work) if overlap else serial
    last = (
        plan.nb_step * positions * p.out_byte_planes if p.stored and chunks == 1 else 2 * positions
    )
    edge = edge_cycles(target, tile_words, last)
    return replace(plan, cost=p.images * steady + edge * exposed_share(tiles * p.images))


def _tile_words(p: GemmProblem, plan: GemmPlan) -> int:
    """Return the input words loaded for one tile and one group of output blocks."""
    if not plan.chunked_input:
        return _input_words(p, plan.tile, p.kernel) * p.byte_planes * p.cb
    rows, cols, depth = plan.chunk
    jobs = _cdiv(p.kernel[0], rows) * _cdiv(p.kernel[1], cols)
    return jobs * _input_words(p, plan.tile, (rows, cols)) * p.byte_planes * p.cb
