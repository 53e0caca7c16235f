# SPDX-License-Identifier: Apache-2.0
"""ONNX normalisation over channels, positions and groups, also fused with a skip connection.

In: one ``Call``.  Out: Normalize nodes in the ``Context``, with sums and factors around them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ....errors import BadModel
from ....ir.graph.nodes import Binary, Normalize, Reduce, Reshape, Unary
from ....ir.types import Function, Shape
from ..context import Call, Context, Handler, Refused, Versions, axis_of, ints
from . import gather as onnx_gather

_LEAST_NORM = 1e-12  # LpNormalization has no lower bound; this avoids 0 / 0
_LEAST_SPREAD = 1e-18  # MeanVarianceNormalization adds 1e-9 to the root of the variance


def _statistics(ctx: Context, call: Call, x: str, axes: tuple[int, ...]) -> None:
    """Append the second and third output where they are used: the mean and the inverse of the
    root of the variance."""
    if not (call.has_output(1) or call.has_output(2)):
        return

    def name(i: int, label: str) -> str:
        return call.outputs[i] if call.has_output(i) else ctx.fresh(f"{call.output}.{label}")

    mean = ctx.emit(Reduce((x,), name(1, "mean"), call.name, kind="mean", axes=axes))
    if not call.has_output(2):
        return
    apart = ctx.emit(Binary((x, mean), name(9, "apart"), call.name, kind="sub"))
    square = ctx.emit(Unary((apart,), name(9, "square"), call.name, function=Function("square")))
    spread = ctx.emit(Reduce((square,), name(9, "spread"), call.name, kind="mean", axes=axes))
    epsilon = np.asarray(float(call.attrs.get("epsilon", 1e-5)), np.float32)
    least = ctx.constant(f"{call.output}.epsilon", epsilon)
    total = ctx.emit(Binary((spread, least), name(9, "total"), call.name, kind="add"))
    ctx.emit(Unary((total,), name(2, "inverse"), call.name, function=Function("rsqrt")))


def _norm(
    ctx: Context,
    call: Call,
    x: str,
    scale: str,
    bias: str,
    axes: tuple[int, ...],
    centered: bool = True,
    out: str = "",
) -> str:
    """Append a Normalize with constant operands, or with nodes for computed ones behind it.

    ``scale`` and ``bias`` are ONNX names.
    """
    epsilon = float(call.attrs.get("epsilon", 1e-5))
    fixed = tuple(name if name in ctx.known else "" for name in (scale, bias))
    late = [(k, n) for k, n in (("mul", scale), ("add", bias)) if n and n not in ctx.known]
    if scale and late and fixed[1]:
        fixed, late = (fixed[0], ""), [*late, ("add", bias)]
    operands = tuple(ctx.tensor(name) if name else "" for name in fixed)
    while operands and not operands[-1]:
        operands = operands[:-1]
    out = out or call.output
    names = [*(ctx.fresh(f"{out}.{kind}") for kind, _ in late), out]
    node = Normalize((x, *operands), names[0], call.name, axes, epsilon, centered)
    done = ctx.emit(node)
    for (kind, name), target in zip(late, names[1:], strict=True):
        pair = (done, ctx.tensor(name))
        done = ctx.emit(Binary(pair, target, call.name, kind=kind))  # type: ignore[arg-type]
    return done


def _last_axes(call: Call, rank: int) -> tuple[int, ...]:
    axis = axis_of(call, int(call.attrs.get("axis", -1)), rank)
    return tuple(range(axis, rank))


def _layer_norm(centered: bool) -> Handler:
    def handler(ctx: Context, call: Call) -> None:
        x = ctx.tensor(call.input(0))
        bias = call.input(2) if centered else ""
        axes = _last_axes(call, len(ctx.shape(call.input(0))))
        _statistics(ctx, call, x, axes)
        _norm(ctx, call, x, call.input(1), bias, axes, centered)

    return handler


def _per_channel(ctx: Context, call: Call, index: int, shape: Shape) -> str:
    """Return a constant vector shaped to broadcast along its axes."""
    vector = ctx.fixed(call, index, "the scale or bias")
    if vector is None:
        return ""
    name = ctx.fresh(f"{call.output}.operand{index}")
    ctx.known[name] = np.asarray(vector).reshape(shape)
    return name


def _instance_norm(ctx: Context, call: Call) -> None:
    shape = ctx.shape(call.input(0))
    if len(shape) < 3:
        raise BadModel(
            f"node {call.name!r} (InstanceNormalization): input of rank {len(shape)}; 3 or more "
            "are allowed; correct the model"
        )
    per_channel = (shape[1], *[1] * (len(shape) - 2))
    operands = [_per_channel(ctx, call, i, per_channel) for i in (1, 2)]
    axes = tuple(range(2, len(shape)))
    _norm(ctx, call, ctx.tensor(call.input(0)), operands[0], operands[1], axes)


def _group_norm(ctx: Context, call: Call) -> None:
    shape, groups = ctx.shape(call.input(0)), int(call.attrs["num_groups"])
    if len(shape) < 3 or shape[1] % groups:
        raise BadModel(
            f"node {call.name!r} (GroupNormalization): {groups} groups of a tensor {shape}; "
            "they must divide its channels; correct the model"
        )
    split = (shape[0], groups, shape[1] // groups, *shape[2:])
    wanted = (groups, split[2], *[1] * (len(shape) - 2))
    operands = [_per_channel(ctx, call, i, wanted) for i in (1, 2)]
    x, done = ctx.fresh(f"{call.output}.groups"), ctx.fresh(f"{call.output}.normal")
    ctx.emit(Reshape((ctx.tensor(call.input(0)),), x, call.name, shape=split))
    axes = tuple(range(2, len(split)))
    _norm(ctx, call, x, operands[0], operands[1], axes, out=done)
    ctx.emit(Reshape((done,), call.output, call.name, shape=shape))


def _lp_norm(ctx: Context, call: Call) -> None:
    x, rank = ctx.tensor(call.input(0)), len(ctx.shape(call.input(0)))
    axes = (axis_of(call, int(call.attrs.get("axis", -1)), rank),)
    if int(call.attrs.get("p", 2)) == 2:
        ctx.emit(Normalize((x,), call.output, call.name, axes, _LEAST_NORM, False, "l2"))
        return
    size, total = ctx.fresh(f"{call.output}.size"), ctx.fresh(f"{call.output}.total")
    ctx.emit(Unary((x,), size, call.name, function=Function("abs")))
    ctx.emit(Reduce((size,), total, call.name, kind="sum", axes=axes))
    ctx.emit(Binary((x, total), call.output, call.name, kind="div"))


def _mean_variance(ctx: Context, call: Call) -> None:
    rank = len(ctx.shape(call.input(0)))
    axes = tuple(axis_of(call, a, rank) for a in ints(call.attrs.get("axes", (0, 2, 3))))
    x = ctx.tensor(call.input(0))
    ctx.emit(Normalize((x,), call.output, call.name, tuple(sorted(axes)), _LEAST_SPREAD))


# ---------------------------------------------------------------- com.microsoft


def _skip_norm(centered: bool) -> Handler:
    """Return the handler of normalize(input + skip [+ bias]); output 3 is the sum."""

    def handler(ctx: Context, call: Call) -> None:
        gamma, beta = call.input(2), call.input(3) if centered else ""
        added = call.input(4 if centered else 3)
        total = call.outputs[3] if call.has_output(3) else ctx.fresh(f"{call.output}.sum")
        first = ctx.fresh(f"{call.output}.skip") if added else total
        pair = (ctx.tensor(call.input(0)), ctx.tensor(call.input(1)))
        x = ctx.emit(Binary(pair, first, call.name))
        if added:
            x = ctx.emit(Binary((x, ctx.tensor(added)), total, call.name))
        axes = (len(ctx.shape(call.input(0))) - 1,)
        _statistics(ctx, call, x, axes)
        _norm(ctx, call, x, gamma, beta, axes, centered)

    return handler


def _embed_norm(ctx: Context, call: Call) -> None:
    """Append normalize(words[ids] + positions + segments[segment ids])."""
    if call.has_output(1):
        raise Refused("the index of masks is an output; only the embedding is supported")
    if call.input(7) or call.input(8):
        raise Refused("a mask or position ids are given; give the mask to the attention nodes")
    ids, segments = call.input(0), call.input(1)
    x = _rows(ctx, call, call.input(2), ids)
    length = ctx.shape(x)[1]
    places = ctx.fixed(call, 3, "the table of positions")
    terms = [] if places is None else [ctx.constant(f"{call.output}.places", places[:length])]
    if segments:
        terms.append(_rows(ctx, call, call.input(4), segments))
    for i, term in enumerate(terms, 1):
        name = call.outputs[2] if call.has_output(2) and i == len(terms) else ""
        x = ctx.emit(Binary((x, term), name or ctx.fresh(f"{call.output}.sum"), call.name))
    _norm(ctx, call, x, call.input(5), call.input(6), (2,))


def _rows(ctx: Context, call: Call, table: str, ids: str) -> str:
    """Gather rows of a table; rows at constant indices are a constant."""
    name = ctx.fresh(f"{call.output}.rows")
    if ids in ctx.known:
        return ctx.constant(name, np.asarray(ctx.known[table])[np.asarray(ctx.known[ids])])
    gather = replace(call, op="Gather", inputs=(table, ids), outputs=(name,), attrs={})
    onnx_gather.HANDLERS["Gather"][1](ctx, gather)
    return ctx.values[name]


HANDLERS: Mapping[str, Versions] = {
    "LayerNormalization": {1: _layer_norm(True)},
    "RMSNormalization": {1: _layer_norm(False)},
    "SimplifiedLayerNormalization": {1: _layer_norm(False)},
    "InstanceNormalization": {1: _instance_norm},
    "GroupNormalization": {21: _group_norm},
    "LpNormalization": {1: _lp_norm},
    "MeanVarianceNormalization": {1: _mean_variance},
}

MICROSOFT: Mapping[str, Handler] = {
    "EmbedLayerNormalization": _embed_norm,
    "SimplifiedLayerNormalization": _layer_norm(False),
    "SkipLayerNormalization": _skip_norm(True),
    "SkipSimplifiedLayerNormalization": _skip_norm(False),
}
