# SPDX-License-Identifier: Apache-2.0
"""Costs by which passes rank, on arrays of 16 and 32 lanes."""

from __future__ import annotations

import pytest
from neuralmatrix.hardware.instruction_costs import (
    COMPUTE_OVERHEAD,
    TRANSFER_OVERHEAD,
    WORD_CYCLES,
    Work,
    compute_cycles,
    gather_cycles,
    overlapped_cycles,
    product_cycles,
    rough_cycles,
)
from targets import target

WORK = Work(passes=1000, computes=2, loaded=100, loads=3, stored=50, stores=1)


def test_the_unit_that_needs_longest_counts() -> None:
    assert compute_cycles(WORK) == overlapped_cycles(WORK) == 1000 + 2 * COMPUTE_OVERHEAD
    few = Work(passes=10, computes=0, loaded=100, loads=3, stored=50, stores=1)
    assert overlapped_cycles(few) == 100 * WORD_CYCLES + 3 * TRANSFER_OVERHEAD
    many = Work(passes=10, computes=0, loaded=1, loads=0, stored=500, stores=2)
    assert overlapped_cycles(many) == 500 * WORD_CYCLES + 2 * TRANSFER_OVERHEAD


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
