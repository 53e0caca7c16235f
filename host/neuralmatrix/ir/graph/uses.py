# SPDX-License-Identifier: Apache-2.0
"""The def-use index of a Graph.

In: a Graph.  Out: the maker and the readers of each tensor, and queries that rules need.
"""

from __future__ import annotations

from collections import Counter

from ..types import Array, Shape
from .nodes import Graph, Node

Index = tuple[dict[str, Node], dict[str, list[Node]], Counter[str]]

_INDEX = "_index"  # beside the fields of a Graph, so that neither == nor replace() knows it


def _index_of(graph: Graph) -> Index:
    """Return makers, readers and counts by tensor.

    They are found once and lie with the graph, which never changes: most rules find nothing to
    change, and the next one has the same graph.
    """
    found: Index | None = graph.__dict__.get(_INDEX)
    if found is None:
        makers = {node.output: node for node in graph.nodes}
        readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in dict.fromkeys(node.inputs):
                readers.setdefault(name, []).append(node)
        counts = Counter(name for node in graph.nodes for name in node.inputs)
        counts.update(graph.outputs)
        found = makers, readers, counts
        object.__setattr__(graph, _INDEX, found)
    return found


class GraphUses:
    """The maker and the readers of each tensor of ``graph``; it does not follow later changes."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._makers, self._readers, self._counts = _index_of(graph)

    def maker(self, name: str) -> Node | None:
        """Return the node that makes a tensor; None for inputs and constants of the graph."""
        return self._makers.get(name)

    def readers(self, name: str) -> tuple[Node, ...]:
        """Return the nodes that read a tensor, each once, in execution order."""
        return tuple(self._readers.get(name, ()))

    def count(self, name: str) -> int:
        """Return the number of operands and outputs of the graph that a tensor is."""
        return self._counts[name]

    def constant(self, name: str) -> Array | None:
        """Return the value of a constant whose own quantisation nothing prescribes."""
        return None if name in self.graph.quant else self.graph.constants.get(name)

    def private_maker(self, name: str) -> Node | None:
        """Return the node that makes a tensor with one reader and no prescribed quantisation."""
        if self.count(name) != 1 or name in self.graph.quant or name in self.graph.outputs:
            return None
        return self.maker(name)

    def transparent_maker(self, name: str) -> Node | None:
        """Return the node that makes ``name``, unless its output is rounded and its input is
        not."""
        node = self.maker(name)
        quant = self.graph.quant.get(name)
        if node is None or quant not in (None, self.graph.quant.get(node.inputs[0])):
            return None
        return node

    def shape(self, name: str) -> Shape:
        return self.graph.shapes[name]

    def fresh(self, hint: str) -> str:
        """Return a tensor name that the graph does not have."""
        name, count = hint, 1
        while name in self.graph.shapes:
            count += 1
            name = f"{hint}.{count}"
        return name


__all__ = ["GraphUses"]
