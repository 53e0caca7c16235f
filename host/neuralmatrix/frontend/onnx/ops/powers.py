# SPDX-License-Identifier: Apache-2.0
"""ONNX Pow: with one exponent, with whole ones that differ, with a constant base.

In: one ``Call``.  Out: Unary and Binary nodes in the ``Context``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ....ir.graph.nodes import Binary, Expand, Select, Unary
from ....ir.types import Array, Function
from ..context import Call, Context, Refused, Versions
from ..node_maker import NodeMaker

_MOST_POWER = 8  # of exponents that differ: more exceeds what int16 resolves


def _apply(ctx: Context, call: Call, name: str, *params: float) -> None:
    x = ctx.tensor(call.input(0))
    ctx.emit(Unary((x,), call.output, call.name, function=Function(name, params)))


_POWERS: Mapping[float, str] = {
    2.0: "square",
    0.5: "sqrt",
    -1.0: "reciprocal",
    -0.5: "rsqrt",
    1.0: "identity",
}


def _pow(ctx: Context, call: Call) -> None:
    if call.input(0) in ctx.known:
        _exponential(ctx, call)
        return
    exponent = ctx.fixed(call, 1, "the exponent")
    values = {float(v) for v in np.asarray(exponent).reshape(-1)}
    if len(values) != 1:
        _different(NodeMaker(ctx, call), np.asarray(exponent, np.float64))
        return
    power = values.pop()
    if power in (3, 4):
        x = ctx.tensor(call.input(0))
        square = ctx.fresh(f"{call.output}.square")
        ctx.emit(Unary((x,), square, call.name, function=Function("square")))
        factor = x if power == 3 else square
        ctx.emit(Binary((square, factor), call.output, call.name, kind="mul"))
    elif power in _POWERS:
        _apply(ctx, call, _POWERS[power])
    else:
        _apply(ctx, call, "power", power)


def _different(make: NodeMaker, exponents: Array) -> None:
    """Append whole powers that differ from element to element: products of x, x^2, x^4, ..., each
    where the exponent has that bit."""
    whole = np.rint(exponents) == exponents
    if not whole.all() or exponents.min() < 0 or exponents.max() > _MOST_POWER:
        raise Refused(
            f"{np.unique(exponents).size} different exponents; one constant exponent is supported, "
            f"and several whole ones of 0 to {_MOST_POWER}"
        )
    ctx, call = make.ctx, make.call
    power, bits = ctx.tensor(call.input(0)), exponents.astype(np.int64)
    one, found = make.constant("one", np.asarray(1.0)), ""
    while bits.any():
        factor = power
        if not (bits & 1).all():
            chosen = (make.constant("bit", bits & 1), power, one)
            factor = ctx.emit(Select(chosen, make.name("factor"), call.name))
        if (bits & 1).any():
            found = make.binary("mul", found, factor) if found else factor
        bits = bits >> 1
        if bits.any():
            square = Unary((power,), make.name("square"), call.name, Function("square"))
            power = ctx.emit(square)
    shape = np.broadcast_shapes(make.shape(found), exponents.shape)
    ctx.emit(Expand((found,), call.output, call.name, shape=shape))


def _exponential(ctx: Context, call: Call) -> None:
    """Append base ** x = exp(x * log(base)) for a constant base."""
    base = np.asarray(ctx.known[call.input(0)], np.float64)
    if not (base > 0).all():
        raise Refused("a constant base of 0 or less; positive bases are supported")
    rate = ctx.constant(f"{call.output}.rate", np.log(base))
    scaled = ctx.fresh(f"{call.output}.scaled")
    x = ctx.emit(Binary((ctx.tensor(call.input(1)), rate), scaled, call.name, kind="mul"))
    ctx.emit(Unary((x,), call.output, call.name, function=Function("exp")))


HANDLERS: Mapping[str, Versions] = {"Pow": {1: _pow}}
