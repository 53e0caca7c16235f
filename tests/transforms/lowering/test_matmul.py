# SPDX-License-Identifier: Apache-2.0
"""Lowered activation-activation matmuls.

In: small Graphs.  Out: their MatGraphs' operations; values are checked too.
"""

from __future__ import annotations

import pytest
from cnn_graphs import kinds
from lowering_graphs import check, gemms, graph, random
from neuralmatrix.ir.graph.nodes import MatMul, Node, Reshape, Transpose
from neuralmatrix.ir.matgraph.ops import Gemm


def test_key_product_reads_its_operand_transposed() -> None:
    nodes = [Transpose(("z",), "t", perm=(0, 2, 1)), MatMul(("x", "t"), "y")]
    mg = check(graph(nodes, {"x": (2, 3, 8), "z": (2, 5, 8)}))
    assert kinds(mg) == ["Gemm"]
    assert isinstance(mg.ops[0], Gemm) and mg.ops[0].rhs_transposed


@pytest.mark.parametrize("size", (2, 12, 16))
def test_matrix_on_every_head_is_one_grouped_product(size: int) -> None:
    """Heads smaller than the array need no Move either: it costs more than idle lanes."""
    nodes = [Reshape(("x",), "h", shape=(1, 5, 3, size)), MatMul(("h", "r"), "t"),
             Reshape(("t",), "y", shape=(1, 5, 3 * size))]  # fmt: skip
    mg = check(graph(nodes, {"x": (1, 5, 3 * size)}, {"r": random(1, size, size)}))
    assert [op.groups for op in gemms(mg)] == [3] and len(mg.ops) == 1


@pytest.mark.parametrize("perm", [(0, 2, 1, 3), (0, 2, 3, 1)])
def test_product_of_two_takes_its_right_operand_as_it_lies(perm: tuple[int, ...]) -> None:
    """(B, S, H, D) to (B, H, D, S) is the transposed operand, not a transposing Move."""
    inner = 16 if perm[3] == 1 else 9
    nodes: list[Node] = [
        Reshape(("z",), "r", shape=(2, 9, 2, 16)),
        Transpose(("r",), "t", perm=perm),
        MatMul(("x", "t"), "y"),
    ]
    mg = check(graph(nodes, {"x": (2, 2, 5, inner), "z": (2, 9, 32)}))
    (product,) = gemms(mg)
    assert product.rhs_transposed == (perm[3] == 1)
    assert mg.tensors[product.rhs or ""].shape == (4, 1, 9, 16)


def test_frames_of_a_long_signal_are_separated() -> None:
    """900 frames of 16 samples by one matrix: positions, not 900 groups of channels."""
    nodes = [
        Reshape(("x",), "f", shape=(1, 900, 16)),
        MatMul(("f", "w"), "y"),
    ]
    mg = check(graph(nodes, {"x": (1, 900 * 16)}, {"w": random(1, 16, 8)}))
    assert [op.groups for op in gemms(mg)] == [1]
