# SPDX-License-Identifier: Apache-2.0
"""Adds features that no schedule of a network as small as the self-test's uses.

In: a scheduled Program.  Out: the same results with one more token, or one more COMPUTE.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ...hardware.instruction_columns import columns, opcodes
from ...hardware.isa import SLOTS, Mode, Opcode
from ...ir.types import Array
from ...program.program import Program

_WAITS = ("wait_load", "wait_compute", "wait_store")
_SIGNALS = ("signal_load", "signal_compute", "signal_store")
ACC_BASE = 3


def _put(words: Array, opcode: Opcode, values: Mapping[str, int]) -> None:
    """Set unsigned fields of one instruction."""
    for name, value in values.items():
        slot = SLOTS[opcode][name]
        mask = ((1 << slot.field.bits) - 1) << slot.shift
        words[slot.word] = (int(words[slot.word]) & ~mask) | value << slot.shift


def with_token(program: Program) -> Program:
    """Add a token from the first LOAD to the last STORE.  STORE waits for LOAD only where a tensor
    reuses the bytes of one that was read, which does not happen in the self-test."""
    words = program.instructions.copy()
    kinds = opcodes(words)
    first, last = np.flatnonzero(kinds == Opcode.LOAD)[0], np.flatnonzero(kinds == Opcode.STORE)[-1]
    _put(words[first], Opcode.LOAD, {"signal_store": 1})
    _put(words[last], Opcode.STORE, {"wait_load": 1})
    return replace(program, instructions=words)


def with_two_parts(program: Program, layer: str) -> Program:
    """Split the sums of a 1x1 product of one output block after their first input block, as
    happens if the weights exceed WBUF."""
    names = [info.name for info in program.layers]
    c = columns(program.instructions, Opcode.COMPUTE)
    fits = (c["mode"] == Mode.GEMM) & (c["nb"] == 1) & (c["cb"] > 1) & (c["w_wide"] == 0)
    mine = fits & (program.insn_layer[c.index] == names.index(layer))
    row = int(np.flatnonzero(mine)[0])
    at, field = int(c.index[row]), {name: int(c[name][row]) for name in c.fields}
    words = np.insert(program.instructions, at, program.instructions[at], axis=0)
    acc = {"acc_base": ACC_BASE}
    head = {"cb": 1, "last": 0, **acc, **dict.fromkeys(_SIGNALS, 0)}
    rest = {
        "cb": field["cb"] - 1,
        "first": 0,
        "x_base": field["x_base"] + field["x_cb"],
        "w_base": field["w_base"] + program.array.rows,
        **acc,
        **dict.fromkeys(_WAITS, 0),
    }
    _put(words[at], Opcode.COMPUTE, head)
    _put(words[at + 1], Opcode.COMPUTE, rest)
    return replace(
        program,
        instructions=words,
        insn_layer=np.insert(program.insn_layer, at, program.insn_layer[at]),
        watchpoints=tuple(
            replace(point, insn=point.insn + (point.insn >= at)) for point in program.watchpoints
        ),
    )
