# SPDX-License-Identifier: Apache-2.0
"""Graphs of normalisations among products of rows of 24 channels.

In: nodes.  Out: a Graph with the constants that they name; the results of a MatGraph's operations.
"""

from __future__ import annotations

import numpy as np
from lowering_graphs import graph, random
from neuralmatrix.ir.graph.nodes import Graph, Node, Normalize
from neuralmatrix.ir.matgraph.ops import Gemm, MatGraph, Window

WEIGHTS = {
    "w": random(1, 24, 24) / 5,
    "v": random(2, 24, 24) / 5,
    "u": random(3, 24, 24) / 5,
    "c": random(4, 24),
    "gamma": 1 + random(5, 24) / 3,
    "beta": random(6, 24),
    "place": random(7, 5, 24),
    "small": random(10, 10, 2),
    "cls": random(8, 1, 1, 24),
}


X = {"x": (1, 5, 24)}


def norm(x: str, y: str, *operands: str, centered: bool = True) -> Normalize:
    return Normalize((x, *operands), y, f"{y}.node", (2,), 1e-5, centered)


def make(*nodes: Node, **more: object) -> Graph:
    used = {n for node in nodes for n in node.inputs}
    constants = {n: a for n, a in WEIGHTS.items() if n in used}
    return graph(nodes, X, constants, **more)  # type: ignore[arg-type]


def rows(mg: MatGraph) -> dict[str, tuple[str, ...]]:
    """Return the statistics by the operation that makes them."""
    linear = [op for op in mg.ops if isinstance(op, Gemm | Window)]
    return {op.output: tuple(r.kind for r in op.epilogue.rows) for op in linear if op.epilogue.rows}


def sizes(mg: MatGraph) -> list[int]:
    """Return the number of elements of the results of all windows."""
    return [int(np.prod(mg.tensors[op.output].shape)) for op in mg.ops if isinstance(op, Window)]
