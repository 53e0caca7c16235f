# SPDX-License-Identifier: Apache-2.0
"""Fusion of LayerNorm, RMSNorm and L2 normalisation, as exporters decompose them.

In: the uses of a Graph and the last node of such a form.  Out: one Normalize node.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import NamedTuple

import numpy as np

from ....ir.graph.nodes import Binary, Normalize, Unary
from ....ir.graph.uses import GraphUses
from ....ir.types import Array
from ..rewrite import Change
from .match import before_expand, binary, made, reduced, scalar, scaled, squared, unary

_BIGGEST = 1e30


class Root(NamedTuple):
    """1 / root of (mean of squares of ``x`` over ``axes`` * gain + epsilon), or its l2 form."""

    x: str
    axes: tuple[int, ...]
    gain: float
    epsilon: float
    kind: str


class Centered(NamedTuple):
    """x - mean of x over axes."""

    x: str
    axes: tuple[int, ...]
    mean: str


def _centered(uses: GraphUses, name: str) -> Centered | None:
    node = binary(uses, name, "sub")
    if not node:
        return None
    x, mean = node.inputs[0], before_expand(uses, node.inputs[1])
    found = reduced(uses, mean, "mean")
    if found is None or found[0] != x or not np.isclose(found[2], 1.0, rtol=1e-6):
        return None
    return Centered(x, found[1], mean)


# ---------------------------------------------------------------- the divisor


def _mean_square(uses: GraphUses, name: str) -> tuple[str, tuple[int, ...], float] | None:
    """Return (x, axes, gain) of gain * mean of squares of x."""
    found = reduced(uses, name, "mean")
    x = squared(uses, found[0]) if found else None
    return (x, found[1], found[2]) if x and found else None


def _root(uses: GraphUses, name: str) -> Root | None:
    """Return the divisor sqrt(mean square + epsilon), or max(l2 norm, epsilon)."""
    name = before_expand(uses, name)
    least = _lower_bound(uses, name)
    if least:
        inner = unary(uses, before_expand(uses, least[0]), "sqrt")
        found = _mean_square(uses, inner) if inner else None
        if not found or not np.isclose(found[2], _count(uses, found), rtol=1e-6):
            return None
        return Root(found[0], found[1], found[2], least[1], "l2")
    argument = unary(uses, name, "sqrt")
    return _variance(uses, argument) if argument else None


def _count(uses: GraphUses, found: tuple[str, tuple[int, ...], float]) -> float:
    return float(prod(uses.shape(found[0])[axis] for axis in found[1]))


def _lower_bound(uses: GraphUses, name: str) -> tuple[str, float] | None:
    """Return (x, bound) of max(x, bound)."""
    node = made(uses, name)
    if isinstance(node, Binary) and node.kind == "max":
        bound = scalar(uses, node.inputs[1])
        return None if bound is None else (node.inputs[0], bound)
    if isinstance(node, Unary) and node.function.name == "clip":
        low, high = node.function.params
        return (node.inputs[0], low) if low >= 0 and high > _BIGGEST else None
    return None


def _variance(uses: GraphUses, name: str) -> Root | None:
    """Return the root of mean square [+ epsilon]."""
    name, epsilon = before_expand(uses, name), 0.0
    node = binary(uses, name, "add")
    value = scalar(uses, node.inputs[1]) if node else None
    if node and value is not None and value >= 0:
        name, epsilon = node.inputs[0], value
    found = _mean_square(uses, name)
    return Root(*found, epsilon, "variance") if found and found[2] > 0 else None


def _inverse_root(uses: GraphUses, name: str) -> Root | None:
    """Return the root of a factor 1 / root."""
    name = before_expand(uses, name)
    argument = unary(uses, name, "rsqrt")
    if argument:
        return _variance(uses, argument)
    argument = unary(uses, name, "reciprocal")
    node = binary(uses, name, "div")
    if node and scalar(uses, node.inputs[0]) == 1:
        argument = node.inputs[1]
    return _root(uses, argument) if argument else None


# ---------------------------------------------------------------- rules


def fuse_norm(uses: GraphUses, node: object) -> Change | None:
    """Fuse x / root, or x * (1 / root), centred or not."""
    if not isinstance(node, Binary) or node.kind not in ("mul", "div"):
        return None
    if node.kind == "div":
        pairs = [(node.inputs[0], _root(uses, node.inputs[1]))]
    else:
        first, second = node.inputs
        pairs = [(first, _inverse_root(uses, second)), (second, _inverse_root(uses, first))]
    for x, root in pairs:
        if root and uses.shape(x) == uses.shape(node.output) == uses.shape(root.x):
            change = _normalized(uses, node, x, root)
            if change:
                return change
    return None


def _normalized(uses: GraphUses, node: Binary, x: str, root: Root) -> Change | None:
    own, other = _centered(uses, x), _centered(uses, root.x)
    if own and other and own.x == other.x and own.axes == other.axes == root.axes:
        return _change(uses, node, own.x, root, True)
    return _change(uses, node, x, root, False) if x == root.x else None


def _change(uses: GraphUses, node: Binary, x: str, root: Root, centered: bool) -> Change:
    """Return the change by gain * mean square + epsilon = gain * (mean square + epsilon / gain)."""
    if root.kind == "l2":
        made_l2 = Normalize((x,), node.output, node.source, root.axes, root.epsilon, centered, "l2")
        return Change((made_l2,))
    epsilon = root.epsilon / root.gain
    if np.isclose(root.gain, 1.0, rtol=1e-6):
        return Change((Normalize((x,), node.output, node.source, root.axes, epsilon, centered),))
    name = uses.fresh(f"{node.output}.scale")
    norm = Normalize((x, name), node.output, node.source, root.axes, epsilon, centered)
    return Change((norm,), {name: np.asarray(root.gain**-0.5, np.float32)})


def fuse_folded_norm(uses: GraphUses, node: object) -> Change | None:
    """Fuse x * s + (beta - mean * s) with s = [gamma] / root, the form of batch normalisation."""
    if not isinstance(node, Binary) or node.kind not in ("add", "sub"):
        return None
    for first, second in (node.inputs, node.inputs[::-1]):
        product = binary(uses, first, "mul")
        shift = _shift(uses, second, -1.0 if node.kind == "sub" else 1.0)
        if product and shift:
            change = _unfolded(uses, node, product, *shift)
            if change:
                return change
        if node.kind == "sub":
            break
    return None


def _shift(uses: GraphUses, name: str, sign: float) -> tuple[Binary, str] | None:
    """Return (mean * s, beta or "") of beta - mean * s."""
    beta = ""
    node = binary(uses, name, "add")
    if node and sign > 0 and uses.constant(node.inputs[1]) is not None:
        name, beta = node.inputs[0], node.inputs[1]
    source, factor = scaled(uses, name)
    product = binary(uses, source, "mul")
    return (product, beta) if product and factor * sign == -1 else None


def _unfolded(
    uses: GraphUses, node: Binary, product: Binary, shift: Binary, beta: str
) -> Change | None:
    """Return the change if x and its mean have the same factor."""
    for x, factor in (product.inputs, product.inputs[::-1]):
        others = [name for name in shift.inputs if name != factor]
        if factor not in shift.inputs or len(others) != 1:
            continue
        gamma, root = _gain(uses, factor)
        centered = _centered(uses, root.x) if root else None
        if not root or not centered or root.kind == "l2" or not np.isclose(root.gain, 1.0):
            continue
        mean = reduced(uses, before_expand(uses, others[0]), "mean")
        same = centered.x == x and mean == (x, root.axes, mean[2] if mean else 0.0)
        if same and centered.axes == root.axes and uses.shape(x) == uses.shape(node.output):
            names = (x, gamma, beta) if beta else (x, gamma) if gamma else (x,)
            norm = Normalize(names, node.output, node.source, root.axes, root.epsilon)
            return Change((norm,))
    return None


def _gain(uses: GraphUses, name: str) -> tuple[str, Root | None]:
    """Return (gamma or "", root) of gamma / root."""
    node = binary(uses, name, "mul")
    if node and uses.constant(node.inputs[1]) is not None:
        return node.inputs[1], _inverse_root(uses, node.inputs[0])
    return "", _inverse_root(uses, name)


def fold_norm_affine(uses: GraphUses, node: object) -> Change | None:
    """Fold constant factors and terms behind a normalisation into its scale and bias."""
    if not isinstance(node, Binary) or node.kind not in ("mul", "add"):
        return None
    norm, value = uses.private_maker(node.inputs[0]), uses.constant(node.inputs[1])
    if not isinstance(norm, Normalize) or value is None:
        return None
    if uses.shape(node.output) != uses.shape(norm.output):
        return None
    x, scale, bias = (*norm.inputs, "", "")[:3]
    changed: dict[str, Array] = {}
    if node.kind == "mul":
        scale = _combined(uses, node, scale, value, changed, "scale")
        bias = _combined(uses, node, bias, value, changed, "bias") if bias else ""
    else:
        bias = _combined(uses, node, bias, value, changed, "bias", add=True)
    names = (x, scale, bias) if bias else (x, scale)
    return Change((replace(norm, inputs=names, output=node.output),), changed)


def _combined(
    uses: GraphUses,
    node: Binary,
    old: str,
    value: Array,
    changed: dict[str, Array],
    label: str,
    add: bool = False,
) -> str:
    """Return the old operand times, or plus, a constant; the constant if there was no operand."""
    name = uses.fresh(f"{node.output}.{label}")
    known = uses.graph.constants.get(old)
    if known is None:
        changed[name] = value
    else:
        changed[name] = np.asarray(known + value if add else known * value, np.float32)
    return name
