# SPDX-License-Identifier: Apache-2.0
"""The units that are translated, simulated and counted, as one table.

In: a board, whose array sets the ports' lengths.  Out: ``UNITS``.  How often a unit occurs in a
design stands in ``neuralmatrix.hardware.resources``.
"""

from __future__ import annotations

from neuralmatrix.hardware.board import Board
from neuralmatrix.hardware.isa import MAP_CELLS

from .standins import STAND_INS
from .unit import Bank, Port, StandIn, Unit, port, ram

INSN = port("insn", "static", "u32*16")
NEW_INSN = port("insn", "in", "u32*16")  # of units that work once per instruction
PASS = "u16*4 u8*2 u32*6 u1*8 u32"
BLOCK = "u16*4"
LANE_CONFIG = "i33 u31 i24 u5 u1 u4 u8 i16 u1*2 u5 u31 i16*4"
RASTER, PHASE = "u32*3", "u32*2"


def _row(b: Board) -> str:
    return f"i32*{b.array.cols}"


def _word(b: Board) -> str:
    return f"i8*{b.array.rows}"


def _bits(count: int) -> str:
    """The type of a number below ``count``."""
    return f"u{(count - 1).bit_length()}"


# ---------------------------------------------------------------- array


def _chain(b: Board) -> tuple[Port, ...]:
    return port("x", "in", "i8*4"), port("w", "in", "i8*8"), port("out", "out", "i32*2")


def _excess(b: Board) -> tuple[Port, ...]:
    return port("x", "in", f"i16*{b.array.rows}"), port("out", "out", "i32")


def _columns(b: Board) -> tuple[Port, ...]:
    taps = min(b.array.rows, b.array.win**2)
    return (
        port("mode", "in", "u1*3"),
        port("x", "in", f"i16*{b.array.rows}"),
        port("taps", "in", f"i16*{2 * taps}"),
        port("w", "in", f"i8*{2 * b.array.rows}"),
        port("too_much", "in", "i12"),
        port("out", "out", "i32*2"),
    )


def _beats(b: Board) -> tuple[Port, ...]:
    held = f"i32*{b.array.cols // 2}"
    into = port("beat", "in", "u1*2"), port("sums", "in", _row(b)), port("held", "in", held)
    return (*into, port("out", "out", _row(b)), port("holds", "out", held))


def _accumulate(b: Board) -> tuple[Port, ...]:
    mode = port("mode", "in", "u1 u2 u1")
    into = port("sum", "in", _row(b)), port("before", "in", _row(b))
    return (mode, *into, port("out", "out", _row(b)))


def _x_word(b: Board) -> tuple[Port, ...]:
    wide = f"i16*{b.array.rows}"
    into = port("high_next", "in", "u1"), port("word", "in", _word(b)), port("low", "in", wide)
    return (*into, port("x", "out", wide), port("keeps", "out", wide))


def _window(b: Board) -> tuple[Port, ...]:
    lines, taps = f"i16*{b.array.win - 1}", f"i16*{b.array.win**2}"
    into = port("x", "in", "i16"), port("lines", "in", lines), port("taps", "in", taps)
    return (*into, port("new_taps", "out", taps), port("new_lines", "out", lines))


def _weight_word(b: Board) -> tuple[Port, ...]:
    kind, step = port("kind", "static", "u1*4"), port("j", "in", _bits(b.array.rows))
    return (INSN, kind, step, port("word", "in", _word(b)), port("turned", "out", _word(b)))


def _weights(b: Board) -> tuple[Port, ...]:
    weights = f"i8*{2 * b.array.rows * b.array.cols}"
    return (
        port("j", "in", _bits(b.array.rows)),
        port("flags", "in", "u1*3"),
        port("turned", "in", _word(b)),
        port("w", "in", weights),
        port("next", "out", weights),
    )


# ---------------------------------------------------------------- lanes


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


def _setting(b: Board) -> tuple[Port, ...]:
    return NEW_INSN, port("config", "out", LANE_CONFIG, "nm::LaneConfig")


def _lane(b: Board) -> tuple[Port, ...]:
    out = port("q", "out", "i16"), port("square", "out", "i32")
    config = port("config", "static", LANE_CONFIG, "nm::LaneConfig")
    into = config, port("kind", "static", "u2 u1"), _table(b), port("counts", "in", "u1")
    return (INSN, *into, *_requantized(b), port("u", "in", "i16"), *out)


