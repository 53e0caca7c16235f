# SPDX-License-Identifier: Apache-2.0
"""ONNX pooling over spatial windows, and normalisation over neighbouring channels.

In: one ``Call``.  Out: Pool, Reduce and element-wise nodes in the ``Context``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from ....errors import BadModel
from ....ir.graph.nodes import AxisMatMul, Binary, Node, Pad, Pool, Reduce, Unary
from ....ir.graph.operators_window import reach
from ....ir.types import Function, Shape
from ..context import Call, Context, Versions, only_first_output
from .linear import attribute, pads_of, spatial
from .volumes import pool_3d

_MANY_TAPS = 64  # of a window, above which a maximum goes along one axis after the other


def _ceil_extra(size: Shape, span: Shape, strides: Shape, pads: Shape) -> Shape:
    """Return the end padding with which floor division gives the ceil_mode output.

    A last window that would begin past the input and its begin padding is not made.
    """
    rank, extra = len(size), []
    for i, (n, k, s) in enumerate(zip(size, span, strides, strict=True)):
        room = n + pads[i] + pads[rank + i] - k
        steps = -(-room // s)
        steps -= steps * s >= n + pads[i]
        extra.append(max(0, steps * s - room))
    return tuple(extra)


@dataclass(frozen=True)
class _Geometry:
    """Attributes of a pooling window; ``extra`` end padding is ceil_mode's."""

    kernel: Shape
    strides: Shape
    dilations: Shape
    pads: Shape
    extra: Shape


def _geometry(ctx: Context, call: Call) -> _Geometry:
    size = spatial(call, ctx.shape(call.input(0)))
    rank = len(size)
    kernel = attribute(call, "kernel_shape", 1, rank)
    strides = attribute(call, "strides", 1, rank)
    dilations = attribute(call, "dilations", 1, rank)
    span = reach(kernel, dilations)
    pads = pads_of(call, size, span, strides)
    ceil = call.attrs.get("ceil_mode", 0) and call.attrs.get("auto_pad", "NOTSET") == "NOTSET"
    extra = _ceil_extra(size, span, strides, pads) if ceil else (0,) * rank
    return _Geometry(kernel, strides, dilations, pads, extra)


def _with_extra(pads: Shape, extra: Shape) -> Shape:
    """Return the begin pads, then the end pads with what ceil_mode adds."""
    rank = len(extra)
    return (*pads[:rank], *(e + more for e, more in zip(pads[rank:], extra, strict=True)))


def _pool(ctx: Context, call: Call) -> None:
    only_first_output(ctx, call, "Indices")
    g = _geometry(ctx, call)
    pads = g.pads
    x = ctx.tensor(call.input(0))
    average = call.op == "AveragePool"
    counted = average and bool(call.attrs.get("count_include_pad", 0))
    if counted and any(g.extra):
        # the divisor counts the model's pads but not ceil_mode's: make the former real zeros
        x = _zero_padded(ctx, call, x, pads)
        counted, pads = False, (0,) * len(pads)
    node = Pool(
        (x,),
        call.output,
        call.name,
        kind="average" if average else "max",
        kernel=g.kernel,
        strides=g.strides,
        pads=_with_extra(pads, g.extra),
        dilations=g.dilations,
        count_include_pad=counted,
    )
    _append(ctx, call, node)


def _append(ctx: Context, call: Call, node: Pool) -> str:
    if len(node.kernel) == 3:
        return pool_3d(ctx, call, node)
    wide = len(node.kernel) == 2 and min(node.kernel) > 1 and prod(node.kernel) > _MANY_TAPS
    return _by_axes(ctx, call, node) if wide and node.kind == "max" else ctx.emit(node)


def _by_axes(ctx: Context, call: Call, node: Pool) -> str:
    """Append a large maximum as that of every row, then of those: as many taps as both have
    together."""
    (kh, kw), (sh, sw), (dh, dw) = node.kernel, node.strides, node.dilations
    top, left, bottom, right = node.pads
    rows = replace(node, output=ctx.fresh(f"{call.output}.rows"), kernel=(1, kw), strides=(1, sw),
                   pads=(0, left, 0, right), dilations=(1, dw))  # fmt: skip
    return ctx.emit(
        replace(node, inputs=(ctx.emit(rows),), kernel=(kh, 1), strides=(sh, 1),
                pads=(top, 0, bottom, 0), dilations=(dh, 1))
    )  # fmt: skip


