# SPDX-License-Identifier: Apache-2.0
"""Comparisons of real values that choose between functions of one tensor: together one table.

In: comparisons, logic on them, and Where or Mul that use the result.  Out: a Unary whose function
is an expression of the one tensor, its product with another tensor, or a Binary "max" or "min" of
the compared ones.

A comparison is kept as a ``Condition`` in the ``Context`` until a Where or Mul completes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ....ir.expressions import is_expression
from ....ir.graph.nodes import Binary, Node, Unary
from ....ir.types import Function
from ..context import Call, Context, Refused, Versions

_COMPLETE = frozenset(("If", "Mul", "Where"))
_PASS = frozenset(("And", "Cast", "Identity", "Not", "Or", "Xor"))
_LONGEST = 400  # characters of an expression


@dataclass(frozen=True)
class Traced:
    """``text``: an expression of x, which is the tensor ``root`` ("" for a number)."""

    text: str
    root: str


@dataclass(frozen=True)
class Condition:
    """1 where a comparison holds, else 0; ``above`` and ``below``: the values of a plain
    "above > below"."""

    traced: Traced | None
    above: str = ""
    below: str = ""


def completes(ctx: Context, name: str) -> bool:
    """Return whether all that reads a comparison's result makes a choice by it."""
    users = ctx.users.get(name, ())
    return (
        name not in ctx.outputs
        and bool(users)
        and all(
            user.op in _COMPLETE or (user.op in _PASS and completes(ctx, user.output))
            for user in users
        )
    )


def compare(ctx: Context, call: Call, kind: str, first: str, second: str) -> bool:
    """Keep a comparison of real values; False where nothing can be made of it."""
    if not completes(ctx, call.output):
        return False
    traced = joined(ctx, kind, first, second)
    plain = kind != "equal"
    if traced is None and not plain:
        return False
    pair = (first, second) if plain else ("", "")
    ctx.conditions[call.output] = Condition(traced, *pair)
    return True


def passed(ctx: Context, call: Call) -> bool:
    """Keep the result of Cast or of logic on conditions; False where the node has none."""
    if not any(name in ctx.conditions for name in call.inputs):
        return False
    first = call.inputs[0]
    if call.op in ("Cast", "Identity"):
        ctx.conditions[call.output] = ctx.conditions[first]
        return True
    if call.op == "Not":
        one = ctx.conditions[first]
        negated = one.traced and Traced(f"sub(1,{one.traced.text})", one.traced.root)
        ctx.conditions[call.output] = Condition(negated, one.below, one.above)
        return True
    kind = {"And": "mul", "Or": "max", "Xor": "sub"}[call.op]
    traced = joined(ctx, kind, *call.inputs)
    if traced is None:
        raise Refused("joins comparisons of different real values; of one tensor it is supported")
    if call.op == "Xor":
        traced = Traced(f"abs({traced.text})", traced.root)
    ctx.conditions[call.output] = Condition(traced)
    return True


def where(ctx: Context, call: Call) -> bool:
    """Append the choice that a condition makes; False if the first operand is none."""
    name, first, second = call.inputs
    condition = ctx.conditions.get(name)
    if condition is None:
        return False
    pair = (condition.above, condition.below)
    if pair in ((first, second), (second, first)):
        kind = "max" if pair == (first, second) else "min"
        operands = (ctx.tensor(first), ctx.tensor(second))
        ctx.emit(Binary(operands, call.output, call.name, kind=kind))  # type: ignore[arg-type]
        return True
    if not _share(ctx, call, condition.traced):
        _table(ctx, call, joined(ctx, "where", name, first, second))
    return True


def select(ctx: Context, call: Call, names: tuple[str, str, str], out: str) -> bool:
    """Append the choice between two values that are both computed, by a comparison: each times a
    table that is 1 or 0.  False if the first name is no comparison."""
    condition = ctx.conditions.get(names[0])
    if condition is None:
        return False
    traced = condition.traced or _of_difference(ctx, call, condition)
    parts = []
    for name, text in zip(names[1:], ("where({},1,0)", "where({},0,1)"), strict=True):
        mask, part = ctx.fresh(f"{out}.mask"), ctx.fresh(f"{out}.part")
        ctx.emit(
            Unary((traced.root,), mask, call.name, function=Function(text.format(traced.text)))
        )
        parts.append(ctx.emit(Binary((ctx.tensor(name), mask), part, call.name, kind="mul")))
    ctx.emit(Binary((parts[0], parts[1]), out, call.name, kind="add"))
    return True


def _of_difference(ctx: Context, call: Call, condition: Condition) -> Traced:
    """Append the difference of two compared tensors, by whose sign they are told apart."""
    pair = ctx.tensor(condition.above), ctx.tensor(condition.below)
    difference = ctx.fresh(f"{call.output}.difference")
    return Traced("greater(x,0)", ctx.emit(Binary(pair, difference, call.name, kind="sub")))


def product(ctx: Context, call: Call) -> bool:
    """Append a product with a condition; False if no operand is one."""
    if not any(name in ctx.conditions for name in call.inputs):
        return False
    _table(ctx, call, joined(ctx, "mul", *call.inputs))
    return True


