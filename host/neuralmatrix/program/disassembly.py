# SPDX-License-Identifier: Apache-2.0
"""Instructions as text, and the manual of the instruction set.

In: a ``Program``, or the tables of isa.py.  Out: one line per instruction; the text of docs/isa.md
(``python -m neuralmatrix.program.disassembly > docs/isa.md``; a test fails when that file is
stale).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from enum import IntEnum

from ..hardware.isa import (
    FIELDS,
    HEADER,
    INSN_BYTES,
    ISA_VERSION,
    SLOTS,
    UNIT_OF,
    WORDS,
    Buffer,
    Instruction,
    Mode,
    Opcode,
    Reduce,
    Region,
    SegKind,
    Slot,
    Stat,
    decode,
    field_range,
)
from .data import ProgramData

_ENUMS: dict[str, type[IntEnum]] = {
    "dest": Buffer,
    "region": Region,
    "mode": Mode,
    "reduce": Reduce,
    "seg_kind": SegKind,
    "stat": Stat,
}
_FLAGS = frozenset(field.name for field in HEADER)
_ALWAYS = {
    Opcode.LOAD: ("dest", "region"),
    Opcode.COMPUTE: ("mode", "reduce"),
}

_MEANING = {
    Opcode.END: "Ends the program; the last instruction, and the only END.",
    Opcode.LOAD: """\
