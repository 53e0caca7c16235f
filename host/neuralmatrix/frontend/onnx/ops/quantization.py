# SPDX-License-Identifier: Apache-2.0
"""ONNX QuantizeLinear, DequantizeLinear and Cast: quantised integers become annotated reals.

In: one ``Call``.  Out: ``Context.quant`` and ``Context.quantized``; a node only where
values change.

An integer tensor is represented by the real tensor that it stands for, so that a Q and DQ pair
disappears and layout operators between them need no special treatment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ....errors import BadModel
from ....ir.graph.nodes import ArgMax, Binary, Unary
from ....ir.types import Array, Function
from ..context import Call, Context, Quantization, Refused, Versions
from ..load import require_onnx
from .conditions import passed
from .logic import cast_integral, is_integral
from .wide_weights import fits_two

_INT8 = np.iinfo(np.int8)
_FLOATS = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
_INTEGERS = {2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool"}
# how to quantise weights instead, by the type that they have
_CURE = defaultdict(
    lambda: "to int8",
    int8="symmetrically (zero point 0)",
    uint8="symmetrically (zero point 128)",
)
_WIDER = {"int8": {"int16", "int32", "int64"}, "uint8": {"uint16", "int16", "int32", "int64"}}

# Operators that may read integers: they pass values on unchanged.
KEEPS_QUANTIZED = frozenset(
    "Concat DepthToSpace DequantizeLinear Expand Flatten Gather Identity MaxPool Reshape Slice "
    "SpaceToDepth Split Squeeze Tile Transpose Unsqueeze Cast".split()
)


def _scale(ctx: Context, call: Call) -> Array:
    given = ctx.fixed(call, 1, "the scale")
    scale = np.asarray(given, np.float32)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise BadModel(
            f"node {call.name!r} ({call.op}): the scale {call.input(1)!r} is not positive and "
            "finite; quantise the model again"
        )
    return scale


def _along(values: Array, call: Call, rank: int) -> Array:
    """Return one value per tensor as a scalar, one per channel shaped to broadcast along
    ``axis``."""
    if values.size == 1:
        return values.reshape(())
    if values.ndim != 1:
        raise Refused("scales per block; one scale per tensor or per channel is supported")
    shape = [1] * rank
    shape[int(call.attrs.get("axis", 1))] = values.size
    return values.reshape(shape)


def _quantization_of(ctx: Context, call: Call, dtype: str) -> Quantization:
    """Return the scale and zero point of a run-time tensor."""
    scale, zero = _scale(ctx, call), ctx.fixed(call, 2, "the zero point")
    if scale.size != 1:
        raise Refused("one scale per channel of an activation; one per tensor is supported")
    return Quantization(
        float(scale.reshape(())), 0 if zero is None else int(zero.reshape(())), dtype
    )


def _quantized_type(ctx: Context, call: Call) -> str:
    zero = ctx.fixed(call, 2, "the zero point")
    if zero is not None:
        return str(zero.dtype)
    return _INTEGERS.get(int(call.attrs.get("output_dtype", 0)) or 2, "that output_dtype")


def _quantize_constant(ctx: Context, call: Call) -> None:
    x = np.asarray(ctx.known[call.input(0)], np.float32)
    dtype = np.dtype(_quantized_type(ctx, call))
    zero = ctx.fixed(call, 2, "the zero point")
    offset = 0 if zero is None else _along(zero.astype(np.int64), call, x.ndim)
    steps = np.rint(x / _along(_scale(ctx, call), call, x.ndim)) + offset
    limits = np.iinfo(dtype)
    ctx.known[call.output] = np.clip(steps, limits.min, limits.max).astype(dtype)


def _shared(ctx: Context, call: Call, quantization: Quantization) -> bool:
    """Return whether anything but equal QuantizeLinear nodes reads the value that ``call``
    quantises."""
    name = call.input(0)
    if name in ctx.outputs or ctx.values[name] != name:
        return True
    return any(
        user.op != "QuantizeLinear"
        or _quantization_of(ctx, user, _quantized_type(ctx, user)) != quantization
        for user in ctx.users.get(name, ())
    )


def _quantize(ctx: Context, call: Call) -> None:
    if call.input(0) in ctx.known:
        _quantize_constant(ctx, call)
        return
    quantization = _quantization_of(ctx, call, _quantized_type(ctx, call))
    params, x = quantization.params, ctx.tensor(call.input(0))
    if ctx.quant.get(x) != params:
        if x in ctx.quant or _shared(ctx, call, quantization):
            out = ctx.fresh(f"{call.output}.real")
            x = ctx.emit(Unary((x,), out, call.name, function=Function("identity")))
        ctx.quant[x] = params
    ctx.values[call.output] = x
    ctx.quantized[call.output] = quantization


def _dequantize_constant(ctx: Context, call: Call) -> None:
    q = ctx.known[call.input(0)]
    scale, zero = _scale(ctx, call), ctx.fixed(call, 2, "the zero point")
    spread = _along(scale, call, q.ndim)
    offset = np.int64(0) if zero is None else _along(zero.astype(np.int64), call, q.ndim)
    steps = q.astype(np.int64) - offset
    ctx.known[call.output] = np.asarray(steps.astype(np.float32) * spread)
    dtype = str(q.dtype)
    if dtype == "int32":
        return
    fits = not steps.size or _INT8.min <= steps.min() <= steps.max() <= _INT8.max
    if not fits:
        reasons = ctx.wide if fits_two(steps) else ctx.unfit
        reasons[call.output] = (
            f"weight {call.input(0)!r}: {dtype} values minus their zero point reach "
            f"{steps.min()}..{steps.max()}; -128..127 is supported: quantise weights {_CURE[dtype]}"
        )
    if call.output not in ctx.unfit:
        ctx.scales[call.output] = spread
    if scale.size == 1 and dtype in ("int8", "uint8"):
        quantization = Quantization(float(spread), int(np.asarray(offset).reshape(())), dtype)
        ctx.constant_quant[call.output] = quantization.params


def affine(ctx: Context, call: Call, x: str, gain: float, offset: float, out: str) -> str:
    """Append out = gain * x + offset with as few nodes as possible, at least one."""
    if gain != 1:
        factor = ctx.constant(f"{out}.gain", np.asarray(gain))
        scaled = ctx.fresh(f"{out}.scaled") if offset else out
        x = ctx.emit(Binary((x, factor), scaled, call.name, kind="mul"))
    if offset:
        term = ctx.constant(f"{out}.offset", np.asarray(offset))
        return ctx.emit(Binary((x, term), out, call.name, kind="add"))
    if gain == 1:
        return ctx.emit(Unary((x,), out, call.name, function=Function("identity")))
    return x


def integer_values(ctx: Context, call: Call, name: str, out: str) -> str:
    """Return a tensor whose real values are the quantised integers of ``name``."""
    quantization = ctx.quantized[name]
    result = affine(
        ctx, call, ctx.values[name], 1 / quantization.scale, quantization.zero_point, out
    )
    ctx.quant[result] = Quantization(1.0, 0, quantization.dtype).params
    return result


def _dequantize(ctx: Context, call: Call) -> None:
    name = call.input(0)
    if name in ctx.known:
        _dequantize_constant(ctx, call)
        return
    if name not in ctx.quantized:
        raise Refused("integers of unknown scale; integers of a QuantizeLinear are supported")
    have = ctx.quantized[name]
    want = _quantization_of(ctx, call, have.dtype)
    if want == have:
        ctx.values[call.output] = ctx.values[name]
        return
    offset = want.scale * (have.zero_point - want.zero_point)
    y = affine(ctx, call, ctx.values[name], want.scale / have.scale, offset, call.output)
    ctx.quant[y] = want.params


def _cast_quantized(ctx: Context, call: Call, to: int) -> None:
    name = call.input(0)
    quantization = ctx.quantized[name]
    if to in _FLOATS and (quantization.scale, quantization.zero_point) == (1.0, 0):
        ctx.values[call.output] = ctx.values[name]
    elif to in _FLOATS:
        integer_values(ctx, call, name, call.output)
    elif _INTEGERS.get(to) in {quantization.dtype, *_WIDER.get(quantization.dtype, ())}:
        ctx.alias(call.output, name)
    else:
        raise Refused(
            f"a cast of {quantization.dtype} to type {to}; casts to wider types are supported"
        )


def _cast(ctx: Context, call: Call) -> None:
    name, to = call.input(0), int(call.attrs["to"])
    if passed(ctx, call):
        return
    if name in ctx.quantized:
        _cast_quantized(ctx, call, to)
        return
    if is_integral(ctx, name):
        cast_integral(ctx, call, to)
        return
    output = ctx.values[name]
    index = next((n for n in ctx.nodes if isinstance(n, ArgMax) and n.output == output), None)
    if to not in _FLOATS and not (index and to in _INTEGERS):
        raise Refused(
            f"a cast of real values to type {_INTEGERS.get(to, to)}; casts between float types, of "
            "constants, integers and ArgMax results are supported"
        )
    if index:
        dtype = _INTEGERS.get(to, "float32")  # the type of all real outputs
        ctx.emit(replace(index, output=call.output, dtype=dtype))
    else:
        ctx.alias(call.output, name)


def _cast_like(ctx: Context, call: Call) -> None:
    """Cast to the type of the second operand."""
    name, helper = call.input(1), require_onnx().helper
    if name in ctx.known:
        to = helper.np_dtype_to_tensor_dtype(ctx.known[name].dtype)
    elif name in ctx.quantized or name in ctx.integers:
        raise Refused(f"the type of {name!r} is an integer; Cast to that type instead")
    else:
        to = 1
    if call.input(0) in ctx.known:
        dtype = helper.tensor_dtype_to_np_dtype(to)
        ctx.known[call.output] = np.asarray(ctx.known[call.input(0)]).astype(dtype)
        return
    _cast(ctx, replace(call, op="Cast", attrs={**call.attrs, "to": to}))


HANDLERS: Mapping[str, Versions] = {
    "QuantizeLinear": {1: _quantize},
    "DequantizeLinear": {1: _dequantize},
    "Cast": {1: _cast},
    "CastLike": {15: _cast_like},
}
