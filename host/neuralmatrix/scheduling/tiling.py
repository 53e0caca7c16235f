# SPDX-License-Identifier: Apache-2.0
"""Chooses tile sizes and loop order.

In: the size of one operation in words and blocks, and the array's buffers.  Out: the plan with the
least estimated time; DoesNotFit when no tile fits.

The costs here only rank candidates; reported cycles come from ``estimate``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from ..errors import DoesNotFit
from ..hardware.instruction_costs import (
    WORD_CYCLES,
    Work,
    compute_cycles,
    edge_cycles,
    overlapped_cycles,
)
from ..hardware.target import ArrayConfig, Target
from .context import Box

KERNEL_LIMIT = 255  # largest count of the kernel loops' fields
GROUP_CYCLES = (1500, 5000)  # cycles of a group that hides the next group's transfers


@dataclass(frozen=True)
class OperandSize:
    """The size of t or u: its byte planes, and whether each output block has its own rows."""

    byte_planes: int
    each: bool


def operand_room(
    array: ArrayConfig, operands: Mapping[str, OperandSize], positions: int
) -> list[int]:
    """Return the number of output blocks whose operands fill half of their buffer."""
    rows = {"t": array.tbuf_rows, "u": array.ubuf_rows}
    return [rows[key] // 2 // positions for key, size in operands.items() if size.each]


def operand_limit(array: ArrayConfig, operands: Mapping[str, OperandSize]) -> int:
    """Return the positions of a tile whose operands fit."""
    rows = {"t": array.tbuf_rows, "u": array.ubuf_rows}
    return min((rows[key] for key in operands), default=1 << 30)


def operand_words(operands: Mapping[str, OperandSize], nb: int, groups: int) -> int:
    """Return the words that are loaded per position."""
    return sum(size.byte_planes * (nb if size.each else groups) for size in operands.values())


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


def boxes(height: int, width: int, tile: tuple[int, int]) -> list[Box]:
    """Return the tiles that cover height x width, row by row."""
    return [
        Box(r, min(r + tile[0], height), c, min(c + tile[1], width))
        for r in range(0, height, tile[0])
        for c in range(0, width, tile[1])
    ]


def tile_sizes(
    height: int, width: int, limit: int, widest: int = 1 << 30
) -> Iterator[tuple[int, int]]:
    """List candidate tiles of at most ``limit`` positions: even splits of the rows, then also of
    the columns."""
    splits = (*range(1, 9), 12, 16, 24, 32, 48, 64, 128, 256, 512, 1024)
    widest = max(1, min(limit, widest))
    least = -(-width // widest)  # images wider than the fixed splits allow
    more = (least * k for k in (1, 2, 4))
    for col_split in sorted({k for k in (*splits, *more) if least <= k <= width}):
        cols = -(-width // col_split)
        seen = set()
        for split in (*range(1, 33), 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, height):
            rows = -(-height // split)
            if rows * cols <= limit and rows not in seen:
                seen.add(rows)
                yield rows, cols
        if seen and height > 1:
            return
        if seen and col_split >= 64:
            return


def plan_gemm(target: Target, p: GemmProblem) -> GemmPlan:
    """Return the cheapest plan; raise DoesNotFit if not even one output row of one block fits."""
    array = target.array
    limit = min(array.acc_rows, array.obuf_rows // (1 + p.stat_planes))
    limit = min(limit, operand_limit(array, p.operands))
    best: GemmPlan | None = None
    for tile in tile_sizes(p.out_h, p.out_w, limit):
        for plan in _plans(target, p, tile):
            if best is None or plan.cost < best.cost:
                best = plan
    if best is None:
        raise DoesNotFit(
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
        most = min(p.nb, array.acc_rows // positions)
        return sorted({1, _cdiv(p.nb, _cdiv(p.nb, max(1, most)))})
    if p.grouped:
        return [1]
    taps = p.kernel[0] * p.kernel[1]
    room = [array.wbuf_words // 2 // (taps * p.cb * p.weight_byte_planes * array.rows)]
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
    input_loads = tiles * (groups if plan.weights_outer or plan.chunked_input else 1)
    weight_loads = 1.0 if plan.weights_outer else float(tiles)
    if plan.resident:
        weight_loads = 1 / p.images_per_weights
    operands = tiles * positions * operand_words(p.operands, p.nb, groups)
    work = Work(
        passes=tiles * (passes * max(positions, lanes) + p.stat_planes * positions),
        computes=tiles * computes,
        loaded=tile_words * input_loads + weights * weight_loads + operands,
        loads=input_loads + weight_loads * computes + tiles * groups * len(p.operands),
        stored=tiles * positions * (p.nb * p.out_byte_planes * p.stored + p.stat_planes * 2),
        stores=tiles * groups,
    )
    overlap = tile_words * 2 <= target.array.ibuf_words or tiles * p.images == 1
    serial = compute_cycles(work) + WORD_CYCLES * tile_words * input_loads
    steady = overlapped_cycles(work) if overlap else serial
    last = (
        plan.nb_step * positions * p.out_byte_planes if p.stored and chunks == 1 else 2 * positions
    )
    edge = edge_cycles(tile_words, last)
    return replace(plan, cost=p.images * steady + edge * _exposed(tiles * p.images))


def _exposed(tiles: int) -> float:
    """Return the part of the first load and last store that no neighbouring operation hides: with
    tiles the next operation begins before this one ends."""
    return {1: 1.0, 2: 0.4}.get(tiles, 0.2)


def _tile_words(p: GemmProblem, plan: GemmPlan) -> int:
    """Return the input words loaded for one tile and one group of output blocks."""
    if not plan.chunked_input:
        return _input_words(p, plan.tile, p.kernel) * p.byte_planes * p.cb
    rows, cols, depth = plan.chunk
    jobs = _cdiv(p.kernel[0], rows) * _cdiv(p.kernel[1], cols)
    return jobs * _input_words(p, plan.tile, (rows, cols)) * p.byte_planes * p.cb


# ------------------------------------------------------------------ WINDOW mode


@dataclass(frozen=True)
class WindowProblem:
    out_h: int
    out_w: int
    taps: tuple[int, int]  # taps per pass
    tiles: tuple[int, int]  # tiles of taps
    strides: tuple[int, int]
    nb: int
    byte_planes: int
    out_byte_planes: int
    operands: Mapping[str, OperandSize]
    same_input: bool  # a broadcast input: one block for all
    shared_weights: bool = False
    stat_planes: int = 0  # rows of row statistics per position
    stored: bool = True  # results are stored
    minus: bool = False  # a broadcast tile is subtracted: one COMPUTE for each block
    images: int = 1


@dataclass(frozen=True)
class WindowPlan:
    tile: tuple[int, int]
    nb_step: int
    tap_rows: int  # rows of tap tiles per COMPUTE; fewer than all splits the sum
    span: int  # channel blocks per range of IBUF, where words are subtracted
    cost: float


def plan_window(target: Target, p: WindowProblem) -> WindowPlan:
    """Return the cheapest plan; raise DoesNotFit if not even one output fits."""
    array = target.array
    limit = min(array.acc_rows, array.obuf_rows // (1 + p.stat_planes))
    limit = min(limit, operand_limit(array, p.operands))
    best: WindowPlan | None = None
    widest = (array.line_words - p.taps[1]) // p.strides[1] + 1
    for tile in tile_sizes(p.out_h, p.out_w, limit, max(widest, 1)):
        plan = _window_plan(target, p, tile)
        if plan and (best is None or plan.cost < best.cost):
            best = plan
    best = best or _window_plan(target, p, (1, 1), split=True)
    if best is None:
        raise DoesNotFit(
            f"a window of {p.tiles[0] * p.taps[0]}x{p.tiles[1] * p.taps[1]} needs rows wider than "
            f"the {array.line_words} words of the line buffers, or more than the "
            f"{array.ibuf_words} words of input buffer"
        )
    return best


def window_grid(p: WindowProblem, tile: tuple[int, int], tap_rows: int) -> tuple[int, int]:
    """Return the input rows and columns of an output tile with ``tap_rows`` rows of tap tiles."""
    rows = (tile[0] - 1) * p.strides[0] + tap_rows * p.taps[0]
    cols = (tile[1] - 1) * p.strides[1] + p.tiles[1] * p.taps[1]
    return rows, cols


def _window_plan(
    target: Target, p: WindowProblem, tile: tuple[int, int], split: bool = False
) -> WindowPlan | None:
    array = target.array
    raster = (tile[1] - 1) * p.strides[1] + p.taps[1]
    if raster > array.line_words:
        return None
    tap_rows = p.tiles[0]
    while split and tap_rows > 1 and not _fits(array, p, tile, tap_rows):
        tap_rows = -(-tap_rows // 2)
    if not _fits(array, p, tile, tap_rows):
        return None
    rows, cols = window_grid(p, tile, tap_rows)
    words = rows * cols * p.byte_planes
    per_pass = ((tile[0] - 1) * p.strides[0] + p.taps[0]) * raster
    passes = p.tiles[0] * p.tiles[1] * p.byte_planes * (1 + p.minus)
    nb_step = _window_blocks(array, p, tile[0] * tile[1], words, tap_rows, passes * per_pass)
    plan = WindowPlan(tile, nb_step, tap_rows, _span(array, p, words), 0.0)
    cost = _window_cost(target, p, plan, words, passes * max(per_pass, array.rows))
    return replace(plan, cost=cost)


def _window_cost(
    target: Target, p: WindowProblem, plan: WindowPlan, words: int, passes: int
) -> float:
    """Estimate a plan's cost; input ``words`` and ``passes`` are those of one block of a tile."""
    positions = plan.tile[0] * plan.tile[1]
    tiles = -(-p.out_h // plan.tile[0]) * -(-p.out_w // plan.tile[1])
    groups = -(-p.nb // plan.nb_step)
    blocks = p.nb + (-(-p.nb // plan.span) if p.minus else 0)
    operands = positions * operand_words(p.operands, p.nb, groups)
    work = Work(
        passes=tiles * (p.nb * passes + p.stat_planes * positions),
        computes=tiles * (p.nb if p.minus else groups),
        loaded=tiles * (blocks * words + operands),
        loads=tiles * groups * (1 + len(p.operands)),
        stored=tiles * positions * (p.nb * p.out_byte_planes * p.stored + 2 * p.stat_planes),
        stores=tiles * groups,
    )
    edge = edge_cycles(plan.nb_step * words, plan.nb_step * positions)
    steady = p.images * overlapped_cycles(work)
    return steady + edge * _exposed(tiles * p.images)


def _span(array: ArrayConfig, p: WindowProblem, words: int) -> int:
    """Return the blocks that fit IBUF together with the words subtracted from them."""
    return max(1, min(p.nb, array.ibuf_words // 2 // words - 1)) if p.minus else p.nb


def _fits(array: ArrayConfig, p: WindowProblem, tile: tuple[int, int], tap_rows: int) -> bool:
    rows, cols = window_grid(p, tile, tap_rows)
    weights = tap_rows * p.tiles[1] * array.rows
    loops = max(tap_rows, p.tiles[1]) <= KERNEL_LIMIT
    words = rows * cols * p.byte_planes * (1 + p.minus)
    return loops and words <= array.ibuf_words and weights <= array.wbuf_words


def _window_blocks(
    array: ArrayConfig, p: WindowProblem, positions: int, words: int, tap_rows: int, cycles: int
) -> int:
    """Return the channel blocks per group."""
    room = [-(-GROUP_CYCLES[0] // cycles), _span(array, p, words)]
    if p.stored:
        room.append((array.obuf_rows - p.stat_planes * positions) // 2 // positions)
    room += operand_room(array, p.operands, positions)
    if not p.same_input:
        room.append(array.ibuf_words // 2 // words)
    if not p.shared_weights:
        room.append(array.wbuf_words // 2 // (tap_rows * p.tiles[1] * array.rows))
    return 1 if tap_rows < p.tiles[0] else max(1, min(p.nb, *room))
