# SPDX-License-Identifier: Apache-2.0
"""ONNX gathers: rows of constant tables by an input, elements of tensors by constant indices.

In: one ``Call``.  Out: Embedding and Take nodes in the ``Context``; ``pass_indices`` follows
indices through operators that only rearrange them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod

import numpy as np

from ....errors import BadModel
from ....ir.graph.nodes import Concat, Embedding, Reshape, Take, Transpose
from ....ir.types import Array, Shape
from ..constant_folding import evaluate_node
from ..context import Call, Context, Handler, Refused, RowIndices, Versions, axis_of
from .scatter import scatter_reduced

# Operators that may lie between an input of indices and the Gather that uses them.
REARRANGES = frozenset(
    "Cast Expand Flatten Gather Identity Reshape Slice Split Squeeze Tile Transpose "
    "Unsqueeze".split()
)


def index_inputs(calls: Sequence[Call], names: Iterable[str]) -> set[str]:
    """Return those of the inputs ``names`` that reach the indices of a Gather, only rearranged."""
    root = {name: name for name in names}
    found = set()
    for call in calls:
        for name in call.inputs[:2]:
            if name in root and selects(call, name):
                found.add(root[name])
        if call.op in REARRANGES and call.input(0) in root:
            root.update(dict.fromkeys(call.outputs, root[call.input(0)]))
    return found


def selects(call: Call, name: str) -> bool:
    gathers = call.op == "Gather" and call.input(1) == name
    return gathers or call.op in ("OneHot", "EmbedLayerNormalization")


def pass_indices(ctx: Context, call: Call) -> None:
    """Rearrange indices: the operator is evaluated on the source position of each."""
    rows = ctx.rows[call.input(0)]
    for i in range(1, len(call.inputs)):
        ctx.fixed(call, i, f"input {i}")
    if call.op == "Cast":
        results = [rows.index]
    else:
        known = {name: ctx.known[name] for name in call.inputs[1:] if name}
        results = evaluate_node(call, {call.input(0): rows.index, **known})
    for name, index in zip(call.outputs, results, strict=True):
        if name:
            ctx.rows[name] = RowIndices(rows.input, index)


def _gather(ctx: Context, call: Call) -> None:
    if call.input(1) in ctx.rows:
        _gather_rows(ctx, call, ctx.rows[call.input(1)])
        return
    if call.input(0) in ctx.known:
        raise Refused(
            "indices are computed at run time; constant indices and those of a network input are "
            "supported"
        )
    shape = ctx.shape(call.input(0))
    axis = axis_of(call, int(call.attrs.get("axis", 0)), len(shape))
    indices = np.asarray(ctx.fixed(call, 1, "indices"), np.int64)
    _check_range(call, indices, shape[axis])
    flat = indices.reshape(-1) % shape[axis]
    x = ctx.tensor(call.input(0))
    if indices.ndim == 1:
        take(ctx, call, x, axis, flat, call.output)
        return
    taken = take(ctx, call, x, axis, flat, ctx.fresh(f"{call.output}.taken"))
    whole = (*shape[:axis], *indices.shape, *shape[axis + 1 :])
    ctx.emit(Reshape((taken,), call.output, call.name, shape=whole))


def _check_range(call: Call, indices: Array, size: int) -> None:
    if indices.size and not -size <= indices.min() <= indices.max() < size:
        raise BadModel(
            f"node {call.name!r} ({call.op}): indices {indices.min()}..{indices.max()} of an axis "
            f"of {size}; correct the model"
        )


def take(ctx: Context, call: Call, x: str, axis: int, indices: Iterable[int], out: str) -> str:
    """Append a Take of constant indices."""
    return ctx.emit(Take((x,), out, call.name, axis=axis, indices=tuple(int(i) for i in indices)))


# ---------------------------------------------------------------- rows of tables


def _gather_rows(ctx: Context, call: Call, rows: RowIndices) -> None:
    """Gather rows of a constant table by a network input."""
    if call.input(0) not in ctx.known:
        raise Refused(
            f"the input {rows.input!r} selects rows of a computed tensor; indices of computed "
            "tensors (edges of a graph) must be constants: bind that input (constants=, --constant)"
        )
    table = ctx.known[call.input(0)]
    axis = axis_of(call, int(call.attrs.get("axis", 0)), table.ndim)
    name, inner = _table(ctx, call, table, axis)
    ids = ctx.shapes[rows.input]
    plain = np.array_equal(rows.index.reshape(-1), np.arange(prod(ids)))
    if plain and axis == 0 and (*rows.shape, *inner) == (*ids, ctx.shapes[name][1]):
        ctx.emit(Embedding((rows.input, name), call.output, call.name))
        return
    x = ctx.emit(Embedding((rows.input, name), ctx.fresh(f"{call.output}.rows"), call.name))
    x = _arranged(ctx, call, x, rows, plain)
    _in_place(ctx, call, x, rows.shape, inner, axis)


def _table(ctx: Context, call: Call, table: Array, axis: int) -> tuple[str, Shape]:
    """Return the table as (rows, values) and the shape of one row's values."""
    inner = (*table.shape[:axis], *table.shape[axis + 1 :])
    if axis == 0 and table.ndim == 2:
        return ctx.tensor(call.input(0)), inner
    flat = np.moveaxis(table, axis, 0).reshape(table.shape[axis], -1)
    return ctx.constant(f"{call.output}.table", flat), inner


def _arranged(ctx: Context, call: Call, x: str, rows: RowIndices, plain: bool) -> str:
    """Return (elements of ``rows``, values) of the rows that the whole input selects."""
    *ids, width = ctx.shapes[x]
    flat = ctx.fresh(f"{call.output}.flat")
    x = ctx.emit(Reshape((x,), flat, call.name, shape=(prod(ids), width)))
    if plain:
        return x
    return take(ctx, call, x, 0, rows.index.reshape(-1), ctx.fresh(f"{call.output}.taken"))


