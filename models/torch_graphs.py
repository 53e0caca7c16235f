# SPDX-License-Identifier: Apache-2.0
"""Graph networks in plain torch: GCN, GraphSAGE, GIN and GAT over a constant graph.

In: edges (2, E) from source to target, and sizes.  Out: ``nn.Module`` from node features
(nodes, features) to logits (nodes, classes).  ``dense`` multiplies by an adjacency matrix;
otherwise messages travel edge by edge: gather, multiply, scatter-add, as in PyTorch Geometric.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

NO_EDGE = -1e4  # score of a pair without an edge; exp of it is 0 in float32


def with_loops(edges: Tensor, nodes: int) -> Tensor:
    """Add an edge from every node to itself."""
    return torch.cat((edges, torch.arange(nodes).expand(2, -1)), 1)


def incoming(edges: Tensor, nodes: int) -> Tensor:
    """Return (nodes,): the number of edges that end at each node."""
    return torch.bincount(edges[1], minlength=nodes).float()


def gcn_weights(edges: Tensor, nodes: int) -> Tensor:
    """Return 1 / sqrt(degree(source) * degree(target)) per edge (arXiv 1609.02907)."""
    factor = incoming(edges, nodes).rsqrt()
    return factor[edges[0]] * factor[edges[1]]


def mean_weights(edges: Tensor, nodes: int) -> Tensor:
    """Return 1 / degree(target) per edge, so that sums become means."""
    return 1 / incoming(edges, nodes)[edges[1]]


class Aggregate(nn.Module):
    """Weighted sum over the incoming edges of every node."""

    def __init__(self, edges: Tensor, weights: Tensor, nodes: int, dense: bool) -> None:
        super().__init__()
        self.dense, self.nodes = dense, nodes
        if dense:
            matrix = torch.zeros(nodes, nodes).index_put((edges[1], edges[0]), weights, True)
            self.register_buffer("matrix", matrix, persistent=False)
        else:
            self.register_buffer("source", edges[0], persistent=False)
            self.register_buffer("target", edges[1], persistent=False)
            self.register_buffer("weights", weights[:, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.dense:
            return self.matrix @ x
        messages = x.index_select(0, self.source) * self.weights
        return scattered(messages, self.target, self.nodes)


def scattered(messages: Tensor, target: Tensor, nodes: int) -> Tensor:
    """Return (nodes, ...): the sum of the messages of each target."""
    index = target.reshape(-1, *[1] * (messages.dim() - 1)).expand(messages.shape)
    return messages.new_zeros(nodes, *messages.shape[1:]).scatter_add(0, index, messages)


# ---------------------------------------------------------------- layers


class GcnLayer(nn.Module):
    """aggregate(x W) + b with symmetric normalisation and self-loops."""

    def __init__(self, ends: tuple[int, int], edges: Tensor, nodes: int, dense: bool) -> None:
        super().__init__()
        edges = with_loops(edges, nodes)
        self.linear = nn.Linear(*ends, bias=False)
        self.bias = nn.Parameter(torch.zeros(ends[1]))
        self.aggregate = Aggregate(edges, gcn_weights(edges, nodes), nodes, dense)

    def forward(self, x: Tensor) -> Tensor:
        return self.aggregate(self.linear(x)) + self.bias


class SageLayer(nn.Module):
    """Linear of the neighbours' mean plus linear of the node itself (arXiv 1706.02216)."""

    def __init__(self, ends: tuple[int, int], edges: Tensor, nodes: int, dense: bool) -> None:
        super().__init__()
        self.neighbors = nn.Linear(*ends)
        self.itself = nn.Linear(*ends, bias=False)
        self.aggregate = Aggregate(edges, mean_weights(edges, nodes), nodes, dense)

    def forward(self, x: Tensor) -> Tensor:
        return self.neighbors(self.aggregate(x)) + self.itself(x)


