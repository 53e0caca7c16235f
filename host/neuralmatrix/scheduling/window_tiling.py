# SPDX-License-Identifier: Apache-2.0
"""Tile sizes of a Window.

In: the size of one operation in words and blocks, and the array's buffers.  Out: the plan with the
least estimated time; OverBuffers when no tile fits.

The estimate here only ranks candidates; cycles that are reported come from ``estimate``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..hardware.instruction_costs import (
    Work,
    edge_cycles,
    overlapped_cycles,
    raster_steps,
    second_beats,
)
from ..hardware.target import ArrayConfig, Target
from .context import OverBuffers
from .tiling import (
    GROUP_CYCLES,
    KERNEL_LIMIT,
    OperandSize,
    exposed_share,
    operand_limit,
    operand_room,
    operand_words,
    tile_sizes,
)


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
    page: int = 1 << 30  # channel blocks whose parameters are on chip at a time
    images: int = 1
    maximum: bool = False


@dataclass(frozen=True)
class WindowPlan:
    tile: tuple[int, int]
    nb_step: int
    tap_rows: int  # rows of tap tiles per COMPUTE; fewer than all splits the sum
    span: int  # channel blocks per range of IBUF, where words are subtracted
    cost: float


def plan_window(target: Target, p: WindowProblem) -> WindowPlan:
    """Return the cheapest plan; raise OverBuffers if not even one output fits."""
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
        high, wide = (p.tiles[i] * p.taps[i] for i in (0, 1))
        most = KERNEL_LIMIT * array.win
        if max(high, wide) > most:
            raise OverBuffers(
                f"a window of {high}x{wide} taps of channels of their own is too long; allowed are "
                f"{most} in each direction, and more for a mean or maximum whose length and stride "
                "have a divisor in common"
            )
        raise OverBuffers(
            f"a window of {high}x{wide} needs rows wider than the {array.line_words} words of the "
            f"line buffers, or more than the {array.ibuf_words} words of input buffer"
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
    per_pass = _pass_steps(array, p, tile)
    passes = p.tiles[0] * p.tiles[1] * (1 if p.maximum else p.byte_planes) * (1 + p.minus)
    nb_step = _window_blocks(array, p, tile[0] * tile[1], words, tap_rows, passes * per_pass)
    plan = WindowPlan(tile, nb_step, tap_rows, _span(array, p, words), 0.0)
    cost = _window_cost(target, p, plan, words, passes * max(per_pass, array.rows))
    return replace(plan, cost=cost)


def _pass_steps(array: ArrayConfig, p: WindowProblem, tile: tuple[int, int]) -> int:
    """Return the steps of one pass over a tile; those of a maximum read both byte planes."""
    rows, columns = ((n - 1) * s + t for n, s, t in zip(tile, p.strides, p.taps, strict=True))
    steps = raster_steps(array, rows, columns, p.taps[0]) * (p.byte_planes if p.maximum else 1)
    taps = (p.taps, p.strides) != ((1, 1), (1, 1))
    return int(steps + second_beats(array, tile[0] * tile[1], p.maximum, taps))


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
    edge = edge_cycles(target, plan.nb_step * words, plan.nb_step * positions)
    steady = p.images * overlapped_cycles(target, work)
    return steady + edge * exposed_share(tiles * p.images)


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
    room = [-(-GROUP_CYCLES[0] // cycles), _span(array, p, words), p.page]
    if p.stored:
        room.append((array.obuf_rows - p.stat_planes * positions) // 2 // positions)
    room += operand_room(array, p.operands, positions)
    if not p.same_input:
        room.append(array.ibuf_words // 2 // words)
    if not p.shared_weights:
        room.append(array.wbuf_words // 2 // (tap_rows * p.tiles[1] * array.rows))
    return 1 if tap_rows < p.tiles[0] else max(1, min(p.nb, *room))
