# SPDX-License-Identifier: Apache-2.0
"""ONNX operators on elements: activations, arithmetic, ArgMax.

In: one ``Call``.  Out: Graph nodes in the ``Context``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from ....ir.graph.nodes import ArgMax, Binary, Expand, PRelu, Reshape, Select, Unary
from ....ir.types import Array, Function
from ..context import (
    Call,
    Context,
    Handler,
    Versions,
    as_float,
    axis_of,
    shape_from_axis,
)
from .conditions import product

BinaryKind = Literal["add", "sub", "mul", "div", "min", "max"]

_FLOAT_MAX = float(np.finfo(np.float32).max)


def _apply(ctx: Context, call: Call, name: str, *params: float) -> None:
    x = ctx.tensor(call.input(0))
    ctx.emit(Unary((x,), call.output, call.name, function=Function(name, params)))


def _function(name: str, **defaults: float) -> Handler:
    """Return the handler of an activation whose attributes are the function's parameters."""

    def handler(ctx: Context, call: Call) -> None:
        _apply(ctx, call, name, *(float(call.attrs.get(k, d)) for k, d in defaults.items()))

    return handler


def _clip_function(ctx: Context, call: Call, low: float, high: float) -> None:
    """Append a clip between constants, as the simplest function that computes it.

    Where ``low`` lies above ``high``, every value becomes ``high``.
    """
    low = min(low, high)
    if low <= -_FLOAT_MAX and high >= _FLOAT_MAX:
        ctx.alias(call.output, call.input(0))
    elif low == 0 and high >= _FLOAT_MAX:
        _apply(ctx, call, "relu")
    else:
        _apply(ctx, call, "clip", max(low, -_FLOAT_MAX), min(high, _FLOAT_MAX))


def _clip_attributes(ctx: Context, call: Call) -> None:
    low, high = call.attrs.get("min", -_FLOAT_MAX), call.attrs.get("max", _FLOAT_MAX)
    _clip_function(ctx, call, float(low), float(high))


def _clip_inputs(ctx: Context, call: Call) -> None:
    if any(name and name not in ctx.known for name in call.inputs[1:]):
        _clip_between(ctx, call)
        return
    bounds = [
        float(default if array is None else array.reshape(-1)[0])
        for array, default in (
            (ctx.fixed(call, 1, "min"), -_FLOAT_MAX),
            (ctx.fixed(call, 2, "max"), _FLOAT_MAX),
        )
    ]
    _clip_function(ctx, call, *bounds)


def _clip_between(ctx: Context, call: Call) -> None:
    """Append the larger of x and min, then the smaller of that and max: bounds may be computed.
    A constant bound that never decides, as infinity, is none."""
    x = ctx.tensor(call.input(0))
    kinds: tuple[BinaryKind, BinaryKind] = ("max", "min")
    pairs = [(k, n) for k, n in zip(kinds, call.inputs[1:], strict=False) if n]
    given = [(kind, name) for kind, name in pairs if not _neutral(ctx, name, kind).all()]
    for i, (kind, name) in enumerate(given, 1):
        out = call.output if i == len(given) else ctx.fresh(f"{call.output}.{kind}")
        x = ctx.emit(Binary((x, ctx.tensor(name)), out, call.name, kind=kind))


def _gelu(ctx: Context, call: Call) -> None:
    _apply(ctx, call, "gelu_tanh" if call.attrs.get("approximate") == "tanh" else "gelu")


def _binary(kind: BinaryKind) -> Handler:
    def handler(ctx: Context, call: Call) -> None:
        operands = (ctx.tensor(call.input(0)), ctx.tensor(call.input(1)))
        ctx.emit(Binary(operands, call.output, call.name, kind=kind))

    return handler


def _binary_from_axis(kind: BinaryKind) -> Handler:
    """Return the handler before opset 7, when ``axis`` said where the second operand begins."""

    def handler(ctx: Context, call: Call) -> None:
        x, y = ctx.tensor(call.input(0)), ctx.tensor(call.input(1))
        shape = shape_from_axis(call, len(ctx.shapes[x]), ctx.shapes[y])
        if shape != ctx.shapes[y]:
            y = ctx.emit(Reshape((y,), ctx.fresh(f"{call.output}.of"), call.name, shape=shape))
        ctx.emit(Binary((x, y), call.output, call.name, kind=kind))

    return handler


def _mul(ctx: Context, call: Call) -> None:
    if not product(ctx, call):
        _binary("mul")(ctx, call)


