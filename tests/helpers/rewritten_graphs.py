# SPDX-License-Identifier: Apache-2.0
"""Small Graphs for the tests of rewrites, node by node.

In: nodes and constants.  Out: a Graph on one input "x"; the simplified graph, checked for the same
values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from neuralmatrix.ir.graph.nodes import Binary, Conv, Graph, Node, Unary
from neuralmatrix.ir.graph.operators import infer_shape, run_graph
from neuralmatrix.ir.graph.verify import verify_graph
from neuralmatrix.ir.types import Function, QParams
from neuralmatrix.transforms.graph.simplify import simplify

IMAGE = (2, 4, 6, 5)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def graph_of(
    nodes: Sequence[Node],
    constants: Mapping[str, np.ndarray] | None = None,
    *,
    shape: tuple[int, ...] = IMAGE,
    outputs: Sequence[str] = ("y",),
    quant: Mapping[str, QParams] | None = None,
    scales: Mapping[str, np.ndarray] | None = None,
) -> Graph:
    held = {name: np.asarray(a, np.float32) for name, a in (constants or {}).items()}
    shapes = {"x": shape, **{name: a.shape for name, a in held.items()}}
    for node in nodes:
        shapes[node.output] = infer_shape(node, shapes)
    graph = Graph(
        ("x",), tuple(outputs), tuple(nodes), held, shapes, dict(quant or {}), dict(scales or {})
    )
    return verify_graph(graph)


def simplified(graph: Graph) -> Graph:
    """Return the result, checked for equal values and for dead nodes."""
    result = simplify(graph)
    x = random(*graph.shapes["x"], seed=9)
    before, after = run_graph(graph, {"x": x}), run_graph(result, {"x": x})
    for name, array in before.items():
        # products and sums in another order
        np.testing.assert_allclose(after[name], array, rtol=2e-5, atol=2e-5)
    used = {name for node in result.nodes for name in node.inputs}
    assert set(result.constants) == used - {node.output for node in result.nodes} - {"x"}
    assert result.outputs == graph.outputs
    return result


def kinds(graph: Graph) -> list[str]:
    return [type(node).__name__ for node in graph.nodes]


def unary(x: str, y: str, name: str, *params: float) -> Unary:
    return Unary((x,), y, function=Function(name, params))


def binary(kind: Any, a: str, b: str, y: str) -> Binary:
    return Binary((a, b), y, kind=kind)


def convolution(x: str, y: str, *operands: str, groups: int = 1, pads: int = 1) -> Conv:
    return Conv(
        (x, *operands),
        y,
        strides=(1, 1),
        pads=(pads,) * 4,
        dilations=(1, 1),
        groups=groups,
    )
