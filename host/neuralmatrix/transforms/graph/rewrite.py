# SPDX-License-Identifier: Apache-2.0
"""Application of local rewrites to a Graph.

In: a rule (the change of one node, or None) and a Graph.  Out: the Graph with the rule applied
wherever it matches, without dead nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ...ir.graph.nodes import Graph, Node
from ...ir.graph.operators import infer_shape
from ...ir.graph.uses import GraphUses
from ...ir.types import Array, QParams


@dataclass(frozen=True)
class Change:
    """The nodes that replace a matched node.

    ``same`` says instead that its output is the tensor of that name.
    """

    nodes: tuple[Node, ...] = ()
    constants: Mapping[str, Array] = field(default_factory=dict)
    scales: Mapping[str, Array] = field(default_factory=dict)
    same: str | None = None
    quant: Mapping[str, QParams] = field(default_factory=dict)


Rule = Callable[[GraphUses, Node], Change | None]
Pass = Callable[[Graph], Graph]


def apply_rule(rule: Rule, graph: Graph) -> Graph:
    """Apply ``rule`` to every node, again after a change; return the same object without
    changes."""
    uses, index = GraphUses(graph), 0
    while index < len(graph.nodes):
        change = rule(uses, graph.nodes[index])
        changed = None if change is None else _changed(uses, index, change)
        if changed is None:
            index += 1
            continue
        graph, uses = changed, GraphUses(changed)
        index = max(0, index - 1)
    return graph


def _changed(uses: GraphUses, index: int, change: Change) -> Graph | None:
    graph = uses.graph
    old = graph.nodes[index]
    if change.same is not None:
        return _merged(uses, index, old.output, change.same)
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
            quant={**graph.quant, **change.quant},
        )
    )


def _merged(uses: GraphUses, index: int, old: str, new: str) -> Graph | None:
    """Remove the node that makes ``old``: its readers read ``new``.  None if that is not
    possible."""
    graph = uses.graph
    wanted, have = graph.quant.get(old), graph.quant.get(new)
    if wanted not in (None, have) and (have is not None or uses.count(new) != 1):
        return None
    keep, gone = new, old
    if old in graph.outputs:
        if uses.maker(new) is None or new in graph.outputs:
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
    """Remove nodes and constants that no output depends on."""
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
