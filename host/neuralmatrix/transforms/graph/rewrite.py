# SPDX-License-Identifier: Apache-2.0
"""Applying local rewrites to a Graph.

In: a rule (what one node becomes, or None) and a Graph.  Out: the Graph with the rule applied
wherever it holds, cleaned of what nothing reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ...ir.graph.nodes import Graph, Node
from ...ir.graph.operators import infer_shape
from ...ir.types import Array, QParams, Shape


class View:
    """Who makes and who reads each tensor of a Graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producer = {node.output: node for node in graph.nodes}
        self.uses = Counter(name for node in graph.nodes for name in node.inputs)
        self.uses.update(graph.outputs)

    def constant(self, name: str) -> Array | None:
        """The value of a constant whose own quantisation nothing prescribes."""
        return None if name in self.graph.quant else self.graph.constants.get(name)

    def private(self, name: str) -> Node | None:
        """The node that makes a tensor with one reader and no prescribed quantisation."""
        if self.uses[name] != 1 or name in self.graph.quant or name in self.graph.outputs:
            return None
        return self.producer.get(name)

    def transparent(self, name: str) -> Node | None:
        """The node that makes ``name``, unless that rounds what its first input does not."""
        node = self.producer.get(name)
        quant = self.graph.quant.get(name)
        if node is None or quant not in (None, self.graph.quant.get(node.inputs[0])):
            return None
        return node

    def shape(self, name: str) -> Shape:
        return self.graph.shapes[name]

    def fresh(self, hint: str) -> str:
        """A tensor name that the graph has not."""
        name, count = hint, 1
        while name in self.graph.shapes:
            count += 1
            name = f"{hint}.{count}"
        return name


@dataclass(frozen=True)
class Change:
    """What takes the place of a matched node.

    ``same`` says instead that its output is the tensor of that name.
    """

    nodes: tuple[Node, ...] = ()
    constants: Mapping[str, Array] = field(default_factory=dict)
    scales: Mapping[str, Array] = field(default_factory=dict)
    same: str | None = None


Rule = Callable[[View, Node], Change | None]
Pass = Callable[[Graph], Graph]


def apply_rule(rule: Rule, graph: Graph) -> Graph:
    """``rule`` on every node, again where it changed something; the same object if nothing did."""
    view, index = View(graph), 0
    while index < len(graph.nodes):
        change = rule(view, graph.nodes[index])
        changed = None if change is None else _changed(view, index, change)
        if changed is None:
            index += 1
            continue
        graph, view = changed, View(changed)
        index = max(0, index - 1)
    return graph


def _changed(view: View, index: int, change: Change) -> Graph | None:
    graph = view.graph
    old = graph.nodes[index]
    if change.same is not None:
        return _merged(view, index, old.output, change.same)
    shapes = {**graph.shapes, **{name: array.shape for name, array in change.constants.items()}}
    for node in change.nodes:
        shapes[node.output] = infer_shape(node, shapes)
    return clean(
        replace(
            graph,
            nodes=(*graph.nodes[:index], *change.nodes, *graph.nodes[index + 1 :]),
            constants={**graph.constants, **change.constants},
            weight_scales={**graph.weight_scales, **change.scales},
            shapes=shapes,
        )
    )


def _merged(view: View, index: int, old: str, new: str) -> Graph | None:
    """Without the node that makes ``old``: its readers read ``new``.  None where that cannot be."""
    graph = view.graph
    wanted, have = graph.quant.get(old), graph.quant.get(new)
    if wanted not in (None, have) and (have is not None or view.uses[new] != 1):
        return None
    keep, gone = new, old
    if old in graph.outputs:
        if new not in view.producer or new in graph.outputs:
            return None
        keep, gone = old, new
    nodes = (*graph.nodes[:index], *graph.nodes[index + 1 :])
    quant = dict(graph.quant)
    merged = wanted if wanted is not None else have
    if merged is not None:
        quant[keep] = merged
    return clean(
        replace(graph, nodes=tuple(_renamed(node, gone, keep) for node in nodes), quant=quant)
    )


def _renamed(node: Node, old: str, new: str) -> Node:
    if old not in node.inputs and node.output != old:
        return node
    inputs = tuple(new if name == old else name for name in node.inputs)
    return replace(node, inputs=inputs, output=new if node.output == old else node.output)


def clean(graph: Graph) -> Graph:
    """Without nodes and constants that no output depends on."""
    wanted, kept = set(graph.outputs), []
    for node in reversed(graph.nodes):
        if node.output in wanted:
            kept.append(node)
            wanted.update(node.inputs)
    names = wanted | set(graph.inputs)
    quant: dict[str, QParams] = {n: q for n, q in graph.quant.items() if n in names}
    return replace(
        graph,
        nodes=tuple(kept[::-1]),
        constants={n: a for n, a in graph.constants.items() if n in names},
        shapes={n: s for n, s in graph.shapes.items() if n in names},
        quant=quant,
        weight_scales={n: a for n, a in graph.weight_scales.items() if n in names},
    )
