# SPDX-License-Identifier: Apache-2.0
"""Rows of a computed tensor by an index that the host has in front of the array: the last word of
a sentence, as CLIP and classifiers of decoders pick it.

In: Gather or GatherND in the middle of a network.  Out: the host makes a row of 0 and 1 of every
index, and the array multiplies with it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from ...ir.graph.nodes import Reshape, Transpose
from ...ir.host.types import HostOp
from ...ir.types import Array, Shape
from .context import Call, Context, axis_of
from .node_maker import NodeMaker

Front = Callable[[HostOp, dict[str, Array]], None]  # records an operation in front of the array


def is_pick(ctx: Context, call: Call) -> bool:
    """Return whether a node takes rows of a tensor of the array by an index of the host's."""
    if call.op not in ("Gather", "GatherND") or call.domain or call.attrs.get("batch_dims"):
        return False
    data, index = call.inputs[:2]
    return data in ctx.values and data not in ctx.quantized and index in ctx.examples


def pick_rows(ctx: Context, call: Call, front: Front, deliver: Callable[[str], None]) -> None:
    """Append the product with rows of 0 and 1 instead of the node."""
    shape, index = ctx.shape(call.input(0)), ctx.examples[call.input(1)]
    if call.op == "Gather":
        axis = axis_of(call, int(call.attrs.get("axis", 0)), len(shape))
        _product(ctx, call, axis, 1, _one_hot(call, call.input(1), shape[axis], front), index.shape,
                 deliver)  # fmt: skip
        return
    count = index.shape[-1]
    flat = _flat_index(call, shape[:count], front)
    depth = prod(shape[:count])
    rows = _one_hot(call, flat, depth, front)
    _product(ctx, call, 0, count, rows, index.shape[:-1], deliver)


def _flat_index(call: Call, sizes: Shape, front: Front) -> str:
    """Have the host make one index of the flattened axes of every tuple."""
    out = call.output
    strides = np.cumprod((1, *sizes[:0:-1]), dtype=np.int64)[::-1]
    names = [f"{out}.{label}" for label in ("sizes", "strides", "last")]
    known = dict(zip(names, (np.array(sizes), strides, np.array([-1])), strict=True))
    step = call.input(1)
    for op, made, name in zip(("Mod", "Mul", "ReduceSum"), ("positive", "parts", "flat"), names,
                              strict=True):  # fmt: skip
        flags = (("keepdims", 0),) if op == "ReduceSum" else ()
        front(HostOp(op, (step, name), (f"{out}.{made}",), flags), {name: known[name]})
        step = f"{out}.{made}"
    return step


def _one_hot(call: Call, index: str, depth: int, front: Front) -> str:
    name = f"{call.output}.picks"
    known = {f"{name}.depth": np.array(depth), f"{name}.values": np.array([0, 1])}
    front(HostOp("OneHot", (index, *known), (name,), (("axis", -1),)), known)
    return name


def _product(ctx: Context, call: Call, axis: int, count: int, rows: str, picked: Shape,
             deliver: Callable[[str], None]) -> None:  # fmt: skip
    """Append rows @ data, whose axes ``axis`` to ``axis + count`` the rows pick from."""
    deliver(rows)
    make, shape = NodeMaker(ctx, call), ctx.shape(call.input(0))
    before, rest = shape[:axis], shape[axis + count :]
    x = ctx.tensor(call.input(0))
    if before:
        order = (
            *range(axis, len(shape) - len(rest)),
            *range(axis),
            *range(axis + count, len(shape)),
        )
        x = make.transpose(x, order)
    depth = prod(shape[axis : axis + count])
    table = make.reshape(x, (depth, prod((*before, *rest))))
    flat = make.reshape(ctx.tensor(rows), (prod(picked), depth))
    found = make.matmul(flat, table)
    whole = (*picked, *before, *rest)
    if not before:
        ctx.emit(Reshape((found,), call.output, call.name, shape=whole))
        return
    x = make.reshape(found, whole)
    n, b = len(picked), len(before)
    back = (*range(n, n + b), *range(n), *range(n + b, len(whole)))
    ctx.emit(Transpose((x,), call.output, call.name, perm=back))
