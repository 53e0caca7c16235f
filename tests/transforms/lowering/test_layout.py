# SPDX-License-Identifier: Apache-2.0
"""Lowered reshapes, slices and concatenations: the number of Moves, and prescribed scales.

In: small Graphs.  Out: their MatGraphs' operations; values are checked too.
"""

from __future__ import annotations

import pytest
from cnn_graphs import Q1, Q2, Q3, conv, kinds, make
from lowering_graphs import check
from neuralmatrix.ir.graph.nodes import Binary, Concat, MatMul, Reshape, Slice, Transpose
from neuralmatrix.ir.matgraph.ops import Move
from neuralmatrix.ir.types import QParams


def test_layout_chain_is_one_move() -> None:
    nodes = [
        conv("x", "w", "c"),
        Reshape(("c",), "a", shape=(1, 2, 2, 6, 6)), Transpose(("a",), "t", perm=(0, 2, 1, 3, 4)),
        Reshape(("t",), "s", shape=(1, 4, 6, 6)),
        Slice(("s",), "l", slices=((0, None, 1), (1, 3, 1), (0, None, 2), (0, None, 1))),
        Concat(("l", "l"), "j", axis=1), conv("j", "v", "y"),
    ]  # fmt: skip
    mg = check(make(*nodes))
    assert kinds(mg) == ["Gemm", "Move", "Gemm"]
    assert isinstance(mg.ops[1], Move) and mg.ops[1].inputs == ("c",) and mg.ops[1].output == "j"


def test_a_concatenation_with_two_kinds_of_readers_moves_once() -> None:
    parts = (Slice(("c",), name, slices=((0, None, 1), (i, i + 2, 1), *[(0, None, 1)] * 2))
             for i, name in ((0, "p"), (2, "q")))  # fmt: skip
    mg = check(make(conv("x", "w", "c"), *parts, Concat(("q", "p"), "j", axis=1),
                    conv("j", "v", "e"), Binary(("e", "j"), "y")))  # fmt: skip
    assert kinds(mg).count("Move") <= 1


@pytest.mark.parametrize("given, extra", [(Q2, 0), (Q1, 1)])
def test_annotated_view(given: QParams, extra: int) -> None:
    """A reshaped tensor with its source's scale is free, with another one it is requantised."""
    nodes = conv("x", "w", "c"), Reshape(("c",), "flat", shape=(1, 144)), MatMul(("flat", "f"), "y")
    mg = check(make(*nodes, quant={"x": Q1, "c": Q2, "flat": given}))
    assert kinds(mg) == ["Gemm"] + ["Window"] * extra + ["Gemm"]
    assert ("flat" in mg.quant) == bool(extra)


def test_annotation_of_a_view_reaches_its_source() -> None:
    nodes = conv("x", "w", "c"), Reshape(("c",), "flat", shape=(1, 144)), MatMul(("flat", "f"), "y")
    mg = check(make(*nodes, quant={"x": Q1, "flat": Q2}))
    assert kinds(mg) == ["Gemm", "Gemm"] and mg.quant == {"x": Q1, "c": Q2}


def test_concatenated_scales_are_converted_before_the_move() -> None:
    nodes = conv("x", "w", "c"), conv("x", "v", "d2"), Concat(("c", "d2"), "y", axis=1)
    mg = check(make(*nodes, quant={"x": Q1, "c": Q2, "d2": Q3, "y": Q3}))
    assert kinds(mg) == ["Gemm", "Gemm", "Window", "Move"]
    move = mg.ops[3]
    assert isinstance(move, Move) and {mg.quant[n] for n in (*move.inputs, "y")} == {Q3}


def test_a_step_s_index_keeps_no_other_steps() -> None:
    """As many whole arrays as steps would stay in memory."""
    steps = [
        Slice(("c",), f"s{i}", slices=((0, None, 1), (0, None, 1), (i, i + 1, 1), (0, None, 1)))
        for i in range(6)
    ]
    sums = [Binary((f"s{i}", f"s{i + 1}"), f"t{i}") for i in range(5)]
    joined = Concat(tuple(t.output for t in sums), "y", axis=2)
    mg = check(make(conv("x", "w", "c"), *steps, *sums, joined))
    indices = [op.index for op in mg.ops if isinstance(op, Move)]
    assert indices and all(index.base is None or index.base.size == index.size for index in indices)
