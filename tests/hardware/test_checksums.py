# SPDX-License-Identifier: Apache-2.0
"""Checksums of what the array must read, against byte-by-byte loops and the kernels' sums.

In: random programs, and programs of whole networks.  Out: equal sums.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from neuralmatrix.hardware.checksums import constant_checksum, instruction_checksum
from neuralmatrix.hardware.instruction_columns import as_words
from neuralmatrix.hardware.isa import WORDS, Instruction, Opcode, Region
from neuralmatrix.program.program import Program
from neuralmatrix.runtime.emulation.emulator import Emulator
from programs import copy_program, random_program

END = Instruction(Opcode.END, {})
CONST = np.random.default_rng(3).integers(0, 256, 4096).astype(np.uint8)


def of_program(program: Program) -> int:
    return constant_checksum(program.instructions, program.const, program.array.rows)


def one_by_one(load: Instruction, lanes: int) -> int:
    """Compute by definition: byte r of a word has weight 256 to the power of r modulo 4."""
    v, total = load.values, 0
    for i2 in range(v["n2"]):
        for i1 in range(v["n1"]):
            for i0 in range(v["n0"]):
                word = v["addr"] + i2 * v["s2"] + i1 * v["s1"] + i0 * v["s0"]
                for lane in range(lanes):
                    byte = int(CONST[word + lane * v["lane_stride"]])
                    total += byte << 8 * (lane % 4)
    return total % 2**32


@pytest.mark.parametrize("lane_stride", (1, 3, -2, 0))
@pytest.mark.parametrize("seed", range(5))
def test_strides_and_gathers(seed: int, lane_stride: int) -> None:
    rng = np.random.default_rng(seed)
    s2, s1, s0 = (int(rng.integers(-reach, reach)) for reach in (300, 200, 50))
    load = Instruction(
        Opcode.LOAD,
        dict(n2=3, n1=2, n0=4, s2=s2, s1=s1, s0=s0, addr=2000, lane_stride=lane_stride,
             pad_top=1, pad_left=2),
    )  # fmt: skip
    words = as_words([load, END])
    assert constant_checksum(words, CONST, 16) == one_by_one(load, 16)
    twice = as_words([load, load, END])
    assert constant_checksum(twice, CONST, 16) == 2 * one_by_one(load, 16) % 2**32
    arena = as_words([Instruction(Opcode.LOAD, {**load.values, "region": Region.ARENA}), END])
    assert constant_checksum(arena, CONST, 16) == 0


LOAD = dict(n2=1, n1=1, n0=2, s0=16, lane_stride=1)


@pytest.mark.parametrize("outside", ({"addr": 8}, {"addr": 0, "s0": -16}, {"lane_stride": -1}))
def test_reads_outside_of_the_constants_are_refused(outside: dict[str, int]) -> None:
    """Constants have two words of 16 bytes; an index below 0 would count from their end."""
    const = np.ones(32, np.uint8)
    whole = as_words([Instruction(Opcode.LOAD, LOAD), END])
    assert constant_checksum(whole, const, 16) == 8 * 0x01010101
    with pytest.raises(ValueError):
        wrong = as_words([Instruction(Opcode.LOAD, {**LOAD, **outside}), END])
        constant_checksum(wrong, const, 16)


def test_a_program_without_constants() -> None:
    assert constant_checksum(as_words([END]), np.zeros(0, np.uint8), 16) == 0


@pytest.mark.gxx
@pytest.mark.parametrize("seed", range(20))
def test_the_kernels_count_the_same(seed: int) -> None:
    program = random_program(seed, 120)
    emulator = Emulator(
        program.array, program.timing, program.const, program.instructions, program.arena_bytes
    )
    assert emulator.run().checksum == emulator.run().checksum == of_program(program) != 0


def test_a_changed_constant_changes_the_sum() -> None:
    program = copy_program()
    const = program.const.copy()
    const[0] ^= 1
    assert of_program(replace(program, const=const)) != of_program(program)


def test_instructions_count_up_to_the_first_end() -> None:
    words = np.zeros((3, WORDS), np.uint32)
    words[0] = int(Opcode.LOAD), *(0xFFFF_FFFF,) * (WORDS - 1)
    words[2] = 99
    assert instruction_checksum(words) == (int(Opcode.LOAD) - (WORDS - 1)) % 2**32
    assert instruction_checksum(words[:1]) == instruction_checksum(words)
    assert instruction_checksum(words[:0]) == 0
