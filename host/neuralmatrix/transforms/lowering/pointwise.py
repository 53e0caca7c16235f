# SPDX-License-Identifier: Apache-2.0
"""Lowering of element-wise operators to 1x1 Windows; the epilogue reads a second tensor.

In: Unary, Binary, PRelu and Select nodes.  Out: the value of each; ``fuse_epilogues`` moves most
of them into the operation that makes their input.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from ...ir.axis_view import View, axis_atoms, canonical_operand
from ...ir.graph.nodes import Binary, Node, PRelu, Select, Unary
from ...ir.matgraph.ops import Epilogue
from ...ir.types import Array, Function, Shape
from .builder import Builder, Direct, Gathered, Refused, Value, broadcast_value, reshaped
from .range_reduction import CURVES

RELU = Function("relu")
CAP_AT_ZERO = Function("clip", (-math.inf, 0.0))
LINEAR: Mapping[str, float] = {"identity": 1.0, "neg": -1.0}


def lower_unary(b: Builder, node: Unary) -> Value:
    return unary(b, b.value(node.inputs[0]), node.function, node.output, node.source)


def unary(b: Builder, value: Value, function: Function, name: str, source: str) -> Direct:
    """Emit function(value)."""
    x = b.direct(value)
    if function.name in LINEAR:
        return b.window(x, name, source, weight=LINEAR[function.name])
    if function.name in CURVES:
        return CURVES[function.name](b, x, name, source)
    return b.window(x, name, source, epilogue=Epilogue(activation=function))


def lower_prelu(b: Builder, node: PRelu) -> Value:
    if node.inputs[1] not in b.graph.constants:
        raise Refused(
            f"its slope {node.inputs[1]!r} is computed at run time; it has to be a constant"
        )
    slope = np.asarray(b.graph.constants[node.inputs[1]], np.float32)
    x = b.direct(b.value(node.inputs[0]))
    if slope.size == 1:
        function = Function("leaky_relu", (float(slope.flat[0]),))
        return unary(b, x, function, node.output, node.source)
    operand = canonical_operand(slope, x.view)
    if operand.shape[:3] == (1, 1, 1) and operand.max() <= 1:
        return _bent(b, x, operand.reshape(-1), node)
    above = unary(b, x, RELU, f"{node.output}:above", node.source)
    below = unary(b, x, CAP_AT_ZERO, f"{node.output}:below", node.source)
    below = with_constant(b, "mul", below, slope, f"{node.output}:slope", node.source)
    return binary(b, "add", below, above, node.output, node.source)


def _bent(b: Builder, x: Direct, slope: Array, node: Node) -> Direct:
    """Emit slope * x + relu((1 - slope) * x), exact for slopes up to 1."""
    rise = b.window(x, f"{node.output}:rise", node.source, weight=1 - slope,
                    epilogue=Epilogue(activation=RELU))  # fmt: skip
    epilogue = Epilogue(residual=rise.tensor)
    return b.window(x, node.output, node.source, weight=slope, epilogue=epilogue)


# ---------------------------------------------------------------- two operands


def lower_binary(b: Builder, node: Binary) -> Value:
    first, second = node.inputs
    is_const = [name in b.graph.constants for name in node.inputs]
    if all(is_const):
        raise Refused("both operands are constants; fold them")
    if is_const[1]:
        c = np.asarray(b.graph.constants[second], np.float32)
        return with_constant(b, node.kind, b.value(first), c, node.output, node.source)
    if is_const[0]:
        c = np.asarray(b.graph.constants[first], np.float32)
        kind = {"sub": "from", "div": "over"}.get(node.kind, node.kind)
        return with_constant(b, kind, b.value(second), c, node.output, node.source)
    return binary(b, node.kind, b.value(first), b.value(second), node.output, node.source)


def with_constant(b: Builder, kind: str, value: Value, c: Array, name: str, source: str) -> Direct:
    """Emit value (kind) c; "from" is c - value and "over" is c / value."""
    shape = np.broadcast_shapes(value.shape, c.shape)
    x = b.direct(broadcast_value(b, value, shape, f"{name}:whole"))
    operand = canonical_operand(c, x.view)
    if kind in ("min", "max"):
        return _bounded(b, kind, x, operand, name, source)
    if kind == "over":
        x = unary(b, x, Function("reciprocal"), f"{name}:reciprocal", source)
        kind = "mul"
    if kind == "div":
        if not operand.all():
            raise Refused("it divides by a constant that holds 0")
        operand, kind = 1 / operand, "mul"
    return _affine(b, kind, x, operand, name, source)


def _affine(b: Builder, kind: str, x: Direct, c: Array, name: str, source: str) -> Direct:
    sign = -1.0 if kind == "from" else 1.0
    if kind == "sub":
        c, kind = -c, "add"
    if c.shape[:3] == (1, 1, 1):
        if kind == "mul":
            return b.window(x, name, source, weight=c)
        return b.window(x, name, source, weight=sign, bias=c.reshape(-1))
    operand = b.constant(f"{name}:constant", c, c.shape[3] == 1)
    if kind == "mul":
        return b.window(x, name, source, epilogue=Epilogue(hadamard=operand))
    return b.window(x, name, source, weight=sign, epilogue=Epilogue(residual=operand))


def _bounded(b: Builder, kind: str, x: Direct, c: Array, name: str, source: str) -> Direct:
    """Emit min or max with a constant: a clip, or c + clip(x - c) where the bound varies."""
    if c.size == 1:
        bound = float(c.flat[0])
        limits = (-math.inf, bound) if kind == "min" else (bound, math.inf)
        function = RELU if limits == (0.0, math.inf) else Function("clip", limits)
        return unary(b, x, function, name, source)
    above = _affine(b, "sub", x, c, f"{name}:difference", source)
    cut = unary(b, above, CAP_AT_ZERO if kind == "min" else RELU, f"{name}:cut", source)
    return _affine(b, "add", cut, c, name, source)


def binary(b: Builder, kind: str, first: Value, second: Value, name: str, source: str) -> Direct:
    """Emit element-wise arithmetic of two computed values with broadcasting."""
    return KINDS[kind](b, first, second, name, source)


Kind = Callable[[Builder, Value, Value, str, str], Direct]


def _sum(gain: float) -> Kind:
    def lower(b: Builder, first: Value, second: Value, name: str, source: str) -> Direct:
        if _same(first, second):
            return b.window(b.direct(first), name, source, weight=1.0 + gain)
        x, other, swapped = aligned(b, first, second, name, source)
        weight, residual_gain = (gain, 1.0) if swapped else (1.0, gain)
        epilogue = Epilogue(residual=other, residual_gain=residual_gain)
        return b.window(x, name, source, weight=weight, epilogue=epilogue)

    return lower


def _product(b: Builder, first: Value, second: Value, name: str, source: str) -> Direct:
    x, other, _ = aligned(b, first, second, name, source)
    return b.window(x, name, source, epilogue=Epilogue(hadamard=other))


def _quotient(b: Builder, first: Value, second: Value, name: str, source: str) -> Direct:
    inverse = unary(b, second, Function("reciprocal"), f"{name}:reciprocal", source)
    return _product(b, first, inverse, name, source)


def _extreme(function: Function) -> Kind:
    """Return the lowering of max(a, b) = b + relu(a - b), or of min."""

    def lower(b: Builder, first: Value, second: Value, name: str, source: str) -> Direct:
        difference = _sum(-1.0)(b, first, second, f"{name}:difference", source)
        cut = unary(b, difference, function, f"{name}:cut", source)
        return _sum(1.0)(b, cut, second, name, source)

    return lower


KINDS: Mapping[str, Kind] = {
    "add": _sum(1.0),
    "sub": _sum(-1.0),
    "mul": _product,
    "div": _quotient,
    "max": _extreme(RELU),
    "min": _extreme(CAP_AT_ZERO),
}


def _same(first: Value, second: Value) -> bool:
    return isinstance(first, Direct) and first == second


def aligned(
    b: Builder, first: Value, second: Value, name: str, source: str
) -> tuple[Direct, str, bool]:
    """Return a full-size operand, the other one in a form that fits, and whether they swapped."""
    shape = np.broadcast_shapes(first.shape, second.shape)
    swapped = _rank(second, shape) > _rank(first, shape)
    main, other = (second, first) if swapped else (first, second)
    main = broadcast_value(b, main, shape, f"{name}:whole")
    x = b.direct(main)
    return x, operand(b, other, x.view, name, source), swapped


def _rank(value: Value, shape: Shape) -> tuple[bool, bool]:
    """Return the sort key of main operands: full-size ones first, of those existing tensors."""
    whole = math.prod(value.shape) == math.prod(shape)
    return whole, isinstance(value, Direct)


def operand(b: Builder, value: Value, view: View, name: str, source: str) -> str:
    """Return ``value`` as (N,H,W,C), each as in ``view`` or 1; a single channel is broadcast."""
    value = b.settled(value)
    lead = (1,) * (len(view.shape) - len(value.shape))
    shape = (*lead, *value.shape)
    present = {a for axis, atoms in enumerate(axis_atoms(view)) for a in atoms if shape[axis] > 1}
    by_atom = tuple(n if a in present else 1 for a, n in enumerate(view.atoms))
    kept = value.name if isinstance(value, Gathered) else f"{name}:operand"
    value = reshaped(b, value, by_atom, kept)
    needed = {a for dim in view.dims if present & set(dim) for a in dim}
    whole = tuple(n if a in needed else 1 for a, n in enumerate(view.atoms))
    found = b.form(broadcast_value(b, value, whole, f"{name}:operand"), view.dims)
    if found.view.canonical[3] == 1 < view.canonical[3]:
        return b.broadcast_parameters(found.tensor, source)
    return found.tensor


# ---------------------------------------------------------------- selection

HUGE = 1e30  # a branch constant beyond this is a mask: -3.4e38, or -infinity in the source
NEVER = 1e4  # its replacement: beyond all other values, within the resolution of 16 bits


def lower_select(b: Builder, node: Select) -> Value:
    """Lower to condition * (first - second) + second; constant branches are separate cases."""
    constants = b.graph.constants
    known = [_moderate(constants[n]) if n in constants else None for n in node.inputs]
    condition, first, second = known
    shape = b.graph.shapes[node.output]
    if condition is not None:
        done = _chosen_by_constant(b, node, condition != 0, first, second)
    elif first is None and second is None:
        done = _chosen_by_input(b, node)
    else:
        done = _chosen_constant(b, node, first, second)
    return broadcast_value(b, done, shape, node.output)


def _moderate(array: Array) -> Array:
    """Return a constant with huge values replaced, so that no sum overflows."""
    array = np.asarray(array, np.float32)
    return np.asarray(np.where(np.abs(array) < HUGE, array, np.sign(array) * NEVER), np.float32)


def _chosen_by_input(b: Builder, node: Select) -> Direct:
    keep, first, second = (b.value(name) for name in node.inputs)
    name, source = node.output, node.source
    difference = binary(b, "sub", first, second, f"{name}:difference", source)
    part = binary(b, "mul", difference, keep, f"{name}:part", source)
    return binary(b, "add", part, second, name, source)


def _chosen_constant(b: Builder, node: Select, first: Array | None, second: Array | None) -> Direct:
    """Emit a selection with constant branches: each branch times the condition that selects it."""
    keep, name, source = b.value(node.inputs[0]), node.output, node.source
    if first is not None and second is not None:
        rise = with_constant(b, "mul", keep, first - second, f"{name}:rise", source)
        return with_constant(b, "add", rise, second, name, source)
    other = with_constant(b, "from", keep, np.ones((), np.float32), f"{name}:else", source)
    if first is None:
        keep, other = other, b.direct(keep)
    fixed, computed = (first, node.inputs[2]) if second is None else (second, node.inputs[1])
    assert fixed is not None
    term = with_constant(b, "mul", keep, fixed, f"{name}:constant", source)
    part = binary(b, "mul", b.value(computed), other, f"{name}:part", source)
    return binary(b, "add", part, term, name, source)


def _chosen_by_constant(
    b: Builder, node: Select, keep: Array, first: Array | None, second: Array | None
) -> Direct:
    """Emit each branch times its constant condition; a constant branch becomes an addend."""
    name, source = node.output, node.source
    computed, constant = [], np.zeros((), np.float32)
    for i, (branch, holds) in enumerate(((first, keep), (second, ~keep))):
        if branch is not None:
            constant = constant + np.where(holds, branch, 0).astype(np.float32)
            continue
        x, part = b.value(node.inputs[1 + i]), f"{name}:part"
        computed.append(with_constant(b, "mul", x, holds.astype(np.float32), part, source))
    if len(computed) == 2:
        return binary(b, "add", computed[0], computed[1], name, source)
    return with_constant(b, "add", computed[0], constant, name, source)
