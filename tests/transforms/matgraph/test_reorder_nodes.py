# SPDX-License-Identifier: Apache-2.0
"""Node reordering, with which more blocks of a constant sparse matrix are all zero.

In: small graphs.  Out: golden texts before and after the pass; the same values.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import neuralmatrix as nm
import numpy as np
import onnx
import pytest
from build_onnx import model, node, signed
from golden_passes import check_pass, exact
from graph_networks import check_floats, lowered
from lowering_graphs import graph
from neuralmatrix.ir.graph.nodes import Graph, MatMul, Unary
from neuralmatrix.ir.matgraph.blocks import nonzero_blocks
from neuralmatrix.ir.matgraph.ops import Gemm
from neuralmatrix.ir.types import Array, Function
from neuralmatrix.transforms.matgraph.reorder_nodes import cluster, cuthill_mckee, reorder_nodes
from targets import target

LANES = target().lanes


def small_band(nodes: int) -> Array:
    """Return a band matrix, its nodes in random order."""
    at = np.arange(nodes)
    band = (np.abs(at[:, None] - at) <= 2) * exact(1, nodes, nodes)
    order = np.random.default_rng(2).permutation(nodes)
    return np.asarray(band[np.ix_(order, order)], np.float32)


def layers(matrix: Array) -> Graph:
    """Return a graph that multiplies by the matrix twice, from the left."""
    nodes = [MatMul(("a", "x"), "h", "h.node"), Unary(("h",), "r", function=Function("relu")),
             MatMul(("a", "r"), "y", "y.node")]  # fmt: skip
    return graph(nodes, {"x": (len(matrix), 4)}, {"a": matrix})


def clusters(rows: int, columns: int) -> Array:
    """Return nodes in groups of unequal size, and a few edges between them."""
    rng = np.random.default_rng(4)
    groups = (rng.integers(0, 9, rows) ** 2 // 9, rng.integers(0, 9, columns) ** 2 // 9)
    edges = (groups[0][:, None] == groups[1]) & (rng.random((rows, columns)) < 0.25)
    edges |= rng.random((rows, columns)) < 0.002
    return np.asarray(edges * exact(5, rows, columns), np.float32)


CASES = {
    "clusters": graph([MatMul(("a", "x"), "y")], {"x": (112, 4)}, {"a": clusters(144, 112)}),
    "shuffled_band": layers(small_band(112)),
    "kept_dense": layers(exact(3, 80, 80) / 8),
    "kept_few_nodes": layers(small_band(48)),
}


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    check_pass(request, "reorder_nodes", case, CASES[case])


def shuffled_band(nodes: int, seed: int = 3) -> Array:
    """Return a band matrix, its nodes in random order."""
    rng = np.random.default_rng(seed)
    at = np.arange(nodes)
    band = (np.abs(at[:, None] - at) <= 3) * rng.normal(size=(nodes, nodes))
    order = rng.permutation(nodes)
    return np.asarray(band[np.ix_(order, order)], np.float32)


def two_products(matrix: Array, width: int = 5) -> onnx.ModelProto:
    nodes = [node("MatMul", ["a", "x"], ["h"]), node("Relu", ["h"], ["r"]),
             node("MatMul", ["a", "r"], ["y"])]  # fmt: skip
    return model(nodes, {"x": (len(matrix), width)}, ["y"], {"a": matrix})


@pytest.mark.parametrize("nodes", [1, 16, 77])
def test_orders_are_permutations(nodes: int) -> None:
    pattern = shuffled_band(nodes) != 0
    for order in (cuthill_mckee(pattern), cluster(pattern, LANES), cluster(pattern, LANES, "high")):
        assert sorted(order) == list(range(nodes))


def test_order_of_unconnected_nodes() -> None:
    assert sorted(cuthill_mckee(np.zeros((20, 20), bool))) == list(range(20))
    assert sorted(cluster(np.zeros((20, 3), bool), LANES)) == list(range(20))


def test_reordering_leaves_fewer_blocks_and_the_same_results() -> None:
    matrix = shuffled_band(203)
    before = nonzero_blocks(matrix.T[None, None], LANES)
    mg = check_floats(two_products(matrix), {"x": signed((203, 5))})
    counts = [nonzero_blocks(op.weight, LANES) for op in mg.ops
              if isinstance(op, Gemm) and op.weight is not None]  # fmt: skip
    assert len(counts) == 2 and max(counts) <= before / 3
    assert any(step.kind == "take" for port in (*mg.inputs, *mg.outputs) for step in port.steps)


def test_reordering_a_rectangular_matrix() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 12, 190), rng.integers(0, 12, 133)
    matrix = (groups[0][:, None] == groups[1]) * rng.normal(size=(190, 133))
    nodes = [node("MatMul", ["a", "x"], ["y"])]
    proto = model(nodes, {"x": (133, 6)}, ["y"], {"a": matrix.astype(np.float32)})
    mg = check_floats(proto, {"x": signed((133, 6))})
    (op,) = mg.ops
    assert isinstance(op, Gemm) and op.weight is not None
    assert nonzero_blocks(op.weight, LANES) < nonzero_blocks(matrix.T[None, None], LANES) / 2


def test_axes_of_reshaped_tensors_keep_their_order() -> None:
    """A Move that is not a transposition fixes the node axis of its input."""
    matrix = shuffled_band(128)
    nodes = [node("MatMul", ["a", "x"], ["h"]), node("Reshape", ["h", "shape"], ["s"]),
             node("Softmax", ["s"], ["y"], axis=-1)]  # fmt: skip
    constants = {"a": matrix, "shape": np.array([32, 20])}
    check_floats(model(nodes, {"x": (128, 5)}, ["y"], constants), {"x": signed((128, 5))})


def test_dense_weights_are_left_alone() -> None:
    mg = lowered(two_products(signed((80, 80), 4)))
    assert reorder_nodes(mg, target()) is mg


def test_program_with_a_bad_order_is_refused(tmp_path: Path) -> None:
    program = nm.compile(two_products(shuffled_band(150)), calibration=[{"x": signed((150, 5))}])
    port = program.outputs[0]
    step = next(s for s in port.steps if s.kind == "take")
    twice = replace(step, arg=(step.arg[0], *step.arg[2:], step.arg[2]))
    steps = tuple(twice if s is step else s for s in port.steps)
    bad = replace(program, outputs=(replace(port, steps=steps),))
    bad.save(tmp_path / "bad.nmx")
    with pytest.raises(nm.BadProgram, match="steps"):
        nm.load(tmp_path / "bad.nmx")
