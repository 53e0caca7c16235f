# SPDX-License-Identifier: Apache-2.0
"""Graph networks of PyTorch Geometric, on one random graph that is part of the module.

Out: ``ARCHITECTURES``.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from .base import Architecture, Values

NODES, EDGES, FEATURES, HIDDEN, CLASSES = 40, 120, 16, 16, 4


class OnGraph(torch.nn.Module):
    """A model with the edges bound, so that node features are its one input."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner
        generator = torch.Generator().manual_seed(1)
        edges = torch.randint(0, NODES, (2, EDGES), generator=generator)
        self.register_buffer("edges", torch.unique(edges, dim=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores of shape [nodes, classes] for features of shape [nodes, features]."""
        scores: torch.Tensor = self.inner(x, self.edges)
        return scores


class Dense(torch.nn.Module):
    """Two dense layers of a kind on an adjacency matrix that is an input."""

    def __init__(self, name: str) -> None:
        super().__init__()
        import torch_geometric.nn as pyg

        kind = getattr(pyg, name)
        self.first, self.second = _dense(kind, FEATURES, HIDDEN), _dense(kind, HIDDEN, CLASSES)

    def forward(self, x: torch.Tensor, adjacency: torch.Tensor) -> torch.Tensor:
        """Return scores of shape [1, nodes, classes]."""
        edges = (
            (adjacency > 1).to(x.dtype) if adjacency.is_floating_point() else adjacency.to(x.dtype)
        )
        found: torch.Tensor = self.second(torch.relu(self.first(x, edges)), edges)
        return found


def _dense(kind: Any, inputs: int, outputs: int) -> torch.nn.Module:
    if kind.__name__ == "DenseGINConv":
        return kind(
            torch.nn.Sequential(
                torch.nn.Linear(inputs, outputs), torch.nn.ReLU(), torch.nn.Linear(outputs, outputs)
            )
        )
    return kind(inputs, outputs)


def _model(name: str) -> torch.nn.Module:
    import torch_geometric.nn as pyg

    return OnGraph(getattr(pyg, name)(FEATURES, HIDDEN, num_layers=2, out_channels=CLASSES))


def _layer(name: str, settings: dict[str, Any]) -> torch.nn.Module:
    import torch_geometric.nn as pyg

    return OnGraph(getattr(pyg, name)(FEATURES, CLASSES, **settings))


FEATURE = {"x": Values((NODES, FEATURES))}
LAYERS: dict[str, dict[str, Any]] = {
    "ChebConv": {"K": 2},
    "GraphConv": {},
    "SGConv": {"K": 2},
    "TAGConv": {},
    "ARMAConv": {},
    "LEConv": {},
    "ClusterGCNConv": {},
    "TransformerConv": {},
    "ResGatedGraphConv": {},
    "GATv2Conv": {},
}
ARCHITECTURES = (
    *(
        Architecture(f"pyg_{name}", "torch_geometric", partial(_model, name), FEATURE)
        for name in ("GCN", "GraphSAGE", "GIN", "GAT")
    ),
    *(
        Architecture(f"pyg_{name}", "torch_geometric", partial(_layer, name, settings), FEATURE)
        for name, settings in LAYERS.items()
    ),
    *(
        Architecture(
            f"pyg_{name}",
            "torch_geometric",
            partial(Dense, name),
            {"x": Values((1, NODES, FEATURES)), "adjacency": Values((1, NODES, NODES), ids=2)},
        )
        for name in ("DenseGCNConv", "DenseSAGEConv", "DenseGINConv", "DenseGraphConv")
    ),
)
