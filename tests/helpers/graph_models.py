# SPDX-License-Identifier: Apache-2.0
"""Small graph networks as ONNX models, in the dense and the edge form.

In: a random graph.  Out: ModelProtos and what they need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from build_onnx import model, node
from neuralmatrix.ir.types import Array

FEATURES, HIDDEN, CLASSES = 20, 24, 5


@dataclass(frozen=True)
class RandomGraph:
    """``edges`` (2, E): sources and targets, self loops included."""

    nodes: int
    edges: Array

    @property
    def adjacency(self) -> Array:
        """Return A with A[target, source] = number of edges."""
        a = np.zeros((self.nodes, self.nodes), np.float32)
        np.add.at(a, (self.edges[1], self.edges[0]), 1)
        return a

    @property
    def normalized(self) -> Array:
        degree = self.adjacency.sum(1)
        return np.asarray(self.adjacency / np.sqrt(degree[:, None] * degree), np.float32)


def random_graph(nodes: int, degree: float = 3.0, seed: int = 0) -> RandomGraph:
    rng = np.random.default_rng(seed)
    count = int(nodes * degree / 2)
    pairs = rng.integers(0, nodes, (2, count))
    loops = np.arange(nodes)
    both = np.concatenate([pairs, pairs[::-1], [loops, loops]], axis=1)
    return RandomGraph(nodes, np.unique(both, axis=1).astype(np.int64))


def features(graph: RandomGraph, seed: int = 1) -> Array:
    x = np.random.default_rng(seed).normal(0, 1, (graph.nodes, FEATURES))
    x[::7] = 0
    return x.astype(np.float32)


def _weights(*shapes: tuple[int, ...]) -> list[Array]:
    rng = np.random.default_rng(5)
    return [rng.normal(0, 1 / np.sqrt(shape[0]), shape).astype(np.float32) for shape in shapes]


def _biases() -> tuple[Array, Array]:
    rng = np.random.default_rng(6)
    return (rng.normal(0, 0.3, HIDDEN).astype(np.float32),
            rng.normal(0, 0.3, CLASSES).astype(np.float32))  # fmt: skip


def dense_gcn(graph: RandomGraph) -> onnx.ModelProto:
    """Return A relu(A X W1 + b1) W2 + b2 with A an input."""
    w1, w2 = _weights((FEATURES, HIDDEN), (HIDDEN, CLASSES))
    b1, b2 = _biases()
    nodes = [
        node("MatMul", ["x", "w1"], ["xw"]), node("MatMul", ["a", "xw"], ["axw"]),
        node("Add", ["axw", "b1"], ["h"]), node("Relu", ["h"], ["r"]),
        node("MatMul", ["r", "w2"], ["rw"]), node("MatMul", ["a", "rw"], ["arw"]),
        node("Add", ["arw", "b2"], ["y"]),
    ]  # fmt: skip
    shapes = {"a": (graph.nodes, graph.nodes), "x": (graph.nodes, FEATURES)}
    return model(nodes, shapes, ["y"], {"w1": w1, "w2": w2, "b1": b1, "b2": b2})


def edge_gcn(graph: RandomGraph) -> onnx.ModelProto:
    """Return the same with Gather, Mul by the edge's weight, ScatterElements."""
    source, target = graph.edges
    weight = graph.normalized[target, source][:, None]
    w1, w2 = _weights((FEATURES, HIDDEN), (HIDDEN, CLASSES))
    b1, b2 = _biases()
    constants = {"w1": w1, "w2": w2, "b1": b1, "b2": b2, "source": source, "weight": weight}
    nodes = []
    for i, (x, w, b, out, width) in enumerate(
        (("x", "w1", "b1", "h", HIDDEN), ("r", "w2", "b2", "y", CLASSES))
    ):
        constants[f"zeros{i}"] = np.zeros((graph.nodes, width), np.float32)
        constants[f"target{i}"] = np.repeat(target[:, None], width, 1)
        nodes += [
            node("MatMul", [x, w], [f"xw{i}"]),
            node("Gather", [f"xw{i}", "source"], [f"xj{i}"], axis=0),
            node("Mul", ["weight", f"xj{i}"], [f"m{i}"]),
            node("ScatterElements", [f"zeros{i}", f"target{i}", f"m{i}"], [f"s{i}"], axis=0,
                 reduction="add"),
            node("Add", [f"s{i}", b], [out]),
        ]  # fmt: skip
        nodes += [node("Relu", ["h"], ["r"])] if i == 0 else []
    return model(nodes, {"x": (graph.nodes, FEATURES)}, ["y"], constants, opset=18)


