# SPDX-License-Identifier: Apache-2.0
"""Graphs of convolutions and their neighbours, on images of 6 x 6 with 4 channels.

In: nodes.  Out: a Graph with the constants that they name; the kinds of a MatGraph's operations.
"""

from __future__ import annotations

from lowering_graphs import graph, random
from neuralmatrix.ir.graph.nodes import Conv, Graph, Node, Unary
from neuralmatrix.ir.matgraph.ops import MatGraph
from neuralmatrix.ir.types import Array, Function, QParams

RELU = Function("relu")


WEIGHTS: dict[str, Array] = {
    "w": random(1, 4, 4, 3, 3) / 4,
    "v": random(2, 4, 4, 3, 3) / 4,
    "d": random(3, 4, 1, 3, 3) / 2,
    "b": random(4, 4),
    "f": random(5, 4 * 6 * 6, 10) / 8,
    "g": random(6, 10),
}


IMAGE = {"x": (1, 4, 6, 6)}


def conv(x: str, w: str, y: str, **more: object) -> Conv:
    attributes = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), **more}
    return Conv((x, w, "b"), y, f"{y}.node", **attributes)  # type: ignore[arg-type]


def relu(x: str, y: str) -> Unary:
    return Unary((x,), y, f"{y}.node", function=RELU)


def make(*nodes: Node, quant: dict[str, QParams] | None = None, **more: object) -> Graph:
    used = {n for node in nodes for n in node.inputs}
    constants = {n: a for n, a in WEIGHTS.items() if n in used}
    return graph(nodes, IMAGE, constants, quant=quant, **more)  # type: ignore[arg-type]


def kinds(mg: MatGraph) -> list[str]:
    return [type(op).__name__ for op in mg.ops]


Q1, Q2, Q3 = QParams(0.1), QParams(0.2, 3), QParams(0.05)