def _zero_padded(ctx: Context, call: Call, x: str, pads: Shape) -> str:
    if not any(pads):
        return x
    rank = len(pads) // 2
    pairs = ((0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True))
    return ctx.emit(Pad((x,), ctx.fresh(f"{call.output}.padded"), call.name, pads=pairs))


def _global_pool(ctx: Context, call: Call) -> None:
    rank = len(ctx.shape(call.input(0)))
    if rank < 3:
        raise BadModel(
            f"node {call.name!r} ({call.op}): an input of rank {rank}; 3 or more is needed"
        )
    node: Node = Reduce(
        (ctx.tensor(call.input(0)),),
        call.output,
        call.name,
        kind="mean" if call.op == "GlobalAveragePool" else "max",
        axes=tuple(range(2, rank)),
    )
    ctx.emit(node)


def _each(ctx: Context, call: Call, x: str, function: Function, out: str = "") -> str:
    out = out or ctx.fresh(f"{call.output}.{function.name}")
    return ctx.emit(Unary((x,), out, call.name, function=function))


def _powers(call: Call) -> tuple[Function, Function]:
    """Return the function x**p, and the function that takes the p-th root of a sum."""
    p = float(call.attrs.get("p", 2))
    if p == 2:
        return Function("square"), Function("sqrt")
    return Function("power", (p,)), Function("power", (1 / p,))


def _lp_terms(ctx: Context, call: Call) -> tuple[str, Function]:
    """Return the tensor to sum, and the function of the sums."""
    power, root = _powers(call)
    x = ctx.tensor(call.input(0))
    if power.name == "power":
        x = _each(ctx, call, x, Function("abs"))
    if power.params == (1.0,):
        return x, Function("identity")
    return _each(ctx, call, x, power), root


def _lp_pool(ctx: Context, call: Call) -> None:
    """Append the p-th root of a window's sum of |x|**p: the average times the window's size."""
    g = _geometry(ctx, call)
    x, root = _lp_terms(ctx, call)
    pads, name = _with_extra(g.pads, g.extra), ctx.fresh(f"{call.output}.mean")
    mean = Pool((x,), name, call.name, "average", g.kernel, g.strides, pads, g.dilations, True)
    count = ctx.constant(f"{call.output}.count", np.asarray(float(prod(g.kernel))))
    total = Binary(
        (_append(ctx, call, mean), count), ctx.fresh(f"{call.output}.sum"), call.name, kind="mul"
    )
    _each(ctx, call, ctx.emit(total), root, call.output)


def _global_lp_pool(ctx: Context, call: Call) -> None:
    x, root = _lp_terms(ctx, call)
    axes = tuple(range(2, len(ctx.shapes[x])))
    total = Reduce((x,), ctx.fresh(f"{call.output}.sum"), call.name, kind="sum", axes=axes)
    _each(ctx, call, ctx.emit(total), root, call.output)


def _lrn(ctx: Context, call: Call) -> None:
    """Append x * (bias + alpha/size * sum of squares of the neighbouring channels) ** -beta."""
    channels, size = ctx.shape(call.input(0))[1], int(call.attrs["size"])
    share = float(call.attrs.get("alpha", 1e-4)) / size
    below, above = (size - 1) // 2, size // 2
    ones = np.ones((channels, channels), np.float32)
    band = ctx.constant(f"{call.output}.band", np.triu(np.tril(ones, above), -below) * share)
    bias = ctx.constant(f"{call.output}.bias", np.asarray(float(call.attrs.get("bias", 1.0))))
    x = ctx.tensor(call.input(0))
    square = _each(ctx, call, x, Function("square"))

    def name(part: str) -> str:
        return ctx.fresh(f"{call.output}.{part}")

    total = ctx.emit(AxisMatMul((square, band), name("sum"), call.name, axis=1))
    whole = ctx.emit(Binary((total, bias), name("biased"), call.name, kind="add"))
    factor = _each(ctx, call, whole, Function("power", (-float(call.attrs.get("beta", 0.75)),)))
    ctx.emit(Binary((x, factor), call.output, call.name, kind="mul"))


HANDLERS: Mapping[str, Versions] = {
    "MaxPool": {1: _pool},
    "AveragePool": {1: _pool},
    "LpPool": {2: _lp_pool},
    "GlobalAveragePool": {1: _global_pool},
    "GlobalMaxPool": {1: _global_pool},
    "GlobalLpPool": {2: _global_lp_pool},
    "LRN": {1: _lrn},
}
