# SPDX-License-Identifier: Apache-2.0
"""The program verifier: exact limits, errors that name each violation, deadlocks found.

In: programs.  Out: nothing, or BadProgram with the instruction.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from neuralmatrix.errors import BadProgram
from neuralmatrix.hardware.instruction_columns import as_words
from neuralmatrix.hardware.isa import Instruction, Opcode, decode
from neuralmatrix.program.program import Program
from neuralmatrix.program.verify import verify_program
from oracle import needed_sizes
from programs import copy_instructions, copy_program, insn, make_program, random_program


@pytest.mark.parametrize("seed", range(8))
def test_random_programs_pass(seed: int) -> None:
    verify_program(random_program(seed, 200))


def resized(program: Program, name: str, size: int) -> Program:
    if name == "const":
        return replace(program, const=program.const[:size])
    if name == "arena_bytes":
        return replace(program, arena_bytes=size)
    return replace(program, array=replace(program.array, **{name: size}))


@pytest.mark.parametrize("seed", range(3))
def test_limits_are_exact(seed: int) -> None:
    """Memories of exactly the used size pass; memories smaller by one fail."""
    program = random_program(seed + 10, 60)
    sizes = needed_sizes(program)
    assert len(sizes) == 12
    assert sizes.pop("win") <= program.array.win
    for name, size in sizes.items():
        program = resized(program, name, size)
    verify_program(program)
    for name, size in sizes.items():
        with pytest.raises(BadProgram, match=r"instruction \d+ \(\w+\): .*found .*allowed is"):
            verify_program(resized(program, name, size - 1))


LOAD, WEIGHTS, PARAMS, SETUP, COMPUTE, STORE, END = range(7)


@pytest.mark.parametrize(
    ("index", "change", "text"),
    (
        (LOAD, {"n2": 0}, "instruction 0 (LOAD): n2: found 0, allowed is 1..65535"),
        (LOAD, {"dest": 7}, "instruction 0 (LOAD): dest: found 7, allowed is 0..6"),
        (LOAD, {"addr": 65300}, "highest byte read: found 65555, allowed is 0..65535"),
        (LOAD, {"s0": -16}, "lowest byte read: found -240, allowed is 0..65535"),
        (LOAD, {"lane_stride": -1}, "lowest byte read: found -15"),
        (LOAD, {"dst": 8190}, "last word written: found 8205, allowed is 0..8191"),
        (LOAD, {"pad_top": 255, "n0": 65535}, "last word written: found"),
        (LOAD, {"signal_load": 1}, "signal_load: found 1, allowed is 0..0"),
        (WEIGHTS, {"addr": 200}, "highest byte read: found 455, allowed is 0..383"),
        (SETUP, {"seg_kind": 3, "seg_count": 1}, "seg_cells: found 0, allowed is 1..256"),
        (SETUP, {"seg_cells": 257}, "seg_cells: found 257, allowed is 0..256"),
        (SETUP, {"seg_count": 16, "seg_base": 510, "seg_cells": 129}, "last map row: found 512"),
        (SETUP, {"seg_kind": 1}, "seg_count: found 0, allowed is 1..64"),
        (SETUP, {"seg_count": 65}, "seg_count: found 65, allowed is 0..64"),
        (SETUP, {"seg_count": 17, "seg_base": 511}, "last segment row: found 512"),
        (SETUP, {"stat": 3, "u_en": 1}, "u_en (with MOMENTS): found 1, allowed is 0..0"),
        (SETUP, {"stat": 1}, "rows (with stat_first 0): found 16, allowed is 0..0"),
        (SETUP, {"stat_lanes": 17}, "stat_lanes: found 17, allowed is 0..16"),
        (SETUP, {"hi": 128}, "hi: found 128, allowed is -128..127"),
        (SETUP, {"lo": 127, "hi": 126}, "hi: found 126, allowed is 127..127"),
        (COMPUTE, {"nb": 0}, "nb: found 0, allowed is 1..65535"),
        (COMPUTE, {"nb": 2, "first": 0}, "first (with nb > 1): found 0, allowed is 1..1"),
        (COMPUTE, {"mode": 1}, "win_h: found 0, allowed is 1..4"),
        (COMPUTE, {"mode": 1, "win_h": 5, "win_w": 1}, "win_h: found 5, allowed is 1..4"),
        (COMPUTE, {"mode": 1, "win_h": 1, "win_w": 1}, "stride_h: found 0"),
        (COMPUTE, {"x_base": 8190}, "last word of x: found 8205, allowed is 0..8191"),
        (COMPUTE, {"cb": 257}, "last weight word: found 4111, allowed is 0..4095"),
        (COMPUTE, {"w_wide": 1, "w_base": 4065}, "last weight word: found 4096"),
        (COMPUTE, {"acc_base": 1009}, "last accumulator row: found 1024"),
        (COMPUTE, {"o_base": 1009}, "last output row: found 1024"),
        (COMPUTE, {"p_base": 512}, "last parameter row: found 512"),
        (STORE, {"addr": 65536 - 240}, "highest byte written: found 65551"),
        (STORE, {"src": 1009}, "last row read: found 1024"),
        (STORE, {"addr": 4104}, "addr modulo 16: found 8, allowed is 0..0"),
        (STORE, {"s0": 24}, "s0 modulo 16: found 8, allowed is 0..0"),
        (STORE, {"s0": -4096}, "lowest byte written: found -57344"),
        (STORE, {"wait_compute": 0}, "tokens from COMPUTE to STORE: found +1 sent"),
        (COMPUTE, {"wait_store": 1}, "tokens from STORE to COMPUTE: found -1 sent"),
        (END, {"wait_load": 1}, "instruction 6 (END): wait_load: found 1, allowed is 0..0"),
    ),
)
def test_each_violation_is_named(index: int, change: dict[str, int], text: str) -> None:
    program = copy_program()
    instructions = [decode(tuple(words)) for words in program.instructions.tolist()]
    old = instructions[index]
    instructions[index] = Instruction(old.opcode, {**old.values, **change})
    with pytest.raises(BadProgram, match=re.escape(text)):
        verify_program(replace(program, instructions=as_words(instructions)))


def words_with(index: int, word: int, bits: int) -> Program:
    program = copy_program()
    words = program.instructions.copy()
    words[index, word] |= bits
    return replace(program, instructions=words)


@pytest.mark.parametrize(
    ("program", "text"),
    (
        (words_with(6, 0, 0xF), "instruction 6: opcode: found 15, allowed is 0..4"),
        (words_with(6, 15, 1), "instruction 6 (END): reserved bits: found a 1"),
        (words_with(0, 0, 1 << 31), "instruction 0 (LOAD): reserved bits: found a 1"),
        (make_program([]), "instructions: found none"),
        (make_program([insn(Opcode.END)] * 2), "END: found at [0, 1], allowed is once, at 1"),
        (make_program(copy_instructions(16)[:-1]), "END: found at [], allowed is once, at 5"),
    ),
)
def test_bad_encoding(program: Program, text: str) -> None:
    with pytest.raises(BadProgram, match=re.escape(text)):
        verify_program(program)


def test_compute_needs_an_epilogue() -> None:
    instructions = copy_instructions(16)
    del instructions[SETUP]
    with pytest.raises(BadProgram, match="EPILOGUE before this: found 0"):
        verify_program(make_program(instructions))


def test_endless_programs_are_refused() -> None:
    instructions = copy_instructions(16)
    steps = dict(nb=65535, kh=255, m1=1024, m0=1, mode=1, win_h=1, win_w=1)
    values = {**instructions[COMPUTE].values, **steps, "stride_h": 255, "stride_w": 1, "x_m1": 0}
    instructions[COMPUTE] = Instruction(Opcode.COMPUTE, values)
    with pytest.raises(BadProgram, match="cycles: found .*allowed is at most"):
        verify_program(make_program(instructions))


def crossed_tokens() -> Program:
    load = dict(n2=1, n1=1, n0=1, s0=16, lane_stride=1)
    store = dict(n2=1, n1=1, n0=1, s0=16)
    return make_program(
        [
            insn(Opcode.LOAD, wait_store=1, signal_store=1, **load),
            insn(Opcode.STORE, wait_load=1, signal_load=1, **store),
            insn(Opcode.END),
        ]
    )


def test_crossed_waits_are_a_deadlock() -> None:
    text = (
        "LOAD at instruction 0 waits for a token of STORE; COMPUTE has an empty queue; "
        "STORE at instruction 1 waits for a token of LOAD"
    )
    with pytest.raises(BadProgram, match=text):
        verify_program(crossed_tokens())


def test_full_queue_is_a_deadlock() -> None:
    """LOAD's queue fills with instructions that wait for a STORE which FETCH cannot reach."""
    load = dict(n2=1, n1=1, n0=1, s0=16, lane_stride=1)
    store = dict(n2=1, n1=1, n0=1, s0=16)
    program = make_program(
        [
            *(insn(Opcode.LOAD, wait_store=i == 0, **load) for i in range(4)),
            insn(Opcode.STORE, signal_load=1, **store),
            insn(Opcode.END),
        ]
    )
    verify_program(program)
    shallow = replace(program, array=replace(program.array, queue_depth=2))
    with pytest.raises(BadProgram, match="FETCH at instruction 2 waits for room in the queue of"):
        verify_program(shallow)
