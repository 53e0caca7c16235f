# SPDX-License-Identifier: Apache-2.0
"""Logarithms, roots and powers of sums of squares, as networks with a spectrum inside compute them.

In: the uses of a Graph and the last node of such a form.  Out: the same by logarithms.

A square in int16 keeps 45 dB of loudness and what is behind it sees noise; log|x| keeps all that x
has.  The form is: squares of what a linear operation made (a transform), sums of them with weights
from 0 up, at the end a logarithm, a root or a power.  Squares that stay on a linear scale are
products as before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product as combinations
from math import inf, prod

import numpy as np

from ....ir.graph.nodes import (
    AxisMatMul,
    Binary,
    Concat,
    Conv,
    Graph,
    MatMul,
    Node,
    Reduce,
    Reshape,
    Unary,
)
from ....ir.graph.uses import GraphUses
from ....ir.types import Array
from ..rewrite import Change, apply_rule
from .log_domain import Log, LogNodes
from .match import LAYOUT, made, squared

FEW = 4  # terms of a sum that are added one after another
EXPONENTS: Mapping[str, Callable[..., float]] = {
    "sqrt": lambda: 0.5,
    "rsqrt": lambda: -0.5,
    "reciprocal": lambda: -1.0,
    "square": lambda: 2.0,
    "power": lambda exponent: exponent,
}
ENDS = ("log", "sqrt", "power")


def to_logarithms(graph: Graph) -> Graph:
    """Rewrite every spectrum of a float model."""
    return graph if graph.quant else apply_rule(_end, graph)


def _end(uses: GraphUses, node: Node) -> Change | None:
    """Rewrite a logarithm, root or power behind a sum of squares."""
    if not isinstance(node, Unary) or node.function.name not in ENDS:
        return None
    nodes = LogNodes(uses, node.output, node.source)
    found = _log(nodes, node.inputs[0])
    if found is None:
        return None
    if node.function.name == "log":
        nodes.finish_log(found)
    else:
        nodes.finish_power(found.times(EXPONENTS[node.function.name](*node.function.params)))
    return nodes.change()


# ---------------------------------------------------------------- terms


def _log(nodes: LogNodes, name: str) -> Log | None:
    """Return the logarithm of a tensor that is made of squares or magnitudes; None of any other."""
    node = made(nodes.uses, name)
    inner = squared(nodes.uses, name)
    if inner is not None:
        found = _log(nodes, inner) or _leaf(nodes, inner)
        return found and found.times(2.0)
    rule = RULES.get(type(node)) if node is not None else None
    return rule(nodes, node) if rule is not None else None


def _leaf(nodes: LogNodes, x: str) -> Log | None:
    return nodes.magnitude(x) if _is_linear(nodes.uses, x) else None


def _is_linear(uses: GraphUses, name: str) -> bool:
    """Return whether a linear operation with constants made a tensor, or it is an input."""
    node = made(uses, name)
    if node is None:
        return name in uses.graph.inputs
    if isinstance(node, Conv):
        return node.inputs[1] in uses.graph.constants
    if isinstance(node, AxisMatMul):
        return True
    if isinstance(node, MatMul):
        return any(n in uses.graph.constants for n in node.inputs)
    if isinstance(node, LAYOUT):
        return _is_linear(uses, node.inputs[0])
    if isinstance(node, Concat):
        return all(_is_linear(uses, part) for part in node.inputs)
    linear = isinstance(node, Binary) and node.kind in ("add", "mul")
    return linear and node.inputs[1] in uses.graph.constants and _is_linear(uses, node.inputs[0])


def _unary(nodes: LogNodes, node: Unary) -> Log | None:
    function = node.function
    if function.name == "abs":
        return _log(nodes, node.inputs[0]) or _leaf(nodes, node.inputs[0])
    if function.name == "exp_wide":
        return Log(node.inputs[0])
    found = None
    if function.name in EXPONENTS:
        found = _log(nodes, node.inputs[0])
        return found and found.times(EXPONENTS[function.name](*function.params))
    if function.name == "clip" and function.params[1] > 0:
        found = _log(nodes, node.inputs[0])
        low, high = function.params
        return found and nodes.clipped(found, max(low, 0.0), high)
    return _log(nodes, node.inputs[0]) if function.name == "relu" else None


def _binary(nodes: LogNodes, node: Binary) -> Log | None:
    first, second = node.inputs
    constant = nodes.uses.constant(second)
    if constant is not None:
        return _with_constant(nodes, node, constant.astype(np.float64))
    if node.kind not in ("add", "mul", "div"):
        return None
    a = _log(nodes, first)
    b = _log(nodes, second) if a is not None else None
    if a is None or b is None:
        return None
    if node.kind == "add":
        return nodes.sum_of(a, b)
    sign = 1.0 if node.kind == "mul" else -1.0
    return Log(nodes.binary("add", nodes.plain(a), nodes.plain(b.times(sign)), "product"))


def _with_constant(nodes: LogNodes, node: Binary, c: Array) -> Log | None:
    """Return the logarithm of x * c, x + c, max(x, c) or min(x, c) for a c above 0."""
    same = nodes.uses.shape(node.inputs[0]) == nodes.uses.shape(node.output)
    if not (c > 0).all() or not same or (node.kind in ("max", "min") and c.size > 1):
        return None
    found = _log(nodes, node.inputs[0])
    if found is None:
        return None
    if node.kind == "mul":
        return found.plus(np.log(c))
    if node.kind == "add":
        return nodes.plus_constant(found, c)
    bound = float(c.reshape(()))
    ends = {"max": (bound, inf), "min": (0.0, bound)}
    return nodes.clipped(found, *ends[node.kind]) if node.kind in ends else None


def _layout(nodes: LogNodes, node: Node) -> Log | None:
    found = _log(nodes, node.inputs[0])
    if found is None:
        return None
    if found.shift.size > 1:
        found = Log(nodes.plain(found))
    x = found.tensor
    moved = nodes.add(lambda n: replace(node, inputs=(x, *node.inputs[1:]), output=n), "moved")
    return replace(found, tensor=moved)


def _concat(nodes: LogNodes, node: Concat) -> Log | None:
    found = [_log(nodes, name) for name in node.inputs]
    parts = tuple(nodes.plain(log) for log in found if log is not None)
    if len(parts) < len(found):
        return None
    return Log(nodes.add(lambda n: replace(node, inputs=parts, output=n), "joined"))


# ---------------------------------------------------------------- sums


def _reduce(nodes: LogNodes, node: Reduce) -> Log | None:
    if node.kind not in ("sum", "mean"):
        return None
    found = _log(nodes, node.inputs[0])
    if found is None:
        return None
    shape = nodes.uses.shape(node.inputs[0])
    sizes = [shape[axis] for axis in node.axes]
    if prod(sizes) <= FEW:
        total = _added(nodes, found, node)
    elif len(node.axes) == 1:
        total = nodes.product_with(found, np.ones((1, sizes[0]), np.float32), node.axes[0])
    else:
        return None
    if node.kind == "mean":
        total = total.plus(-np.log(prod(sizes)))
    if not node.keepdims:
        x = nodes.plain(total) if total.shift.size > 1 else total.tensor
        flat = nodes.add(
            lambda n: Reshape((x,), n, node.source, shape=nodes.uses.shape(node.output)), "flat"
        )
        total = Log(flat) if total.shift.size > 1 else replace(total, tensor=flat)
    return total


def _added(nodes: LogNodes, log: Log, node: Reduce) -> Log:
    """Add a few slices."""
    log = Log(nodes.plain(log)) if log.shift.size > 1 else log
    shape = nodes.shapes[log.tensor]
    places = combinations(*(range(shape[axis]) for axis in node.axes))
    parts = [
        replace(log, tensor=nodes.slice(log.tensor, dict(zip(node.axes, place, strict=True))))
        for place in places
    ]
    while len(parts) > 1:
        pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
        parts = [nodes.sum_of(*pair) if len(pair) == 2 else pair[0] for pair in pairs]
    return parts[0]


def _matmul(nodes: LogNodes, node: MatMul) -> Log | None:
    """Return the logarithm of x @ w or w @ x for a matrix w from 0 up."""
    last = len(nodes.uses.shape(node.output)) - 1
    left, right = node.inputs
    weight = nodes.uses.constant(right)
    if weight is not None:
        return _product(nodes, left, weight.T, last)
    weight = nodes.uses.constant(left)
    return None if weight is None else _product(nodes, right, weight, last - 1)


def _product(nodes: LogNodes, x: str, matrix: Array, axis: int) -> Log | None:
    """Return the logarithm of matrix @ x along ``axis``."""
    if matrix.ndim != 2 or (matrix < 0).any() or axis < 0:
        return None
    found = _log(nodes, x)
    return found and nodes.product_with(found, matrix, axis)


def _axis_matmul(nodes: LogNodes, node: AxisMatMul) -> Log | None:
    weight = nodes.uses.constant(node.inputs[1])
    return None if weight is None else _product(nodes, node.inputs[0], weight, node.axis)


RULES: Mapping[type[Node], Callable[..., Log | None]] = {
    Unary: _unary,
    Binary: _binary,
    Reduce: _reduce,
    MatMul: _matmul,
    AxisMatMul: _axis_matmul,
    Concat: _concat,
    **dict.fromkeys(LAYOUT, _layout),
}

__all__ = ["to_logarithms"]
