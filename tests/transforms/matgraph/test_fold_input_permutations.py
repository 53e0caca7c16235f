# SPDX-License-Identifier: Apache-2.0
"""A Move that only permutes a network input is folded into its port.

In: small graphs.  Out: golden texts before and after the pass; the same values.
"""

from __future__ import annotations

import pytest
from cnn_graphs import WEIGHTS, conv, kinds
from golden_passes import check_pass, exact
from lowering_graphs import check, graph, random
from neuralmatrix.ir.graph.nodes import Binary, Conv, MatMul, Reshape, Transpose

CONV = {"w": exact(1, 4, 4, 1, 1), "b": exact(2, 4)}


def small_conv(x: str, y: str) -> Conv:
    return Conv((x, "w", "b"), y, f"{y}.node", (1, 1), (0,) * 4, (1, 1))


CASES = {
    "kept_channels_last": graph(
        [Transpose(("x",), "t", perm=(0, 3, 1, 2)), small_conv("t", "y")], {"x": (1, 3, 2, 4)}, CONV
    ),
    "flat": graph(
        [Reshape(("x",), "t", shape=(1, 4, 3, 2)), small_conv("t", "y")], {"x": (1, 24)}, CONV
    ),
    "flattened_image": graph(
        [Reshape(("x",), "t", shape=(1, 16)), MatMul(("t", "w"), "y")],
        {"x": (1, 1, 4, 4)}, {"w": exact(3, 16, 5)},
    ),
    "kept_read_twice": graph(
        [Transpose(("x",), "t", perm=(0, 3, 1, 2)), small_conv("t", "c"), small_conv("x", "d"),
         Binary(("c", "d"), "y")],
        {"x": (1, 4, 4, 4)}, CONV,
    ),
    "kept_plain": graph([small_conv("x", "y")], {"x": (1, 4, 3, 2)}, CONV),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    check_pass(request, "fold_input_permutations", case, CASES[case])


def test_flatten_of_few_channels_becomes_a_row() -> None:
    """The host permutes a one-channel image, which avoids a kernel with one lane in use."""
    nodes = [Reshape(("x",), "flat", shape=(1, 64)), MatMul(("flat", "w"), "y")]
    mg = check(graph(nodes, {"x": (1, 1, 8, 8)}, {"w": random(1, 64, 5)}))
    assert kinds(mg) == ["Gemm"]
    assert mg.tensors["x"].shape == (1, 1, 1, 64)


def test_input_in_another_layout_is_relabelled_by_the_host() -> None:
    nodes = [Transpose(("x",), "t", perm=(0, 3, 1, 2)), conv("t", "w", "y")]
    mg = check(graph(nodes, {"x": (1, 5, 6, 4)}, {"w": WEIGHTS["w"], "b": WEIGHTS["b"]}))
    assert kinds(mg) == ["Gemm"]
    assert mg.inputs[0].steps == () and mg.tensors["x"].shape == (1, 5, 6, 4)


def test_flat_input_is_relabelled_by_the_host() -> None:
    nodes = [Reshape(("x",), "t", shape=(2, 4, 3, 5)), conv("t", "w", "y")]
    mg = check(graph(nodes, {"x": (2, 60)}, {"w": WEIGHTS["w"], "b": WEIGHTS["b"]}))
    assert kinds(mg) == ["Gemm"]
    assert [step.kind for step in mg.inputs[0].steps] == ["reshape", "transpose"]
