# SPDX-License-Identifier: Apache-2.0
"""The units that are translated, simulated and counted, as one table.

In: a board, whose array sets the ports' lengths.  Out: ``UNITS``.  How often a unit occurs in a
design stands in ``neuralmatrix.hardware.resources``.
"""

from __future__ import annotations

from neuralmatrix.hardware.board import Board
from neuralmatrix.hardware.isa import MAP_CELLS

from .unit import Bank, Port, StandIn, Unit, port, ram

INSN = port("insn", "static", "u32*16")
NEW_INSN = port("insn", "in", "u32*16")  # of units that work once per instruction
PASS = "u16*4 u8*2 u32*6"


def _pair(b: Board) -> tuple[Port, ...]:
    return port("x", "in", "i8"), port("w", "in", "i8*2"), port("out", "out", "i32*2")


def _products(b: Board) -> tuple[Port, ...]:
    return (
        port("window", "in", "u1"),
        port("x", "in", "i8*2"),
        port("w", "in", "i8*2"),
        port("out", "out", "i32*2"),
    )


def _columns(b: Board) -> tuple[Port, ...]:
    taps = min(b.array.rows, b.array.win**2)
    return (
        port("mode", "static", "u1*2"),
        port("x", "in", f"i16*{b.array.rows}"),
        port("taps", "in", f"i16*{2 * taps}"),
        port("w", "in", f"i8*{2 * b.array.rows}"),
        port("out", "out", "i32*2"),
    )


def _accumulate(b: Board) -> tuple[Port, ...]:
    row = f"i32*{b.array.cols}"
    mode = port("mode", "in", "u1 u2 u1")
    return mode, port("sum", "in", row), port("before", "in", row), port("out", "out", row)


def _requantized(b: Board) -> tuple[Port, ...]:
    return (
        port("acc", "in", "i32"),
        port("bias", "in", "i32"),
        port("m", "in", "i24"),
        port("s", "in", "u6"),
        port("t", "in", "i16"),
    )


def _table(b: Board) -> Port:
    entries, cols = b.array.seg_entries, b.array.cols
    cells, first_cell = "&ram_table.map[i / 8][i % 8][0]", 8 * cols * entries
    return ram(
        "table",
        "nm::Table",
        Bank("segments", entries, 8 * cols, 53, "&ram_table.segments[i][0]", copies=cols),
        Bank("map", MAP_CELLS, cols, 6, cells, first_cell, copies=cols),
    )


def _lane(b: Board) -> tuple[Port, ...]:
    out = port("q", "out", "i16"), port("square", "out", "i32")
    return (INSN, _table(b), *_requantized(b), port("u", "in", "i16"), *out)


def _step(b: Board) -> tuple[Port, ...]:
    row, pair = f"i16*{b.array.rows}", "i32*2"
    taps = min(b.array.rows, b.array.win**2)
    return (
        INSN,
        _table(b),
        port("mode", "static", "u1*2"),
        port("join", "in", "u2 u1"),
        port("x", "in", row),
        port("taps", "in", f"i16*{2 * taps}"),
        port("w", "in", f"i8*{2 * b.array.rows}"),
        port("before", "in", pair),
        port("bias", "in", pair),
        port("m", "in", "i24*2"),
        port("s", "in", "u6*2"),
        port("t", "in", "i16*2"),
        port("u", "in", "i16*2"),
        port("sums", "out", pair),
        port("q", "out", "i16*2"),
        port("square", "out", pair),
    )


def _requantize(b: Board) -> tuple[Port, ...]:
    return (INSN, *_requantized(b), port("x", "out", "i16"))


def _segment_index(b: Board) -> tuple[Port, ...]:
    return INSN, port("x", "in", "i16"), port("index", "out", "i32")


def _apply_segment(b: Board) -> tuple[Port, ...]:
    return port("entry", "in", "u53"), port("x", "in", "i16"), port("y", "out", "i16")


def _finish(b: Board) -> tuple[Port, ...]:
    into = port("y", "in", "i16"), port("u", "in", "i16")
    return (INSN, *into, port("q", "out", "i16"), port("square", "out", "i32"))


def _join(b: Board) -> tuple[Port, ...]:
    cols = b.array.cols
    return (
        port("lanes", "in", f"u{(cols - 1).bit_length()}"),
        port("fresh", "in", "u1"),
        port("kind", "in", "u2"),
        port("q", "in", f"i16*{cols}"),
        port("squares", "in", f"i32*{cols}"),
        port("before", "in", "i32*2"),
        port("after", "out", "i32*2"),
    )


def _scale(b: Board) -> tuple[Port, ...]:
    return INSN, port("second", "in", "u1"), port("row", "in", "i32*2"), port("out", "out", "i16")


