# SPDX-License-Identifier: Apache-2.0
"""Constructors of graph networks over a constant graph as ONNX models, without torch.

In: edges (2, E) from source to target, sizes, a seed or the ``state_dict`` of the same network in
``torch_graphs``.  Out: ``onnx.ModelProto`` (float, opset 18) from "features" (nodes, features) to
"logits" (nodes, classes).  ``dense`` multiplies by an adjacency matrix; otherwise messages travel
by Gather, Mul and ScatterElements as PyTorch Geometric exports them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from zoo import Builder, finish
from zoo_transformers import Weights, fixed, linear, normal

OPSET = 18  # the first opset whose ScatterElements supports a maximum
NO_EDGE = -1e4  # score of a pair without an edge


@dataclass(frozen=True)
class Net:
    """The state that the layers of one network share."""

    b: Builder
    edges: Any
    nodes: int
    dense: bool


def with_loops(edges: Any, nodes: int) -> Any:
    """Add an edge from every node to itself."""
    return np.concatenate([edges, np.tile(np.arange(nodes), (2, 1))], 1)


def incoming(edges: Any, nodes: int) -> Any:
    """Return (nodes,): the number of edges that end at each node."""
    return np.bincount(edges[1], minlength=nodes)


def gcn_weights(edges: Any, nodes: int) -> Any:
    """Return 1 / sqrt(degree(source) * degree(target)) per edge."""
    factor = incoming(edges, nodes) ** -0.5
    return factor[edges[0]] * factor[edges[1]]


def aggregate(net: Net, x: str, name: str, edges: Any, weights: Any, width: int) -> str:
    """Weighted sum over the incoming edges of every node; x is (nodes, width)."""
    if net.dense:
        matrix = np.zeros((net.nodes, net.nodes))
        np.add.at(matrix, (edges[1], edges[0]), weights)
        return net.b.node("MatMul", [fixed(net.b, f"{name}.matrix", matrix), x], name)
    source = fixed(net.b, f"{name}.source", edges[0])
    gathered = net.b.node("Gather", [x, source], f"{name}.gathered", axis=0)
    factors = fixed(net.b, f"{name}.weights", weights[:, None])
    messages = net.b.node("Mul", [gathered, factors], f"{name}.messages")
    return scattered(net, messages, name, edges[1], (width,))


def scattered(
    net: Net, x: str, name: str, target: Any, tail: tuple[int, ...], kind: str = "add"
) -> str:
    """Reduce the messages (edges, *tail) of each target to (nodes, *tail)."""
    index = np.broadcast_to(target.reshape(-1, *[1] * len(tail)), (len(target), *tail))
    start = np.full((net.nodes, *tail), NO_EDGE if kind == "max" else 0.0)
    inputs = [fixed(net.b, f"{name}.start", start), fixed(net.b, f"{name}.index", index), x]
    return net.b.node("ScatterElements", inputs, name, axis=0, reduction=kind)


# ---------------------------------------------------------------- layers


def gcn(net: Net, x: str, name: str, ends: tuple[int, int], heads: int) -> str:
    """aggregate(x W) + b with symmetric normalisation and self-loops."""
    edges = with_loops(net.edges, net.nodes)
    y = linear(net.b, x, f"{name}.linear", ends, bias=False)
    y = aggregate(net, y, f"{name}.aggregate", edges, gcn_weights(edges, net.nodes), ends[1])
    return net.b.node("Add", [y, _bias(net, name, ends)], name)


def _bias(net: Net, name: str, ends: tuple[int, int]) -> str:
    return net.b.constant(f"{name}.bias", lambda: normal(net.b, (ends[1],), 0.1))


def sage(net: Net, x: str, name: str, ends: tuple[int, int], heads: int) -> str:
    """Linear of the neighbours' mean plus linear of the node itself."""
    weights = 1 / incoming(net.edges, net.nodes)[net.edges[1]]
    mean = aggregate(net, x, f"{name}.aggregate", net.edges, weights, ends[0])
    y = linear(net.b, mean, f"{name}.neighbours", ends)
    return net.b.node("Add", [y, linear(net.b, x, f"{name}.itself", ends, bias=False)], name)


def gin(net: Net, x: str, name: str, ends: tuple[int, int], heads: int) -> str:
    """mlp((1 + epsilon) x + sum of the neighbours)."""
    total = aggregate(net, x, f"{name}.aggregate", net.edges, np.ones(net.edges.shape[1]), ends[0])
    epsilon = net.b.constant(f"{name}.epsilon", lambda: np.float32(0.1))
    own = net.b.node("Add", [fixed(net.b, "one", 1.0), epsilon], f"{name}.one_more")
    own = net.b.node("Mul", [own, x], f"{name}.own")
    y = linear(net.b, net.b.node("Add", [own, total], f"{name}.sum"), f"{name}.up", ends)
    return linear(net.b, net.b.relu(y), f"{name}.down", (ends[1], ends[1]))


