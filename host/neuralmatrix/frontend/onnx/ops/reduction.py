# SPDX-License-Identifier: Apache-2.0
"""ONNX reductions along axes, running sums and softmax.

In: one ``Call``.  Out: Reduce, Softmax, AxisMatMul and element-wise nodes in the ``Context``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np

from ....ir.graph.nodes import AxisMatMul, Binary, Reduce, Reshape, Slice, Softmax, Unary
from ....ir.types import Function, Shape
from ..context import Call, Context, Handler, Refused, Versions, axes_of, axis_of

ReduceKind = Literal["mean", "sum", "max", "min"]

_MOST_FACTORS = 64  # the range of a product of more elements than this exceeds what integers cover


def _keepdims(call: Call) -> bool:
    return bool(call.attrs.get("keepdims", 1))


def _axes(ctx: Context, call: Call, since: int) -> tuple[int, ...]:
    """Return the reduced axes in order; empty if the node reduces nothing."""
    rank = len(ctx.shape(call.input(0)))
    axes = axes_of(ctx, call, rank, since)
    if not axes and call.attrs.get("noop_with_empty_axes", 0):
        return ()
    return tuple(sorted(axes or range(rank)))


def _unary(ctx: Context, call: Call, x: str, name: str, out: str = "") -> str:
    out = out or ctx.fresh(f"{call.output}.{name}")
    return ctx.emit(Unary((x,), out, call.name, function=Function(name)))


def _total(
    ctx: Context, call: Call, x: str, axes: Shape, kind: ReduceKind, out: str, keep: bool
) -> str:
    """Append a Reduce, or ``x`` itself under the name ``out`` where there are no axes."""
    if not axes:
        return _unary(ctx, call, x, "identity", out)
    return ctx.emit(Reduce((x,), out, call.name, kind=kind, axes=axes, keepdims=keep))


def _reduce(kind: ReduceKind, axes_input_since: int) -> Handler:
    def handler(ctx: Context, call: Call) -> None:
        axes = _axes(ctx, call, axes_input_since)
        if not axes:
            ctx.alias(call.output, call.input(0))
            return
        _total(ctx, call, ctx.tensor(call.input(0)), axes, kind, call.output, _keepdims(call))

    return handler


def _reduce_of(before: str, after: str) -> Handler:
    """Return the handler of after(sum of before(x)); "" is the identity."""

    def handler(ctx: Context, call: Call) -> None:
        x = ctx.tensor(call.input(0))
        axes = _axes(ctx, call, 18)
        if before:
            x = _unary(ctx, call, x, before)
        out = ctx.fresh(f"{call.output}.sum") if after else call.output
        x = _total(ctx, call, x, axes, "sum", out, _keepdims(call))
        if after:
            _unary(ctx, call, x, after, call.output)

    return handler


def _log_sum_exp(ctx: Context, call: Call) -> None:
    """Append max + log(sum(exp(x - max))), which cannot overflow."""
    x, axes = ctx.tensor(call.input(0)), _axes(ctx, call, 18)

    def name(part: str) -> str:
        return ctx.fresh(f"{call.output}.{part}")

    largest = _total(ctx, call, x, axes, "max", name("max"), True)
    shifted = ctx.emit(Binary((x, largest), name("shifted"), call.name, kind="sub"))
    power = _unary(ctx, call, shifted, "exp")
    log = _unary(ctx, call, _total(ctx, call, power, axes, "sum", name("sum"), True), "log")
    keep = _keepdims(call) or not axes
    out = call.output if keep else name("kept")
    y = ctx.emit(Binary((log, largest), out, call.name, kind="add"))
    if not keep:
        _without(ctx, call, y, axes)


def _without(ctx: Context, call: Call, x: str, axes: Shape) -> None:
    shape = tuple(n for i, n in enumerate(ctx.shapes[x]) if i not in axes)
    ctx.emit(Reshape((x,), call.output, call.name, shape=shape))


# ---------------------------------------------------------------- products


def _part(ctx: Context, call: Call, x: str, axis: int, start: int, stop: int) -> str:
    shape = ctx.shapes[x]
    slices = tuple((start, stop, 1) if i == axis else (0, n, 1) for i, n in enumerate(shape))
    return ctx.emit(Slice((x,), ctx.fresh(f"{call.output}.part"), call.name, slices=slices))


def _product(ctx: Context, call: Call, x: str, axis: int) -> str:
    """Append the product along one axis: halves are multiplied until one element is left."""
    odd = []
    while (size := ctx.shapes[x][axis]) > 1:
        half = size // 2
        halves = (_part(ctx, call, x, axis, 0, half), _part(ctx, call, x, axis, half, 2 * half))
        if size % 2:
            odd.append(_part(ctx, call, x, axis, size - 1, size))
        x = _times(ctx, call, *halves)
    for factor in odd:
        x = _times(ctx, call, x, factor)
    return x


def _times(ctx: Context, call: Call, first: str, second: str) -> str:
    out = ctx.fresh(f"{call.output}.product")
    return ctx.emit(Binary((first, second), out, call.name, kind="mul"))


def _reduce_prod(ctx: Context, call: Call) -> None:
    x, axes = ctx.tensor(call.input(0)), _axes(ctx, call, 18)
    count = math.prod(ctx.shapes[x][axis] for axis in axes)
    if count > _MOST_FACTORS:
        raise Refused(
            f"a product of {count} elements; up to {_MOST_FACTORS} are supported, or ReduceSum of "
            "logarithms"
        )
    for axis in axes:
        x = _product(ctx, call, x, axis)
    if _keepdims(call) or not axes:
        _unary(ctx, call, x, "identity", call.output)
    else:
        _without(ctx, call, x, axes)


# ---------------------------------------------------------------- running sums


def _cumsum(ctx: Context, call: Call) -> None:
    """Append a product with a triangle of ones."""
    shape = ctx.shape(call.input(0))
    given = ctx.fixed(call, 1, "the axis")
    axis = axis_of(call, int(np.asarray(given).reshape(())), len(shape))
    size = shape[axis]
    last = -1 if call.attrs.get("exclusive", 0) else 0
    triangle = np.tril(np.ones((size, size), np.float32), last)
    if call.attrs.get("reverse", 0):
        triangle = triangle[::-1, ::-1].copy()
    matrix = ctx.constant(f"{call.output}.triangle", triangle)
    ctx.emit(AxisMatMul((ctx.tensor(call.input(0)), matrix), call.output, call.name, axis=axis))


# ---------------------------------------------------------------- softmax


def _softmax(log: bool) -> Handler:
    def handler(ctx: Context, call: Call) -> None:
        rank = len(ctx.shape(call.input(0)))
        axis = axis_of(call, int(call.attrs.get("axis", -1)), rank)
        x = ctx.tensor(call.input(0))
        ctx.emit(Softmax((x,), call.output, call.name, axis=axis, log=log))

    return handler


def _softmax_flat(log: bool) -> Handler:
    """Return the handler before opset 13: softmax over all axes from ``axis`` on, flattened."""

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


HANDLERS: Mapping[str, Versions] = {
    "ReduceMean": {1: _reduce("mean", 18)},
    "ReduceSum": {1: _reduce("sum", 13)},
    "ReduceMax": {1: _reduce("max", 18)},
    "ReduceMin": {1: _reduce("min", 18)},
    "ReduceL1": {1: _reduce_of("abs", "")},
    "ReduceL2": {1: _reduce_of("square", "sqrt")},
    "ReduceSumSquare": {1: _reduce_of("square", "")},
    "ReduceLogSum": {1: _reduce_of("", "log")},
    "ReduceLogSumExp": {1: _log_sum_exp},
    "ReduceProd": {1: _reduce_prod},
    "CumSum": {11: _cumsum},
    "Softmax": {1: _softmax_flat(False), 13: _softmax(False)},
    "LogSoftmax": {1: _softmax_flat(True), 13: _softmax(True)},
}
