# SPDX-License-Identifier: Apache-2.0
"""The instruction set, written once.

In: the tables below.  Out: encode/decode/listing for the host, ``hls/include/nm/isa.h`` for the
kernels (``python -m neuralmatrix.hardware.cpp_headers``) and ``docs/isa.md``; a test fails when
either is stale.

An instruction is 16 little-endian 32-bit words.  Fields are laid out in the order given here and
never straddle a word.  Word 0 begins with the opcode and six token flags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

ISA_VERSION = 2
WORDS = 16
INSN_BYTES = 4 * WORDS
MAP_CELLS = 256
"""Cells that a MAPPED segment index may have; a parameter entry holds 8 of them."""


class Opcode(IntEnum):
    """The kind of an instruction; UNIT_OF names the unit that runs it."""

    END = 0
    LOAD = 1
    STORE = 2
    EPILOGUE = 3
    COMPUTE = 4


class Unit(IntEnum):
    """The three execution units, each with an in-order queue."""

    LOAD = 0
    COMPUTE = 1
    STORE = 2


UNITS = tuple(unit.name.lower() for unit in Unit)


class Buffer(IntEnum):
    """On-chip destination of a LOAD.  Sizes are counted in words of ROWS bytes."""

    IBUF = 0  # activations, one word read per cycle
    WBUF = 1  # weights, one row of COLS weights per word
    PBUF = 2  # 64-bit parameters and table segments: 8 words make one row of COLS entries
    T_LO = 3  # residual operand, low byte plane
    T_HI = 4  # residual operand, high byte plane
    U_LO = 5  # Hadamard operand, low byte plane
    U_HI = 6  # Hadamard operand, high byte plane


class Region(IntEnum):
    """DRAM region an address is relative to (base and limit are registers)."""

    CONST = 0  # instructions, weights, parameters: read-only
    ARENA = 1  # inputs, activations, outputs


class Mode(IntEnum):
    GEMM = 0
    WINDOW = 1


class Reduce(IntEnum):
    ADD = 0
    MAX = 1


class SegKind(IntEnum):
    NONE = 0
    UNIFORM = 1
    LOG = 2
    MAPPED = 3


class Stat(IntEnum):
    NONE = 0
    SUM = 1
    MAX = 2
    MOMENTS = 3


@dataclass(frozen=True)
class Field:
    """One bit field: ``signed`` fields are two's complement."""

    name: str
    bits: int
    doc: str
    signed: bool = False


def _u(name: str, bits: int, doc: str) -> Field:
    return Field(name, bits, doc)


def _s(name: str, bits: int, doc: str) -> Field:
    return Field(name, bits, doc, signed=True)


HEADER = (
    _u("opcode", 4, "kind of instruction (Opcode)"),
    _u("wait_load", 1, "pop one token that LOAD sent to this unit before starting"),
    _u("wait_compute", 1, "pop one token that COMPUTE sent to this unit before starting"),
    _u("wait_store", 1, "pop one token that STORE sent to this unit before starting"),
    _u("signal_load", 1, "push one token to LOAD when finished"),
    _u("signal_compute", 1, "push one token to COMPUTE when finished"),
    _u("signal_store", 1, "push one token to STORE when finished"),
)

