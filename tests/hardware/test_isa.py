# SPDX-License-Identifier: Apache-2.0
"""The instruction set: encoding, columns, listing, and that the generated manual is fresh."""

from __future__ import annotations

import re

import numpy as np
import pytest
from conftest import ROOT
from neuralmatrix.hardware.instruction_columns import as_words, columns, used_bits
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
from neuralmatrix.program.disassembly import instruction_text, isa_markdown, listing_lines
from programs import random_program


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


def test_columns_equal_decode() -> None:
    words = random_program(3, 200).instructions
    assert (as_words([decode(tuple(w)) for w in words.tolist()]) == words).all()
    for opcode in Opcode:
        picked = columns(words, opcode)
        for i, position in enumerate(picked.index):
            insn = decode(tuple(words[position].tolist()))
            assert insn.opcode == opcode
            assert all(picked[f.name][i] == insn[f.name] for f in FIELDS[opcode][1:])


def test_listing_is_complete() -> None:
    program = random_program(4, 100)
    lines = [line for line in listing_lines(program) if not line.startswith(";")]
    assert [int(line.split()[0]) for line in lines] == list(range(len(program.instructions)))
    for line, words in zip(lines, program.instructions.tolist(), strict=True):
        insn = decode(tuple(words))
        shown = set(re.findall(r"(\w+)=", line)) - {"wait", "signal"}
        flags = {f for f in insn.values if f.startswith(("wait_", "signal_"))}
        assert set(insn.values) - flags <= shown


def test_listing_names_values() -> None:
    values = dict(dest=1, region=1, n0=16, pad_value=-3, wait_compute=1, signal_store=1)
    text = instruction_text(Instruction(Opcode.LOAD, values))
    assert text == "LOAD     wait=COMPUTE signal=STORE dest=WBUF region=ARENA pad_value=-3 n0=16"


def test_manual_is_fresh() -> None:
    found = (ROOT / "docs" / "isa.md").read_text(encoding="utf-8")
    assert found == isa_markdown(), "run python -m neuralmatrix.program.disassembly > docs/isa.md"


def test_manual_has_every_field() -> None:
    text = isa_markdown()
    for opcode in Opcode:
        assert f"## {opcode.name}: opcode {int(opcode)}" in text
        assert all(f"`{field.name}`" in text for field in FIELDS[opcode])


def test_words_are_unsigned_32_bit() -> None:
    words = as_words([extreme(Opcode.EPILOGUE, 1)])
    assert words.dtype == np.uint32 and words.shape == (1, WORDS)