def _window(b: Board) -> tuple[Port, ...]:
    lines, taps = f"i16*{b.array.win - 1}", f"i16*{b.array.win**2}"
    return (
        port("width", "static", "u32"),
        port("x", "in", "i16"),
        port("lines", "in", lines),
        port("taps", "in", taps),
        port("new_taps", "out", taps),
        port("new_lines", "out", lines),
    )


def _fill(b: Board) -> tuple[Port, ...]:
    weights = f"i8*{b.array.rows * b.array.cols}"
    return (
        INSN,
        port("j", "in", f"u{(b.array.rows - 1).bit_length()}"),
        port("mode", "static", "u1*2"),
        port("word", "in", f"i8*{b.array.rows}"),
        port("w", "in", weights),
        port("next", "out", weights),
    )


def _pass_step(b: Board) -> tuple[Port, ...]:
    return INSN, port("now", "in", PASS), port("next", "out", PASS)


def _pass_facts(b: Board) -> tuple[Port, ...]:
    return INSN, port("now", "in", PASS), port("x", "out", "u32"), port("flags", "out", "u1*3")


def _shape(b: Board) -> tuple[Port, ...]:
    return NEW_INSN, port("sizes", "out", "u32*4"), port("flags", "out", "u1*5 u2*2")


def _raster(b: Board) -> tuple[Port, ...]:
    state = "u32*3"
    return (
        port("width", "static", "u32"),
        port("steps", "static", "u16*2"),
        port("now", "in", state),
        port("next", "out", state),
    )


def _phase(b: Board) -> tuple[Port, ...]:
    state = "u32*2"
    return INSN, port("line_ends", "in", "u1"), port("now", "in", state), port("next", "out", state)


def _align(b: Board) -> tuple[Port, ...]:
    beat, word = b.ports.load.bytes_per_cycle, f"i8*{b.array.rows}"
    return (
        port("skip", "in", f"u{(beat - 1).bit_length()}"),
        port("kept", "in", f"u8*{beat}"),
        port("word", "in", word),
        port("keeps", "out", f"u8*{beat}"),
        port("out", "out", word),
        port("sum", "out", "u32"),
    )


def _load_inside(b: Board) -> tuple[Port, ...]:
    return NEW_INSN, port("limit", "in", "u64"), port("inside", "out", "u1")


def _operand(b: Board) -> tuple[Port, ...]:
    word = f"i8*{b.array.rows}"
    out = port("out", "out", f"i16*{b.array.cols}")
    return port("wide", "in", "u1"), port("low", "in", word), port("high", "in", word), out


SQUARE = ("square",)
TABLE = (
    Unit("pair_of_products", "mac2: two products in one DSP", "array", _pair),
    Unit("products_of_pe", "products of two columns, one row", "array", _products),
    Unit("two_columns", "two columns of the array, all rows", "array", _columns),
    Unit("accumulate_row", "accumulate, all lanes of a row", "array", _accumulate),
    Unit("lane", "one lane, whole, with its table", "epilogue", _lane, draw=True, cares=SQUARE),
    Unit("step", "two columns of a whole step", "step", _step, draw=True, cares=SQUARE),
    Unit("requantize_lane", "requantise, one lane", "epilogue", _requantize, draw=True),
    Unit("segment_index_lane", "segment_index, one lane", "epilogue", _segment_index, draw=True),
    Unit("apply_segment_lane", "apply_segments, one lane", "epilogue", _apply_segment),
    Unit("finish_lane", "finish, one lane", "epilogue", _finish, draw=True, cares=SQUARE),
    Unit("join_row", "join_stat, all lanes of a row", "stats", _join),
    Unit("scale_row", "scale_stat", "stats", _scale, draw=True),
    Unit("window_lane", "shift_in, one lane", "window", _window, loop=True, draw=True),
    Unit("fill_bank", "fill of one bank of weights", "fill", _fill, loop=True, draw=True),
    Unit("pass_step", "next_pass", "walk", _pass_step, loop=True, draw=True),
    Unit("pass_facts", "pass_x, opens_block, closes_block", "walk", _pass_facts, draw=True),
    Unit("shape", "shape_of", "walk", _shape, draw=True),
    Unit("raster_step", "Raster::next", "walk", _raster, loop=True, draw=True),
    Unit("phase_step", "Phase::next", "walk", _phase, loop=True, draw=True),
    Unit("align_word", "align and word_sum, one word", "words", _align),
    Unit("operand_row", "read_operand, all lanes of a row", "words", _operand),
    Unit("load_inside_region", "load_inside", "load", _load_inside, draw=True),
)

STAND_INS: tuple[StandIn, ...] = ()

ALL: tuple[Unit | StandIn, ...] = (*TABLE, *STAND_INS)
UNITS = {unit.name: unit for unit in ALL}
