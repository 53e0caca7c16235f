# SPDX-License-Identifier: Apache-2.0
"""Transposes of images move behind or in front of what does not care about the order of axes.

In: a Graph.  Out: an equal one in which pairs of transposes meet, so that ``merge_transposes``
removes them, paddings stand right in front of their convolutions, and transposes of scaled inputs
are transposes of inputs, which the host computes.

Only a transpose between channels-first and channels-last moves towards the outputs: convolutions
need one order, TensorFlow's other operators have the other.  Any transpose of an input moves there.
"""

from __future__ import annotations

from dataclasses import replace

from ...ir.graph.nodes import Node, Reduce, Reshape, Transpose
from ...ir.graph.uses import GraphUses
from ...ir.types import QParams
from .rewrite import Change
from .transposed_nodes import Moved, Perm, data_operands, inverse, rank_of_result, reordered


def _changes_layout(perm: Perm) -> bool:
    """Return whether ``perm`` leads from channels-first to channels-last, or back."""
    spatial = tuple(range(1, len(perm) - 1))
    first = (0, len(perm) - 1, *spatial)
    return len(perm) >= 3 and perm in (first, inverse(first))


def _quant(uses: GraphUses, old: str, new: str) -> dict[str, QParams]:
    """Return what is prescribed for ``old``, as that of ``new``."""
    return {new: uses.graph.quant[old]} if old in uses.graph.quant else {}


# ---------------------------------------------------------------- towards the outputs


def push_transposes(uses: GraphUses, node: Node) -> Change | None:
    """Rewrite f(transpose(x)) to transpose(f(x)); whole operands have the same transpose."""
    if isinstance(node, Reduce) and not node.keepdims:
        return _keep_axes(uses, node)
    rank = rank_of_result(uses, node)
    whole = [] if rank is None else _whole_operands(uses, node)
    made = [uses.transparent_maker(name) for name in whole]
    turned = [n for n in made if isinstance(n, Transpose) and n.inputs[0] not in uses.graph.inputs]
    perms = {n.perm for n in turned}
    if not turned or len(turned) < len(whole) or len(perms) > 1:
        return None
    perm = perms.pop()
    if len(perm) != rank or not _changes_layout(perm) or not _can_meet(uses, node, perm):
        return None
    moved = Moved(uses)
    result = moved.fresh(node.output)
    found = reordered(moved, node, perm, {n.output: n.inputs[0] for n in turned}, result)
    if found is None:
        return None
    back = Transpose((result,), node.output, turned[0].source, perm=perm)
    quant = _quant(uses, node.output, result)
    return Change((*moved.before, found, back), moved.constants, quant=quant)


def _can_meet(uses: GraphUses, node: Node, perm: Perm) -> bool:
    """Return whether ``perm`` behind ``node`` may end at its inverse, a reduction or an output.

    Where it can only end at products or normalisations of rows, as behind the patches of a vision
    transformer, these would read rows that lie as columns.
    """
    reached, queue = {node.output}, [node.output]
    while queue:
        name = queue.pop()
        if name in uses.graph.outputs:
            return True
        for reader in uses.readers(name):
            if isinstance(reader, Transpose) and reader.perm == inverse(perm):
                return True
            if isinstance(reader, Reduce) and not reader.keepdims:
                return True
            if reader.output not in reached and _passes(uses, reader, perm, reached):
                reached.add(reader.output)
                queue.append(reader.output)
    return False


def _passes(uses: GraphUses, node: Node, perm: Perm, reached: set[str]) -> bool:
    """Return whether ``perm`` may move behind a node some of whose operands it has reached."""
    if rank_of_result(uses, node) != len(perm):
        return False
    others = [name for name in _whole_operands(uses, node) if name not in reached]
    made = [uses.transparent_maker(name) for name in others]
    return all(isinstance(n, Transpose) and n.perm == perm for n in made)


def _whole_operands(uses: GraphUses, node: Node) -> list[str]:
    """Return the operands that decide: all that are not broadcast over an axis."""
    names = data_operands(uses, node)
    sizes = {name: sum(n > 1 for n in uses.shape(name)) for name in names}
    return [name for name in names if sizes[name] == max(sizes.values())]


def _keep_axes(uses: GraphUses, node: Reduce) -> Change | None:
    """Rewrite a reduction of a transpose to one that keeps its axes."""
    maker = uses.maker(node.inputs[0])
    if not isinstance(maker, Transpose) or not _changes_layout(maker.perm):
        return None
    kept = uses.fresh(f"{node.output}.kept")
    reduced = replace(node, output=kept, keepdims=True)
    flat = Reshape((kept,), node.output, node.source, shape=uses.shape(node.output))
    return Change((reduced, flat), quant=_quant(uses, node.output, kept))


# ---------------------------------------------------------------- towards the inputs


def pull_transposes(uses: GraphUses, node: Node) -> Change | None:
    """Rewrite transpose(f(x)) to f(transpose(x)) where f(x) needs no more than an input."""
    if not isinstance(node, Transpose) or uses.count(node.inputs[0]) != 1:
        return None
    maker = uses.transparent_maker(node.output) and uses.maker(node.inputs[0])
    if maker is None or rank_of_result(uses, maker) is None or not _of_an_input(uses, maker):
        return None
    moved = Moved(uses)
    found = reordered(moved, maker, inverse(node.perm), {}, node.output)
    if found is None:
        return None
    quant = _quant(uses, node.inputs[0], node.output)
    return Change((*moved.before, found), moved.constants, quant=quant)


def _of_an_input(uses: GraphUses, node: Node) -> bool:
    """Return whether only the host and functions of one operand stand in front of a node."""
    while (names := data_operands(uses, node)) and len(set(names)) == 1:
        if names[0] in uses.graph.inputs:
            return True
        maker = uses.maker(names[0])
        if isinstance(maker, Transpose) and maker.inputs[0] in uses.graph.inputs:
            return True
        if maker is None or rank_of_result(uses, maker) is None or uses.count(names[0]) != 1:
            return False
        node = maker
    return False


def share_transposes(uses: GraphUses, node: Node) -> Change | None:
    """Remove a transpose of which the graph has a twin."""
    if not isinstance(node, Transpose) or node.output in uses.graph.quant:
        return None
    for other in uses.readers(node.inputs[0]):
        if other == node:
            return None
        if isinstance(other, Transpose) and other.perm == node.perm:
            same = uses.graph.quant.get(other.output) == uses.graph.quant.get(node.output)
            return Change(same=other.output) if same else None
    return None
