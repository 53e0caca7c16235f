# SPDX-License-Identifier: Apache-2.0
"""The design as a bill of units: which counted unit occurs how often, and what is only estimated.

In: a board's array and ports.  Out: ``BILL``, ``PARTS`` and ``ESTIMATES``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .block_design_cells import INSTRUCTION_QUEUES, TOKEN_QUEUES
from .board import Board

Times = Callable[[Board], dict[str, int]]


@dataclass(frozen=True)
class Position:
    """A part of the design: units that were counted, and how often each occurs."""

    name: str
    kernel: str  # or "" for what lies between the kernels
    times: Times


@dataclass(frozen=True)
class Estimate:
    """A part of the design that no tool has counted, between a low and a high end."""

    name: str
    kernel: str
    basis: str
    lut: tuple[int, int]
    ff: int = 0


def _once(*units: str) -> Times:
    return lambda board: dict.fromkeys(units, 1)


def _array(board: Board) -> dict[str, int]:
    return {"two_columns": board.array.cols // 2}


def _weights(board: Board) -> dict[str, int]:
    return {"fill_bank": 2, "weight_choice": board.array.cols // 2}


def _window(board: Board) -> dict[str, int]:
    return {"window_lane": board.array.rows, "phase_step": 1}


def _lanes(board: Board) -> dict[str, int]:
    return {"lane": board.array.cols}


def _operands(board: Board) -> dict[str, int]:
    return {"operand_row": 2, "raster_step": 3, "x_word": 1}


def _queues(board: Board) -> dict[str, int]:
    return {"instruction_queue": len(INSTRUCTION_QUEUES), "token_queue": len(TOKEN_QUEUES)}


BILL = (
    Position("array", "compute", _array),
    Position("accumulators", "compute", _once("accumulate_row")),
    Position("weights", "compute", _weights),
    Position("window", "compute", _window),
    Position("lanes with their tables", "compute", _lanes),
    Position("channels' parameters", "compute", _once("channel_fill", "channel_choice")),
    Position("row statistics", "compute", _once("join_row", "scale_row")),
    Position("operands", "compute", _operands),
    Position("passes", "compute", _once("advance_step", "pass_facts", "shape")),
    Position("parameters' words", "compute", _once("table_word")),
    Position("memory ports of COMPUTE", "compute",
             _once("result_memories", "weight_memory", "parameter_memory")),
    Position("instructions of COMPUTE", "compute", _once("sequencer", "compute_registers")),
    Position("words of LOAD", "load", _once("align_word", "load_inside_region")),
    Position("loops of LOAD", "load", _once("load_walk", "load_run", "load_memories")),
    Position("instructions of LOAD", "load", _once("sequencer", "load_registers")),
    Position("port of LOAD", "load", _once("load_port")),
    Position("checks of STORE", "store", _once("store_check")),
    Position("loops of STORE", "store", _once("store_walk")),
    Position("instructions of STORE", "store", _once("sequencer", "store_registers")),
    Position("port of STORE", "store", _once("store_port")),
    Position("FETCH", "fetch", _once("fetch_loop", "fetch_decode", "fetch_registers")),
    Position("port of FETCH", "fetch", _once("fetch_port")),
    Position("queues", "", _queues),
)  # fmt: skip

# Units that are counted for a look inside another one, which the bill has.
PARTS = {
    "pair_of_products": "two_columns",
    "products_of_pe": "two_columns",
    "requantize_lane": "lane",
    "segment_index_lane": "lane",
    "apply_segment_lane": "lane",
    "finish_lane": "lane",
    "pass_step": "advance_step",
}

ESTIMATES = (
    Estimate(
        "loops of COMPUTE", "compute",
        "states, valid bits of about 40 stages, and the counters and comparisons of STEPS, SEGMENTS, "
        "CELLS and STATS: 3 to 10 counters of 16 to 32 bits with a comparison each",
        (200, 700), 400,
    ),
    Estimate(
        "block design", "",
        "interconnect of five AXI4-Lite slaves 500 to 1,200; three bridges of memory ports, one "
        "master and one slave each, 200 to 700; interrupt controller 100 to 150; reset 30 to 100; "
        "cycle counter of 64 bits 64",
        (1294, 3614), 4100,
    ),
)  # fmt: skip


def state_bits(board: Board) -> dict[str, int]:
    """List COMPUTE's registers that live from step to step, which no unit contains, in bits."""
    a = board.array
    return {
        "weights, two banks": 2 * 8 * a.rows * a.cols,
        "taps": 16 * a.win**2 * a.rows,
        "low byte planes of x": 16 * a.rows,
        "channels, two banks": 2 * (32 + 24 + 6) * a.cols,
        "instruction of EPILOGUE": 420,
        "progress": 700,
    }
