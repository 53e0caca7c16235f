# SPDX-License-Identifier: Apache-2.0
"""The instruction set: every field survives encoding, and none overlaps another."""

from __future__ import annotations

import re

import numpy as np
import pytest
from neuralmatrix.hardware.instruction_columns import as_words, used_bits
from neuralmatrix.hardware.isa import (
    FIELDS,
    SLOTS,
    WORDS,
    Instruction,
    Opcode,
    decode,
    encode,
    field_range,
)


def extreme(opcode: Opcode, which: int) -> Instruction:
    values = {f.name: field_range(f)[which] for f in FIELDS[opcode] if f.name != "opcode"}
    return Instruction(opcode, values)


@pytest.mark.parametrize("opcode", Opcode)
@pytest.mark.parametrize("which", (0, 1))
def test_extremes_survive_encoding(opcode: Opcode, which: int) -> None:
    insn = extreme(opcode, which)
    back = decode(encode(insn))
    assert back.opcode == opcode
    assert all(back[name] == value for name, value in insn.values.items())


@pytest.mark.parametrize("opcode", Opcode)
def test_fields_do_not_overlap(opcode: Opcode) -> None:
    bits = [
        (slot.word, bit)
        for slot in SLOTS[opcode].values()
        for bit in range(slot.shift, slot.shift + slot.field.bits)
    ]
    assert len(bits) == len(set(bits))
    assert max(word for word, _ in bits) < WORDS and max(bit for _, bit in bits) < 32
    assert sum(int(word).bit_count() for word in used_bits(opcode)) == len(bits)


@pytest.mark.parametrize(
    ("values", "text"),
    (
        ({"n0": 1 << 16}, "LOAD.n0 = 65536 is outside 0..65535"),
        ({"pad_value": -129}, "LOAD.pad_value = -129 is outside -128..127"),
        ({"m1": 1}, "LOAD has no field 'm1'"),
    ),
)
def test_encode_refuses(values: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        encode(Instruction(Opcode.LOAD, values))


def test_words_are_unsigned_32_bit() -> None:
    words = as_words([extreme(Opcode.EPILOGUE, 1)])
    assert words.dtype == np.uint32 and words.shape == (1, WORDS)