def _share(ctx: Context, call: Call, chosen: Traced | None) -> bool:
    """Append u * f(x) where a branch is 0 and the other u * g(x) or u / g(x), with x compared: a
    quotient that is 0 where its divisor is."""
    _, first, second = call.inputs
    if chosen is None:
        return False
    for zero, other, text in (
        (first, second, "where({},0,{})"),
        (second, first, "where({},{},0)"),
    ):
        if not _is_zero_beside(ctx, zero, other):
            continue
        for u, factor in _factors(ctx, other):
            if factor.root == chosen.root:
                table = Function(text.format(chosen.text, factor.text))
                share = ctx.fresh(f"{call.output}.share")
                ctx.emit(Unary((factor.root,), share, call.name, function=table))
                ctx.emit(Binary((u, share), call.output, call.name, kind="mul"))
                return True
    return False


def _is_zero_beside(ctx: Context, zero: str, other: str) -> bool:
    """Return whether a value is a constant 0 that makes ``other`` no larger."""
    if zero not in ctx.known or np.any(ctx.known[zero]):
        return False
    shape = ctx.shape(other)
    return np.broadcast_shapes(ctx.known[zero].shape, shape) == shape


def _factors(ctx: Context, name: str) -> Iterator[tuple[str, Traced]]:
    """Yield (u, f(x)) where a value is the computed product u * f(x)."""
    makers = {node.output: node for node in ctx.nodes}
    tensor = ctx.values.get(name, "")
    node = makers.get(tensor)
    if not isinstance(node, Binary) or node.kind not in ("mul", "div") or tensor in ctx.quant:
        return
    u, other = node.inputs
    for x, y in ((u, other), (other, u))[: 2 if node.kind == "mul" else 1]:
        factor = _of_tensor(ctx, y, makers)
        if factor is not None and factor.root:
            text = factor.text if node.kind == "mul" else f"div(1,{factor.text})"
            yield x, Traced(text, factor.root)


def _table(ctx: Context, call: Call, traced: Traced | None) -> None:
    if traced is None or not traced.root:
        raise Refused(
            "a comparison of real values chooses between different tensors; a choice between "
            "functions of the compared tensor, or between the two compared ones, is supported"
        )
    ctx.emit(Unary((traced.root,), call.output, call.name, function=Function(traced.text)))


# ---------------------------------------------------------------- functions of one tensor


def joined(ctx: Context, kind: str, *names: str) -> Traced | None:
    """Return an operation on values that are functions of one tensor."""
    return _joined(kind, [traced(ctx, name) for name in names])


def _joined(kind: str, parts: list[Traced | None]) -> Traced | None:
    found = [part for part in parts if part is not None]
    roots = {part.root for part in found} - {""}
    text = f"{kind}({','.join(part.text for part in found)})"
    if len(found) < len(parts) or len(roots) > 1 or len(text) > _LONGEST:
        return None
    return Traced(text, next(iter(roots), ""))


def traced(ctx: Context, name: str) -> Traced | None:
    """Return a value as a function of one tensor, as far back as that is possible."""
    if name in ctx.conditions:
        condition: Condition = ctx.conditions[name]
        return condition.traced
    if name in ctx.known:
        return _number(np.asarray(ctx.known[name]))
    return _of_tensor(ctx, ctx.tensor(name), {node.output: node for node in ctx.nodes})


def _number(array: np.ndarray) -> Traced | None:
    value = float(array.reshape(-1)[0]) if array.size == 1 else np.nan
    return Traced(repr(value), "") if np.isfinite(value) else None


def _of_tensor(ctx: Context, tensor: str, makers: dict[str, Node]) -> Traced | None:
    if tensor in ctx.constants:
        return _number(ctx.constants[tensor])
    node, found = makers.get(tensor), None
    if tensor not in ctx.quant and isinstance(node, Unary | Binary):
        parts = [_of_tensor(ctx, name, makers) for name in node.inputs]
        if isinstance(node, Binary):
            found = _joined(node.kind, parts)
        elif parts[0] is not None:
            found = _applied(node.function, parts[0])
    return found if found is not None and found.root else Traced("x", tensor)


def _applied(function: Function, part: Traced) -> Traced | None:
    if function.name == "identity":
        return part
    if is_expression(function.name):
        return Traced(re.sub(r"\bx\b", part.text, function.name), part.root)
    numbers = [Traced(repr(float(p)), "") for p in function.params]
    return _joined(function.name, [part, *numbers])


def _sign(ctx: Context, call: Call) -> None:
    x = traced(ctx, call.input(0))
    if x is None or not x.root or not completes(ctx, call.output):
        raise Refused(
            "it is discontinuous: an int8 input cannot resolve the step; a product with it, or a "
            "Where, becomes one table"
        )
    text = f"sub(greater({x.text},0),greater(0,{x.text}))"
    ctx.conditions[call.output] = Condition(Traced(text, x.root))


HANDLERS: Mapping[str, Versions] = {"Sign": {9: _sign}}
