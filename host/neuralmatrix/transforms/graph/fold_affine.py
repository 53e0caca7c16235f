# SPDX-License-Identifier: Apache-2.0
"""Multiplications and additions of constants: normalised, merged, and folded into weights.

In: the uses of a Graph and one node.  Out: the change of the node, or None.
BatchNorm is imported as such a pair and is folded here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ...ir.graph.nodes import Binary, Conv, ConvTranspose, MatMul, Node
from ...ir.graph.uses import GraphUses
from ...ir.types import Array
from .rewrite import Change


class Affine(NamedTuple):
    """A Binary "mul" or "add" whose second operand is a constant."""

    node: Binary
    x: str
    value: Array


def _affine(uses: GraphUses, node: Node | None, kind: str) -> Affine | None:
    if not isinstance(node, Binary) or node.kind != kind:
        return None
    value = uses.constant(node.inputs[1])
    is_constant = node.inputs[0] in uses.graph.constants
    return None if value is None or is_constant else Affine(node, node.inputs[0], value)


def to_mul_and_add(uses: GraphUses, node: Node) -> Change | None:
    """Rewrite c+x to x+c, x-c to x+(-c), c-x to x*-1+c, x/c to x*(1/c), mergeable -x to x*-1."""
    if not isinstance(node, Binary):
        return None
    left, right = (uses.constant(name) for name in node.inputs)
    if (left is None) == (right is None):
        return None
    if left is not None:
        return _constant_first(uses, node)
    if node.kind == "sub":
        return _with_constant(uses, node, "add", -np.asarray(right))
    if node.kind == "div" and right is not None and right.all():
        inverse = (1 / right.astype(np.float64)).astype(np.float32)
        return _with_constant(uses, node, "mul", inverse) if np.isfinite(inverse).all() else None
    return None


def _with_constant(uses: GraphUses, node: Binary, kind: str, value: Array) -> Change:
    name = uses.fresh(f"{node.inputs[1]}.{kind}")
    merged = Binary((node.inputs[0], name), node.output, node.source, kind=kind)  # type: ignore[arg-type]
    return Change((merged,), {name: value})


def _constant_first(uses: GraphUses, node: Binary) -> Change | None:
    if node.kind in ("add", "mul", "min", "max"):
        return Change((replace(node, inputs=node.inputs[::-1]),))
    if node.kind == "div":
        return None
    minus = uses.fresh(f"{node.output}.minus")
    negated = uses.fresh(f"{node.output}.negated")
    constant, x = node.inputs
    return Change(
        (
            Binary((x, minus), negated, node.source, kind="mul"),
            Binary((negated, constant), node.output, node.source, kind="add"),
        ),
        {minus: np.asarray(-1, np.float32)},
    )


def merge_affine(uses: GraphUses, node: Node) -> Change | None:
    """Merge (x*a)*b and (x+a)+b into one node; rewrite (x+a)*b to x*b + a*b for the weights."""
    for kind, combine in (("mul", np.multiply), ("add", np.add)):
        outer = _affine(uses, node, kind)
        inner = _affine(uses, uses.private_maker(node.inputs[0]), kind)
        if outer and inner:
            name = uses.fresh(f"{outer.node.inputs[1]}.merged")
            merged = replace(outer.node, inputs=(inner.x, name))
            return Change((merged,), {name: np.asarray(combine(inner.value, outer.value))})
    return _swap(uses, node)


def _swap(uses: GraphUses, node: Node) -> Change | None:
    outer = _affine(uses, node, "mul")
    inner = _affine(uses, uses.private_maker(node.inputs[0]), "add")
    if not outer or not inner:
        return None
    scaled = uses.fresh(f"{outer.node.output}.scaled")
    term = uses.fresh(f"{inner.node.inputs[1]}.scaled")
    first = replace(outer.node, inputs=(inner.x, outer.node.inputs[1]), output=scaled)
    second = Binary((scaled, term), outer.node.output, inner.node.source, kind="add")
    return Change((first, second), {term: np.asarray(inner.value * outer.value)})


def fold_into_weights(uses: GraphUses, node: Node) -> Change | None:
    """Fold a factor or term per output channel into the weights or bias of the only producer."""
    maker = uses.private_maker(node.inputs[0])
    for kind in ("mul", "add"):
        affine = _affine(uses, node, kind)
        if affine is None or uses.shape(node.output) != uses.shape(affine.x):
            continue
        if isinstance(maker, Conv | ConvTranspose):
            vector = _per_axis(affine.value, len(uses.shape(affine.x)), 1)
            if vector is not None:
                return _into_convolution(uses, maker, affine, vector)
        elif isinstance(maker, MatMul) and kind == "mul":
            rank = len(uses.shape(affine.x))
            vector = _per_axis(affine.value, rank, rank - 1)
            weight = uses.constant(maker.inputs[1])
            if vector is not None and weight is not None and weight.ndim >= 2:
                return _into_matrix(uses, maker, affine, vector)
    return None


def _per_axis(value: Array, rank: int, axis: int) -> Array | None:
    """Return a constant that varies at most along one axis as a vector or one element, else
    None."""
    if value.size == 1:
        return value.reshape(1)
    full = (1,) * (rank - value.ndim) + value.shape
    return value.reshape(-1) if full[axis] == value.size else None


def _scaled_scale(uses: GraphUses, weight: str, factor: Array) -> Array | None:
    """Return the scale of ``weight * factor``; where the factor is 0 any scale is valid."""
    scale = uses.graph.weight_scales.get(weight)
    if scale is None:
        return None
    return np.asarray(scale * np.where(factor == 0, 1, np.abs(factor)), np.float32)


def _with_weight(
    uses: GraphUses, maker: Node, affine: Affine, weight: str, factor: Array
) -> tuple[str, dict[str, Array], dict[str, Array]]:
    """Return a new weight constant: its name, value and scale."""
    name = uses.fresh(f"{weight}.scaled")
    scale = _scaled_scale(uses, weight, factor)
    value = np.asarray(uses.graph.constants[weight] * factor, np.float32)
    return name, {name: value}, {} if scale is None else {name: scale}


def _into_matrix(uses: GraphUses, maker: MatMul, affine: Affine, vector: Array) -> Change:
    x, weight = maker.inputs
    name, constants, scales = _with_weight(uses, maker, affine, weight, vector)
    merged = replace(maker, inputs=(x, name), output=affine.node.output)
    return Change((merged,), constants, scales)


def _channel_factor(uses: GraphUses, maker: Conv | ConvTranspose, vector: Array) -> Array:
    """Return ``vector`` shaped to multiply the kernel's output channels.

    A transposed kernel is (C, M/groups, ..): each group of C has its own part of the vector.
    """
    shape = uses.shape(maker.inputs[1])
    spatial = [1] * (len(shape) - 2)
    if isinstance(maker, Conv) or vector.size == 1:
        return vector.reshape(-1, 1, *spatial)
    parts = vector.reshape(maker.groups, 1, shape[1], *spatial)
    whole = np.repeat(parts, shape[0] // maker.groups, axis=1)
    return whole.reshape(*shape[:2], *spatial)


def _into_convolution(
    uses: GraphUses, maker: Conv | ConvTranspose, affine: Affine, vector: Array
) -> Change:
    x, weight, *rest = maker.inputs
    channels = uses.shape(maker.output)[1]
    bias = uses.graph.constants[rest[0]] if rest else np.zeros(channels, np.float32)
    constants: dict[str, Array] = {}
    scales: dict[str, Array] = {}
    if affine.node.kind == "mul":
        factor = _channel_factor(uses, maker, vector)
        weight, constants, scales = _with_weight(uses, maker, affine, weight, factor)
        bias = bias * vector
    else:
        bias = bias + vector
    if rest or affine.node.kind == "add":
        name = uses.fresh(f"{affine.node.output}.bias")
        constants[name] = np.asarray(bias, np.float32)
        rest = [name]
    merged = replace(maker, inputs=(x, weight, *rest), output=affine.node.output)
    return Change((merged,), constants, scales)