def _chain(ctx: Context, call: Call, kind: BinaryKind, out: str) -> None:
    """Append one Binary after another over all inputs."""
    total, last = ctx.tensor(call.input(0)), len(call.inputs) - 1
    for i, name in enumerate(call.inputs[1:], 1):
        target = out if i == last else ctx.fresh(f"{out}.{i}")
        total = ctx.emit(Binary((total, ctx.tensor(name)), target, call.name, kind=kind))


def _variadic(kind: BinaryKind) -> Handler:
    def handler(ctx: Context, call: Call) -> None:
        if len(call.inputs) == 1:
            ctx.alias(call.output, call.input(0))
        else:
            _chain(ctx, call, kind, call.output)

    return handler


_NEUTRAL: Mapping[BinaryKind, float] = {"max": -_FLOAT_MAX, "min": _FLOAT_MAX}


def _neutral(ctx: Context, name: str, kind: BinaryKind) -> Array:
    """Return where a constant float never decides a minimum or maximum: infinity, or the last
    number before it; one False for any other value."""
    known = ctx.known.get(name)
    if known is None or known.dtype.kind in "iub":
        return np.zeros((), bool)
    bound = _NEUTRAL[kind]
    return np.asarray(as_float(known) <= bound if kind == "max" else as_float(known) >= bound)


def _extreme(kind: BinaryKind) -> Handler:
    """Return the handler of Min or Max, of which infinite constants are no part."""

    def handler(ctx: Context, call: Call) -> None:
        neutral = {name: _neutral(ctx, name, kind) for name in call.inputs}
        decide = [name for name in call.inputs if not neutral[name].all()]
        if not any(where.any() for where in neutral.values()):
            _variadic(kind)(ctx, call)
            return
        total, *more = sorted(decide, key=lambda name: bool(neutral[name].any()))
        total = ctx.tensor(total)
        for name in more:
            total = _partly(ctx, call, kind, (total, name), neutral[name])
        shape = np.broadcast_shapes(*map(ctx.shape, call.inputs))
        ctx.emit(Expand((total,), call.output, call.name, shape=shape))

    return handler


def _partly(
    ctx: Context, call: Call, kind: BinaryKind, operands: tuple[str, str], neutral: Array
) -> str:
    """Append the extreme of a tensor and a value, where the value is not neutral."""
    x, name = operands
    if not neutral.any():
        node = Binary((x, ctx.tensor(name)), ctx.fresh(f"{call.output}.of"), call.name, kind=kind)
        return ctx.emit(node)
    finite = np.where(neutral, np.float32(0), as_float(ctx.known[name]))
    other = ctx.constant(f"{call.output}.finite", finite)
    both = ctx.emit(Binary((x, other), ctx.fresh(f"{call.output}.of"), call.name, kind=kind))
    keep = ctx.constant(f"{call.output}.neutral", neutral.astype(np.float32))
    return ctx.emit(Select((keep, x, both), ctx.fresh(f"{call.output}.chosen"), call.name))


def _mean(ctx: Context, call: Call) -> None:
    if len(call.inputs) == 1:
        ctx.alias(call.output, call.input(0))
        return
    total = ctx.fresh(f"{call.output}.sum")
    _chain(ctx, call, "add", total)
    share = ctx.constant(f"{call.output}.share", np.asarray(1 / len(call.inputs), np.float32))
    ctx.emit(Binary((total, share), call.output, call.name, kind="mul"))


def _prelu(ctx: Context, call: Call) -> None:
    slope, rank = ctx.fixed(call, 1, "the slope"), len(ctx.shape(call.input(0)))
    operand = ctx.tensor(call.input(1))
    if call.opset < 7 and slope is not None and slope.size > 1:
        # one slope per channel, which are axis 1
        per_channel = np.asarray(slope).reshape(-1, *[1] * (rank - 2))
        operand = ctx.constant(f"{call.output}.slope", per_channel)
    ctx.emit(PRelu((ctx.tensor(call.input(0)), operand), call.output, call.name))


def _swiglu(ctx: Context, call: Call) -> None:
    gate = Function("quick_gelu", (float(call.attrs.get("alpha", 1.0)),))
    node = Unary((ctx.tensor(call.input(0)),), ctx.fresh(f"{call.output}.gate"), call.name, gate)
    operands = (ctx.emit(node), ctx.tensor(call.input(1)))
    ctx.emit(Binary(operands, call.output, call.name, kind="mul"))


