# SPDX-License-Identifier: Apache-2.0
"""Fusion of GELU by Erf or Tanh, and of x * sigmoid(a x), as exporters decompose them.

In: the uses of a Graph and the last product or quotient.  Out: one Unary node.
"""

from __future__ import annotations

import math

import numpy as np

from ....ir.graph.nodes import Binary, Unary
from ....ir.graph.uses import GraphUses
from ....ir.types import Function
from ..rewrite import Change
from .match import affine, binary, factors, is_polynomial, made, polynomial, scalar, scaled, unary

_ROOT = 1 / math.sqrt(2)
_TANH = math.sqrt(2 / math.pi)
_ARGUMENTS = {
    "gelu": ("erf", (0.0, _ROOT)),
    "gelu_tanh": ("tanh", (0.0, _TANH, 0.0, _TANH * 0.044715)),
}


def fuse_activation(uses: GraphUses, node: object) -> Change | None:
    """Fuse k * x * (a * f(x) + b) with k*a = k*b = 1/2, and x * sigmoid(a x)."""
    if not isinstance(node, Binary) or node.kind != "mul":
        return None
    names, factor = factors(uses, node)
    if len(names) != 2:
        return None
    for x, gate in (names, names[::-1]):
        if uses.shape(x) != uses.shape(node.output):
            continue
        function = _gelu(uses, x, gate, factor)
        if function:
            return Change((Unary((x,), node.output, node.source, function=function),))
        slope = _sigmoid_slope(uses, x, gate) if factor == 1 else None
        if slope:
            return _swish(uses, node, x, slope)
    return None


def _gelu(uses: GraphUses, x: str, gate: str, factor: float) -> Function | None:
    inner, slope, offset = affine(uses, gate)
    if not np.allclose((factor * slope, factor * offset), 0.5, rtol=1e-5):
        return None
    for name, (function, wanted) in _ARGUMENTS.items():
        argument = unary(uses, inner, function)
        if argument and is_polynomial(polynomial(uses, argument, x), wanted):
            return Function(name)
    return None


def _sigmoid_slope(uses: GraphUses, x: str, gate: str) -> float | None:
    """Return a of sigmoid(a * x) if it is not 1; other rules match 1."""
    argument = unary(uses, gate, "sigmoid")
    source, slope = scaled(uses, argument) if argument else ("", 1.0)
    return slope if source == x and slope not in (0.0, 1.0) else None


def _swish(uses: GraphUses, node: Binary, x: str, slope: float) -> Change:
    """Rewrite x * sigmoid(a x) to silu(a x) / a."""
    names = [uses.fresh(f"{node.output}.{part}") for part in ("slope", "in", "silu", "inverse")]
    rise, argument, gated, fall = names
    return Change(
        (
            Binary((x, rise), argument, node.source, kind="mul"),
            Unary((argument,), gated, node.source, function=Function("silu")),
            Binary((gated, fall), node.output, node.source, kind="mul"),
        ),
        {rise: np.asarray(slope, np.float32), fall: np.asarray(1 / slope, np.float32)},
    )


def fuse_sigmoid_quotient(uses: GraphUses, node: object) -> Change | None:
    """Rewrite x / (1 + exp(-x)) to silu(x), and 1 / (1 + exp(-x)) to sigmoid(x)."""
    if not isinstance(node, Binary | Unary):
        return None
    numerator, divisor = _quotient(node)
    total = binary(uses, divisor, "add") if divisor else None
    if not total or scalar(uses, total.inputs[1]) != 1:
        return None
    power = unary(uses, total.inputs[0], "exp")
    source, slope = _negated(uses, power) if power else ("", 0.0)
    if slope != -1:
        return None
    if numerator == source:
        return Change((Unary((source,), node.output, node.source, function=Function("silu")),))
    one = numerator == "" or scalar(uses, numerator) == 1
    if not one or uses.shape(source) != uses.shape(node.output):
        return None
    return Change((Unary((source,), node.output, node.source, function=Function("sigmoid")),))


def _quotient(node: Binary | Unary) -> tuple[str, str]:
    """Return the numerator ("" for 1) and the divisor."""
    if isinstance(node, Binary):
        return (node.inputs[0], node.inputs[1]) if node.kind == "div" else ("", "")
    return ("", node.inputs[0]) if node.function.name == "reciprocal" else ("", "")


def _negated(uses: GraphUses, name: str) -> tuple[str, float]:
    node = made(uses, name)
    if isinstance(node, Unary) and node.function.name == "neg":
        return node.inputs[0], -1.0
    return scaled(uses, name)