def sage(graph: RandomGraph) -> onnx.ModelProto:
    """Return GraphSAGE: relu(x Ws + mean of neighbours Wn + b), twice."""
    mean = graph.adjacency / graph.adjacency.sum(1, keepdims=True)
    s1, n1, s2, n2 = _weights(
        (FEATURES, HIDDEN), (FEATURES, HIDDEN), (HIDDEN, CLASSES), (HIDDEN, CLASSES)
    )
    b1, b2 = _biases()
    nodes = []
    for i, (x, out) in enumerate((("x", "h"), ("r", "y")), 1):
        nodes += [
            node("MatMul", ["a", x], [f"ax{i}"]), node("MatMul", [f"ax{i}", f"n{i}"], [f"an{i}"]),
            node("MatMul", [x, f"s{i}"], [f"xs{i}"]),
            node("Add", [f"an{i}", f"xs{i}"], [f"t{i}"]), node("Add", [f"t{i}", f"b{i}"], [out]),
        ]  # fmt: skip
        nodes += [node("Relu", ["h"], ["r"])] if i == 1 else []
    constants = {"a": mean, "s1": s1, "n1": n1, "s2": s2, "n2": n2, "b1": b1, "b2": b2}
    return model(nodes, {"x": (graph.nodes, FEATURES)}, ["y"], constants)


def gin(graph: RandomGraph) -> onnx.ModelProto:
    """Return GIN: a two-layer perceptron of (1 + eps) x + sum of neighbours."""
    others = graph.adjacency - np.eye(graph.nodes, dtype=np.float32)
    w1, w2 = _weights((FEATURES, HIDDEN), (HIDDEN, CLASSES))
    b1, b2 = _biases()
    nodes = [
        node("Mul", ["x", "eps"], ["ex"]), node("MatMul", ["a", "x"], ["ax"]),
        node("Add", ["ex", "ax"], ["s"]),
        node("MatMul", ["s", "w1"], ["sw"]), node("Add", ["sw", "b1"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("MatMul", ["r", "w2"], ["rw"]), node("Add", ["rw", "b2"], ["y"]),
    ]  # fmt: skip
    constants = {"a": others, "eps": np.float32(1.3), "w1": w1, "w2": w2, "b1": b1, "b2": b2}
    return model(nodes, {"x": (graph.nodes, FEATURES)}, ["y"], constants)


def dense_gat(graph: RandomGraph) -> onnx.ModelProto:
    """Return one attention head: a masked softmax over all nodes of leaky_relu(l_i + r_j)."""
    w, left, right = _weights((FEATURES, HIDDEN), (HIDDEN, 1), (HIDDEN, 1))
    mask = np.where(graph.adjacency > 0, 0, -1e9).astype(np.float32)
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("MatMul", ["h", "left"], ["l"]), node("MatMul", ["h", "right"], ["r"]),
        node("Transpose", ["r"], ["rt"], perm=[1, 0]), node("Add", ["l", "rt"], ["e"]),
        node("LeakyRelu", ["e"], ["s"], alpha=0.2), node("Add", ["s", "mask"], ["m"]),
        node("Softmax", ["m"], ["p"], axis=1), node("MatMul", ["p", "h"], ["y"]),
    ]  # fmt: skip
    constants = {"w": w, "left": left, "right": right, "mask": mask}
    return model(nodes, {"x": (graph.nodes, FEATURES)}, ["y"], constants)


def edge_gat(graph: RandomGraph) -> onnx.ModelProto:
    """Return the same per edge: gathers, maximum and sum over the edges of each target."""
    source, target = graph.edges
    w, left, right = _weights((FEATURES, HIDDEN), (HIDDEN, 1), (HIDDEN, 1))
    infinity = onnx.numpy_helper.from_array(np.array([-np.inf], np.float32))
    constants = {
        "w": w, "left": left, "right": right, "source": source, "target": target,
        "target1": target[:, None], "target2": np.repeat(target[:, None], HIDDEN, 1),
        "shape": np.array([graph.nodes, 1]), "zeros1": np.zeros((graph.nodes, 1), np.float32),
        "zeros2": np.zeros((graph.nodes, HIDDEN), np.float32),
    }  # fmt: skip
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("MatMul", ["h", "left"], ["l"]), node("MatMul", ["h", "right"], ["r"]),
        node("Gather", ["l", "target"], ["li"], axis=0),
        node("Gather", ["r", "source"], ["rj"], axis=0),
        node("Add", ["li", "rj"], ["e"]), node("LeakyRelu", ["e"], ["s"], alpha=0.2),
        node("ConstantOfShape", ["shape"], ["lowest"], value=infinity),
        node("ScatterElements", ["lowest", "target1", "s"], ["top"], axis=0, reduction="max"),
        node("Gather", ["top", "target"], ["ti"], axis=0),
        node("Sub", ["s", "ti"], ["d"]), node("Exp", ["d"], ["p"]),
        node("ScatterElements", ["zeros1", "target1", "p"], ["total"], axis=0, reduction="add"),
        node("Gather", ["total", "target"], ["tj"], axis=0), node("Div", ["p", "tj"], ["c"]),
        node("Gather", ["h", "source"], ["hj"], axis=0), node("Mul", ["hj", "c"], ["m"]),
        node("ScatterElements", ["zeros2", "target2", "m"], ["y"], axis=0, reduction="add"),
    ]  # fmt: skip
    return model(nodes, {"x": (graph.nodes, FEATURES)}, ["y"], constants, opset=18)


MODELS: Mapping[str, Callable[[RandomGraph], onnx.ModelProto]] = {
    "edge_gcn": edge_gcn,
    "sage": sage,
    "gin": gin,
    "dense_gat": dense_gat,
    "edge_gat": edge_gat,
}
