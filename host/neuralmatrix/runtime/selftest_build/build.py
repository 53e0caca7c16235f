# SPDX-License-Identifier: Apache-2.0
"""Makes the self-test of a board's array: compiled by the compiler's own passes, run in emulation.

In: a Board.  Out: ``SelfTest``, and its two files in an overlay's folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...files import write_whole
from ...hardware.board import Board
from ...hardware.overlay_folder import EXPECTED, SELFTEST
from ...hardware.target import Target
from ...ir.matgraph.ops import MatGraph
from ...ir.matgraph.reference import run_points
from ...ir.types import Array
from ...program.host_io import write_input
from ...program.program import Program
from ...program.verify import verify_program
from ...quantization.calibrate import with_ranges
from ...quantization.qgraph import QGraph
from ...quantization.quantize import quantize
from ...quantization.scales import choose_scales
from ...scheduling import for_board, schedule
from ...transforms.matgraph.legalize_operands import legalize_operands
from ...transforms.matgraph.tie_scales import tie_scales
from ..emulation.emulator import Emulator
from ..selftest import SelfTest
from .extra_instructions import with_token, with_two_parts
from .network import PROMOTED, SPLIT, network


@dataclass(frozen=True)
class Compiled:
    """Stages of the self-test: the network, its integers, their program, inputs by name."""

    network: MatGraph
    integers: QGraph
    program: Program
    feeds: dict[str, Array]


def compiled(board: Board) -> Compiled:
    """Compile the self-test for a board's array."""
    graph = network(board.array)
    rng = np.random.default_rng(0)
    feeds = {port.name: rng.standard_normal(port.shape).astype(np.float32) for port in graph.inputs}
    integers = _quantized(graph, feeds, board.target)
    # Every tensor has bytes of its own, so that a difference identifies its operation.
    program = for_board(schedule(integers, board.target, shared=False), board)
    program = with_token(with_two_parts(program, SPLIT))
    verify_program(program)
    return Compiled(graph, integers, program, feeds)


def _quantized(graph: MatGraph, feeds: dict[str, Array], target: Target) -> QGraph:
    """Quantise the network with the ranges of its own inputs."""
    tied = tie_scales(legalize_operands(graph, target), target)
    values = run_points(tied.graph, feeds)
    ranges = {point: (float(v.min()), float(v.max())) for point, v in values.items()}
    known = with_ranges(tied, precision="int8", ranges=ranges, promoted=tuple(PROMOTED))
    return quantize(choose_scales(known, target), target)


def make(board: Board) -> SelfTest:
    """Compile the self-test for a board's array and run it in emulation."""
    made = compiled(board)
    p = made.program
    emulator = Emulator(p.array, p.timing, p.const, p.instructions, p.arena_bytes)
    for port in p.inputs:
        write_input(port, made.feeds[port.name], emulator.arena)
    before = emulator.arena.copy()
    emulator.run()
    return SelfTest(p, before, emulator.arena.copy())


def write(board: Board, folder: Path) -> None:
    """Make the self-test of a board's array and write its two files."""
    test = make(board)
    test.program.save(folder / SELFTEST)
    write_whole(
        folder / EXPECTED,
        lambda file: np.savez_compressed(file, before=test.before, after=test.after),
    )
