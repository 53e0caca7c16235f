# SPDX-License-Identifier: Apache-2.0
"""Lowered normalisation: its operations and values.

In: small Graphs.  Out: their MatGraphs' operations; values are checked against ``ops``.
"""

from __future__ import annotations

import numpy as np
import pytest
from lowering_graphs import check, graph, random
from neuralmatrix.ir.graph.nodes import Binary, MatMul, Normalize
from neuralmatrix.ir.matgraph.ops import Window
from norm_graphs import WEIGHTS, make, norm, rows, sizes

SHAPES = [
    ((2, 4, 5, 6), (1,)), ((2, 4, 5, 6), (2, 3)), ((2, 4, 5, 6), (1, 2, 3)), ((2, 4, 5, 6), (3,)),
    ((7, 6, 4, 5), (0,)), ((3, 7), (1,)), ((2, 3, 2, 4, 5), (2, 3, 4)), ((1, 9, 40), (2,)),
    ((2, 5, 1, 3), (2,)),
]  # fmt: skip


@pytest.mark.parametrize("kind, epsilon", [("variance", 1e-5), ("l2", 1e-12), ("l2", 3.0)])
@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("shape, axes", SHAPES)
def test_values(
    shape: tuple[int, ...], axes: tuple[int, ...], centered: bool, kind: str, epsilon: float
) -> None:
    part = tuple(n if i in axes else 1 for i, n in enumerate(shape))
    node = Normalize(("x", "g", "b"), "y", "", axes, epsilon, centered, kind)  # type: ignore[arg-type]
    check(graph([node], {"x": shape}, {"g": random(1, *part), "b": random(2, *part)}))


def test_scale_and_bias_may_vary_along_other_axes() -> None:
    node = Normalize(("x", "g", "b"), "y", "", (2, 3))
    check(graph([node], {"x": (2, 4, 5, 6)}, {"g": random(1, 4, 1, 1), "b": random(2, 4, 5, 1)}))


def test_root_mean_square_needs_no_mean() -> None:
    mg = check(make(MatMul(("x", "w"), "h"), norm("h", "y", "gamma", centered=False)))
    assert rows(mg) == {"h": ("square",)}
    window = mg.ops[-1]
    assert isinstance(window, Window) and window.minus is None
    np.testing.assert_array_equal(window.weight.reshape(-1), WEIGHTS["gamma"])


def test_two_norms_of_one_tensor_share_their_statistics() -> None:
    mg = check(make(
        norm("x", "a", "gamma"), norm("x", "b", "beta"), Binary(("a", "b"), "y", kind="mul"),
    ))  # fmt: skip
    assert list(rows(mg).values()) == [("mean", "square")]
    assert sum(size == 5 for size in sizes(mg)) == 2
