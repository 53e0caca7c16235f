# SPDX-License-Identifier: Apache-2.0
"""An order of the nodes that leaves more blocks of a constant sparse matrix all zero.

In: small graphs.  Out: golden texts before and after the pass; the same values.
"""

from __future__ import annotations

import numpy as np
import pytest
from golden_passes import check_pass, exact
from lowering_graphs import graph
from neuralmatrix.ir.graph.nodes import Graph, MatMul, Unary
from neuralmatrix.ir.types import Array, Function


def shuffled_band(nodes: int) -> Array:
    """A band matrix, its nodes in random order."""
    at = np.arange(nodes)
    band = (np.abs(at[:, None] - at) <= 2) * exact(1, nodes, nodes)
    order = np.random.default_rng(2).permutation(nodes)
    return np.asarray(band[np.ix_(order, order)], np.float32)


def layers(matrix: Array) -> Graph:
    """The matrix twice, from the left."""
    nodes = [MatMul(("a", "x"), "h", "h.node"), Unary(("h",), "r", function=Function("relu")),
             MatMul(("a", "r"), "y", "y.node")]  # fmt: skip
    return graph(nodes, {"x": (len(matrix), 4)}, {"a": matrix})


CASES = {
    "shuffled_band": layers(shuffled_band(112)),
    "kept_dense": layers(exact(3, 80, 80) / 8),
    "kept_few_nodes": layers(shuffled_band(48)),
}


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    check_pass(request, "reorder_nodes", case, CASES[case])
