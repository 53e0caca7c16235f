# SPDX-License-Identifier: Apache-2.0
"""A Move that only permutes a network input is folded into its port.

In: small graphs.  Out: golden texts before and after the pass; the same values.
"""

from __future__ import annotations

import pytest
from golden_passes import check_pass, exact
from lowering_graphs import graph
from neuralmatrix.ir.graph.nodes import Binary, Conv, MatMul, Reshape, Transpose

CONV = {"w": exact(1, 4, 4, 1, 1), "b": exact(2, 4)}


def conv(x: str, y: str) -> Conv:
    return Conv((x, "w", "b"), y, f"{y}.node", (1, 1), (0,) * 4, (1, 1))


CASES = {
    "channels_last": graph(
        [Transpose(("x",), "t", perm=(0, 3, 1, 2)), conv("t", "y")], {"x": (1, 3, 2, 4)}, CONV
    ),
    "flat": graph([Reshape(("x",), "t", shape=(1, 4, 3, 2)), conv("t", "y")], {"x": (1, 24)}, CONV),
    "flattened_image": graph(
        [Reshape(("x",), "t", shape=(1, 16)), MatMul(("t", "w"), "y")],
        {"x": (1, 1, 4, 4)}, {"w": exact(3, 16, 5)},
    ),
    "kept_read_twice": graph(
        [Transpose(("x",), "t", perm=(0, 3, 1, 2)), conv("t", "c"), conv("x", "d"),
         Binary(("c", "d"), "y")],
        {"x": (1, 4, 4, 4)}, CONV,
    ),
    "kept_plain": graph([conv("x", "y")], {"x": (1, 4, 3, 2)}, CONV),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    check_pass(request, "fold_input_permutations", case, CASES[case])
