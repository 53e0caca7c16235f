# SPDX-License-Identifier: Apache-2.0
"""QONNX: Quant, BipolarQuant and Trunc, the nodes in which tools for FPGAs keep quantised networks.

In: one ``Call`` of a QONNX domain.  Out: constants with the scale of their integers, or tensors
whose integers are prescribed: one node is a QuantizeLinear, a Clip and a DequantizeLinear.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ....errors import BadModel
from ....ir.graph.nodes import Binary
from ....ir.types import Array
from ..context import Call, Context, Handler, Quantization, Refused
from .quantization import affine, enter_constant, prescribe, scale_of, shared

DOMAINS = frozenset({"qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general"})

_MOST_BITS = 32
_FINE = 2.0**-12  # of a step: values this close to an integer are taken for it
_STEEP = 2.0**20  # gain in front of a sign, whose small values saturate at once

Rounding = Callable[[Array], Array]


def _away(nearest: Rounding) -> Rounding:
    """Return a rounding of magnitudes."""
    return lambda x: np.asarray(np.sign(x) * nearest(np.abs(x)))


_ROUNDINGS: Mapping[str, Rounding] = {
    "ROUND": np.round,
    "HALF_EVEN": np.round,
    "FLOOR": np.floor,
    "CEIL": np.ceil,
    "DOWN": np.trunc,
    "ROUND_TO_ZERO": np.trunc,
    "UP": _away(np.ceil),
    "HALF_UP": _away(lambda x: np.floor(x + 0.5)),
    "HALF_DOWN": _away(lambda x: np.ceil(x - 0.5)),
}
# Rounding to the nearest integer is another rounding of values moved by this part of a step; of
# values that may be negative, only the first of each pair is.
_MOVES: Mapping[str, tuple[float, bool]] = {
    "ROUND": (0.0, True), "HALF_EVEN": (0.0, True),
    "FLOOR": (-0.5, True), "CEIL": (0.5, True),
    "DOWN": (-0.5, False), "ROUND_TO_ZERO": (-0.5, False), "UP": (0.5, False),
    "HALF_UP": (0.0, False), "HALF_DOWN": (0.0, False),
}  # fmt: skip
_TIES = {"HALF_UP": 1, "HALF_DOWN": -1}


@dataclass(frozen=True)
class _Target:
    """Integers to round to: ``scale`` broadcasts with the tensor."""

    scale: Array
    zero: int
    ends: tuple[int, int]
    rounding: str

    @property
    def largest(self) -> float:
        return float(np.max(self.scale))

    @property
    def quantization(self) -> Quantization:
        bits = (self.ends[1] - self.ends[0]).bit_length()
        return Quantization(self.largest, self.zero, f"a {bits}-bit integer", self.ends)


# ---------------------------------------------------------------- what a node says


def _number(ctx: Context, call: Call, index: int, what: str) -> int:
    given = ctx.fixed(call, index, what)
    values = np.unique(np.asarray(0 if given is None else given, np.float64))
    if values.size != 1 or values[0] != np.rint(values[0]):
        raise Refused(f"{what} is {values.tolist()}; one integer is supported")
    return int(values[0])


def _ends(call: Call, bits: int) -> tuple[int, int]:
    """Return the least and the largest integer of a number of bits."""
    signed, narrow = bool(call.attrs.get("signed", 1)), bool(call.attrs.get("narrow", 0))
    if not 1 <= bits <= _MOST_BITS:
        raise BadModel(
            f"node {call.name!r} ({call.op}): {bits} bits; 1 to {_MOST_BITS} are allowed; "
            "export the model again"
        )
    half = 1 << (bits - 1)
    return (narrow - half, half - 1) if signed else (0, 2 * half - 1 - narrow)


def _rounding(call: Call, default: str) -> str:
    mode = str(call.attrs.get("rounding_mode", default)).upper()
    if mode not in _ROUNDINGS:
        raise Refused(f"rounding mode {mode}; {', '.join(_ROUNDINGS)} are supported")
    return mode


def _quant_target(ctx: Context, call: Call) -> _Target:
    zero = _number(ctx, call, 2, "the zero point")
    ends = _ends(call, _number(ctx, call, 3, "the bit width"))
    return _Target(scale_of(ctx, call), zero, ends, _rounding(call, "ROUND"))


def _is_bipolar(ctx: Context, call: Call) -> bool:
    """Return whether a node knows -1 and 1 alone: a signed integer of one bit is one too."""
    if call.op == "BipolarQuant":
        return True
    one_bit = call.op in ("Quant", "IntQuant") and _number(ctx, call, 3, "the bit width") == 1
    return one_bit and bool(call.attrs.get("signed", 1))


# ---------------------------------------------------------------- constants


def _constant(ctx: Context, call: Call, target: _Target) -> None:
    x = np.asarray(ctx.known[call.input(0)], np.float32)
    steps = _ROUNDINGS[target.rounding](np.clip(x / target.scale + target.zero, *target.ends))
    _enter(ctx, call, steps - target.zero, target.scale)


def _enter(ctx: Context, call: Call, steps: Array, scale: Array) -> None:
    spread = scale.reshape(()) if scale.size == 1 else scale
    enter_constant(ctx, call, steps.astype(np.int64), np.asarray(spread, np.float32), "integer")
    if scale.size == 1 and call.output in ctx.scales and call.output not in ctx.wide:
        low, high = int(steps.min(initial=0)), int(steps.max(initial=0))
        quantization = Quantization(float(spread), 0, "integer", (min(low, -1), max(high, 1)))
        ctx.constant_quant[call.output] = quantization.params


# ---------------------------------------------------------------- run-time tensors


def _same(ctx: Context, call: Call, target: _Target) -> bool:
    """Return whether ``call`` is a Quant with the same integers."""
    plain = call.domain in DOMAINS and call.op in ("Quant", "IntQuant")
    if not plain or _is_bipolar(ctx, call):
        return False
    other = _quant_target(ctx, call)
    same = other.scale.size == target.scale.size == 1 and other.largest == target.largest
    return same and (other.zero, other.ends, other.rounding) == (
        target.zero, target.ends, target.rounding,
    )  # fmt: skip


def _run_time(ctx: Context, call: Call, target: _Target) -> None:
    """Round a tensor to integers."""
    name, quantization = call.input(0), target.quantization
    if target.rounding in ("ROUND", "HALF_EVEN") and target.scale.size == 1:
        others = shared(ctx, name, lambda user: _same(ctx, user, target))
        ctx.values[call.output] = prescribe(ctx, call, ctx.tensor(name), quantization, others)
        return
    x = ctx.tensor(name)
    ratio = np.asarray(target.largest / target.scale, np.float32)
    if target.scale.size > 1:
        x = _times(ctx, call, x, ratio, "of one scale")
    move = _moved_by(ctx, x, target) * target.largest
    x = affine(ctx, call, x, 1.0, move, ctx.fresh(f"{call.output}.moved"))
    x = prescribe(ctx, call, x, quantization, shared=False)
    if target.scale.size > 1:
        x = _times(ctx, call, x, 1 / ratio, "of each scale")
    ctx.values[call.output] = x


def _times(ctx: Context, call: Call, x: str, factor: Array, what: str) -> str:
    operand = ctx.constant(f"{call.output}.factor {what}", factor)
    out = ctx.fresh(f"{call.output} {what}")
    return ctx.emit(Binary((x, operand), out, call.name, kind="mul"))


def _moved_by(ctx: Context, x: str, target: _Target) -> float:
    """Return the part of a step by which values move so that the nearest integer is the one of
    another rounding: less than half a step, so that integers stay."""
    part, of_any_sign = _MOVES[target.rounding]
    if not of_any_sign and target.ends[0] < target.zero:
        raise Refused(
            f"rounding mode {target.rounding} of values that may be negative; ROUND, FLOOR and "
            "CEIL are supported"
        )
    have = ctx.quant.get(x)
    finest = have.scale / target.largest if have else _FINE
    within = min(max(finest, _FINE), 1.0) / 2
    if target.rounding in _TIES:
        return _TIES[target.rounding] * min(within, 0.25)
    return part - within * np.sign(part) if part else 0.0


def _quant(ctx: Context, call: Call) -> None:
    if _is_bipolar(ctx, call):
        _bipolar(ctx, call)
    elif call.input(0) in ctx.known:
        _constant(ctx, call, _quant_target(ctx, call))
    else:
        _run_time(ctx, call, _quant_target(ctx, call))


def _bipolar(ctx: Context, call: Call) -> None:
    """Make -scale of values below 0 and scale of all others."""
    scale, name = scale_of(ctx, call), call.input(0)
    if name in ctx.known:
        _enter(ctx, call, np.where(np.asarray(ctx.known[name]) >= 0, 1, -1), scale)
        return
    if scale.size > 1:
        raise Refused("one scale per channel of a sign; one per tensor is supported")
    step = float(scale.reshape(()))
    # 1 + a steep multiple of x, cut to 0..1: 0 where x is negative
    steep = ctx.fresh(f"{call.output}.steep")
    x = affine(ctx, call, ctx.tensor(name), _STEEP, 0.0, steep)
    below = Quantization(step, 1, "a sign", (0, 1))
    x = prescribe(ctx, call, x, below, shared=False)
    both = affine(ctx, call, x, 2.0, step, ctx.fresh(f"{call.output}.sign"))
    sign = Quantization(step, 0, "a sign", (-1, 1))
    ctx.values[call.output] = prescribe(ctx, call, both, sign, shared=False)


def _trunc(ctx: Context, call: Call) -> None:
    """Drop low bits.  The first version says by how many bits; its result has the input's scale."""
    scale, zero = scale_of(ctx, call), _number(ctx, call, 2, "the zero point")
    if scale.size != 1:
        raise Refused("one scale per channel; one per tensor is supported")
    bits = _number(ctx, call, 3, "the bit width")
    first = len(call.inputs) < 6
    kept = _number(ctx, call, 4 if first else 5, "the bit width of the result")
    times = 2.0 ** (bits - kept)
    if not first:
        given = np.asarray(ctx.fixed(call, 4, "the scale of the result"), np.float64)
        times = float(2.0 ** np.rint(np.log2(given.reshape(-1)[0] / scale.reshape(-1)[0])))
    if zero % times:
        raise Refused(f"zero point {zero}, which has bits that are dropped; 0 is supported")
    if first and zero:
        raise Refused(f"zero point {zero} of a Trunc without an output scale; 0 is supported")
    low, high = (-(1 << (kept - 1)), (1 << kept) - 1) if first else _ends(call, kept)
    made = np.asarray(scale * times, np.float32)
    target = _Target(made, int(zero / times), (low, high), _rounding(call, "FLOOR"))
    if call.input(0) in ctx.known:
        _constant_trunc(ctx, call, scale, zero, target, first)
        return
    x = _on_grid(ctx, call, Quantization(float(scale.reshape(())), zero, "int16", (-32640, 32639)))
    _run_time(ctx, _reading(ctx, call, x), target)
    if first:
        y = ctx.values[call.output]
        smaller = affine(ctx, call, y, 1 / times, 0.0, ctx.fresh(f"{call.output}.smaller"))
        whole = Quantization(float(scale.reshape(())), 0, "a sum", target.ends)
        ctx.values[call.output] = prescribe(ctx, call, smaller, whole, shared=False)


