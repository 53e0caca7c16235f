# SPDX-License-Identifier: Apache-2.0
"""Attention: four products a block, nothing transposed, masks and biases in the epilogues.

In: small Graphs.  Out: their MatGraphs' operations; values are checked against ``ops``.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from lowering_graphs import check, graph, random
from neuralmatrix.hardware.tensor_layout import Blocked
from neuralmatrix.ir.graph.nodes import (
    Attention,
    Binary,
    Expand,
    Graph,
    MatMul,
    Node,
    Reshape,
    Slice,
    Softmax,
    Transpose,
    Unary,
)
from neuralmatrix.ir.graph.operators import run_graph
from neuralmatrix.ir.matgraph.ops import Gemm, MatGraph, Move, Window
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float
from neuralmatrix.ir.types import Array, Function, Shape
from neuralmatrix.scheduling.memory_plan import _deltas
from targets import lower

TRIANGLE = np.tril(np.ones((5, 7)))
Q, K, V = (2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 4)


def attention(*extra: str, **shapes: Shape) -> Node:
    return Attention(("q", "k", "v", *extra), "y", "node", 0.3)


def gemms(mg: MatGraph) -> list[Gemm]:
    return [op for op in mg.ops if isinstance(op, Gemm)]


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
    """Grouped queries as exporters write them."""
    nodes: list[Node] = []
    for x in "kv":
        nodes += [Reshape((f"{x}0",), f"{x}1", shape=(1, 2, 1, 7, 8)),
                  Expand((f"{x}1",), f"{x}2", shape=(1, 2, 3, 7, 8)),
                  Reshape((f"{x}2",), x, shape=(1, 6, 7, 8))]  # fmt: skip
    inputs = {"q": (1, 6, 5, 8), "k0": (1, 2, 7, 8), "v0": (1, 2, 7, 8)}
    mg = check(graph([*nodes, attention()], inputs))
    assert [mg.tensors[op.rhs or ""].shape[0] for op in gemms(mg)] == [2, 2, 2]


# ---------------------------------------------------------------- heads


def block(batch: int, length: int, heads: int, size: int, joint: bool) -> Graph:
    """Projections, heads split by reshape and transpose, attention, heads merged, projection."""
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
    nodes += [attention(), Transpose(("y",), "z", perm=(0, 2, 1, 3)),
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
    """Heads that are no whole words get channels of zeros."""
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


def test_slices_that_overlap_keep_one_product() -> None:
    whole = (0, None, 1)
    nodes = [MatMul(("x", "w"), "h"), Slice(("h",), "a", slices=(whole, (0, 5, 1))),
             Slice(("h",), "b", slices=(whole, (4, 9, 1))), Binary(("a", "b"), "y")]  # fmt: skip
    mg = check(graph(nodes, {"x": (3, 6)}, {"w": random(1, 6, 9)}))
    assert len(gemms(mg)) == 1


def test_gate_and_operand_of_one_product() -> None:
    """The halves of a joint projection become two products without Moves."""
    whole = (0, None, 1)
    nodes = [
        MatMul(("x", "w"), "h"), Slice(("h",), "a", slices=(whole, (0, 8, 1))),
        Slice(("h",), "b", slices=(whole, (8, 16, 1))),
        Unary(("a",), "s", function=Function("silu")), Binary(("s", "b"), "y", kind="mul"),
    ]  # fmt: skip
    mg = check(graph(nodes, {"x": (3, 6)}, {"w": random(1, 6, 16)}))
    assert [type(op) for op in mg.ops] == [Gemm, Gemm]


@pytest.mark.parametrize("size", (2, 12, 16))
def test_matrix_on_every_head_is_one_grouped_product(size: int) -> None:
    """Also where heads are narrower than the array: a Move costs more than idle lanes."""
    nodes = [Reshape(("x",), "h", shape=(1, 5, 3, size)), MatMul(("h", "r"), "t"),
             Reshape(("t",), "y", shape=(1, 5, 3 * size))]  # fmt: skip
    mg = check(graph(nodes, {"x": (1, 5, 3 * size)}, {"r": random(1, size, size)}))
    assert [op.groups for op in gemms(mg)] == [3] and len(mg.ops) == 1


# ---------------------------------------------------------------- products and softmax


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
