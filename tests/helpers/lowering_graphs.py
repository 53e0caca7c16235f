# SPDX-License-Identifier: Apache-2.0
"""Graphs for the lowering tests, built node by node.

In: nodes, input shapes, constants.  Out: a Graph, and random signed feeds that hold zeros too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from neuralmatrix.ir.graph import operators
from neuralmatrix.ir.graph.nodes import Graph, Node
from neuralmatrix.ir.graph.verify import verify_graph
from neuralmatrix.ir.matgraph.ops import Gemm, MatGraph
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float
from neuralmatrix.ir.types import Array, QParams, Shape
from targets import lower


def graph(
    nodes: Sequence[Node],
    inputs: Mapping[str, Shape],
    constants: Mapping[str, Any] | None = None,
    outputs: Sequence[str] = (),
    quant: Mapping[str, QParams] | None = None,
    weight_scales: Mapping[str, Array] | None = None,
) -> Graph:
    """Return a verified Graph; its outputs are the last node's unless named."""
    arrays = {name: np.asarray(c, np.float32) for name, c in (constants or {}).items()}
    shapes = {**inputs, **{name: c.shape for name, c in arrays.items()}}
    for node in nodes:
        shapes[node.output] = operators.infer_shape(node, shapes)
    outs = tuple(outputs) or (nodes[-1].output,)
    made = Graph(
        tuple(inputs), outs, tuple(nodes), arrays, shapes, quant or {}, weight_scales or {}
    )
    return verify_graph(made)


def random(seed: int, *shape: int) -> Array:
    """Return signed normal values, every ninth of them 0."""
    x = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    x.reshape(-1)[::9] = 0
    return x


def feeds_of(g: Graph, seed: int = 7) -> dict[str, Array]:
    return {n: random(seed + i, *g.shapes[n]) for i, n in enumerate(g.inputs)}


def check(g: Graph) -> MatGraph:
    """Return the MatGraph of ``g``, checked against the node-by-node reference."""
    mg = lower(g)
    feeds = feeds_of(g)
    found = port_outputs(mg, run_float(mg, feeds, prescribed=False))
    wanted = operators.run_graph(g, {n: x.astype(np.float64) for n, x in feeds.items()})
    for name in g.outputs:
        assert found[name].shape == wanted[name].shape
        # float32 sums of at most a few hundred products of normal values, plus folded constants
        np.testing.assert_allclose(found[name], wanted[name], rtol=2e-5, atol=5e-5)
    return mg


def gemms(mg: MatGraph) -> list[Gemm]:
    return [op for op in mg.ops if isinstance(op, Gemm)]
