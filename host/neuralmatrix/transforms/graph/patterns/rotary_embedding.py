# SPDX-License-Identifier: Apache-2.0
"""Removal of layout operators that hide arithmetic from other rules, as in rotary embeddings.

In: the uses of a Graph and one node.  Out: a Change to nodes without the layout operators, or None.
"""

from __future__ import annotations

import numpy as np

from ....ir.graph.nodes import Binary, Concat, MatMul, Reshape, Slice, Unary
from ....ir.graph.uses import GraphUses
from ....ir.types import Array, Shape
from ..rewrite import Change
from .match import scalar


def fuse_rotation(uses: GraphUses, node: object) -> Change | None:
    """Rewrite concat(-x[h:], x[:h]) along the last axis to x times a matrix of 0, 1 and -1."""
    if not isinstance(node, Concat) or not _on_last_axis(uses, node):
        return None
    parts = [_signed_slice(uses, name) for name in node.inputs]
    found = [part for part in parts if part is not None]
    if len(found) != len(parts) or {x for x, _, _ in found} != {found[0][0]}:
        return None
    if all(sign > 0 for _, sign, _ in found):
        return None
    x, size = found[0][0], uses.shape(found[0][0])[-1]
    matrix = np.zeros((size, uses.shape(node.output)[-1]), np.float32)
    column = 0
    for _, sign, channels in found:
        matrix[list(channels), range(column, column + len(channels))] = sign
        column += len(channels)
    name = uses.fresh(f"{node.output}.rotation")
    return Change((MatMul((x, name), node.output, node.source),), {name: matrix})


def _on_last_axis(uses: GraphUses, node: Concat) -> bool:
    rank = len(uses.shape(node.output))
    return node.axis % rank == rank - 1


def _signed_slice(uses: GraphUses, name: str) -> tuple[str, float, range] | None:
    """Return (x, sign, channels) of a part of the last axis of x."""
    sign, node = 1.0, uses.private_maker(name)
    if isinstance(node, Unary) and node.function.name == "neg":
        sign, node = -1.0, uses.maker(node.inputs[0])
    elif isinstance(node, Binary) and node.kind == "mul" and scalar(uses, node.inputs[1]) == -1:
        sign, node = -1.0, uses.maker(node.inputs[0])
    if not isinstance(node, Slice) or node.output in uses.graph.quant:
        return None
    shape = uses.shape(node.inputs[0])
    spans = [range(n)[slice(*part)] for n, part in zip(shape, node.slices, strict=True)]
    whole = all(span == range(n) for span, n in zip(spans[:-1], shape, strict=False))
    return (node.inputs[0], sign, spans[-1]) if whole else None


def unwrap_sum(uses: GraphUses, node: object) -> Change | None:
    """Add a constant directly if it is added between two reshapes that cancel."""
    if not isinstance(node, Reshape):
        return None
    total = uses.private_maker(node.inputs[0])
    if not isinstance(total, Binary) or total.kind != "add":
        return None
    outer, value = uses.private_maker(total.inputs[0]), uses.constant(total.inputs[1])
    if not isinstance(outer, Reshape) or value is None:
        return None
    shape = uses.shape(outer.inputs[0])
    if shape != node.shape or uses.shape(total.output) != outer.shape:
        return None
    whole = np.broadcast_to(value, outer.shape).reshape(shape)
    name = uses.fresh(f"{total.inputs[1]}.reshaped")
    merged = Binary((outer.inputs[0], name), node.output, total.source, kind="add")
    return Change((merged,), {name: _unrepeated(whole, shape)})


def _unrepeated(array: Array, shape: Shape) -> Array:
    """Return the array with size 1 on axes along which it is constant."""
    for axis in range(len(shape)):
        first = np.take(array, [0], axis)
        if (array == first).all():
            array = first
    return np.ascontiguousarray(array)


def fold_factor_forward(uses: GraphUses, node: object) -> Change | None:
    """Rewrite (c x) W to x (c W) for a constant W and a scalar c."""
    if not isinstance(node, MatMul):
        return None
    product, weight = uses.private_maker(node.inputs[0]), uses.constant(node.inputs[1])
    if not isinstance(product, Binary) or product.kind != "mul" or weight is None:
        return None
    factor = scalar(uses, product.inputs[1])
    if factor is None or node.inputs[1] in uses.graph.weight_scales:
        return None
    if uses.shape(product.inputs[0]) != uses.shape(product.output):
        return None
    name = uses.fresh(f"{node.inputs[1]}.scaled")
    scaled = np.asarray(weight * factor, np.float32)
    return Change((MatMul((product.inputs[0], name), node.output, node.source),), {name: scaled})
