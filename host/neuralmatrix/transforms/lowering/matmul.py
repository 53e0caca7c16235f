# SPDX-License-Identifier: Apache-2.0
"""Lowering of matrix products to Gemms; flattened maps become kernels over the whole map.

In: MatMul and AxisMatMul nodes.  Out: the value of each.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from ...ir.axis_view import Groups, View, axis_atoms, channel_groups, replace_axes, view_of
from ...ir.graph.nodes import AxisMatMul, MatMul, Node
from ...ir.matgraph.ops import Gemm
from ...ir.types import Array, Shape
from .builder import (
    Builder,
    Direct,
    Gathered,
    Refused,
    Value,
    broadcast_value,
    reshaped,
    transposed,
)
from .convolution import constant_of, prescribed, zeros

# Above this, the weights of all groups take longer to load than a Move that separates the groups.
MOST_GROUPED = 8192
LEAST_CHANNELS = 4  # below this, a kernel over a whole map wastes more lanes than a Move costs


def _kernel_dims(view: View, axis: int) -> tuple[bool, bool] | None:
    """Return whether the axis fills H and W in addition to C; None if it fills parts of them."""
    inner = set(axis_atoms(view)[axis])
    n, h, w, c = map(set, view.dims)
    whole = c <= inner and all(dim <= inner or not dim & inner for dim in (n, h, w))
    if not whole or n & inner:
        return None
    use_h, use_w = bool(h & inner), bool(w & inner)
    narrow = view.canonical[3] < LEAST_CHANNELS
    return None if narrow and (use_h or use_w) else (use_h, use_w)


def _with_kernel(b: Builder, value: Value, axis: int) -> tuple[Direct, tuple[bool, bool]]:
    """Return ``value`` in a form in which a kernel covers ``axis`` and nothing else."""
    if isinstance(value, Direct):
        use = _kernel_dims(value.view, axis)
        if use is not None:
            return value, use
    return b.form(value, channel_groups(len(value.shape), (axis,))), (False, False)


def _groups_in_channels(value: Value, axis: int) -> int:
    """Return how often ``axis`` repeats as the innermost channels; 0 if it does not."""
    if not isinstance(value, Direct):
        return 0
    inner, channels = axis_atoms(value.view)[axis], value.view.dims[3]
    own = 0 < len(inner) < len(channels) and channels[-len(inner) :] == inner
    return value.view.canonical[3] // value.shape[axis] if own else 0


def _grouped(
    b: Builder,
    x: Direct,
    axis: int,
    weight: Array,
    node: Node,
    scale: Array | None,
    groups: int,
) -> Direct:
    """Multiply every group of channels, such as every head, by the same matrix.

    Lanes that small groups leave idle cost less than a Move that separates the groups.
    """
    m = weight.shape[1]
    packed = np.tile(weight, groups)[None, None]
    scales = None if scale is None else np.tile(scale, groups)
    gemm = Gemm(node.output, x.tensor, packed, zeros(groups * m), groups=groups,
                weight_scale=scales, source=node.source)  # fmt: skip
    return b.emit(gemm, replace_axes(x.view, {axis: m}))


def channel_gemm(
    b: Builder, value: Value, axis: int, weight: Array, node: Node, scale: Array | None = None
) -> Value:
    """Emit y[.., m, ..] = sum over k of x[.., k, ..] * weight[k, m] along one axis."""
    groups = _groups_in_channels(value, axis)
    few = 1 < groups <= MOST_GROUPED // max(weight.shape)
    if isinstance(value, Direct) and few:
        return _grouped(b, value, axis, weight, node, scale, groups)
    x, (use_h, use_w) = _with_kernel(b, value, axis)
    view, inner = x.view, axis_atoms(x.view)[axis]
    dims = ((), () if not use_h else view.dims[1], () if not use_w else view.dims[2], view.dims[3])
    order = [inner.index(a) for dim in dims for a in dim]
    m = weight.shape[1]
    atoms = weight.reshape(*(view.atoms[a] for a in inner), m).transpose(*order, len(inner))
    size = [prod(view.atoms[a] for a in dim) for dim in dims[1:]]
    packed = np.ascontiguousarray(atoms).reshape(*size, m)
    gemm = Gemm(node.output, x.tensor, packed, zeros(m), weight_scale=scale, source=node.source)
    return b.emit(gemm, replace_axes(view, {axis: m}))


def lower_axis_matmul(b: Builder, node: AxisMatMul) -> Value:
    matrix = constant_of(b, node.inputs[1], "matrix")
    x = b.value(node.inputs[0])
    axis = node.axis % len(x.shape)
    return channel_gemm(b, x, axis, matrix.T, node, prescribed(b, node.inputs[1], (1, 0)))


def lower_matmul(b: Builder, node: MatMul) -> Value:
    is_const = [name in b.graph.constants for name in node.inputs]
    shapes = [b.graph.shapes[name] for name in node.inputs]
    out = b.graph.shapes[node.output]
    full = _matrix_shapes(shapes[0], shapes[1])
    if all(is_const):
        raise Refused("both operands are constants; fold the product")
    if any(is_const):
        result = _constant_product(b, node, full, is_const[1])
    else:
        result = _dynamic_product(b, node, full)
    return reshaped(b, result, out, node.output)


def _matrix_shapes(a: Shape, w: Shape) -> tuple[Shape, Shape]:
    """Return the shapes of both operands as matrices of equal rank."""
    a = a if len(a) > 1 else (1, *a)
    w = w if len(w) > 1 else (*w, 1)
    rank = max(len(a), len(w))
    return (1,) * (rank - len(a)) + a, (1,) * (rank - len(w)) + w


def _constant_product(b: Builder, node: MatMul, full: tuple[Shape, Shape], right: bool) -> Value:
    """Emit x @ w along the last axis, or w @ x along the last but one."""
    name, axis = (node.inputs[1], -1) if right else (node.inputs[0], -2)
    weight = b.graph.constants[name].reshape(full[right]).astype(np.float32, copy=False)
    x = reshaped(b, b.value(node.inputs[not right]), full[not right], node.output)
    axis += len(x.shape)
    if not right:
        weight = weight.swapaxes(-1, -2)
    if prod(weight.shape[:-2]) > 1:
        return _batched_product(b, node, x, axis, weight)
    flat = len(b.graph.shapes[name]) == 2
    scale = prescribed(b, name, (0, 1) if right else (1, 0)) if flat else None
    return channel_gemm(b, x, axis, weight.reshape(weight.shape[-2:]), node, scale)


def _batched_product(b: Builder, node: MatMul, x: Value, axis: int, weight: Array) -> Value:
    """Emit a product with one constant matrix per batch: batch axes become groups of channels."""
    batch = tuple(i for i, n in enumerate(weight.shape[:-2]) if n > 1)
    shape = list(x.shape)
    for i in batch:
        shape[i] = weight.shape[i]
    x = broadcast_value(b, x, tuple(shape), f"{node.output}:lhs")
    form = b.form(x, channel_groups(len(shape), (*batch, axis)))
    count, m = prod(weight.shape[i] for i in batch), weight.shape[-1]
    packed = weight.reshape(count, -1, m).swapaxes(0, 1)
    gemm = Gemm(node.output, form.tensor, np.ascontiguousarray(packed).reshape(1, 1, -1, count * m),
                zeros(count * m), groups=count, source=node.source)  # fmt: skip
    return b.emit(gemm, replace_axes(form.view, {axis: m}))


def _dynamic_product(b: Builder, node: MatMul, full: tuple[Shape, Shape]) -> Value:
    """Emit an activation-activation matmul: the right operand takes the place of the weights."""
    rank = len(full[0])
    lead = np.broadcast_shapes(full[0][:-2], full[1][:-2])
    left = reshaped(b, b.value(node.inputs[0]), full[0], f"{node.output}:lhs")
    x = row_form(b, broadcast_value(b, left, (*lead, *full[0][-2:]), f"{node.output}:lhs"))
    right = reshaped(b, b.value(node.inputs[1]), full[1], f"{node.output}:rhs")
    by_column = _lies_in_channels(right, rank - 2) and not _lies_in_channels(right, rank - 1)
    if by_column:
        swap = (*range(rank - 2), rank - 1, rank - 2)
        right = transposed(right, swap, f"{node.output}:rhs")
    rhs = right_operand(b, right, lead, f"{node.output}:rhs")
    m = full[1][-1]
    gemm = Gemm(node.output, x.tensor, None, zeros(m), rhs=rhs.tensor, rhs_transposed=by_column,
                source=node.source)  # fmt: skip
    return b.emit(gemm, view_of((*lead, full[0][-2], m), _row_groups(rank)))


def _row_groups(rank: int) -> Groups:
    """Return groups with batches in N, rows in W, columns in C."""
    return (tuple(range(rank - 2)), (), (rank - 2,), (rank - 1,))


def row_form(b: Builder, value: Value) -> Direct:
    """Return a left operand (..., rows, columns) in the form of an activation-activation matmul."""
    return b.form(value, _row_groups(len(value.shape)))


def _lies_in_channels(value: Value, axis: int) -> bool:
    """Return whether the axis is part of C, in the form that a value has or suggests."""
    if isinstance(value, Gathered):
        return value.groups is not None and axis in value.groups[3] and value.shape[axis] > 1
    atoms = axis_atoms(value.view)[axis]
    return bool(atoms) and set(atoms) <= set(value.view.dims[3])


def right_operand(b: Builder, value: Value, lead: Shape, name: str) -> Direct:
    """Return (..., rows, columns) as (N', 1, rows, columns), without repeated images.

    Image n of N is multiplied by image n * N' // N: leading axes that repeat an image several times
    in a row, as the heads of grouped queries do, cost nothing.
    """
    own = (1,) * (len(lead) - len(value.shape) + 2) + value.shape[:-2]
    matrix = value.shape[-2:]
    kept = next(i for i in range(len(lead) + 1) if prod(own[i:]) == 1)
    if own[:kept] != lead[:kept]:
        value = broadcast_value(b, value, (*lead, *matrix), name)
    value = reshaped(b, value, (prod(value.shape[:-2]), *matrix), name)
    return b.form(_without_repeats(value), ((0,), (), (1,), (2,)))


def _without_repeats(value: Value) -> Value:
    """Return every r-th image if r consecutive ones are the same."""
    if isinstance(value, Direct):
        return value
    images = value.index.reshape(len(value.index), -1)
    for repeats in range(len(images), 1, -1):
        if len(images) % repeats:
            continue
        parts = images.reshape(-1, repeats, images.shape[1])
        if (parts == parts[:, :1]).all():
            return replace(value, index=value.index[::repeats], groups=None)
    return value
