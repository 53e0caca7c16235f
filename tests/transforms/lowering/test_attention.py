# SPDX-License-Identifier: Apache-2.0
"""Lowered attention: four products per block, no transposition, masks and biases in epilogues.

In: small Graphs.  Out: their MatGraphs' operations; values are checked against ``ops``.
"""

from __future__ import annotations

import numpy as np
import pytest
from cnn_graphs import kinds
from lowering_graphs import check, gemms, graph, random
from neuralmatrix.ir.graph.nodes import (
    Attention,
    Binary,
    Expand,
    MatMul,
    Node,
    Reshape,
    Softmax,
    Transpose,
)
from neuralmatrix.ir.graph.operators import run_graph
from neuralmatrix.ir.matgraph.ops import Gemm, Window
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float
from neuralmatrix.ir.types import Array, Function, Shape
from targets import lower

TRIANGLE = np.tril(np.ones((5, 7)))
Q, K, V = (2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 4)


def attention(*extra: str, **shapes: Shape) -> Node:
    return Attention(("q", "k", "v", *extra), "y", "node", 0.3)


EXTRAS: dict[str, tuple[tuple[str, ...], dict[str, Array]]] = {
    "plain": ((), {}),
    "causal": (("m",), {"m": TRIANGLE}),
    "keys": (("m",), {"m": np.array([1, 1, 0, 1, 0, 1, 1.0])}),
    "everything": (("m",), {"m": np.ones((5, 7))}),
    "bias": (("", "b"), {"b": random(5, 3, 5, 7)}),
    "bias-and-mask": (("m", "b"), {"m": TRIANGLE, "b": random(5, 3, 5, 7)}),
    "empty-row": (("m",), {"m": np.tril(np.ones((5, 7)), -1)}),
}


@pytest.mark.parametrize("name", EXTRAS)
def test_values_with_constant_masks_and_biases(name: str) -> None:
    extra, constants = EXTRAS[name]
    mg = check(graph([attention(*extra)], {"q": Q, "k": K, "v": V}, constants))
    kept = [name for name in mg.constants if name.endswith(":kept")]
    assert len(kept) == (name in ("causal", "keys", "bias-and-mask", "empty-row"))


@pytest.mark.parametrize("shape", [(2, 1, 1, 7), (7,), (5, 7), (2, 3, 5, 7), (1, 3, 5, 1)])
@pytest.mark.parametrize("biased", [False, True])
def test_values_with_masks_from_inputs(shape: Shape, biased: bool) -> None:
    inputs = {"q": Q, "k": K, "v": V, "m": shape} | ({"b": (3, 5, 7)} if biased else {})
    g = graph([attention("m", *(["b"] if biased else []))], inputs)
    mg = lower(g)
    feeds = {name: random(i, *s) for i, (name, s) in enumerate(inputs.items())}
    feeds["m"] = (random(9, *shape) > -0.3).astype(np.float32)
    found = port_outputs(mg, run_float(mg, feeds))["y"]
    wanted = run_graph(g, {n: x.astype(np.float64) for n, x in feeds.items()})["y"]
    # float32 products of 8 and 7 terms
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_block_is_three_products_and_one_value_per_row() -> None:
    mg = check(graph([attention()], {"q": Q, "k": K, "v": V}))
    assert [type(op).__name__ for op in mg.ops] == ["Gemm", "Gemm", "Window", "Gemm"]
    first, second, third = gemms(mg)
    read = {t for op in mg.ops for t in (op.input,) if isinstance(op, Gemm | Window)}
    assert first.output not in read and [r.kind for r in first.epilogue.rows] == ["max"]
    assert second.epilogue.activation == Function("exp")
    assert second.epilogue.residual == first.epilogue.rows[0].tensor
    assert [r.kind for r in second.epilogue.rows] == ["sum"]
    assert first.rhs_transposed and second.rhs_transposed and not third.rhs_transposed
    assert first.gain == second.gain == 0.3


