# SPDX-License-Identifier: Apache-2.0
"""ONNX QuantizeLinear, DequantizeLinear and Cast: quantised integers become annotated reals.

In: one ``Call``.  Out: ``Context.quant`` and ``Context.quantized``; a node only where
values change.

An integer tensor is represented by the real tensor that it stands for, so that a Q and DQ pair
disappears and layout operators between them need no special treatment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from ....errors import BadModel
from ....ir.graph.nodes import ArgMax, Binary, Unary
from ....ir.types import Array, Function
from ..context import INTEGER_ENDS, Call, Context, Quantization, Refused, Versions
from ..load import require_onnx
from .conditions import passed
from .logic import cast_integral, is_integral
from .wide_weights import fits_two

_INT8 = np.iinfo(np.int8)
_MOST = 2**31 - 1
_FLOATS = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
_INTEGERS = {
    2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
    21: "uint4", 22: "int4", 25: "uint2", 26: "int2",
}  # fmt: skip
_NUMBERS = {name: number for number, name in _INTEGERS.items()}
# how to quantise weights instead, by the type that they have
_CURE = defaultdict(
    lambda: "to int8",
    int8="symmetrically (zero point 0)",
    uint8="symmetrically (zero point 128)",
)
_SIGNED, _UNSIGNED = {"int8", "int16", "int32", "int64"}, {"uint8", "uint16"}
_WIDER = {
    "int8": _SIGNED,
    "uint8": _UNSIGNED | _SIGNED - {"int8"},
    **dict.fromkeys(("int2", "int4"), _SIGNED),
    **dict.fromkeys(("uint2", "uint4"), _UNSIGNED | _SIGNED),
}

# Operators that may read integers: they pass values on unchanged.
KEEPS_QUANTIZED = frozenset(
    "Concat DepthToSpace DequantizeLinear Expand Flatten Gather Identity MaxPool Reshape Slice "
    "SpaceToDepth Split Squeeze Tile Transpose Unsqueeze Cast".split()
)


# Operators that leave a smaller range of the integers that they read.
NARROWS = frozenset("Clip Max Min Relu".split())


def scale_of(ctx: Context, call: Call) -> Array:
    """Return the scale at input 1; BadModel if it is none."""
    given = ctx.fixed(call, 1, "the scale")
    scale = np.asarray(given, np.float32)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise BadModel(
            f"node {call.name!r} ({call.op}): the scale {call.input(1)!r} is not positive and "
            "finite; quantise the model again"
        )
    return scale


def along(values: Array, call: Call, rank: int) -> Array:
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
    scale, zero = scale_of(ctx, call), ctx.fixed(call, 2, "the zero point")
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
    dtype = _quantized_type(ctx, call)
    zero = ctx.fixed(call, 2, "the zero point")
    offset = 0 if zero is None else along(zero.astype(np.int64), call, x.ndim)
    steps = np.rint(x / along(scale_of(ctx, call), call, x.ndim)) + offset
    stored = require_onnx().helper.tensor_dtype_to_np_dtype(_NUMBERS[dtype])
    ctx.known[call.output] = np.clip(steps, *Quantization(1.0, 0, dtype).range).astype(stored)


# ---------------------------------------------------------------- run-time tensors


def prescribe(
    ctx: Context, call: Call, x: str, quantization: Quantization, shared: bool = True
) -> str:
    """Return a tensor of the real values that integers of ``quantization`` make of tensor ``x``.

    That is ``x`` itself, annotated, unless it has other integers or something else reads it
    (``shared``).
    """
    params = quantization.params
    if ctx.quant.get(x) != params:
        if x in ctx.quant or shared:
            out = ctx.fresh(f"{call.output}.real")
            x = ctx.emit(Unary((x,), out, call.name, function=Function("identity")))
        ctx.quant[x] = params
    return x


def quantizes_to(ctx: Context, call: Call) -> Quantization | None:
    """Return the integers that a QuantizeLinear makes, and Clip behind it; None for other nodes."""
    if call.op != "QuantizeLinear":
        return None
    whole = _quantization_of(ctx, call, _quantized_type(ctx, call))
    readers = ctx.users.get(call.output, ())
    found = {_narrowed(ctx, reader, call.output, whole) for reader in readers}
    one = found.pop() if len(found) == 1 and call.output not in ctx.outputs else None
    return one or whole


def _narrowed(ctx: Context, call: Call, name: str, have: Quantization) -> Quantization | None:
    """Return what a node leaves of the integers ``name``; None if it is not known to be less."""
    others = [other for other in call.inputs if other not in ("", name)]
    if call.op not in NARROWS or not all(other in ctx.known for other in others):
        return None
    low, high = -_MOST, _MOST
    if call.op == "Relu":
        low = 0
    elif call.op == "Clip":
        low, high = (_bound(ctx, call, i, end) for i, end in ((1, low), (2, high)))
    else:
        known = [ctx.known[other] for other in others]
        if any(one.size != 1 for one in known):
            return None
        ends = [int(one.reshape(())) for one in known]
        low, high = (max(ends), high) if call.op == "Max" else (low, min(ends))
    return have.within(low, high)


def _bound(ctx: Context, call: Call, index: int, default: int) -> int:
    given = ctx.known.get(call.input(index))
    return default if given is None else int(given.reshape(()))


def narrow(ctx: Context, call: Call) -> None:
    """Clip integers to a smaller range of the same scale."""
    name = next(name for name in call.inputs if name in ctx.quantized)
    have = ctx.quantized[name]
    want = _narrowed(ctx, call, name, have)
    if want is None:
        raise Refused("computes with quantised integers; put DequantizeLinear before it")
    ctx.alias(call.output, name)
    if want != have:
        ctx.values[call.output] = prescribe(ctx, call, ctx.values[name], want)
        ctx.quantized[call.output] = want


def shared(ctx: Context, name: str, only: Callable[[Call], bool]) -> bool:
    """Return whether anything but nodes for which ``only`` is true reads the value ``name``."""
    if name in ctx.outputs or ctx.values[name] != name:
        return True
    return not all(only(user) for user in ctx.users.get(name, ()))


def _quantize(ctx: Context, call: Call) -> None:
    if call.input(0) in ctx.known:
        _quantize_constant(ctx, call)
        return
    name, quantization = call.input(0), quantizes_to(ctx, call)
    assert quantization is not None
    others = shared(ctx, name, lambda user: quantizes_to(ctx, user) == quantization)
    ctx.values[call.output] = prescribe(ctx, call, ctx.tensor(name), quantization, others)
    ctx.quantized[call.output] = quantization


def _dequantize_constant(ctx: Context, call: Call) -> None:
    q = ctx.known[call.input(0)]
    scale, zero = scale_of(ctx, call), ctx.fixed(call, 2, "the zero point")
    spread = along(scale, call, q.ndim)
    offset = np.int64(0) if zero is None else along(zero.astype(np.int64), call, q.ndim)
    steps, dtype = q.astype(np.int64) - offset, str(q.dtype)
    if dtype == "int32":
        ctx.known[call.output] = np.asarray(steps.astype(np.float32) * spread)
        return
    enter_constant(ctx, call, steps, spread, dtype)
    if scale.size == 1 and dtype in INTEGER_ENDS and not dtype.endswith("16"):
        quantization = Quantization(float(spread), int(np.asarray(offset).reshape(())), dtype)
        ctx.constant_quant[call.output] = quantization.params


def enter_constant(ctx: Context, call: Call, steps: Array, scale: Array, dtype: str) -> None:
    """Enter the constant steps * scale, with its scale as the one of weights; ``steps`` are
    integers less their zero point."""
    ctx.known[call.output] = np.asarray(steps.astype(np.float32) * scale)
    fits = not steps.size or _INT8.min <= steps.min() <= steps.max() <= _INT8.max
    if not fits:
        reasons = ctx.wide if fits_two(steps) else ctx.unfit
        reasons[call.output] = (
            f"weight {call.input(0)!r}: {dtype} values minus their zero point reach "
            f"{steps.min()}..{steps.max()}; -128..127 is supported: quantise weights {_CURE[dtype]}"
        )
    if call.output not in ctx.unfit:
        ctx.scales[call.output] = scale


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
    ctx.quant[result] = replace(quantization, scale=1.0, zero_point=0).params
    return result


def _dequantize(ctx: Context, call: Call) -> None:
    name = call.input(0)
    if name in ctx.known:
        _dequantize_constant(ctx, call)
        return
    if name not in ctx.quantized:
        raise Refused("integers of unknown scale; integers of a QuantizeLinear are supported")
    have = ctx.quantized[name]
    want = replace(_quantization_of(ctx, call, have.dtype), ends=have.ends)
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
