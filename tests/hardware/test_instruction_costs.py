# SPDX-License-Identifier: Apache-2.0
"""Costs by which passes rank, on arrays of 16 and 32 lanes."""

from __future__ import annotations

import numpy as np
import pytest
from neuralmatrix.hardware.instruction_costs import (
    WORD_CYCLES,
    Work,
    compute_cycles,
    compute_overhead,
    costs,
    gather_cycles,
    overlapped_cycles,
    product_cycles,
    rough_cycles,
    transfer_overhead,
)
from neuralmatrix.hardware.isa import Instruction, Mode, Opcode, Reduce, encode
from targets import target

WORK = Work(passes=1000, computes=2, loaded=100, loads=3, stored=50, stores=1)


def test_the_unit_that_needs_longest_counts() -> None:
    board = target()
    compute, transfer = compute_overhead(board.array), transfer_overhead(board.timing)
    assert compute_cycles(board, WORK) == overlapped_cycles(board, WORK) == 1000 + 2 * compute
    few = Work(passes=10, computes=0, loaded=100, loads=3, stored=50, stores=1)
    assert overlapped_cycles(board, few) == 100 * WORD_CYCLES + 3 * transfer
    many = Work(passes=10, computes=0, loaded=1, loads=0, stored=500, stores=2)
    assert overlapped_cycles(board, many) == 500 * WORD_CYCLES + 2 * transfer


@pytest.mark.parametrize("board", ["pynq-z2", "kv260"])
def test_overheads_are_those_of_an_instruction_alone(board: str) -> None:
    """A LOAD of a word and a COMPUTE of a pass, as ``costs`` counts them."""
    here = target(board)
    once = {"n2": 1, "n1": 1, "n0": 1, "lane_stride": 1}
    passed = {"nb": 1, "cb": 1, "kh": 1, "kw": 1, "m1": 1, "m0": 1}
    insns = Instruction(Opcode.LOAD, once), Instruction(Opcode.COMPUTE, passed)
    words = np.array([encode(insn) for insn in insns], np.uint32)
    load, compute = costs(words, here.array, here.timing).cycles
    beats = here.word_bytes // here.timing.load_port_bytes
    assert load == transfer_overhead(here.timing) + beats + 1  # and a gap between bursts
    assert compute == compute_overhead(here.array) + here.word_bytes


@pytest.mark.parametrize("board, cycles", [
    ("pynq-z2", 4 * 4 * 100),  # 4 x 4 blocks of 16 lanes, 100 positions each
    ("kv260", 2 * (4 * 32 + 100 * 2)),  # 2 x 2 blocks of 32: loads of two beats a word are longer
    ("ultra96-v2", 4 * 4 * 100),  # a beat a word
])  # fmt: skip
def test_a_product_is_ranked_by_the_lanes_and_the_port(board: str, cycles: int) -> None:
    assert product_cycles(target(board), 100, 64, 64) == cycles


def test_blocks_of_zeros_cost_nothing() -> None:
    assert product_cycles(target(), 1000, 64, 64, blocks=5) == max(5000, 2 * (5 * 16 + 4000))


@pytest.mark.parametrize("board, cycles", [("pynq-z2", 100 + 40), ("kv260", 50 + 10)])
def test_a_second_pass_costs_bytes_and_multiply_adds(board: str, cycles: int) -> None:
    assert rough_cycles(target(board), 800, 10240) == cycles


def test_bytes_that_are_moved_alone() -> None:
    assert gather_cycles(7) == 28


@pytest.mark.parametrize("board, fields, steps", [
    ("pynq-z2", {}, 10 * 10 + 64),  # a word, and a second beat for each result
    ("kv260", {}, 10 * 10 + 64),
    ("pynq-z2", {"stride_h": 2, "stride_w": 2}, 17 * 17 + 64),
    ("pynq-z2", {"win_h": 1, "win_w": 1}, 64),  # a matrix product
    ("pynq-z2", {"win_h": 1, "win_w": 1, "stride_w": 2}, 8 * 15 + 64),
    ("pynq-z2", {"m0": 1, "win_w": 1}, 10 * 5 + 8),  # the line buffers' time
    ("kv260", {"m0": 1, "win_w": 1}, 10 * 6 + 8),
    ("pynq-z2", {"m0": 1, "win_w": 1, "win_h": 1, "stride_h": 3}, 22 + 8),  # no line buffers
    ("kv260", {"reduce": int(Reduce.MAX)}, 10 * 10 + 64),
    ("pynq-z2", {"reduce": int(Reduce.MAX), "x_wide": 1}, 2 * 10 * 10 + 64),
    ("pynq-z2", {"x_wide": 1}, 2 * (10 * 10 + 64)),  # two passes
    ("kv260", {"mode": int(Mode.GEMM), "reduce": int(Reduce.MAX)}, 64 + 64),
])  # fmt: skip
def test_steps_of_a_pass(board: str, fields: dict[str, int], steps: int) -> None:
    """Of 8 x 8 results of a 3 x 3 window, unless ``fields`` say otherwise."""
    window = dict(mode=int(Mode.WINDOW), win_h=3, win_w=3, stride_h=1, stride_w=1, m1=8, m0=8)
    values = {**window, "nb": 1, "cb": 1, "kh": 1, "kw": 1, **fields}
    insns = Instruction(Opcode.COMPUTE, values), Instruction(Opcode.END, {})
    words = np.array([encode(insn) for insn in insns], np.uint32)
    found = costs(words, target(board).array, target(board).timing)
    assert found.passes[0] == steps
