# SPDX-License-Identifier: Apache-2.0
"""Heads whose size is no multiple of a word get channels of zeros.

In: small graphs.  Out: golden texts before and after the pass; the same values.
"""

from __future__ import annotations

import pytest
from golden_passes import check_pass, exact
from lowering_graphs import graph
from neuralmatrix.ir.graph.nodes import Attention, Graph, MatMul, Node, Reshape, Transpose


def encoder(heads: int, size: int, projected: bool = True) -> Graph:
    """Attention of three rows, and what follows where ``projected``."""
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