def _trilu(ctx: Context, call: Call) -> None:
    """Append a product with a triangle of ones."""
    given = ctx.fixed(call, 1, "the diagonal")
    k = 0 if given is None else int(np.asarray(given).reshape(()))
    ones = np.ones(ctx.shape(call.input(0))[-2:], np.float32)
    triangle = np.triu(ones, k) if call.attrs.get("upper", 1) else np.tril(ones, k)
    mask = ctx.constant(f"{call.output}.triangle", triangle)
    operands = (ctx.tensor(call.input(0)), mask)
    ctx.emit(Binary(operands, call.output, call.name, kind="mul"))


def _bias_and(name: str) -> Handler:
    """Return the handler of a com.microsoft activation of x plus an optional bias."""

    def handler(ctx: Context, call: Call) -> None:
        x = ctx.tensor(call.input(0))
        if call.input(1):
            biased = ctx.fresh(f"{call.output}.biased")
            x = ctx.emit(Binary((x, ctx.tensor(call.input(1))), biased, call.name, kind="add"))
        ctx.emit(Unary((x,), call.output, call.name, function=Function(name)))

    return handler


def _argmin(ctx: Context, call: Call) -> None:
    negative = ctx.fresh(f"{call.output}.negative")
    x = (ctx.tensor(call.input(0)),)
    _argmax_of(ctx, call, ctx.emit(Unary(x, negative, call.name, function=Function("neg"))))


def _argmax(ctx: Context, call: Call) -> None:
    _argmax_of(ctx, call, ctx.tensor(call.input(0)))


def _argmax_of(ctx: Context, call: Call, x: str) -> None:
    rank = len(ctx.shapes[x])
    ctx.emit(
        ArgMax(
            (x,),
            call.output,
            call.name,
            axis=axis_of(call, int(call.attrs.get("axis", 0)), rank),
            keepdims=bool(call.attrs.get("keepdims", 1)),
            select_last=bool(call.attrs.get("select_last_index", 0)),
        )
    )


_TRIGONOMETRY = "Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh".split()

MICROSOFT: Mapping[str, Handler] = {
    "Gelu": _bias_and("gelu"),
    "BiasGelu": _bias_and("gelu"),
    "FastGelu": _bias_and("gelu_tanh"),
    "QuickGelu": _function("quick_gelu", alpha=1.702),
}

HANDLERS: Mapping[str, Versions] = {
    "Relu": {1: _function("relu")},
    "LeakyRelu": {1: _function("leaky_relu", alpha=0.01)},
    "PRelu": {1: _prelu},
    "Clip": {1: _clip_attributes, 11: _clip_inputs},
    "Elu": {1: _function("elu", alpha=1.0)},
    "Selu": {1: _function("selu", alpha=1.6732632423543772, gamma=1.0507009873554805)},
    "Celu": {12: _function("celu", alpha=1.0)},
    "Sigmoid": {1: _function("sigmoid")},
    "Tanh": {1: _function("tanh")},
    "HardSigmoid": {1: _function("hard_sigmoid", alpha=0.2, beta=0.5)},
    "HardSwish": {14: _function("hard_swish")},
    "Mish": {18: _function("mish")},
    "Swish": {24: _function("quick_gelu", alpha=1.0)},
    "SwiGLU": {28: _swiglu},
    "Softplus": {1: _function("softplus")},
    "Softsign": {1: _function("softsign")},
    "Gelu": {20: _gelu},
    "Neg": {1: _function("neg")},
    "Abs": {1: _function("abs")},
    "Exp": {1: _function("exp")},
    "Log": {1: _function("log")},
    "Sqrt": {1: _function("sqrt")},
    "Reciprocal": {1: _function("reciprocal")},
    "Erf": {9: _function("erf")},
    "Trilu": {14: _trilu},
    "ThresholdedRelu": {10: _function("thresholded_relu", alpha=1.0)},
    "Shrink": {9: _function("shrink", lambd=0.5, bias=0.0)},
    **{op: {7: _function(op.lower())} for op in _TRIGONOMETRY},
    "Add": {1: _binary_from_axis("add"), 7: _binary("add")},
    "Sub": {1: _binary_from_axis("sub"), 7: _binary("sub")},
    "Mul": {1: _binary_from_axis("mul"), 7: _mul},
    "Div": {1: _binary_from_axis("div"), 7: _binary("div")},
    "Min": {1: _extreme("min")},
    "Max": {1: _extreme("max")},
    "Sum": {1: _variadic("add")},
    "Mean": {1: _mean},
    "ArgMax": {1: _argmax},
    "ArgMin": {1: _argmin},
}
