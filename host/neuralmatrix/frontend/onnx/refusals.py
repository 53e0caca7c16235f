# SPDX-License-Identifier: Apache-2.0
"""One list of all that is refused of a model, whichever stage refuses it.

In: the importer's refusals, and what it made of the other nodes.  Out: UnsupportedNode in the
model's order, each node once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...errors import NeuralMatrixError, UnsupportedNode
from ...ir.graph.nodes import Graph
from .context import Context
from .import_onnx import Source, graph_of

Later = Callable[[Graph], Sequence[UnsupportedNode]]


def nothing_later(graph: Graph) -> tuple[UnsupportedNode, ...]:
    """Return no refusals: for an import that no other stage follows."""
    return ()


def whole_list(
    source: Source, ctx: Context, refused: Sequence[UnsupportedNode], later: Later
) -> tuple[UnsupportedNode, ...]:
    """Return ``refused``, and what ``later`` refuses of the nodes that the importer took."""
    graph = _taken(ctx)
    first = {node.name: node for node in later(graph)} if graph is not None else {}
    found = [*refused, *(node for name, node in first.items() if name not in _names(refused))]
    place = {call.name: number for number, call in enumerate(source.calls)}
    return tuple(sorted(found, key=lambda node: place.get(node.name, -1)))


def _names(nodes: Sequence[UnsupportedNode]) -> set[str]:
    return {node.name for node in nodes}


def _taken(ctx: Context) -> Graph | None:
    """Return the nodes that the importer took as a graph of their own; None where they make none.

    Its inputs are the model's, and the guessed results of refused nodes.
    """
    made = {node.output for node in ctx.nodes}
    read = dict.fromkeys(name for node in ctx.nodes for name in node.inputs if name)
    inputs = [name for name in read if name not in made and name not in ctx.constants]
    outputs = [node.output for node in ctx.nodes if node.output not in read]
    try:
        return graph_of(ctx, inputs, outputs)
    except (NeuralMatrixError, KeyError):  # a guess is at fault
        return None