class GinLayer(nn.Module):
    """mlp((1 + epsilon) x + sum of the neighbours) (arXiv 1810.00826)."""

    def __init__(self, ends: tuple[int, int], edges: Tensor, nodes: int, dense: bool) -> None:
        super().__init__()
        self.epsilon = nn.Parameter(torch.zeros(()))
        self.up, self.down = nn.Linear(ends[0], ends[1]), nn.Linear(ends[1], ends[1])
        self.aggregate = Aggregate(edges, torch.ones(edges.shape[1]), nodes, dense)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.up((1 + self.epsilon) * x + self.aggregate(x)).relu())


class GatLayer(nn.Module):
    """Attention over incoming edges and a self-loop (arXiv 1710.10903); heads are concatenated."""

    def __init__(
        self, ends: tuple[int, int], edges: Tensor, nodes: int, dense: bool, heads: int = 4
    ) -> None:
        super().__init__()
        edges = with_loops(edges, nodes)
        self.nodes, self.heads, self.dense = nodes, heads, dense
        self.linear = nn.Linear(ends[0], ends[1], bias=False)
        self.source_score = nn.Parameter(0.3 * torch.randn(heads, ends[1] // heads))
        self.target_score = nn.Parameter(0.3 * torch.randn(heads, ends[1] // heads))
        self.bias = nn.Parameter(torch.zeros(ends[1]))
        absent = torch.full((nodes, nodes), NO_EDGE)
        absent[edges[1], edges[0]] = 0
        for name, value in (("source", edges[0]), ("target", edges[1]), ("absent", absent)):
            self.register_buffer(name, value, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.linear(x).reshape(self.nodes, self.heads, -1)
        source, target = (h * self.source_score).sum(-1), (h * self.target_score).sum(-1)
        y = (self._dense if self.dense else self._by_edges)(h, source, target)
        return y.reshape(self.nodes, -1) + self.bias

    def _dense(self, h: Tensor, source: Tensor, target: Tensor) -> Tensor:
        scores = target.t()[:, :, None] + source.t()[:, None, :]
        scores = nn.functional.leaky_relu(scores, 0.2) + self.absent
        return (scores.softmax(-1) @ h.transpose(0, 1)).transpose(0, 1)

    def _by_edges(self, h: Tensor, source: Tensor, target: Tensor) -> Tensor:
        scores = source.index_select(0, self.source) + target.index_select(0, self.target)
        scores = nn.functional.leaky_relu(scores, 0.2)
        index = self.target[:, None].expand(scores.shape)
        least = scores.new_full((self.nodes, self.heads), NO_EDGE)
        top = least.scatter_reduce(0, index, scores, "amax")
        shares = (scores - top.index_select(0, self.target)).exp()
        total = scattered(shares, self.target, self.nodes)
        shares = shares / total.index_select(0, self.target)
        return scattered(h.index_select(0, self.source) * shares[:, :, None], self.target,
                         self.nodes)  # fmt: skip


# ---------------------------------------------------------------- networks

Layer = Callable[[tuple[int, int], Tensor, int, bool], nn.Module]


class GraphNet(nn.Module):
    """Two layers with an activation between them."""

    def __init__(self, first: nn.Module, second: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.first, self.second, self.activation = first, second, activation

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.activation(self.first(x)))


LAYERS: dict[str, Layer] = {
    "gcn": GcnLayer,
    "sage": SageLayer,
    "gin": GinLayer,
    "gat": GatLayer,
}


def graph_net(
    kind: str, sizes: tuple[int, int, int], edges: Tensor, nodes: int, dense: bool = False
) -> GraphNet:
    """Make a two-layer network; ``kind`` is a key of LAYERS, ``sizes`` features, hidden, classes.

    The second layer of a GAT has one head.
    """
    features, hidden, classes = sizes
    last = {"heads": 1} if kind == "gat" else {}
    activation = nn.ELU() if kind == "gat" else nn.ReLU()
    layer = LAYERS[kind]
    return GraphNet(
        layer((features, hidden), edges, nodes, dense),
        layer((hidden, classes), edges, nodes, dense, **last),
        activation,
    )
