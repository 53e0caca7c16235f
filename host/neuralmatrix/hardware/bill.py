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
    packed = board.array.macs_per_dsp == 2
    columns = {"two_columns_of_row": board.array.cols // 2}
    return {**columns, "excess_of_row": 1} if packed else columns


def _window(board: Board) -> dict[str, int]:
    return {"window_lane": board.array.rows}


def _lanes(board: Board) -> dict[str, int]:
    return {"lane": board.array.cols, "lanes_setting": 1}


def _operands(board: Board) -> dict[str, int]:
    return {"operand_row": 2, "raster_step": 2, "x_word": 1, "word_step": 1}


def _sizes(board: Board) -> dict[str, int]:
    return {"count_part": 2, "count_turn": 2}


def _queues(board: Board) -> dict[str, int]:
    return {"instruction_queue": len(INSTRUCTION_QUEUES), "token_queue": len(TOKEN_QUEUES)}


PRODUCTS = ("count_part", "count_turn", "reach_part", "reach_turn", "reach_step")
BILL = (
    Position("array", "compute", _array),
    Position("accumulators", "compute", _once("join_beats_of_row", "accumulate_row")),
    Position("weights", "compute", _once("weight_word", "weight_step")),
    Position("window", "compute", _window),
    Position("lanes with their tables", "compute", _lanes),
    Position("words of parameters", "compute", _once("table_word", "channel_fill")),
    Position("row statistics", "compute", _once("join_row", "scale_row", "row_place")),
    Position("operands", "compute", _operands),
    Position("passes", "compute", _once("pass_step", "pass_ahead")),
    Position("sizes of a COMPUTE", "compute", _sizes),
    Position("memory ports of COMPUTE", "compute", _once("result_memories", "parameter_memory")),
    Position("instructions of COMPUTE", "compute", _once("sequencer", "compute_registers")),
    Position("words of LOAD", "load", _once("align_word")),
    Position("sizes and checks of LOAD", "load", _once(*PRODUCTS)),
    Position("loops of LOAD", "load", _once("load_loops", "load_memories")),
    Position("instructions of LOAD", "load", _once("sequencer", "load_registers")),
    Position("port of LOAD", "load", _once("load_port")),
    Position("sizes and checks of STORE", "store",
             _once(*PRODUCTS, "store_alignment")),
    Position("loops of STORE", "store", _once("store_loops")),
    Position("instructions of STORE", "store", _once("sequencer", "store_registers")),
    Position("port of STORE", "store", _once("store_port")),
    Position("instructions of FETCH", "fetch",
             _once("fetch_decode", "fetch_loop", "fetch_registers")),
    Position("port of FETCH", "fetch", _once("fetch_port")),
    Position("queues", "", _queues),
)  # fmt: skip

# Units that the bill has within another one, or in another form.
PARTS = {
    "products_of_chain": "two_columns_of_row",
    "step": "two_columns_of_row",  # with accumulators and lanes: the data path as one pipeline
    "requantize_part": "lane",
    "index_part": "lane",
    "segment_part": "lane",
    "finish_part": "lane",
    # Checked with all turns of their products at once; the device makes one turn a cycle.
    "shape_of_insn": "count_turn",
    "load_inside_region": "reach_turn",
    "store_inside_region": "reach_turn",
}

ESTIMATES = (
    Estimate(
        "loops of COMPUTE", "compute",
        "states, valid bits of about 40 stages, the steps of a pass, and the loops SEGMENTS, CELLS "
        "and STATS: 3 to 10 counters of 16 to 32 bits with a comparison each",
        (200, 700), 400,
    ),
    Estimate(
        "set-up of instructions", "compute",
        "what the turns of products choose among, 6 x 32 to 6 x 96; minima and sums of sizes 60 to "
        "300",
        (252, 876), 300,
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
    """List COMPUTE's registers that no unit contains, in bits."""
    a = board.array
    return {
        "channels that compute": (32 + 24 + 6) * a.cols,
        "instruction of EPILOGUE": 420,
        "sizes of a COMPUTE": 256,
        "the pass that computes": 290,
    }
