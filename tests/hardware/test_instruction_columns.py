# SPDX-License-Identifier: Apache-2.0
"""Instruction columns equal instructions decoded one by one.

In: random programs.  Out: columns of fields.
"""

from __future__ import annotations

from neuralmatrix.hardware.instruction_columns import as_words, columns
from neuralmatrix.hardware.isa import FIELDS, Opcode, decode
from programs import random_program


def test_columns_equal_decode() -> None:
    words = random_program(3, 200).instructions
    assert (as_words([decode(tuple(w)) for w in words.tolist()]) == words).all()
    for opcode in Opcode:
        picked = columns(words, opcode)
        for i, position in enumerate(picked.index):
            insn = decode(tuple(words[position].tolist()))
            assert insn.opcode == opcode
            assert all(picked[f.name][i] == insn[f.name] for f in FIELDS[opcode][1:])
