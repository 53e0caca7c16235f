# SPDX-License-Identifier: Apache-2.0
"""Reducing scatters with constant indices: sums and extremes over the edges of a graph.

In: a ScatterElements or ScatterND ``Call`` with a reduction.  Out: Graph nodes in the ``Context``.
A sum becomes one product with a constant matrix, which takes in a gather and edge weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Literal

import numpy as np

from ....errors import BadModel
from ....ir.graph.nodes import AxisMatMul, Binary, Node, Reduce, Reshape, Select, Take, Unary
from ....ir.types import Array, Shape
from ..context import Call, Context, Refused, axis_of

Kind = Literal["max", "min"]

LOWEST = 1e30  # data below -LOWEST is never a maximum
MAX_GATHERED = 1 << 22  # elements that a maximum may gather


def scatter_reduced(ctx: Context, call: Call, indices: Array, reduction: str) -> None:
    """Reduce the data and the updates of every index by ``reduction``."""
    if reduction not in REDUCTIONS:
        allowed = ", ".join(sorted(REDUCTIONS))
        raise Refused(f"reduction {reduction!r}; none, {allowed} are supported")
    axis, rows = _slices(ctx, call, indices)
    size = ctx.shape(call.input(0))[axis]
    if rows.size and not -size <= rows.min() <= rows.max() < size:
        raise BadModel(
            f"node {call.name!r} ({call.op}): indices {rows.min()}..{rows.max()} of an axis of "
            f"{size}; correct the model"
        )
    REDUCTIONS[reduction](ctx, call, axis, rows % size)


def _slices(ctx: Context, call: Call, indices: Array) -> tuple[int, Array]:
    """Return the axis along which whole slices are reduced, and the target index of each."""
    data, updates = ctx.shape(call.input(0)), ctx.shape(call.input(2))
    if call.op == "ScatterND":
        if indices.ndim == 2 and indices.shape[1] == 1:
            return 0, indices[:, 0]
        raise Refused(_ELEMENTS)
    axis = axis_of(call, int(call.attrs.get("axis", 0)), len(data))
    moved = np.moveaxis(indices, axis, 0).reshape(indices.shape[axis], -1)
    others = (*updates[:axis], *updates[axis + 1 :]) == (*data[:axis], *data[axis + 1 :])
    if not others or bool((moved != moved[:, :1]).any()):
        raise Refused(_ELEMENTS)
    return axis, moved[:, 0]


_ELEMENTS = (
    "reduces single elements; whole slices along one axis are supported (the same indices for all "
    "other axes)"
)


# ---------------------------------------------------------------- sums


def _scatter_add(ctx: Context, call: Call, axis: int, rows: Array) -> None:
    """Append data + matrix @ source along the axis."""
    source, columns, factors = _traced(ctx, ctx.tensor(call.input(2)), axis)
    size, depth = ctx.shape(call.input(0))[axis], ctx.shapes[source][axis]
    matrix = np.zeros((size, depth), np.float32)
    np.add.at(matrix, (rows, columns), factors)
    name = ctx.constant(f"{call.output}.matrix", matrix)
    data = ctx.known.get(call.input(0))
    if data is not None and not data.any():
        ctx.emit(AxisMatMul((source, name), call.output, call.name, axis=axis))
        return
    added = ctx.emit(AxisMatMul((source, name), ctx.fresh(f"{call.output}.added"), call.name,
                                axis=axis))  # fmt: skip
    ctx.emit(Binary((added, ctx.tensor(call.input(0))), call.output, call.name, kind="add"))


def _traced(ctx: Context, tensor: str, axis: int) -> tuple[str, Array, Array]:
    """Return the tensor that slices of ``tensor`` are gathered from, index and factor of each."""
    makers = {node.output: node for node in ctx.nodes}
    places = np.arange(ctx.shapes[tensor][axis])
    factors = np.ones(len(places), np.float32)
    while tensor not in ctx.quant and (node := makers.get(tensor)) is not None:
        step = _weighted(ctx, node, axis)
        if step is None:
            break
        tensor, weights, indices = step
        factors = factors * weights[places]
        places = indices[places]
    return tensor, places, factors


def _weighted(ctx: Context, node: Node, axis: int) -> tuple[str, Array, Array] | None:
    """Return (source, factor per slice, source slice per slice) if the node does nothing else."""
    size = ctx.shapes[node.output][axis]
    same = np.arange(size)
    if isinstance(node, Take) and node.axis == axis:
        return node.inputs[0], np.ones(size, np.float32), np.asarray(node.indices)
    if isinstance(node, Unary) and node.function.name == "identity":
        return node.inputs[0], np.ones(size, np.float32), same
    if isinstance(node, Binary) and node.kind == "mul":
        for x, other in (node.inputs, node.inputs[::-1]):
            factor = ctx.constants.get(other)
            if factor is not None and ctx.shapes[x] == ctx.shapes[node.output]:
                weights = _per_slice(factor, len(ctx.shapes[x]), axis)
                return None if weights is None else (x, np.broadcast_to(weights, (size,)), same)
    return None


def _per_slice(factor: Array, rank: int, axis: int) -> Array | None:
    """Return a constant that varies only along the axis as a vector, else None."""
    shape = (1,) * (rank - factor.ndim) + factor.shape
    return factor.reshape(-1) if prod(shape) == shape[axis] else None


# ---------------------------------------------------------------- extremes


def _scatter_extreme(kind: Kind) -> Callable[[Context, Call, int, Array], None]:
    """Return the handler that gathers all updates of every index and keeps the extreme one."""
    sign = 1.0 if kind == "max" else -1.0

    def handler(ctx: Context, call: Call, axis: int, rows: Array) -> None:
        size, rank = ctx.shape(call.input(0))[axis], len(ctx.shape(call.input(0)))
        found = _reduced(ctx, call, axis, _members(rows, size), kind)
        shape = [1] * rank
        shape[axis] = size
        met = np.isin(np.arange(size), rows).reshape(shape)
        data = ctx.known.get(call.input(0))
        if data is None:
            _with_computed(ctx, call, found, met, kind)
        else:
            _with_data(ctx, call, found, met, sign * data.astype(np.float64), kind)

    return handler


def _members(rows: Array, size: int) -> Array:
    """Return the (size, most) updates of each index, the first one repeated; 0 where it has
    none."""
    order = np.argsort(rows, kind="stable")
    counts = np.bincount(rows, minlength=size)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    inside = np.minimum(np.arange(max(1, counts.max())), np.maximum(counts - 1, 0)[:, None])
    at = np.minimum(starts[:, None] + inside, len(rows) - 1)
    return np.asarray(np.where(counts[:, None] > 0, order[at], 0))


def _reduced(ctx: Context, call: Call, axis: int, table: Array, kind: Kind) -> str:
    x = ctx.tensor(call.input(2))
    shape = ctx.shapes[x]
    whole: Shape = (*shape[:axis], *table.shape, *shape[axis + 1 :])
    if prod(whole) > MAX_GATHERED:
        raise Refused(
            f"the {kind} of up to {table.shape[1]} updates for each of {table.shape[0]} indices "
            f"gathers {prod(whole)} elements; up to {MAX_GATHERED} are supported: use a dense "
            "masked softmax instead"
        )
    indices = tuple(int(i) for i in table.reshape(-1))
    taken = ctx.fresh(f"{call.output}.taken")
    ctx.emit(Take((x,), taken, call.name, axis=axis, indices=indices))
    apart = ctx.fresh(f"{call.output}.apart")
    ctx.emit(Reshape((taken,), apart, call.name, shape=whole))
    out = ctx.fresh(f"{call.output}.{kind}")
    return ctx.emit(Reduce((apart,), out, call.name, kind, (axis + 1,), False))


def _with_computed(ctx: Context, call: Call, found: str, met: Array, kind: Kind) -> None:
    """Append ``found`` reduced with computed data at indices with updates, else the data."""
    data, every = ctx.tensor(call.input(0)), bool(met.all())
    out = call.output if every else ctx.fresh(f"{call.output}.joined")
    both = ctx.emit(Binary((found, data), out, call.name, kind))
    if not every:
        mask = ctx.constant(f"{call.output}.met", met.astype(np.float32))
        ctx.emit(Select((mask, both, data), call.output, call.name))


def _with_data(ctx: Context, call: Call, found: str, met: Array, data: Array, kind: Kind) -> None:
    """Append ``found`` at indices with updates, reduced with the data (negated for a minimum)."""
    sign = 1.0 if kind == "max" else -1.0
    whole = np.broadcast_to(met, data.shape)
    own = data[whole]
    if bool((own > -LOWEST).any()):
        if bool((own <= -LOWEST).any()):
            raise Refused(f"some data are infinite; all or none are supported for {kind}")
        same = own.max() == own.min()  # a clip can express this bound
        limits = own.max() if same else np.where(whole, data, 0.0)
        bound = ctx.constant(f"{call.output}.data", np.asarray(sign * limits))
        joined = ctx.fresh(f"{call.output}.joined")
        found = ctx.emit(Binary((found, bound), joined, call.name, kind))
    if met.all():
        ctx.emit(Unary((found,), call.output, call.name))
        return
    rest = np.where(whole, 0.0, sign * data)
    if bool((np.abs(rest) > LOWEST).any()):
        raise Refused("indices without updates keep infinite data; give every index an update")
    mask = ctx.constant(f"{call.output}.met", met.astype(np.float32))
    others = ctx.constant(f"{call.output}.rest", rest)
    kept = ctx.emit(Binary((found, mask), ctx.fresh(f"{call.output}.kept"), call.name, kind="mul"))
    ctx.emit(Binary((kept, others), call.output, call.name, kind="add"))


REDUCTIONS: Mapping[str, Callable[[Context, Call, int, Array], None]] = {
    "add": _scatter_add,
    "max": _scatter_extreme("max"),
    "min": _scatter_extreme("min"),
}