@pytest.mark.parametrize("lead, images", [((2, 3, 1), 6), ((2, 1, 1), 2), ((1, 1, 1), 1),
                                          ((2, 1, 4), 24)])  # fmt: skip
def test_keys_of_several_heads_are_not_repeated(lead: Shape, images: int) -> None:
    inputs = {"q": (2, 3, 4, 5, 8), "k": (*lead, 7, 8), "v": (*lead, 7, 4)}
    mg = check(graph([attention()], inputs))
    assert mg.tensors[gemms(mg)[0].rhs or ""].shape[0] == images


def test_repeated_heads_are_found_behind_an_expand() -> None:
    """Grouped queries, as exporters write them, need no copies."""
    nodes: list[Node] = []
    for x in "kv":
        nodes += [Reshape((f"{x}0",), f"{x}1", shape=(1, 2, 1, 7, 8)),
                  Expand((f"{x}1",), f"{x}2", shape=(1, 2, 3, 7, 8)),
                  Reshape((f"{x}2",), x, shape=(1, 6, 7, 8))]  # fmt: skip
    inputs = {"q": (1, 6, 5, 8), "k0": (1, 2, 7, 8), "v0": (1, 2, 7, 8)}
    mg = check(graph([*nodes, attention()], inputs))
    assert [mg.tensors[op.rhs or ""].shape[0] for op in gemms(mg)] == [2, 2, 2]


# ---------------------------------------------------------------- products and softmax


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("axis", range(4))
def test_softmax_on_any_axis(axis: int, log: bool) -> None:
    check(graph([Softmax(("x",), "y", axis=axis, log=log)], {"x": (2, 3, 4, 5)}))


def test_large_scores_do_not_overflow() -> None:
    g = graph([attention()], {"q": (3, 8), "k": (4, 8), "v": (4, 2)})
    mg = lower(g)
    feeds = {"q": 100 * random(1, 3, 8), "k": 100 * random(2, 4, 8), "v": random(3, 4, 2)}
    found = port_outputs(mg, run_float(mg, feeds))["y"]
    # scores of 1e4 in float32 differ by 1e-3; the largest wins by far more
    np.testing.assert_allclose(found, run_graph(g, feeds)["y"], atol=1e-5)


def test_softmax_is_six_steps_in_four() -> None:
    mg = check(graph([Softmax(("x",), "y", axis=1)], {"x": (3, 7)}))
    assert kinds(mg) == ["RowMax", "Window", "Window", "Window"]
    assert mg.tensors["y:max"].broadcast and mg.tensors["y:inverse"].broadcast


def test_softmax_over_positions_needs_no_move() -> None:
    mg = check(graph([Softmax(("x",), "y", axis=2)], {"x": (1, 4, 6, 5)}))
    assert kinds(mg) == ["Window"] * 4


def test_attention() -> None:
    nodes = [
        MatMul(("x", "q"), "q1"), MatMul(("x", "k"), "k1"), MatMul(("x", "v"), "v1"),
        *(Reshape((f"{n}1",), f"{n}2", shape=(1, 5, 2, 4)) for n in "qkv"),
        Transpose(("q2",), "q3", perm=(0, 2, 1, 3)), Transpose(("k2",), "k3", perm=(0, 2, 3, 1)),
        Transpose(("v2",), "v3", perm=(0, 2, 1, 3)), MatMul(("q3", "k3"), "s"),
        Binary(("s", "scale"), "s2", kind="div"), Softmax(("s2",), "p", axis=3),
        MatMul(("p", "v3"), "o"), Transpose(("o",), "o2", perm=(0, 2, 1, 3)),
        Reshape(("o2",), "o3", shape=(1, 5, 8)), MatMul(("o3", "q"), "m"),
        Binary(("m", "x"), "y", kind="add"),
    ]  # fmt: skip
    constants = {n: random(i, 8, 8) for i, n in enumerate("qkv")} | {"scale": np.float32(2)}
    mg = check(graph(nodes, {"x": (1, 5, 8)}, constants))
    assert mg.ops[-1].epilogue.residual == "x"
