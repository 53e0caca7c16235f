# SPDX-License-Identifier: Apache-2.0
"""verify() compiles for what a program was compiled for, whatever board that was.

In: a graph network, whose passes read lanes and port widths.  Out: the same instructions again.
"""

from __future__ import annotations

from dataclasses import replace

import neuralmatrix as nm
import numpy as np
import pytest
from graph_models import dense_gcn, features, random_graph
from neuralmatrix.compiler import Options, back_end, front_end
from neuralmatrix.hardware.board import Board, load_board
from neuralmatrix.hardware.target import Target
from neuralmatrix.program.program import Program
from neuralmatrix.scheduling import schedule

GRAPH = random_graph(100)
MODEL, FEED, CONSTANTS = dense_gcn(GRAPH), {"x": features(GRAPH)}, {"a": GRAPH.normalized}


def own_board() -> Board:
    """PYNQ-Z2's array beside a port of half the width, in no board file."""
    board = load_board("pynq-z2")
    load = replace(board.ports.load, bytes_per_cycle=4)
    return replace(board, name="own", ports=replace(board.ports, load=load))


BOARDS = {"pynq-z2": load_board("pynq-z2"), "kv260": load_board("kv260"), "own": own_board()}


def compiled(board: Board) -> Program:
    return nm.compile(MODEL, board, [FEED], constants=CONSTANTS)


def test_lanes_and_port_widths_lead_to_other_programs() -> None:
    programs = {name: compiled(board) for name, board in BOARDS.items()}
    assert len(programs["kv260"].instructions) != len(programs["pynq-z2"].instructions)
    assert programs["own"].estimate().cycles > programs["pynq-z2"].estimate().cycles


@pytest.mark.parametrize("board", BOARDS)
def test_a_program_holds_all_that_makes_its_graph_again(board: str) -> None:
    program = compiled(BOARDS[board])
    target = Target(program.array, program.timing)
    options = Options(constants=CONSTANTS, saved=program)
    again = schedule(back_end(front_end(MODEL, target, options), target, options), target)
    np.testing.assert_array_equal(again.instructions, program.instructions)
    np.testing.assert_array_equal(again.const, program.const)


@pytest.mark.gxx
@pytest.mark.parametrize("board", BOARDS)
def test_verify_finds_every_layer_equal(board: str) -> None:
    check = nm.verify(MODEL, compiled(BOARDS[board]), FEED, CONSTANTS)
    assert check.ok, check.to_text()


@pytest.mark.gxx
def test_other_weights_are_told_also_where_no_file_knows_the_board() -> None:
    other = {"a": np.asarray(2 * GRAPH.normalized, np.float32)}
    with pytest.raises(nm.BadInput, match="not compiled from this model"):
        nm.verify(MODEL, compiled(own_board()), FEED, other)
