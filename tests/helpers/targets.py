# SPDX-License-Identifier: Apache-2.0
"""Targets of boards for tests, and the first and last part of the list of passes.

In: a Graph or a QGraph, a board's name.  Out: its MatGraph; its Program.
"""

from __future__ import annotations

from neuralmatrix import compiler
from neuralmatrix.hardware.board import load_board
from neuralmatrix.hardware.target import Target
from neuralmatrix.ir.graph.nodes import Graph
from neuralmatrix.ir.matgraph.ops import MatGraph
from neuralmatrix.program.program import Program
from neuralmatrix.quantization.qgraph import QGraph
from neuralmatrix.scheduling import for_board, schedule


def target(board: str = "pynq-z2") -> Target:
    return load_board(board).target


def lower(graph: Graph, board: str = "pynq-z2") -> MatGraph:
    """Return the MatGraph of a simplified Graph."""
    return compiler.lower(graph, target(board))


def scheduled(graph: QGraph, board: str = "pynq-z2") -> Program:
    """Return the Program of a quantised graph."""
    return for_board(schedule(graph, target(board)), load_board(board))