def gat(net: Net, x: str, name: str, ends: tuple[int, int], heads: int) -> str:
    """Attention over the incoming edges and a self-loop; heads are concatenated."""
    b, width = net.b, ends[1] // heads
    y = linear(b, x, f"{name}.linear", ends, bias=False)
    shape = fixed(b, f"{name}.split", [net.nodes, heads, width])
    h = b.node("Reshape", [y, shape], f"{name}.heads")
    axis = fixed(b, "last", [-1])
    parts = []
    for end in ("source", "target"):
        key = f"{name}.{end}_score"
        factor = b.constant(key, lambda: normal(b, (heads, width), 0.5))
        product = b.node("Mul", [h, factor], f"{name}.{end}_product")
        parts.append(b.node("ReduceSum", [product, axis], f"{name}.{end}", keepdims=0))
    y = (_dense_attention if net.dense else _edge_attention)(net, h, name, parts, heads, width)
    y = b.node("Reshape", [y, fixed(b, f"{name}.merge", [net.nodes, ends[1]])], f"{name}.merged")
    return b.node("Add", [y, _bias(net, name, ends)], name)


def _dense_attention(net: Net, h: str, name: str, parts: list[str], heads: int, width: int) -> str:
    b = net.b
    edges = with_loops(net.edges, net.nodes)
    absent = np.full((net.nodes, net.nodes), NO_EDGE)
    absent[edges[1], edges[0]] = 0
    source, target = (b.node("Transpose", [p], f"{p}.turned", perm=[1, 0]) for p in parts)
    row = b.node("Unsqueeze", [source, fixed(b, "axis_1", [1])], f"{name}.row")
    column = b.node("Unsqueeze", [target, fixed(b, "axis_2", [2])], f"{name}.column")
    scores = b.node("Add", [column, row], f"{name}.scores")
    scores = b.node("LeakyRelu", [scores], f"{name}.leaky", alpha=0.2)
    scores = b.node("Add", [scores, fixed(b, f"{name}.absent", absent)], f"{name}.masked")
    shares = b.node("Softmax", [scores], f"{name}.shares", axis=-1)
    values = b.node("Transpose", [h], f"{name}.values", perm=[1, 0, 2])
    y = b.node("MatMul", [shares, values], f"{name}.product")
    return b.node("Transpose", [y], f"{name}.turned", perm=[1, 0, 2])


def _edge_attention(net: Net, h: str, name: str, parts: list[str], heads: int, width: int) -> str:
    b = net.b
    edges = with_loops(net.edges, net.nodes)
    ends = [fixed(b, f"{name}.edges.{end}", edges[end]) for end in (0, 1)]

    def gathered(x: str, end: int, what: str) -> str:
        return b.node("Gather", [x, ends[end]], f"{name}.{what}", axis=0)

    scores = [gathered(part, end, f"score{end}") for end, part in enumerate(parts)]
    scores = b.node("Add", scores, f"{name}.scores")
    scores = b.node("LeakyRelu", [scores], f"{name}.leaky", alpha=0.2)
    top = scattered(net, scores, f"{name}.top", edges[1], (heads,), "max")
    moved = b.node("Sub", [scores, gathered(top, 1, "edge_top")], f"{name}.moved")
    shares = b.node("Exp", [moved], f"{name}.exp")
    total = scattered(net, shares, f"{name}.total", edges[1], (heads,))
    shares = b.node("Div", [shares, gathered(total, 1, "edge_total")], f"{name}.shares")
    column = b.node("Unsqueeze", [shares, fixed(b, "axis_2", [2])], f"{name}.column")
    messages = b.node("Mul", [gathered(h, 0, "edge_values"), column], f"{name}.messages")
    return scattered(net, messages, f"{name}.product", edges[1], (heads, width))


# ---------------------------------------------------------------- networks

Layer = Callable[[Net, str, str, tuple[int, int], int], str]
LAYERS: dict[str, Layer] = {"gcn": gcn, "sage": sage, "gin": gin, "gat": gat}
ATTENTION_HEADS = 4


def graph_net(
    kind: str, sizes: tuple[int, int, int], edges: Any, nodes: int, dense: bool = False,
    weights: Weights | None = None, seed: int = 0,
) -> onnx.ModelProto:  # fmt: skip
    """torch_graphs.graph_net: two layers; ``sizes`` is features, hidden, classes."""
    features, hidden, classes = sizes
    net = Net(Builder(seed, weights), np.asarray(edges), nodes, dense)
    layer, activation = LAYERS[kind], "Elu" if kind == "gat" else "Relu"
    x = layer(net, "features", "first", (features, hidden), ATTENTION_HEADS)
    x = net.b.node(activation, [x], "activation")
    net.b.node("Identity", [layer(net, x, "second", (hidden, classes), 1)], "logits")
    given = helper.make_tensor_value_info("features", TensorProto.FLOAT, [nodes, features])
    return finish(net.b, kind, [given], ("logits", [nodes, classes]), OPSET)
