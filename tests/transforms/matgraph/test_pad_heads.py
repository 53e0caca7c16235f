# SPDX-License-Identifier: Apache-2.0
"""Heads whose size is not a multiple of a lane vector get channels of zeros.

In: small graphs.  Out: golden texts before and after the pass; the same values.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from golden_passes import check_pass, exact
from lowering_graphs import check, gemms, graph, random
from neuralmatrix.hardware.tensor_layout import Blocked
from neuralmatrix.ir.graph.nodes import (
    Attention,
    Binary,
    Graph,
    MatMul,
    Node,
    Reshape,
    Slice,
    Transpose,
)
from neuralmatrix.ir.matgraph.ops import Gemm, MatGraph, Move
from neuralmatrix.scheduling.memory_plan import _deltas


def encoder(heads: int, size: int, projected: bool = True) -> Graph:
    """Return attention of three rows, followed by a projection if ``projected``."""
    channels = heads * size
    nodes: list[Node] = []
    for name in "qkv":
        nodes += [
            MatMul(("x", name), f"{name}1", f"{name}.node"),
            Reshape((f"{name}1",), f"{name}2", shape=(1, 3, heads, size)),
            Transpose((f"{name}2",), f"{name}3", perm=(0, 2, 1, 3)),
        ]
    nodes += [
        Attention(("q3", "k3", "v3"), "a", "a.node", scale=0.5),
        Transpose(("a",), "a1", perm=(0, 2, 1, 3)),
        Reshape(("a1",), "a2", shape=(1, 3, channels)),
    ]
    weights = {name: exact(i, channels, channels) / 8 for i, name in enumerate("qkv")}
    if projected:
        nodes.append(MatMul(("a2", "o"), "y", "o.node"))
        weights["o"] = exact(9, channels, 4)
    return graph(nodes, {"x": (1, 3, channels)}, weights)


CASES = {
    "two_heads_of_six": encoder(2, 6),
    "three_heads_of_twenty": encoder(3, 20),
    "queries_and_keys_only": encoder(2, 6, projected=False),
    "kept_whole_words": encoder(2, 16),
}


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    check_pass(request, "pad_heads", case, CASES[case])


def block(batch: int, length: int, heads: int, size: int, joint: bool) -> Graph:
    """Return projections, heads split by reshape and transpose, attention, merge, projection."""
    width = heads * size
    nodes: list[Node] = []
    constants = {"wo": random(4, width, width) / 4}
    if joint:
        constants |= {"w": random(1, width, 3 * width) / 4, "b": random(2, 3 * width)}
        nodes += [MatMul(("x", "w"), "xw"), Binary(("xw", "b"), "joint")]
    for i, name in enumerate("qkv"):
        if joint:
            part = (i * width, (i + 1) * width, 1)
            whole = (0, None, 1)
            nodes.append(Slice(("joint",), f"{name}0", slices=(whole, whole, part)))
        else:
            constants[f"w{name}"] = random(i + 1, width, width) / 4
            nodes.append(MatMul(("x", f"w{name}"), f"{name}0"))
        nodes += [Reshape((f"{name}0",), f"{name}1", shape=(batch, length, heads, size)),
                  Transpose((f"{name}1",), name, perm=(0, 2, 1, 3))]  # fmt: skip
    nodes += [Attention(("q", "k", "v"), "y", "node", 0.3),
              Transpose(("y",), "z", perm=(0, 2, 1, 3)),
              Reshape(("z",), "merged", shape=(batch, length, width)),
              MatMul(("merged", "wo"), "out")]  # fmt: skip
    return graph(nodes, {"x": (batch, length, width)}, constants)


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize(
    "batch, heads, size", [(1, 3, 16), (2, 2, 32), (3, 2, 48), (2, 3, 10), (1, 1, 24), (1, 2, 40)]
)
def test_heads_are_split_and_merged_by_address(
    batch: int, heads: int, size: int, joint: bool
) -> None:
    """Heads that do not fill lane vectors get channels of zeros."""
    mg = check(block(batch, 6, heads, size, joint))
    assert sum(op.weight is not None for op in gemms(mg)) == 4
    moves = [op for op in mg.ops if isinstance(op, Move)]
    assert len(moves) == 4 * (batch * heads > 1)
    for move in moves:
        assert _deltas(move, {n: _blocked(mg, n) for n in (*move.inputs, move.output)}) == [0]
    if heads > 1:
        assert mg.tensors["y"].shape == (batch * heads, 1, 6, -(-size // 16) * 16)


@pytest.mark.parametrize("shown", ["q0", "k", "y", "merged"])
def test_heads_that_something_else_reads_are_not_padded(shown: str) -> None:
    g = block(1, 6, 3, 10, False)
    mg = check(replace(g, outputs=(*g.outputs, shown)))
    widths = {mg.tensors[op.output].shape[3] for op in mg.ops if isinstance(op, Gemm)}
    assert 10 in widths or 30 in widths


def _blocked(mg: MatGraph, name: str) -> Blocked:
    n, h, w, c = mg.tensors[name].shape
    return Blocked(n, h, w, c, 16, False, False)
