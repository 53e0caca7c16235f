# SPDX-License-Identifier: Apache-2.0
"""Instructions as text, and that the generated manual is fresh.

In: random programs.  Out: a complete listing.
"""

from __future__ import annotations

import re

from conftest import ROOT
from neuralmatrix.hardware.isa import FIELDS, Instruction, Opcode, decode
from neuralmatrix.program.disassembly import instruction_text, isa_markdown, listing_lines
from programs import random_program


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
