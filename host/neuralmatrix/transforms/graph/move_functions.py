# SPDX-License-Identifier: Apache-2.0
"""A function of a concatenation becomes one of each part, where it is part of what makes them.

In: the uses of a Graph and one node.  Out: the change of the node, or None.
"""

from __future__ import annotations

from dataclasses import replace

from ...ir.graph.nodes import Binary, Concat, Conv, ConvTranspose, MatMul, Node, Pool, Unary
from ...ir.graph.uses import GraphUses
from .rewrite import Change

_FREE = frozenset({"relu", "clip", "leaky_relu"})  # in the epilogue of whatever makes the part


def _takes_functions(node: Node | None) -> bool:
    """Return whether a function of a node's result costs nothing."""
    if isinstance(node, Pool):
        return node.kind == "average"
    return isinstance(node, Binary | Conv | ConvTranspose | MatMul)


def split_functions(uses: GraphUses, node: Node) -> Change | None:
    """Rewrite f(concat(a, b)) to concat(f(a), f(b)) where the makers of a and b take f."""
    if not isinstance(node, Unary) or node.function.name not in _FREE:
        return None
    joined = uses.private_maker(node.inputs[0])
    if not isinstance(joined, Concat) or node.output in uses.graph.quant:
        return None
    if len(set(joined.inputs)) < len(joined.inputs):
        return None
    if not all(_takes_functions(uses.private_maker(name)) for name in joined.inputs):
        return None
    names = [uses.fresh(f"{name}.{node.function.name}") for name in joined.inputs]
    parts = [
        replace(node, inputs=(name,), output=new)
        for name, new in zip(joined.inputs, names, strict=True)
    ]
    return Change((*parts, replace(joined, inputs=tuple(names), output=node.output)))
