# SPDX-License-Identifier: Apache-2.0
"""FixedPoint: a tensor of fixed-point numbers, as the hls4ml front end writes it.

In: one ``Call`` of the domain ``neuralmatrix``: an input, and the attributes of ``params_of``.
Out: the quantisation of a tensor, and how values are rounded to it.
"""

from __future__ import annotations

from collections.abc import Mapping

from ....ir.graph.nodes import Unary
from ....ir.types import Function, QParams
from ..context import Call, Context, Handler, Refused

DOMAIN = "neuralmatrix"
ROUNDINGS = ("even", "up", "down", "floor")


def params_of(call: Call) -> QParams:
    """Return the quantisation: ``scale`` f, ``zero_point`` i, ``int16`` i, ``ends`` ints where
    numbers have fewer bits than the type, ``rounding`` s."""
    rounding = call.attrs.get("rounding", b"even")
    rounding = rounding.decode() if isinstance(rounding, bytes) else str(rounding)
    if rounding not in ROUNDINGS:
        raise Refused(f"rounding {rounding!r}; {', '.join(ROUNDINGS)} are supported")
    return QParams(
        float(call.attrs["scale"]),
        int(call.attrs.get("zero_point", 0)),
        bool(call.attrs.get("int16", 0)),
        ends=tuple(call.attrs["ends"]) if "ends" in call.attrs else None,
        rounding=rounding,  # type: ignore[arg-type]
    )


def _fixed_point(ctx: Context, call: Call) -> None:
    params, x = params_of(call), ctx.tensor(call.input(0))
    shared = x in ctx.quant or len(ctx.users[call.input(0)]) > 1 or call.input(0) in ctx.outputs
    if shared:
        out, function = ctx.fresh(f"{call.output}.real"), Function("identity")
        x = ctx.emit(Unary((x,), out, call.name, function=function))
    ctx.quant[x] = params
    ctx.values[call.output] = x


OWN: Mapping[str, Handler] = {"FixedPoint": _fixed_point}
