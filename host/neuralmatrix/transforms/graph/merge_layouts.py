# SPDX-License-Identifier: Apache-2.0
"""Two transposes, reshapes or slices in a row become one.

In: the uses of a Graph and one node.  Out: the change of the node, or None.
"""

from __future__ import annotations

from dataclasses import replace

from ...ir.graph.nodes import Node, Reshape, Slice, Transpose
from ...ir.graph.uses import GraphUses
from .rewrite import Change


def merge_transposes(uses: GraphUses, node: Node) -> Change | None:
    """Merge a transpose of a transpose into one."""
    inner = uses.transparent_maker(node.inputs[0])
    if not isinstance(node, Transpose) or not isinstance(inner, Transpose):
        return None
    perm = tuple(inner.perm[axis] for axis in node.perm)
    return Change((replace(node, inputs=inner.inputs, perm=perm),))


def merge_reshapes(uses: GraphUses, node: Node) -> Change | None:
    """Remove a reshape that is followed by another."""
    inner = uses.transparent_maker(node.inputs[0])
    if not isinstance(node, Reshape) or not isinstance(inner, Reshape):
        return None
    return Change((replace(node, inputs=inner.inputs),))


def merge_slices(uses: GraphUses, node: Node) -> Change | None:
    """Merge a slice of a slice into one."""
    inner = uses.transparent_maker(node.inputs[0])
    if not isinstance(node, Slice) or not isinstance(inner, Slice):
        return None
    sizes = uses.shape(inner.inputs[0])
    kept = (
        range(size)[slice(*first)][slice(*second)]
        for size, first, second in zip(sizes, inner.slices, node.slices, strict=True)
    )
    parts = tuple((r.start, r.stop, r.step) for r in kept)
    return Change((replace(node, inputs=inner.inputs, slices=parts),))
