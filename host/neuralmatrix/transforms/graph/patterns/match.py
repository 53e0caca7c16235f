# SPDX-License-Identifier: Apache-2.0
"""Matchers of the arithmetic around a tensor: factors, sums, polynomials of one variable.

In: the uses of a Graph and tensor names.  Out: the tensor in terms of others, or None.

Rules run behind ``to_mul_and_add``: a constant operand is the second of a "mul" or an "add".
"""

from __future__ import annotations

import numpy as np

from ....ir.graph.nodes import (
    AxisMatMul,
    Binary,
    Conv,
    Expand,
    MatMul,
    Node,
    Reduce,
    Reshape,
    Slice,
    Take,
    Transpose,
    Unary,
)
from ....ir.graph.uses import GraphUses
from ....ir.types import Array

Polynomial = tuple[float, ...]  # coefficients, the constant first

MOST_DEGREE = 3
LAYOUT = (Reshape, Transpose, Slice, Take, Expand)  # nodes that place elements


def made(uses: GraphUses, name: str) -> Node | None:
    """Return the node that makes a tensor whose quantisation nothing prescribes."""
    return None if name in uses.graph.quant else uses.maker(name)


def transforms(uses: GraphUses) -> frozenset[str]:
    """Return the outputs of linear operations behind logarithms of magnitudes; () in a model that
    prescribes scales."""
    found = set()
    for node in uses.graph.nodes:
        if isinstance(node, Unary) and node.function.name == "log_abs" and not uses.graph.quant:
            name = node.inputs[0]
            while isinstance(inner := made(uses, name), LAYOUT) or _is_affine(uses, inner):
                assert inner is not None
                name = inner.inputs[0]
            if isinstance(inner, Conv | MatMul | AxisMatMul):
                found.add(name)
    return frozenset(found)


def _is_affine(uses: GraphUses, node: Node | None) -> bool:
    linear = isinstance(node, Binary) and node.kind in ("add", "mul")
    return linear and node is not None and node.inputs[1] in uses.graph.constants


def scalar(uses: GraphUses, name: str) -> float | None:
    """Return the value of a constant of one element."""
    array = uses.constant(name)
    return None if array is None or array.size != 1 else float(array.reshape(()))


def binary(uses: GraphUses, name: str, kind: str) -> Binary | None:
    node = made(uses, name)
    return node if isinstance(node, Binary) and node.kind == kind else None


def unary(uses: GraphUses, name: str, function: str) -> str | None:
    """Return the argument of a function."""
    node = made(uses, name)
    fits = isinstance(node, Unary) and node.function.name == function
    return node.inputs[0] if node and fits else None


def before_expand(uses: GraphUses, name: str) -> str:
    """Return the tensor before Expand."""
    node = made(uses, name)
    while isinstance(node, Expand):
        name = node.inputs[0]
        node = made(uses, name)
    return name


def scaled(uses: GraphUses, name: str) -> tuple[str, float]:
    """Return (x, factor) with name = factor * x."""
    factor = 1.0
    while node := binary(uses, name, "mul"):
        step = scalar(uses, node.inputs[1])
        if step is None or uses.shape(node.inputs[0]) != uses.shape(name):
            break
        name, factor = node.inputs[0], factor * step
    return name, factor


def affine(uses: GraphUses, name: str) -> tuple[str, float, float]:
    """Return (x, a, b) with name = a * x + b."""
    slope, offset = 1.0, 0.0
    while isinstance(node := made(uses, name), Binary):
        step = scalar(uses, node.inputs[1])
        if step is None or uses.shape(node.inputs[0]) != uses.shape(name):
            break
        if node.kind == "mul":
            slope *= step
        elif node.kind == "add":
            offset += slope * step
        else:
            break
        name = node.inputs[0]
    return name, slope, offset


def reduced(uses: GraphUses, name: str, kind: str) -> tuple[str, tuple[int, ...], float] | None:
    """Return (x, axes, factor) of a sum or mean with its axes kept; ``factor`` scales a mean."""
    source, factor = scaled(uses, name)
    node = made(uses, source)
    if not isinstance(node, Reduce) or node.kind not in ("sum", "mean"):
        return None
    x = node.inputs[0]
    kept = len(uses.shape(source)) == len(uses.shape(x))
    if not kept and not (node.axes == (0,) and len(uses.shape(x)) == 1):
        return None
    count = float(np.prod([uses.shape(x)[axis] for axis in node.axes]))
    sums = {"sum": 1.0, "mean": 1 / count}[node.kind] * factor
    return x, node.axes, sums * (count if kind == "mean" else 1.0)


def squared(uses: GraphUses, name: str) -> str | None:
    """Return x of x * x."""
    node = binary(uses, name, "mul")
    if node and node.inputs[0] == node.inputs[1]:
        return node.inputs[0]
    return unary(uses, name, "square")


def factors(uses: GraphUses, node: Binary) -> tuple[list[str], float]:
    """Return the computed factors of a product and the product of its scalars."""
    found: list[str] = []
    total = 1.0
    for name in node.inputs:
        value = scalar(uses, name)
        inner = uses.private_maker(name)
        if value is not None:
            total *= value
        elif isinstance(inner, Binary) and inner.kind == "mul":
            more, factor = factors(uses, inner)
            found, total = found + more, total * factor
        else:
            found.append(name)
    return found, total


# ---------------------------------------------------------------- polynomials


def polynomial(uses: GraphUses, name: str, x: str, depth: int = 8) -> Polynomial | None:
    """Return ``name`` as a polynomial of ``x``."""
    if name == x:
        return (0.0, 1.0)
    value = scalar(uses, name)
    if value is not None:
        return (value,)
    node = made(uses, name)
    if not isinstance(node, Binary | Unary) or not depth:
        return None
    parts = [polynomial(uses, n, x, depth - 1) for n in node.inputs]
    if any(part is None for part in parts):
        return None
    return _combined(node, [np.asarray(part) for part in parts])


def _combined(node: Binary | Unary, parts: list[Array]) -> Polynomial | None:
    kind = node.kind if isinstance(node, Binary) else node.function.name
    if kind in ("add", "sub"):
        sign = 1.0 if kind == "add" else -1.0
        size = max(map(len, parts))
        first, second = (np.pad(p, (0, size - len(p))) for p in parts)
        result = first + sign * second
    elif kind in ("mul", "square"):
        result = np.convolve(parts[0], parts[-1])
    elif kind == "div" and len(parts[1]) == 1 and parts[1][0]:
        result = parts[0] / parts[1][0]
    else:
        return None
    return tuple(float(c) for c in result) if len(result) <= MOST_DEGREE + 1 else None


def is_polynomial(found: Polynomial | None, wanted: Polynomial) -> bool:
    """Return whether both are equal up to float32 rounding, or to the digits written in models."""
    if found is None or len(found) > len(wanted):
        return False
    full = np.pad(np.asarray(found), (0, len(wanted) - len(found)))
    return bool(np.allclose(full, wanted, rtol=1e-4, atol=1e-7))
