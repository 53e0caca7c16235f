# SPDX-License-Identifier: Apache-2.0
"""ONNX operators on elements and along axes: activations, arithmetic, reductions, softmax.

In: one ``Call``.  Out: Graph nodes in the ``Context``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

from ..ir import ArgMax, Binary, Function, PRelu, Reduce, Reshape, Softmax, Unary
from .onnx_context import Call, Context, Handler, Refused, Versions, axes_of, axis_of

BinaryKind = Literal["add", "sub", "mul", "div", "min", "max"]
ReduceKind = Literal["mean", "sum", "max", "min"]

_FLOAT_MAX = float(np.finfo(np.float32).max)


def _apply(ctx: Context, call: Call, name: str, *params: float) -> None:
    x = ctx.tensor(call.input(0))
    ctx.emit(Unary((x,), call.output, call.name, function=Function(name, params)))


def _function(name: str, **defaults: float) -> Handler:
    """Handler of an activation whose attributes are the function's parameters."""

    def handler(ctx: Context, call: Call) -> None:
        _apply(ctx, call, name, *(float(call.attrs.get(k, d)) for k, d in defaults.items()))

    return handler


def _clip_function(ctx: Context, call: Call, low: float, high: float) -> None:
    """Clip between constants, as the plainest function that does it."""
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
    bounds = [
        float(default if array is None else array.reshape(-1)[0])
        for array, default in (
            (ctx.fixed(call, 1, "min"), -_FLOAT_MAX),
            (ctx.fixed(call, 2, "max"), _FLOAT_MAX),
        )
    ]
    _clip_function(ctx, call, *bounds)


def _gelu(ctx: Context, call: Call) -> None:
    _apply(ctx, call, "gelu_tanh" if call.attrs.get("approximate") == "tanh" else "gelu")


def _binary(kind: BinaryKind) -> Handler:
    def handler(ctx: Context, call: Call) -> None:
        operands = (ctx.tensor(call.input(0)), ctx.tensor(call.input(1)))
        ctx.emit(Binary(operands, call.output, call.name, kind=kind))

    return handler


def _chain(ctx: Context, call: Call, kind: BinaryKind, out: str) -> None:
    """One Binary after another over all inputs."""
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


def _mean(ctx: Context, call: Call) -> None:
    if len(call.inputs) == 1:
        ctx.alias(call.output, call.input(0))
        return
    total = ctx.fresh(f"{call.output}.sum")
    _chain(ctx, call, "add", total)
    share = ctx.constant(f"{call.output}.share", np.asarray(1 / len(call.inputs), np.float32))
    ctx.emit(Binary((total, share), call.output, call.name, kind="mul"))


def _prelu(ctx: Context, call: Call) -> None:
    ctx.fixed(call, 1, "the slope")
    operands = (ctx.tensor(call.input(0)), ctx.tensor(call.input(1)))
    ctx.emit(PRelu(operands, call.output, call.name))


_POWERS: Mapping[float, str] = {
    2.0: "square",
    0.5: "sqrt",
    -1.0: "reciprocal",
    -0.5: "rsqrt",
    1.0: "identity",
}


def _pow(ctx: Context, call: Call) -> None:
    exponent = ctx.fixed(call, 1, "the exponent")
    values = {float(v) for v in np.asarray(exponent).reshape(-1)}
    power = values.pop() if len(values) == 1 else math.nan
    if power == 3:
        x = ctx.tensor(call.input(0))
        square = ctx.fresh(f"{call.output}.square")
        ctx.emit(Unary((x,), square, call.name, function=Function("square")))
        ctx.emit(Binary((square, x), call.output, call.name, kind="mul"))
    elif power in _POWERS:
        _apply(ctx, call, _POWERS[power])
    else:
        allowed = ", ".join(f"{p:g}" for p in sorted([*_POWERS, 3.0]))
        raise Refused(
            f"exponent {power} (nan: several); one constant exponent of {allowed} is supported"
        )


def _reduce(kind: ReduceKind, axes_input_since: int) -> Handler:
    def handler(ctx: Context, call: Call) -> None:
        rank = len(ctx.shape(call.input(0)))
        axes = axes_of(ctx, call, rank, axes_input_since)
        if not axes and call.attrs.get("noop_with_empty_axes", 0):
            ctx.alias(call.output, call.input(0))
            return
        ctx.emit(
            Reduce(
                (ctx.tensor(call.input(0)),),
                call.output,
                call.name,
                kind=kind,
                axes=tuple(sorted(axes or range(rank))),
                keepdims=bool(call.attrs.get("keepdims", 1)),
            )
        )

    return handler


def _softmax(log: bool) -> Handler:
    def handler(ctx: Context, call: Call) -> None:
        rank = len(ctx.shape(call.input(0)))
        axis = axis_of(call, int(call.attrs.get("axis", -1)), rank)
        x = ctx.tensor(call.input(0))
        ctx.emit(Softmax((x,), call.output, call.name, axis=axis, log=log))

    return handler


def _softmax_flat(log: bool) -> Handler:
    """Before opset 13: over all axes from ``axis`` on, flattened together."""

    def handler(ctx: Context, call: Call) -> None:
        shape = ctx.shape(call.input(0))
        axis = axis_of(call, int(call.attrs.get("axis", 1)), len(shape))
        x = ctx.tensor(call.input(0))
        if math.prod(shape[axis:]) == shape[-1]:
            ctx.emit(Softmax((x,), call.output, call.name, axis=len(shape) - 1, log=log))
            return
        flat = ctx.fresh(f"{call.output}.flat")
        rows = ctx.fresh(f"{call.output}.rows")
        matrix = (math.prod(shape[:axis]), math.prod(shape[axis:]))
        ctx.emit(Reshape((x,), flat, call.name, shape=matrix))
        ctx.emit(Softmax((flat,), rows, call.name, axis=1, log=log))
        ctx.emit(Reshape((rows,), call.output, call.name, shape=shape))

    return handler


def _argmax(ctx: Context, call: Call) -> None:
    rank = len(ctx.shape(call.input(0)))
    ctx.emit(
        ArgMax(
            (ctx.tensor(call.input(0)),),
            call.output,
            call.name,
            axis=axis_of(call, int(call.attrs.get("axis", 0)), rank),
            keepdims=bool(call.attrs.get("keepdims", 1)),
            select_last=bool(call.attrs.get("select_last_index", 0)),
        )
    )


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
    "Pow": {1: _pow},
    "Add": {7: _binary("add")},
    "Sub": {7: _binary("sub")},
    "Mul": {7: _binary("mul")},
    "Div": {7: _binary("div")},
    "Min": {1: _variadic("min")},
    "Max": {1: _variadic("max")},
    "Sum": {1: _variadic("add")},
    "Mean": {1: _mean},
    "ReduceMean": {1: _reduce("mean", 18)},
    "ReduceSum": {1: _reduce("sum", 13)},
    "ReduceMax": {1: _reduce("max", 18)},
    "ReduceMin": {1: _reduce("min", 18)},
    "Softmax": {1: _softmax_flat(False), 13: _softmax(False)},
    "LogSoftmax": {1: _softmax_flat(True), 13: _softmax(True)},
    "ArgMax": {1: _argmax},
}
