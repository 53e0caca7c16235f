# SPDX-License-Identifier: Apache-2.0
"""Transposed tiles through the array: every byte arrives, at a fraction of a cycle.

In: small graphs with a Move that transposes.  Out: programs that equal the integer reference.
"""

from __future__ import annotations

import neuralmatrix as nm
import numpy as np
import pytest
from blocks import Maker, feed
from build_onnx import model, node
from neuralmatrix.hardware.isa import Opcode
from neuralmatrix.ir.matgraph.ops import MatGraph, Move
from neuralmatrix.ir.types import Array
from neuralmatrix.verification import compare
from quantized import observed, quantized
from schedule_rig import instructions, once, program_of
from targets import scheduled


def rearranged(index: Array, shape: tuple[int, int, int, int], fill: float = 0.0) -> MatGraph:
    b = Maker()
    b.tensor("x", shape)
    b.window("h", "x", weight=np.full((1, 1, 1), 0.5))
    b.ops.append(Move("m", ("h",), np.ascontiguousarray(index), fill))
    b.tensor("m", tuple(index.shape))  # type: ignore[arg-type]
    b.window("y", "m", weight=np.full((1, 1, 1), 0.75))
    return b.graph()


def turned(shape: tuple[int, int, int, int], perm: tuple[int, ...]) -> MatGraph:
    return rearranged(np.arange(np.prod(shape)).reshape(shape).transpose(perm), shape)


def patches() -> MatGraph:
    """Lanes are the positions of patches, whose rows are apart."""
    index = np.arange(8 * 12 * 20).reshape(2, 4, 3, 4, 20).transpose(0, 2, 4, 1, 3)
    return rearranged(index.reshape(1, 6, 20, 16), (1, 8, 12, 20))


def ordered(positions: Array) -> MatGraph:
    """Channels are the positions of a map in another order than theirs in memory."""
    index = np.arange(24 * 40).reshape(1, 1, 24, 40)[:, :, positions]
    return rearranged(index.transpose(0, 1, 3, 2), (1, 1, 24, 40))


CASES: dict[str, MatGraph] = {
    "backwards": ordered(np.arange(24)[::-1]),
    "two in another order": ordered(np.array([5, 2])),
    "any order": ordered(np.random.default_rng(0).permutation(24)),
    "repeated": ordered(np.repeat(np.arange(6), 3)),
    "columns and channels": turned((1, 6, 20, 40), (0, 1, 3, 2)),
    "rows and channels": turned((2, 18, 5, 21), (0, 3, 2, 1)),
    "few channels": turned((1, 9, 9, 3), (0, 3, 1, 2)),
    "many channels": turned((1, 1, 35, 100), (0, 1, 3, 2)),
    "patches": patches(),
}


@pytest.mark.parametrize("sizes", [{}, {"obuf_rows": 64, "ibuf_words": 64, "wbuf_words": 64}],
                         ids=["one", "many"])  # fmt: skip
@pytest.mark.parametrize("precision", ["int8", "int16"])
@pytest.mark.parametrize("case", CASES)
def test_every_word_is_stored_once(case: str, precision: str, sizes: dict[str, int]) -> None:
    program = program_of(CASES[case], precision, **sizes)
    assert once(program, "m")
    assert [i for i in instructions(program, Opcode.COMPUTE) if i["transpose"]]


@pytest.mark.gxx
@pytest.mark.parametrize("board", ["pynq-z2", "kv260"])
@pytest.mark.parametrize("precision", ["int8", "int16"])
@pytest.mark.parametrize("case", CASES)
def test_every_byte_arrives(case: str, precision: str, board: str) -> None:
    mg = CASES[case]
    x = {"x": feed(mg, seed=3)}
    graph = quantized(mg, observed(mg, x, board), precision, board=board)
    found = compare(mg, graph, scheduled(graph, board), x)
    assert found.ok, found.to_text()


@pytest.mark.parametrize("board", ["pynq-z2", "kv260"])
def test_a_byte_takes_less_than_a_cycle(board: str) -> None:
    weights = {"w": np.ones((48, 16, 1, 1), np.float32), "v": np.ones((8, 48, 1, 1), np.float32)}
    nodes = [node("Conv", ["x", "w"], ["c"]), node("Transpose", ["c"], ["t"], perm=[0, 3, 2, 1]),
             node("Conv", ["t", "v"], ["y"])]  # fmt: skip
    net = model(nodes, {"x": (1, 16, 40, 48)}, ["y"], weights)
    x = np.random.default_rng(1).normal(size=(1, 16, 40, 48)).astype(np.float32)
    program = nm.compile(net, board, calibration=[{"x": x}], accuracy=False)
    (move,) = (layer for layer in program.estimate().layers if layer.kind == "Move")
    assert move.cycles < 48 * 40 * 48
