# SPDX-License-Identifier: Apache-2.0
"""The orientation of matrices, chosen so that few are transposed by copying.

In: small graphs.  Out: golden texts before and after the pass; the same values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from build_onnx import model, node, signed
from golden_passes import check_pass, exact
from graph_models import (
    dense_gcn,
    edge_gcn,
    features,
    gin,
    sage,
)
from graph_networks import GRAPH, check_floats, moves
from lowering_graphs import graph
from neuralmatrix.compiler import front_end
from neuralmatrix.ir.graph.nodes import Binary, Graph, MatMul, Node, Softmax, Transpose, Unary
from neuralmatrix.ir.matgraph.ops import Gemm
from neuralmatrix.ir.types import Array, Function
from neuralmatrix.transforms.matgraph.legalize_operands import legalize_operands
from targets import target

ROWS = {"x": (20, 8)}
WEIGHTS = {"a": exact(1, 20, 20) / 8, "w": exact(2, 8, 6), "b": exact(3, 6)}


def make(*nodes: Node) -> Graph:
    used = {n for node in nodes for n in node.inputs}
    return graph(nodes, ROWS, {n: c for n, c in WEIGHTS.items() if n in used})


LAYER = (MatMul(("x", "w"), "h", "h.node"), MatMul(("a", "h"), "p", "p.node"),
         Binary(("p", "b"), "s"), Unary(("s",), "y", function=Function("relu")))  # fmt: skip
CASES = {
    "graph_layer": make(*LAYER),
    "kept_transposed_by_the_host": make(*LAYER[:1], Transpose(("h",), "y", perm=(1, 0))),
    "transposed_between": make(
        MatMul(("x", "w"), "h"), Transpose(("h",), "t", perm=(1, 0)), MatMul(("t", "a"), "y")
    ),
    "equal_products": graph(
        [MatMul(("x", "v"), "h"), Transpose(("h",), "t", perm=(1, 0)), MatMul(("t", "v"), "y")],
        {"x": (16, 16)}, {"v": exact(4, 16, 16)},
    ),
    "kept_softmax": make(
        MatMul(("a", "x"), "h"), Softmax(("h",), "s", axis=1), Transpose(("s",), "t", perm=(1, 0)),
        Softmax(("t",), "y", axis=1),
    ),
    "kept_product": make(MatMul(("x", "w"), "y")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    check_pass(request, "choose_orientation", case, CASES[case])


@pytest.mark.parametrize("build", [edge_gcn, sage, gin])
def test_networks_without_moves(build: object) -> None:
    assert callable(build)
    assert not moves(check_floats(build(GRAPH), {"x": features(GRAPH)}))


@pytest.mark.parametrize("build", [edge_gcn, sage])
def test_no_copy_for_the_sake_of_zeros_in_padding_lanes(build: Callable[..., object]) -> None:
    """Its 24 hidden channels leave padding lanes in a block of 32, which a bias may fill; a layout
    in which a sum runs over them costs more than its products show."""
    board = target("kv260")
    made = legalize_operands(front_end(build(GRAPH), board), board)  # type: ignore[arg-type]
    assert not [t.name for t in made.tensors.values() if t.copy_of]


def test_dense_gcn_has_the_adjacency_as_weights() -> None:
    mg = check_floats(dense_gcn(GRAPH), {"x": features(GRAPH)}, {"a": GRAPH.normalized})
    kinds = [(type(op).__name__, op.rhs is None) for op in mg.ops if isinstance(op, Gemm)]
    assert kinds == [("Gemm", False), ("Gemm", True)] * 2 and len(mg.ops) == 4


def test_gathers_and_scatters_become_the_same_products() -> None:
    mg = check_floats(edge_gcn(GRAPH), {"x": features(GRAPH)})
    weights = [op.weight for op in mg.ops if isinstance(op, Gemm) and op.weight is not None]
    for weight in weights:
        np.testing.assert_allclose(weight[0, 0], GRAPH.normalized.T, rtol=1e-6)
    assert len(weights) == 2


@pytest.mark.parametrize(("last", "count"), [("MatMul", 0), ("Add", 1)])
def test_transposition_of_a_softmax(last: str, count: int) -> None:
    """Row statistics fix the orientation of their operands; products do not."""
    end = {"MatMul": node("MatMul", ["t", "v"], ["y"]), "Add": node("Add", ["p", "t"], ["y"])}
    nodes = [
        node("MatMul", ["x", "w"], ["h"]), node("Softmax", ["h"], ["p"], axis=-1),
        node("Transpose", ["p"], ["t"], perm=[1, 0]), end[last],
    ]  # fmt: skip
    constants = {"w": signed((7, 21), 1), "v": signed((21, 5), 2)}
    mg = check_floats(model(nodes, {"x": (21, 7)}, ["y"], constants), {"x": signed((21, 7))})
    assert len(moves(mg)) == count


@pytest.mark.parametrize("seed", range(24))
def test_random_chains_of_products_and_transpositions(seed: int) -> None:
    proto, feeds = random_chain(seed)
    check_floats(proto, feeds)


def random_chain(seed: int) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Return products from both sides, transpositions, biases, activations and sums of matrices."""
    rng = np.random.default_rng(seed)
    rows, cols = (int(n) for n in rng.integers(3, 40, 2))
    feeds = {"x0": signed((rows, cols), seed)}
    constants: dict[str, Array] = {}
    nodes, shapes = [], {"x0": (rows, cols)}
    for i in range(8):
        x = f"x{rng.integers(max(0, i - 1), i + 1)}"
        h, w = shapes[x]
        out = f"x{i + 1}"
        kind = rng.choice(["right", "left", "turn", "bias", "relu", "sum"])
        size = int(rng.integers(3, 40))
        scale = 1 / np.sqrt(max(h, w))
        if kind == "right":
            constants[f"c{i}"], shapes[out] = signed((w, size), i) * scale, (h, size)
            nodes.append(node("MatMul", [x, f"c{i}"], [out]))
        elif kind == "left":
            constants[f"c{i}"], shapes[out] = signed((size, h), i) * scale, (size, w)
            nodes.append(node("MatMul", [f"c{i}", x], [out]))
        elif kind == "turn":
            shapes[out] = (w, h)
            nodes.append(node("Transpose", [x], [out], perm=[1, 0]))
        elif kind == "bias":
            constants[f"c{i}"], shapes[out] = signed((w,), i), (h, w)
            nodes.append(node("Add", [x, f"c{i}"], [out]))
        elif kind == "relu":
            shapes[out] = (h, w)
            nodes.append(node("Relu", [x], [out]))
        else:
            shapes[out] = (h, w)
            alike = [n for n, s in shapes.items() if s == (h, w) and n != out]
            nodes.append(node("Add", [x, str(rng.choice(alike))], [out]))
    constants = {n: c.astype(np.float32) for n, c in constants.items()}
    nodes.append(node("Identity", ["x8"], ["y"]))
    return model(nodes, {"x0": (rows, cols)}, ["y"], constants), feeds