FIELDS: dict[Opcode, tuple[Field, ...]] = {
    Opcode.END: HEADER,
    Opcode.LOAD: (
        *HEADER,
        _u("dest", 3, "on-chip buffer (Buffer)"),
        _u("region", 1, "DRAM region (Region)"),
        _s("pad_value", 8, "byte written to every lane of a padding word"),
        _u("addr", 32, "byte offset in the region of the first word (any alignment)"),
        _u("dst", 16, "first word written in the buffer; words are written one after another"),
        _u("n2", 16, "outer count (channel blocks)"),
        _u("n1", 16, "middle count (rows) without padding"),
        _u("n0", 16, "inner count (columns) without padding"),
        _s("s2", 32, "bytes from one n2 step to the next"),
        _s("s1", 32, "bytes from one n1 step to the next"),
        _s("s0", 32, "bytes from one n0 step to the next; ROWS means a contiguous burst"),
        _s("lane_stride", 32, "bytes from one lane of a word to the next; 1 except in a gather"),
        _u("pad_top", 8, "padding rows before the n1 rows"),
        _u("pad_bottom", 8, "padding rows after the n1 rows"),
        _u("pad_left", 8, "padding words before the n0 words of every row"),
        _u("pad_right", 8, "padding words after the n0 words of every row"),
    ),
    Opcode.STORE: (
        *HEADER,
        _u("plane", 1, "byte plane of the output buffer: 0 low (or int8), 1 high"),
        _u(
            "addr",
            32,
            "byte offset in ARENA of the first word; it and the steps are multiples of COLS",
        ),
        _u("src", 16, "first output-buffer row read; rows are read one after another"),
        _u("n2", 16, "outer count (channel blocks)"),
        _u("n1", 16, "middle count (rows)"),
        _u("n0", 16, "inner count (columns)"),
        _s("s2", 32, "bytes from one n2 step to the next"),
        _s("s1", 32, "bytes from one n1 step to the next"),
        _s("s0", 32, "bytes from one n0 step to the next; COLS means a contiguous burst"),
    ),
    Opcode.EPILOGUE: (
        *HEADER,
        _u("t_en", 1, "add the residual operand t"),
        _u("t_wide", 1, "t is int16 (two byte planes)"),
        _u("u_en", 1, "multiply by the Hadamard operand u"),
        _u("u_wide", 1, "u is int16 (two byte planes)"),
        _u("seg_kind", 2, "kind of piecewise-linear table (SegKind)"),
        _u("stat", 2, "row statistic (Stat)"),
        _u("out_wide", 1, "write int16 results as two byte planes"),
        _u("f_shift", 5, "F: fraction bits dropped after requantising, 0..31"),
        _u("u_shift", 5, "right shift after the Hadamard product, 0..31"),
        _s("off", 32, "added before the rounding by F (zero points)"),
        _s("mt", 24, "multiplier of t"),
        _s("uz", 16, "zero point of u"),
        _s("zp", 16, "zero point added to the result"),
        _s("lo", 16, "lowest result"),
        _s("hi", 16, "highest result"),
        _s("seg_x0", 16, "UNIFORM, MAPPED: x of the table's left end; LOG: subtracted from x"),
        _u("seg_base", 16, "first parameter row of the table's segments"),
        _u("seg_count", 16, "number of segments"),
        _u("seg_shift", 4, "log2 of a segment's (UNIFORM) or cell's (MAPPED) width; LOG: mantissa"),
        _u("stat_shift", 5, "right shift of the row sum"),
        _s("stat_m", 16, "multiplier of the row sum"),
        _s("stat_off", 32, "added to the row sum before its multiplier (zero points)"),
        _u(
            "stat_lanes",
            8,
            "lanes that the statistic includes in the last column block; 0 means all",
        ),
        _u("sq_shift", 5, "MOMENTS: right shift of the row's sum of squares"),
        _s("sq_m", 16, "MOMENTS: multiplier of the row's sum of squares"),
        _u("seg_cells", 16, "MAPPED, LOG if not 0: cells of the map, at most 256"),
        _u("t_nb", 16, "t row step per column block"),
        _u("t_m1", 16, "t row step per m1"),
        _u("t_m0", 16, "t row step per m0"),
        _u("u_nb", 16, "u row step per column block"),
        _u("u_m1", 16, "u row step per m1"),
        _u("u_m0", 16, "u row step per m0"),
    ),
    Opcode.COMPUTE: (
        *HEADER,
        _u("mode", 1, "GEMM or WINDOW (Mode)"),
        _u("reduce", 1, "add products, or take the maximum of x where the weight is not 0"),
        _u("first", 1, "clear the accumulators first"),
        _u("last", 1, "run the epilogue on the finished rows"),
        _u("transpose", 1, "weight word i fills column i of the array instead of row i"),
        _u("x_wide", 1, "x is int16: one pass per byte plane (with MAX: both planes at once)"),
        _u("w_wide", 1, "w is int16: one pass per byte plane"),
        _u("stat_first", 1, "clear the row statistic first"),
        _u("stat_last", 1, "write the row statistic"),
        _u("win_h", 4, "WINDOW: taps per pass, vertically (at most WIN)"),
        _u("win_w", 4, "WINDOW: taps per pass, horizontally (at most WIN)"),
        _u("m1", 16, "output rows"),
        _u("m0", 16, "output columns"),
        _u("nb", 16, "blocks of COLS output channels"),
        _u("cb", 16, "K loop: blocks of ROWS input channels"),
        _u("kh", 8, "K loop: kernel rows (WINDOW: tiles of taps)"),
        _u("kw", 8, "K loop: kernel columns (WINDOW: tiles of taps)"),
        _u("stride_h", 8, "WINDOW: vertical stride"),
        _u("stride_w", 8, "WINDOW: horizontal stride"),
        _u("x_base", 16, "first word of x in IBUF"),
        _u("x_m1", 16, "x step per output row (WINDOW: per input row)"),
        _u("x_m0", 16, "x step per output column (WINDOW: per input column)"),
        _u("x_kh", 16, "x step per kh"),
        _u("x_kw", 16, "x step per kw"),
        _u("x_cb", 16, "x step per cb"),
        _u("x_half", 16, "x step from the low to the high byte plane"),
        _u("x_nb", 16, "x step per nb"),
        _u("w_base", 16, "first weight word; blocks of ROWS words follow in K order"),
        _u("w_nb", 16, "weight words from one nb to the next"),
        _u("p_base", 16, "first parameter row"),
        _u("p_nb", 16, "parameter rows from one nb to the next (0 or 1)"),
        _u("acc_base", 16, "first accumulator row"),
        _u("o_base", 16, "first output row"),
        _u("o_nb", 16, "output rows from one nb to the next"),
        _u("t_base", 16, "first row of t"),
        _u("u_base", 16, "first row of u"),
        _u("r_base", 16, "first output row of the row statistic"),
    ),
}