def _in_place(ctx: Context, call: Call, x: str, rows: Shape, inner: Shape, axis: int) -> None:
    """Reshape (rows, values) to the result of the Gather."""
    front = (*rows, *inner)
    if axis == 0:
        ctx.emit(Reshape((x,), call.output, call.name, shape=front))
        return
    x = ctx.emit(Reshape((x,), ctx.fresh(f"{call.output}.front"), call.name, shape=front))
    count = len(rows)
    perm = (*range(count, count + axis), *range(count), *range(count + axis, len(front)))
    ctx.emit(Transpose((x,), call.output, call.name, perm=perm))


def _one_hot(ctx: Context, call: Call) -> None:
    """Gather rows of an identity matrix by a network input."""
    if call.input(0) not in ctx.rows:
        raise Refused("indices are computed at run time; those of a network input are supported")
    rows = ctx.rows[call.input(0)]
    depth, values = ctx.fixed(call, 1, "the depth"), ctx.fixed(call, 2, "the values")
    off, on = np.asarray(values, np.float32)
    table = off + (on - off) * np.eye(int(np.asarray(depth).reshape(())), dtype=np.float32)
    axis = axis_of(call, int(call.attrs.get("axis", -1)), len(rows.shape) + 1)
    name = ctx.constant(f"{call.output}.table", table)
    x = ctx.emit(Embedding((rows.input, name), ctx.fresh(f"{call.output}.rows"), call.name))
    plain = np.array_equal(rows.index.reshape(-1), np.arange(prod(ctx.shapes[rows.input])))
    x = _arranged(ctx, call, x, rows, plain)
    front = ctx.fresh(f"{call.output}.front")
    x = ctx.emit(Reshape((x,), front, call.name, shape=(*rows.shape, len(table))))
    last = len(rows.shape)
    perm = (*range(axis), last, *range(axis, last))
    ctx.emit(Transpose((x,), call.output, call.name, perm=perm))


# ---------------------------------------------------------------- elements by constant indices


def _rearranged(*what: str) -> Handler:
    """Return the handler of an operator that only moves elements of its first input."""

    def handler(ctx: Context, call: Call) -> None:
        known = {}
        for i, text in enumerate(what, 1):
            array = ctx.fixed(call, i, text)
            if array is not None:
                known[call.input(i)] = array
        shape = ctx.shape(call.input(0))
        places = np.arange(prod(shape), dtype=np.int64).reshape(shape)
        (index,) = evaluate_node(call, {call.input(0): places, **known})
        _by_index(ctx, call, (ctx.tensor(call.input(0)),), np.asarray(index, np.int64))

    return handler


def _by_index(ctx: Context, call: Call, sources: Sequence[str], index: Array) -> None:
    """Take elements of the flattened and concatenated sources."""
    flat = []
    for x in sources:
        name = ctx.fresh(f"{call.output}.flat")
        flat.append(ctx.emit(Reshape((x,), name, call.name, shape=(prod(ctx.shapes[x]),))))
    x = flat[0]
    if len(flat) > 1:
        joined = ctx.fresh(f"{call.output}.joined")
        x = ctx.emit(Concat(tuple(flat), joined, call.name, axis=0))
    taken = take(ctx, call, x, 0, index.reshape(-1), ctx.fresh(f"{call.output}.taken"))
    ctx.emit(Reshape((taken,), call.output, call.name, shape=index.shape))


def _positions(call: Call, indices: Array, rank: int) -> tuple[Array, ...]:
    """Return numpy's index arrays for the elements that an ...ND or ...Elements operator
    selects."""
    if call.op == "ScatterND":
        return tuple(np.moveaxis(indices, -1, 0))
    where: list[Array] = [np.asarray(grid) for grid in np.indices(indices.shape)]
    where[axis_of(call, int(call.attrs.get("axis", 0)), rank)] = indices
    return tuple(where)


def _gather_elements(ctx: Context, call: Call) -> None:
    shape = ctx.shape(call.input(0))
    indices = np.asarray(ctx.fixed(call, 1, "indices"), np.int64)
    places = np.arange(prod(shape), dtype=np.int64).reshape(shape)
    index = places[_positions(call, indices, len(shape))]
    _by_index(ctx, call, (ctx.tensor(call.input(0)),), index)


def _scatter(ctx: Context, call: Call) -> None:
    """Replace the elements of the data at constant indices by the updates."""
    reduction = str(call.attrs.get("reduction", "none"))
    indices = np.asarray(ctx.fixed(call, 1, "indices"), np.int64)
    data, updates = call.input(0), call.input(2)
    if reduction == "none":
        count, shape = prod(ctx.shape(data)), ctx.shape(updates)
        places = np.arange(count, dtype=np.int64).reshape(ctx.shape(data))
        later = np.arange(count, count + prod(shape), dtype=np.int64).reshape(shape)
        places[_positions(call, indices, len(places.shape))] = later
        sources = (ctx.tensor(data), ctx.tensor(updates))
        _by_index(ctx, call, sources, places)
    else:
        scatter_reduced(ctx, call, indices, reduction)


HANDLERS: Mapping[str, Versions] = {
    "Gather": {1: _gather},
    "OneHot": {9: _one_hot},
    "GatherElements": {11: _gather_elements},
    "GatherND": {11: _rearranged("indices")},
    "ReverseSequence": {10: _rearranged("the lengths")},
    "Compress": {9: _rearranged("the condition")},
    "ScatterElements": {11: _scatter},
    "ScatterND": {11: _scatter},
}