def _reading(ctx: Context, call: Call, tensor: str) -> Call:
    """Return ``call`` with a Graph tensor in the place of its first input."""
    ctx.values[tensor] = tensor
    return Call(
        call.name, call.op, call.domain, call.opset, (tensor, *call.inputs[1:]), call.outputs,
        call.attrs, call.proto,
    )  # fmt: skip


def _on_grid(ctx: Context, call: Call, grid: Quantization) -> str:
    """Return the input of a Trunc rounded to the integers whose bits are dropped."""
    x = ctx.tensor(call.input(0))
    have = ctx.quant.get(x)
    if have and have.scale == grid.scale:
        return x
    return prescribe(ctx, call, x, grid, shared(ctx, call.input(0), lambda user: user is call))


def _constant_trunc(
    ctx: Context, call: Call, scale: Array, zero: int, target: _Target, first: bool
) -> None:
    x = np.asarray(ctx.known[call.input(0)], np.float32)
    whole = np.round(x / scale + zero) * (scale / target.scale)
    steps = _ROUNDINGS[target.rounding](whole if first else np.clip(whole, *target.ends))
    _enter(ctx, call, steps - target.zero, scale if first else target.scale)


def _no_floats(ctx: Context, call: Call) -> None:
    raise Refused("small floating-point formats; integers (Quant) are supported")


def _no_thresholds(ctx: Context, call: Call) -> None:
    raise Refused("thresholds of a later stage of FINN; give the model with its Quant nodes")


COMPUTED: Mapping[str, Handler] = {
    "Quant": _quant,
    "IntQuant": _quant,
    "BipolarQuant": _bipolar,
    "Trunc": _trunc,
}

HANDLERS: Mapping[str, Handler] = {
    **COMPUTED,
    "FloatQuant": _no_floats,
    "MultiThreshold": _no_thresholds,
}