UNIT_OF = {
    Opcode.LOAD: Unit.LOAD,
    Opcode.EPILOGUE: Unit.COMPUTE,
    Opcode.COMPUTE: Unit.COMPUTE,
    Opcode.STORE: Unit.STORE,
}


@dataclass(frozen=True)
class Slot:
    """Where a field lies: 32-bit word and lowest bit."""

    word: int
    shift: int
    field: Field


def _lay_out(fields: tuple[Field, ...]) -> dict[str, Slot]:
    slots: dict[str, Slot] = {}
    word = shift = 0
    for field in fields:
        if shift + field.bits > 32:
            word, shift = word + 1, 0
        slots[field.name] = Slot(word, shift, field)
        shift += field.bits
    if word >= WORDS:
        raise AssertionError("an instruction outgrew its words")
    return slots


SLOTS: dict[Opcode, dict[str, Slot]] = {op: _lay_out(fields) for op, fields in FIELDS.items()}


@dataclass(frozen=True)
class Instruction:
    """An opcode and the values of its fields; fields left out are 0."""

    opcode: Opcode
    values: Mapping[str, int]

    def __getitem__(self, name: str) -> int:
        return self.values.get(name, 0)


def field_range(field: Field) -> tuple[int, int]:
    """Return lowest and highest value of a field."""
    if field.signed:
        return -(1 << (field.bits - 1)), (1 << (field.bits - 1)) - 1
    return 0, (1 << field.bits) - 1


def encode(insn: Instruction) -> tuple[int, ...]:
    """Encode an instruction in 16 words.  ValueError: unknown field or value out of range."""
    slots = SLOTS[insn.opcode]
    words = [0] * WORDS
    for name, value in {**insn.values, "opcode": int(insn.opcode)}.items():
        if name not in slots:
            raise ValueError(f"{insn.opcode.name} has no field {name!r}")
        slot = slots[name]
        low, high = field_range(slot.field)
        if not low <= value <= high:
            raise ValueError(f"{insn.opcode.name}.{name} = {value} is outside {low}..{high}")
        words[slot.word] |= (value & ((1 << slot.field.bits) - 1)) << slot.shift
    return tuple(words)


def decode(words: tuple[int, ...]) -> Instruction:
    """Decode an instruction of 16 words.  ValueError: unknown opcode."""
    opcode = Opcode(words[0] & 0xF)
    values: dict[str, int] = {}
    for name, slot in SLOTS[opcode].items():
        raw = (int(words[slot.word]) >> slot.shift) & ((1 << slot.field.bits) - 1)
        if slot.field.signed and raw >> (slot.field.bits - 1):
            raw -= 1 << slot.field.bits
        if raw and name != "opcode":
            values[name] = raw
    return Instruction(opcode, values)
