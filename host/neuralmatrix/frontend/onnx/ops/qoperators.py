# SPDX-License-Identifier: Apache-2.0
"""Operators that compute with quantised integers, as the float operators between scales.

In: one ``Call`` of QLinearConv, QLinearMatMul, ConvInteger, MatMulInteger, DynamicQuantizeLinear or
one of com.microsoft.  Out: what DequantizeLinear, the float operator and QuantizeLinear make of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ....ir.graph.nodes import Unary
from ....ir.types import Function
from ..context import Call, Context, Handler, Refused, Versions
from . import linear, pointwise, pooling, quantization

_DEQUANTIZE = quantization.HANDLERS["DequantizeLinear"][1]
_QUANTIZE = quantization.HANDLERS["QuantizeLinear"][1]


def _real(ctx: Context, call: Call, at: int, axis: int = 1, scale: str = "") -> str:
    """Return the reals that the integers at input ``at`` stand for; their scale and zero point are
    the next inputs."""
    names = (call.input(at), scale or call.input(at + 1), call.input(at + 2))
    return _dequantized(ctx, call, names, axis)


def _dequantized(ctx: Context, call: Call, names: tuple[str, ...], axis: int = 1) -> str:
    out = ctx.fresh(f"{call.output}.{names[0]}")
    inputs = names if names[-1] else names[:-1]
    made = replace(call, op="DequantizeLinear", domain="", inputs=inputs, outputs=(out,),
                   attrs={"axis": axis})  # fmt: skip
    _DEQUANTIZE(ctx, made)
    return out


def _float(ctx: Context, call: Call, handler: Handler, *inputs: str, **attrs: Any) -> str:
    """Append a float operator and return its result."""
    out = ctx.fresh(f"{call.output}.real")
    handler(ctx, replace(call, inputs=inputs, outputs=(out,), attrs={**call.attrs, **attrs}))
    return out


def _quantized(ctx: Context, call: Call, real: str, at: int) -> None:
    """Quantise a result with the scale and zero point at input ``at``."""
    inputs = tuple(name for name in (real, call.input(at), call.input(at + 1)) if name)
    _QUANTIZE(ctx, replace(call, op="QuantizeLinear", domain="", inputs=inputs, attrs={}))


def _bias(ctx: Context, call: Call, at: int, scales: tuple[int, int]) -> str:
    """Return an int32 bias in the scale of the products, "" if there is none."""
    bias = ctx.fixed(call, at, "the bias")
    if bias is None:
        return ""
    first, second = (np.asarray(ctx.fixed(call, i, "the scale"), np.float64) for i in scales)
    out = ctx.fresh(f"{call.output}.bias")
    ctx.known[out] = np.asarray(bias * (first * second).reshape(-1), np.float32)
    return out


def _qlinear_conv(ctx: Context, call: Call) -> None:
    operands = [_real(ctx, call, 0), _real(ctx, call, 3, axis=0)]
    bias = _bias(ctx, call, 8, (1, 4))
    real = _float(ctx, call, linear.HANDLERS["Conv"][1], *operands, *([bias] if bias else []))
    _quantized(ctx, call, real, 6)


def _qlinear_matmul(ctx: Context, call: Call) -> None:
    last = len(ctx.shape(call.input(3))) - 1
    operands = [_real(ctx, call, 0, axis=0), _real(ctx, call, 3, axis=last)]
    _quantized(ctx, call, _float(ctx, call, linear.HANDLERS["MatMul"][1], *operands), 6)


def _qgemm(ctx: Context, call: Call) -> None:
    axis = 0 if call.attrs.get("transB", 0) else 1
    operands = [_real(ctx, call, 0), _real(ctx, call, 3, axis=axis)]
    bias = _bias(ctx, call, 6, (1, 4))
    real = _float(ctx, call, linear.HANDLERS["Gemm"][1], *operands, *([bias] if bias else []))
    if call.input(7):
        _quantized(ctx, call, real, 7)
    else:
        ctx.alias(call.output, real)


def _elementwise(op: str) -> Handler:
    """Return the handler of two quantised operands and a quantised result."""

    def handler(ctx: Context, call: Call) -> None:
        operands = [_real(ctx, call, 0), _real(ctx, call, 3)]
        _quantized(ctx, call, _float(ctx, call, pointwise.HANDLERS[op][7], *operands), 6)

    return handler


def _of_one(make: Callable[[Context, Call, str], str]) -> Handler:
    """Return the handler of one quantised operand and a quantised result."""

    def handler(ctx: Context, call: Call) -> None:
        _quantized(ctx, call, make(ctx, call, _real(ctx, call, 0)), 3)

    return handler


def _activation(op: str) -> Handler:
    return _of_one(lambda ctx, call, x: _float(ctx, call, pointwise.HANDLERS[op][1], x))


def _pool(op: str) -> Handler:
    def make(ctx: Context, call: Call, x: str) -> str:
        if call.attrs.get("channels_last", 0):
            raise Refused("channels_last is 1; channels first are supported")
        out = ctx.fresh(f"{call.output}.real")
        attrs = {k: v for k, v in call.attrs.items() if k != "channels_last"}
        made = replace(call, op=op, domain="", inputs=(x,), outputs=(out,), attrs=attrs)
        pooling.HANDLERS[op][1](ctx, made)
        return out

    return _of_one(make)


# ---------------------------------------------------------------- sums of integers


def _one(ctx: Context, call: Call) -> str:
    name = ctx.fresh(f"{call.output}.one")
    ctx.known[name] = np.asarray(1.0, np.float32)
    return name


def _integers(ctx: Context, call: Call, at: int, zero: int) -> str:
    """Return integers less their zero point, as reals."""
    name = call.input(at)
    if name in ctx.values and name not in ctx.quantized:
        return name  # of a DynamicQuantizeLinear
    return _dequantized(ctx, call, (name, _one(ctx, call), call.input(zero)), axis=0)


def _sums(op: str) -> Handler:
    """Return the handler of ConvInteger or MatMulInteger: sums of products of integers."""

    def handler(ctx: Context, call: Call) -> None:
        operands = [_integers(ctx, call, 0, 2), _integers(ctx, call, 1, 3)]
        handler_of = linear.HANDLERS[op][1]
        handler_of(ctx, replace(call, inputs=tuple(operands)))

    return handler


def _dynamic(ctx: Context, call: Call) -> None:
    """Take x itself for integers of the scale 1: what reads the scale multiplies by it again.

    A program's scales are constants, chosen on calibration inputs.
    """
    y, scale, zero = call.outputs
    if ctx.outputs.intersection((y, scale, zero)):
        raise Refused(
            "its integers are an output, and their scale would depend on the input; end the model "
            "in front of it with outputs="
        )
    x = ctx.tensor(call.input(0))
    ctx.values[y] = x if x != call.input(0) else ctx.emit(
        Unary((x,), ctx.fresh(f"{y}.real"), call.name, function=Function("identity"))
    )  # fmt: skip
    if scale:
        ctx.known[scale] = np.asarray(1.0, np.float32)
    if zero:
        ctx.known[zero] = np.asarray(0, np.uint8)


HANDLERS: Mapping[str, Versions] = {
    "QLinearConv": {10: _qlinear_conv},
    "QLinearMatMul": {10: _qlinear_matmul},
    "ConvInteger": {10: _sums("Conv")},
    "MatMulInteger": {10: _sums("MatMul")},
    "DynamicQuantizeLinear": {11: _dynamic},
}

MICROSOFT: Mapping[str, Handler] = {
    "QGemm": _qgemm,
    "QLinearAdd": _elementwise("Add"),
    "QLinearMul": _elementwise("Mul"),
    "QLinearSigmoid": _activation("Sigmoid"),
    "QLinearLeakyRelu": _activation("LeakyRelu"),
    "QLinearAveragePool": _pool("AveragePool"),
    "QLinearGlobalAveragePool": _pool("GlobalAveragePool"),
}

# They read integers, and their results have scales of their own.
COMPUTES: frozenset[str] = frozenset((*HANDLERS, *MICROSOFT))