Copies words from DRAM to a buffer, with padding around every (n1, n0) plane:

    dst' = dst
    for i2 in 0..n2-1:
      for i1 in -pad_top .. n1-1+pad_bottom:
        for i0 in -pad_left .. n0-1+pad_right:
          if 0 <= i1 < n1 and 0 <= i0 < n0:
            for lane in 0..ROWS-1:
              buffer[dst'][lane] = region[addr + i2*s2 + i1*s1 + i0*s0 + lane*lane_stride]
          else:
            buffer[dst'][all lanes] = pad_value
          dst' += 1""",
    Opcode.STORE: """\
Copies rows of one byte plane of the output buffer to ARENA:

    src' = src
    for i2 in 0..n2-1, i1 in 0..n1-1, i0 in 0..n0-1:
      ARENA[addr + i2*s2 + i1*s1 + i0*s0 .. +COLS-1] = obuf[plane][src']
      src' += 1""",
    Opcode.EPILOGUE: """\
Configures the epilogue of later COMPUTE instructions (see numerics.md) and copies the seg_count
segments of a table, from parameter row seg_base on, COLS to a row, into the lanes. The map of
seg_cells cells begins at the next whole parameter row: one byte a cell, 8 to a 64-bit
parameter.""",
    Opcode.COMPUTE: """\
Runs passes; each streams all rows past one block of ROWS x COLS weights (see numerics.md):

    for n in 0..nb-1:
      for h in 0..kh-1, w in 0..kw-1, c in 0..cb-1:
        for w plane, for x plane:                                # one pass
          for i1 in 0..m1-1, i0 in 0..m0-1:
            x = ibuf[x_base + n*x_nb + h*x_kh + w*x_kw + c*x_cb + plane*x_half
                     + i1*x_m1 + i0*x_m0]
            acc[acc_base + i1*m0 + i0] += x @ weights of this pass
      if last: rows of obuf from o_base + n*o_nb = epilogue(acc, parameter row p_base + n*p_nb)
    if last and stat_last: rows of obuf from r_base = row statistic; MOMENTS: from r_base + m1*m0 on
      the squares

In WBUF the ROWS words of a block lie in the order of the passes, for int16 weights the low byte
plane before the high one. MAX reads both byte planes of an int16 x in one pass.

In WINDOW mode i1 and i0 run over the `((m1-1)*stride_h + win_h) x ((m0-1)*stride_w + win_w)` input
words, and output (o1, o0) sums taps (o1*stride_h + a, o0*stride_w + b), a < win_h, b < win_w, each
channel on its own; weight word a*win_w + b of the block holds that tap. With nb > 1, first and last
must both be 1.

A pass takes a step for each word of x that it reads, and at least ROWS steps. MAX reads an int16 x
in two. Every row of results takes one step more, for its odd columns, with MAX, and with WINDOW
where two columns share a DSP (a window of one tap and stride 1 is a matrix product, and takes
none). In WINDOW mode with win_h above 1, a line of x lasts at least WIN + 1 words.

A row statistic covers all column blocks of a COMPUTE with `last`. If stat_first is 0 it continues
that of the latest such COMPUTE, which must have had as many rows, the same statistic and no
stat_last.""",
}


def _name(field: str, value: int) -> str:
    enum = _ENUMS.get(field)
    known = enum is not None and any(value == member for member in enum)
    return enum(value).name if enum is not None and known else str(value)


def instruction_text(insn: Instruction) -> str:
    """Format ``COMPUTE wait=LOAD signal=STORE mode=GEMM first=1 ...`` without fields that are 0."""
    parts = [f"{insn.opcode.name:<8}"]
    for verb in ("wait", "signal"):
        units = [unit for unit in ("load", "compute", "store") if insn[f"{verb}_{unit}"]]
        if units:
            parts.append(f"{verb}={'+'.join(units).upper()}")
    always = _ALWAYS.get(insn.opcode, ())
    for field in FIELDS[insn.opcode]:
        value = insn[field.name]
        if field.name not in _FLAGS and (value or field.name in always):
            parts.append(f"{field.name}={_name(field.name, value)}")
    return " ".join(parts).rstrip()


def listing_lines(program: ProgramData) -> Iterator[str]:
    """Yield one line per instruction, and a heading before each layer."""
    layer = -1
    for i, words in enumerate(program.instructions.tolist()):
        now = int(program.insn_layer[i])
        if now != layer and now >= 0:
            info = program.layers[now]
            source = f" from {info.source}" if info.source else ""
            yield f"; {info.name} ({info.kind}{source}), {info.macs} multiply-adds"
        layer = now
        yield f"{i:6} {instruction_text(decode(tuple(words)))}"


def listing(program: ProgramData) -> str:
    """Join all lines of ``listing_lines`` to one text."""
    return "".join(f"{line}\n" for line in listing_lines(program))


# ------------------------------------------------------------------------------ docs/isa.md


def _bits(slot: Slot) -> str:
    top = slot.shift + slot.field.bits - 1
    return f"{top}..{slot.shift}" if slot.field.bits > 1 else str(top)


def _row(slot: Slot) -> str:
    low, high = field_range(slot.field)
    return (
        f"| {slot.word} | {_bits(slot)} | `{slot.field.name}` | {low}..{high} | {slot.field.doc} |"
    )


def _table(slots: dict[str, Slot], names: list[str]) -> Iterator[str]:
    yield "| word | bits | field | range | meaning |"
    yield "|---|---|---|---|---|"
    yield from (_row(slots[name]) for name in names)
    yield ""


def _enum_lines() -> Iterator[str]:
    yield "## Values of named fields"
    yield "| field | values |"
    yield "|---|---|"
    for field, enum in _ENUMS.items():
        values = ", ".join(f"{int(member)} {member.name}" for member in enum)
        yield f"| `{field}` | {values} |"
    yield ""


def isa_markdown() -> str:
    """Make the text of docs/isa.md."""
    lines = [
        "# Instruction set",
        "",
        "Generated from `host/neuralmatrix/hardware/isa.py` by "
        "`python -m neuralmatrix.program.disassembly`.",
        "",
        f"Version {ISA_VERSION}. An instruction is {WORDS} little-endian 32-bit words "
        f"({INSN_BYTES} bytes). Fields never straddle a word; unused bits are 0. FETCH reads the "
        "program in order and hands each instruction to the queue of its unit; units run their "
        "queues in order, concurrently, and meet only through tokens.",
        "",
        "## All instructions",
        *_table(SLOTS[Opcode.END], [field.name for field in HEADER]),
    ]
    for opcode in Opcode:
        unit = f" (unit {UNIT_OF[opcode].name})" if opcode in UNIT_OF else ""
        lines += [f"## {opcode.name}: opcode {int(opcode)}{unit}", _MEANING[opcode], ""]
        names = [field.name for field in FIELDS[opcode] if field.name not in _FLAGS]
        if names:
            lines += _table(SLOTS[opcode], names)
    lines += _enum_lines()
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(isa_markdown())