def _step(b: Board) -> tuple[Port, ...]:
    row, pair = f"i16*{b.array.rows}", "i32*2"
    taps = min(b.array.rows, b.array.win**2)
    return (
        INSN,
        _table(b),
        port("mode", "in", "u1*3"),
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


def _index(b: Board) -> tuple[Port, ...]:
    return INSN, port("x", "in", "i16"), port("index", "out", "u32")


def _segment(b: Board) -> tuple[Port, ...]:
    return port("entry", "in", "u53"), port("x", "in", "i16"), port("y", "out", "i16")


def _finish(b: Board) -> tuple[Port, ...]:
    into = port("counts", "in", "u1"), port("y", "in", "i16"), port("u", "in", "i16")
    return (INSN, *into, port("q", "out", "i16"), port("square", "out", "i32"))


def _table_word(b: Board) -> tuple[Port, ...]:
    entry = port("entry", "in", _bits(b.array.rows // 8))
    into = port("word", "in", _word(b)), entry, port("count", "static", "u16")
    return (*into, port("segment", "out", "u64"), port("cells", "out", "u8*8"))


def _channels(b: Board) -> tuple[Port, ...]:
    cols = b.array.cols
    kinds = {"bias": f"i32*{cols}", "m": f"i24*{cols}", "s": f"u6*{cols}"}
    now = (port(name, "in", kind) for name, kind in kinds.items())
    new = (port(f"next_{name}", "out", kind) for name, kind in kinds.items())
    return (port("j", "in", "u3"), port("word", "in", _word(b)), *now, *new)


def _join(b: Board) -> tuple[Port, ...]:
    cols = b.array.cols
    return (
        port("counted", "in", _bits(cols)),
        port("fresh", "in", "u1"),
        port("kind", "in", "u2"),
        port("q", "in", f"i16*{cols}"),
        port("squares", "in", f"i32*{cols}"),
        port("before", "in", "i32*2"),
        port("after", "out", "i32*2"),
    )


def _scale(b: Board) -> tuple[Port, ...]:
    into = port("beat", "in", "u1*2"), port("row", "in", "i32*2"), port("lower", "in", "i33")
    return (INSN, *into, port("part", "out", "i64"), port("out", "out", "i16"))


# ---------------------------------------------------------------- control


def _pass_ahead(b: Board) -> tuple[Port, ...]:
    return INSN, port("now", "in", PASS), port("next", "out", PASS)


def _pass_step(b: Board) -> tuple[Port, ...]:
    return (
        INSN,
        port("steps", "static", "u16*2"),
        port("more", "in", "u1"),
        port("now", "in", f"{PASS} {PASS}", "nm::Pass"),
        port("block", "in", BLOCK, "nm::BlockRows"),
        port("next", "out", f"{PASS} {PASS}", "nm::Pass"),
        port("blocks", "out", BLOCK, "nm::BlockRows"),
        port("runs", "out", "u1*2"),
    )


def _shape(b: Board) -> tuple[Port, ...]:
    return NEW_INSN, port("sizes", "out", "u32*5"), port("flags", "out", "u1*7 u2*2")


def _part(factor: str, part: str) -> tuple[Port, ...]:
    into = port("factor", "in", factor), port("count", "in", "u16"), port("place", "in", "u1")
    return (*into, port("part", "out", part))


def _count_part(b: Board) -> tuple[Port, ...]:
    return _part("u32", "u32")


def _reach_part(b: Board) -> tuple[Port, ...]:
    return _part("i32", "i64")


def _turn(part: str, now: str, after: str) -> tuple[Port, ...]:
    into = port("part", "in", part), port("first", "in", "u1")
    return (*into, port("now", "in", now), port("next", "out", after))


def _count_turn(b: Board) -> tuple[Port, ...]:
    return _turn("u32", "u32", "u32")


def _reach_turn(b: Board) -> tuple[Port, ...]:
    return _turn("i40", "i50", "i64")


def _reach(b: Board) -> tuple[Port, ...]:
    into = port("far", "in", "i50"), port("now", "in", "i52*2"), port("limit", "static", "u34")
    return (*into, port("next", "out", "i64*2"), port("inside", "out", "u1"))


def _raster(b: Board) -> tuple[Port, ...]:
    steps = port("width", "static", "u32"), port("steps", "static", "u16*2")
    return (*steps, port("now", "in", RASTER), port("next", "out", RASTER))


def _word_step(b: Board) -> tuple[Port, ...]:
    return (
        INSN,
        port("sizes", "static", "u32*2"),
        port("reads", "static", "u2"),
        port("x", "in", RASTER, "nm::Raster"),
        port("phase", "in", PHASE, "nm::Phase"),
        port("high", "in", "u1"),
        port("next_x", "out", RASTER, "nm::Raster"),
        port("next_phase", "out", PHASE, "nm::Phase"),
        port("next_high", "out", "u1"),
    )


def _row_place(b: Board) -> tuple[Port, ...]:
    into = port("now", "in", "u16*3"), port("lanes", "static", "u8")
    return (INSN, *into, port("place", "out", "u32*2"), port("flags", "out", "u1 u8"))


# ---------------------------------------------------------------- memory


def _align(b: Board) -> tuple[Port, ...]:
    beat = b.ports.load.bytes_per_cycle
    return (
        port("skip", "in", _bits(beat)),
        port("bytes", "in", f"u8*{beat + b.array.rows}"),
        port("out", "out", _word(b)),
        port("sum", "out", "u32"),
    )


def _inside(b: Board) -> tuple[Port, ...]:
    return NEW_INSN, port("limit", "in", "u64"), port("inside", "out", "u1")


def _alignment(b: Board) -> tuple[Port, ...]:
    return NEW_INSN, port("aligned", "out", "u1")


def _decode(b: Board) -> tuple[Port, ...]:
    return NEW_INSN, port("facts", "out", "u1*2 u2")


def _operand(b: Board) -> tuple[Port, ...]:
    out = port("out", "out", f"i16*{b.array.cols}")
    return port("wide", "in", "u1"), port("low", "in", _word(b)), port("high", "in", _word(b)), out


SQUARE = ("square",)
STEP = (("now", "next"),)
SMALL = ("pynq-z2", "ultra96-v2")  # of what the bill has within another unit
TABLE = (
    Unit("products_of_chain", "products of two columns, a chain of rows", "array", _chain,
         boards=SMALL),
    Unit("excess_of_row", "excess of a row's packed sums", "array", _excess),
    Unit("two_columns_of_row", "two columns of the array, all rows", "array", _columns, draw=True),
    Unit("join_beats_of_row", "a row's two beats", "array", _beats, loop=True,
         state=(("held", "holds"),)),
    Unit("accumulate_row", "accumulate, all lanes of a row", "array", _accumulate),
    Unit("x_word", "a word of x", "array", _x_word, loop=True, state=(("low", "keeps"),)),
    Unit("window_lane", "shift_in, one lane", "window", _window, loop=True,
         state=(("taps", "new_taps"),)),
    Unit("weight_word", "a word of weights, turned", "fill", _weight_word, draw=True),
    Unit("weight_step", "registers of weights, a step", "fill", _weights, loop=True, draw=True,
         state=(("w", "next"),)),
    Unit("lanes_setting", "what an EPILOGUE sets", "epilogue", _setting, draw=True),
    Unit("lane", "one lane, whole, with its table", "epilogue", _lane, draw=True, cares=SQUARE),
    Unit("step", "two columns of a whole step", "step", _step, draw=True, cares=SQUARE,
         boards=SMALL),
    Unit("requantize_part", "requantise, one lane", "epilogue", _requantize, draw=True),
    Unit("index_part", "segment's index, one lane", "epilogue", _index, draw=True),
    Unit("segment_part", "segment's line, one lane", "epilogue", _segment),
    Unit("finish_part", "finish, one lane", "epilogue", _finish, draw=True, cares=SQUARE),
    Unit("table_word", "a word of segments or cells", "epilogue", _table_word, draw=True),
    Unit("channel_fill", "a word of channels' parameters", "epilogue", _channels, loop=True,
         draw=True, state=tuple((name, f"next_{name}") for name in ("bias", "m", "s"))),
    Unit("join_row", "join_stat, all lanes of a row", "stats", _join),
    Unit("scale_row", "scale_stat", "stats", _scale, draw=True),
    Unit("pass_ahead", "look_ahead", "walk", _pass_ahead, draw=True),
    Unit("pass_step", "advance: the next pass", "walk", _pass_step, loop=True, draw=True,
         state=(*STEP, ("block", "blocks"))),
    Unit("shape_of_insn", "shape_of", "walk", _shape, draw=True),
    Unit("count_part", "a count by a digit", "walk", _count_part),
    Unit("count_turn", "a turn of a product of counts", "walk", _count_turn, loop=True, state=STEP),
    Unit("reach_part", "a step by a digit", "walk", _reach_part),
    Unit("reach_turn", "a turn of a counter's reach", "walk", _reach_turn, loop=True, state=STEP),
    Unit("reach_step", "the reach of a counter, within a region", "walk", _reach, loop=True,
         state=STEP),
    Unit("raster_step", "Raster::next", "walk", _raster, loop=True, draw=True, state=STEP),
    Unit("word_step", "next_word: raster and phase", "walk", _word_step, loop=True, draw=True,
         state=tuple((name, f"next_{name}") for name in ("x", "phase", "high"))),
    Unit("row_place", "place of a finished row", "walk", _row_place, draw=True),
    Unit("align_word", "align and word_sum, one word", "words", _align),
    Unit("operand_row", "read_operand, all lanes of a row", "words", _operand),
    Unit("load_inside_region", "load_inside", "load", _inside, draw=True),
    Unit("store_inside_region", "store_inside", "store", _inside, draw=True),
    Unit("store_alignment", "store_aligned", "store", _alignment, draw=True),
    Unit("fetch_decode", "opcode and unit", "fetch", _decode),
)  # fmt: skip

ALL: tuple[Unit | StandIn, ...] = (*TABLE, *STAND_INS)
UNITS = {unit.name: unit for unit in ALL}
