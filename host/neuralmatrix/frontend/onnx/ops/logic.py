# SPDX-License-Identifier: Apache-2.0
"""ONNX comparisons, logic and Where on integers: true is 1, false is 0.

In: one ``Call``.  Out: Select, Unary and Binary nodes in the ``Context``; ``pass_integral`` keeps
track of which values are integers.

A comparison is exact because its operands are integers: x > y means x - y >= 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ....ir.graph.nodes import Binary, Select, Unary
from ....ir.types import Array, Function
from ..context import Call, Context, Handler, Refused, Versions
from .conditions import compare, passed
from .conditions import where as choose

# Operators whose results are integers where all their operands are.
_ARITHMETIC = frozenset("Add Concat MatMul Max Min Mul Pad Sub Sum Where".split())
# Operators of which only the first operand counts: the others are shapes, axes and indices.
_KEEPS_INTEGRAL = _ARITHMETIC | frozenset(
    "Abs Cast CumSum Expand Flatten Gather GatherElements GatherND Identity Neg ReduceMax "
    "ReduceMin ReduceProd ReduceSum Relu Reshape Slice Split Squeeze Tile Transpose Trilu "
    "Unsqueeze".split()
)
_LEAVES_BITS = frozenset("Add CumSum MatMul Neg ReduceSum Sub Sum".split())
_TO_BITS = frozenset("And Equal Greater GreaterOrEqual Less LessOrEqual Not Or Xor".split())
_FREE = frozenset(("Attention", "Cast", "MultiHeadAttention", "OneHot", "Shape", "Size", *_TO_BITS))
_BOOL = 9
_FLOATS = frozenset((1, 10, 11, 16))


def check_integral(call: Call, ctx: Context) -> None:
    """Raise Refused if an operator that is not exact on reals reads values of an integer type."""
    used = [name for name in call.inputs if name in ctx.integers]
    if used and call.op not in _KEEPS_INTEGRAL | _FREE:
        raise Refused(
            f"computes with the integers {used[0]!r}; Cast them to float before, or use Add, Sub, "
            "Mul, comparisons, logic and layout operators on them"
        )


def pass_integral(ctx: Context, call: Call) -> None:
    """Mark outputs that hold integers, and those of an integer type."""
    if call.op in _TO_BITS:
        _mark(ctx, call, True, True)
        return
    operands = [name for name in call.inputs if name]
    if call.op not in _KEEPS_INTEGRAL or not any(name in ctx.integral for name in operands):
        return
    values = operands if call.op in _ARITHMETIC else operands[:1]
    if not all(is_integral(ctx, name) for name in values):
        return
    bits = call.op not in _LEAVES_BITS and all(is_bits(ctx, name) for name in values)
    integer_type = any(name in ctx.integers for name in values[call.op == "Where" :])
    if call.op == "Cast":
        to = int(call.attrs["to"])
        integer_type, bits = to not in _FLOATS, bits or to == _BOOL
    _mark(ctx, call, bits, integer_type)


def _mark(ctx: Context, call: Call, bits: bool, integer_type: bool) -> None:
    for name in filter(None, call.outputs):
        if name in ctx.values:
            ctx.integral[name] = bits
            if integer_type:
                ctx.integers.add(name)


def _constant_holds(ctx: Context, name: str, test: Callable[[Array], Array]) -> bool:
    return name in ctx.known and bool(np.all(test(np.asarray(ctx.known[name], np.float64))))


def is_integral(ctx: Context, name: str) -> bool:
    """Return whether a value or constant holds only integers."""
    exact = 2.0**24  # float32 holds every integer up to this
    return name in ctx.integral or _constant_holds(
        ctx, name, lambda a: (np.rint(a) == a) & (np.abs(a) <= exact)
    )


def is_bits(ctx: Context, name: str) -> bool:
    """Return whether a value or constant holds only 0 and 1."""
    return ctx.integral.get(name, False) or _constant_holds(
        ctx, name, lambda a: (a == 0) | (a == 1)
    )


# ---------------------------------------------------------------- building blocks


def _unary(ctx: Context, call: Call, x: str, out: str, name: str, *params: float) -> str:
    return ctx.emit(Unary((x,), out, call.name, function=Function(name, params)))


def truth(ctx: Context, call: Call, name: str, out: str) -> str:
    """Return 1 where an integer is not 0, else 0."""
    if is_bits(ctx, name):
        return ctx.tensor(name)
    if not is_integral(ctx, name):
        raise Refused(
            f"casts real values ({name!r}) to bool, where 0 and almost 0 differ; integers "
            "are supported (an integer or bool input and what is computed from it)"
        )
    return _unary(ctx, call, ctx.tensor(name), out, "truth")


def _one_minus(ctx: Context, call: Call, x: str, out: str) -> str:
    one = ctx.constant(f"{out}.one", np.asarray(1.0, np.float32))
    return ctx.emit(Binary((one, x), out, call.name, kind="sub"))


def _difference(ctx: Context, call: Call, first: str, second: str, offset: float) -> str:
    """Return first - second + offset of integers, with as few nodes as possible."""
    names = (first, second)
    for name in names:
        if not is_integral(ctx, name):
            raise Refused(
                f"compares real values ({name!r}); integers are supported (an integer or bool "
                "input and what is computed from it), and comparisons of constants"
            )
    out = ctx.fresh(f"{call.output}.difference")
    if second in ctx.known:
        term = np.asarray(ctx.known[second], np.float64) - offset
        if term.ndim <= 1 and term.size == 1 and not term.any():
            return ctx.tensor(first)
        operands = (ctx.tensor(first), ctx.constant(f"{call.output}.term", term))
    elif first in ctx.known:
        term = np.asarray(ctx.known[first], np.float64) + offset
        operands = (ctx.constant(f"{call.output}.term", term), ctx.tensor(second))
    else:
        operands = (ctx.tensor(first), ctx.tensor(second))
        if offset:
            shift = ctx.constant(f"{call.output}.offset", np.asarray(offset))
            shifted = Binary((operands[0], shift), ctx.fresh(f"{out}.shifted"), call.name)
            operands = (ctx.emit(shifted), operands[1])
    return ctx.emit(Binary(operands, out, call.name, kind="sub"))


# ---------------------------------------------------------------- comparisons and logic


def _of_reals(ctx: Context, call: Call, kind: str, first: str, second: str) -> bool:
    """Return whether a comparison of real values is kept for what chooses by it."""
    integral = all(is_integral(ctx, name) for name in (first, second))
    return not integral and compare(ctx, call, kind, first, second)


def _equal(ctx: Context, call: Call) -> None:
    first, second = call.input(0), call.input(1)
    if _of_reals(ctx, call, "equal", first, second):
        return
    if first in ctx.known:
        first, second = second, first
    value = _single(ctx, second) if is_bits(ctx, first) else None
    if value == 1:
        ctx.alias(call.output, first)
    elif value == 0:
        _one_minus(ctx, call, ctx.tensor(first), call.output)
    else:
        x = _difference(ctx, call, first, second, 0.0)
        differs = _unary(ctx, call, x, ctx.fresh(f"{call.output}.differs"), "truth")
        _one_minus(ctx, call, differs, call.output)


def _single(ctx: Context, name: str) -> float | None:
    """Return the value of a constant scalar, None for anything else."""
    values = ctx.known.get(name)
    return None if values is None or values.size != 1 or values.ndim > 1 else float(values)


def _ordered(swap: bool, equal: bool) -> Handler:
    """Return the handler of first > second; ``swap``: <; ``equal``: also where they are equal."""

    def handler(ctx: Context, call: Call) -> None:
        pair = (call.input(0), call.input(1))
        first, second = pair[::-1] if swap else pair
        if _of_reals(ctx, call, "greater_equal" if equal else "greater", first, second):
            return
        x = _difference(ctx, call, first, second, 1.0 if equal else 0.0)
        if is_bits(ctx, first) and x == ctx.values.get(first):
            ctx.alias(call.output, first)
        else:
            _unary(ctx, call, x, call.output, "clip", 0.0, 1.0)

    return handler


def _or_condition(handler: Handler) -> Handler:
    """Return the handler of logic on bits, or on comparisons of real values."""

    def either(ctx: Context, call: Call) -> None:
        if not passed(ctx, call):
            handler(ctx, call)

    return either


def _not(ctx: Context, call: Call) -> None:
    _one_minus(ctx, call, ctx.tensor(call.input(0)), call.output)


def _and(ctx: Context, call: Call) -> None:
    operands = (ctx.tensor(call.input(0)), ctx.tensor(call.input(1)))
    ctx.emit(Binary(operands, call.output, call.name, kind="mul"))


def _or(ctx: Context, call: Call) -> None:
    operands = (ctx.tensor(call.input(0)), ctx.tensor(call.input(1)))
    ctx.emit(Binary(operands, call.output, call.name, kind="max"))


def _xor(ctx: Context, call: Call) -> None:
    operands = (ctx.tensor(call.input(0)), ctx.tensor(call.input(1)))
    differ = ctx.emit(Binary(operands, ctx.fresh(f"{call.output}.d"), call.name, kind="sub"))
    _unary(ctx, call, differ, call.output, "abs")


# ---------------------------------------------------------------- Where and casts to bool


def _where(ctx: Context, call: Call) -> None:
    if choose(ctx, call):
        return
    condition, first, second = call.inputs
    keep = ctx.tensor(condition)
    a, b = (_branch(ctx, call, name) for name in (first, second))
    maker = next((n for n in ctx.nodes if n.output == keep), None)
    is_truth = isinstance(maker, Unary) and maker.function.name == "truth"
    if is_truth and maker is not None and maker.inputs[0] == b:
        # where the condition is false, the integer behind it is 0
        b = ctx.constant(f"{call.output}.zero", np.asarray(0.0, np.float32))
    ctx.emit(Select((keep, a, b), call.output, call.name))


def _branch(ctx: Context, call: Call, name: str) -> str:
    """Return a branch as a tensor; infinity becomes the largest finite number."""
    if name not in ctx.known or np.isfinite(np.asarray(ctx.known[name], np.float32)).all():
        return ctx.tensor(name)
    limit = np.finfo(np.float32)
    finite = np.clip(np.asarray(ctx.known[name], np.float32), limit.min, limit.max)
    return ctx.constant(f"{call.output}.branch", finite)


def cast_integral(ctx: Context, call: Call, to: int) -> None:
    """Cast integers: only a cast to bool changes values."""
    if to == _BOOL:
        ctx.values[call.output] = truth(ctx, call, call.input(0), call.output)
    else:
        ctx.alias(call.output, call.input(0))


HANDLERS: Mapping[str, Versions] = {
    "Equal": {1: _equal},
    "Greater": {7: _ordered(False, False)},
    "GreaterOrEqual": {12: _ordered(False, True)},
    "Less": {7: _ordered(True, False)},
    "LessOrEqual": {12: _ordered(True, True)},
    "Not": {1: _or_condition(_not)},
    "And": {7: _or_condition(_and)},
    "Or": {7: _or_condition(_or)},
    "Xor": {7: _or_condition(_xor)},
    "Where": {9: _where},
}
