# SPDX-License-Identifier: Apache-2.0
"""Instructions as columns: one integer array per field.

In: (n, 16) uint32 words.  Out: per opcode, the places of its instructions and their fields, so that
the verifier and the estimate work on whole programs at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .isa import SLOTS, WORDS, Instruction, Opcode, Slot, encode, field_range

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Columns:
    """All instructions of one opcode: positions in the program and int64 field values."""

    opcode: Opcode
    index: Array
    fields: Mapping[str, Array]

    def __getitem__(self, name: str) -> Array:
        return self.fields[name]


def as_words(instructions: tuple[Instruction, ...] | list[Instruction]) -> Array:
    """Convert instructions to (n, 16) uint32 words."""
    places: dict[Opcode, list[int]] = {}
    for place, insn in enumerate(instructions):
        places.setdefault(insn.opcode, []).append(place)
    words = np.zeros((len(instructions), WORDS), np.uint32)
    for opcode, index in places.items():
        words[index] = _words_of(opcode, [instructions[i] for i in index])
    return words


def _words_of(opcode: Opcode, instructions: list[Instruction]) -> Array:
    """Convert instructions of one opcode, field by field.  ValueError: as of ``encode``."""
    slots = SLOTS[opcode]
    words = np.zeros((len(instructions), WORDS), np.int64)
    named = {name for insn in instructions for name in insn.values}
    for name in named & slots.keys():
        slot = slots[name]
        column = [insn.values.get(name, 0) for insn in instructions]
        low, high = field_range(slot.field)
        if min(column) < low or max(column) > high:
            named.add("")
            break
        bits = (1 << slot.field.bits) - 1
        words[:, slot.word] |= (np.array(column, np.int64) & bits) << slot.shift
    if not named <= slots.keys():  # one instruction after the other finds the wrong one
        return np.array([encode(insn) for insn in instructions], np.uint32)
    words[:, slots["opcode"].word] |= int(opcode) << slots["opcode"].shift
    return words.astype(np.uint32)


def opcodes(words: Array) -> Array:
    """Return the opcode number of each instruction, which may be invalid."""
    return (words[:, 0] & 0xF).astype(np.int64)


def field_column(words: Array, slot: Slot) -> Array:
    """Return one field of each instruction as int64."""
    bits = slot.field.bits
    raw = (words[:, slot.word].astype(np.int64) >> slot.shift) & ((1 << bits) - 1)
    if slot.field.signed:
        raw = raw - ((raw >> (bits - 1)) << bits)
    return raw


def columns(words: Array, opcode: Opcode) -> Columns:
    """Return the columns of the instructions with one opcode."""
    index = np.flatnonzero(opcodes(words) == int(opcode))
    picked = words[index]
    values = {name: field_column(picked, slot) for name, slot in SLOTS[opcode].items()}
    return Columns(opcode, index, values)


def used_bits(opcode: Opcode) -> Array:
    """Return a (16,) uint32 mask of the bits that some field of the opcode covers."""
    mask = np.zeros(WORDS, np.uint64)
    for slot in SLOTS[opcode].values():
        mask[slot.word] |= np.uint64(((1 << slot.field.bits) - 1) << slot.shift)
    return mask.astype(np.uint32)
