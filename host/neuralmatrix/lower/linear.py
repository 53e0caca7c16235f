# SPDX-License-Identifier: Apache-2.0
"""Convolutions and matrix products become Gemms (depth-wise convolutions become Windows).

In: Conv, ConvTranspose, MatMul and AxisMatMul nodes.  Out: the value of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from ..ir import Array, AxisMatMul, Conv, ConvTranspose, Gemm, MatMul, Node, Pad, Shape, Window
from .builder import Builder, Direct, Gathered, Refused, Value, broadcast, gathered, reshaped
from .view import Groups, View, axis_atoms, channel_groups, replace_axes, view_of

LEAST_CHANNELS = 4  # below this, a kernel over a whole map wastes more lanes than a Move costs

Pads = tuple[int, int, int, int]
Pair = tuple[int, int]


def zeros(count: int) -> Array:
    return np.zeros(count, np.float32)


def spatial_groups(rank: int) -> Groups:
    """(N, C, *spatial) with one or two spatial axes."""
    if rank not in (3, 4):
        raise Refused(f"{rank - 2} spatial axes; the array runs one or two")
    return ((0,), (), (2,), (1,)) if rank == 3 else ((0,), (2,), (3,), (1,))


def pair(values: tuple[int, ...], default: int) -> Pair:
    """One or two spatial attributes as (vertical, horizontal)."""
    if len(values) == 1:
        return default, values[0]
    return (values[0], values[1]) if values else (default, default)


def four_pads(pads: tuple[int, ...]) -> Pads:
    """ONNX begins-then-ends as top, left, bottom, right."""
    if min(pads, default=0) < 0:
        raise Refused(f"negative pads {pads}; slice the input instead")
    if len(pads) == 2:
        return 0, pads[0], 0, pads[1]
    return (pads[0], pads[1], pads[2], pads[3]) if pads else (0, 0, 0, 0)


def constant_of(b: Builder, name: str, what: str) -> Array:
    """A constant operand, or a refusal that names it."""
    if name not in b.graph.constants:
        raise Refused(f"its {what} {name!r} is computed at run time; it has to be a constant")
    return np.asarray(b.graph.constants[name], np.float32)


def bias_of(b: Builder, node: Node, channels: int) -> Array:
    if len(node.inputs) < 3:
        return zeros(channels)
    return constant_of(b, node.inputs[2], "bias").reshape(channels)


def prescribed(b: Builder, name: str, order: tuple[int, ...]) -> Array | None:
    """Weight scales of a QDQ model per output channel; the channel axes end up last by ``order``.

    None without any, and where scales vary along other axes than the output channel.
    """
    scale = b.graph.weight_scales.get(name)
    if scale is None:
        return None
    weight = b.graph.constants[name]
    scale = np.asarray(scale, np.float32)
    if scale.ndim == 1 and scale.size > 1:
        scale = scale.reshape(-1, *[1] * (weight.ndim - 1))
    rows = np.broadcast_to(scale, weight.shape).transpose(order)
    rows = rows.reshape(-1, rows.shape[-1])
    return rows[0].copy() if np.array_equal(rows.min(0), rows.max(0)) else None


# ---------------------------------------------------------------- convolution


def _unpadded(b: Builder, name: str) -> tuple[str, tuple[int, ...]]:
    """The tensor in front of a zero padding of spatial axes, and the pads to add."""
    node = b.producers.get(name)
    if not isinstance(node, Pad) or node.value != 0 or any(map(any, node.pads[:2])):
        return name, ()
    source = node.inputs[0]
    if b.graph.quant.get(name) != b.graph.quant.get(source):
        return name, ()
    begins, ends = zip(*node.pads[2:], strict=True)
    return source, (*begins, *ends)


def padded_input(b: Builder, name: str, pads: tuple[int, ...]) -> tuple[Direct, tuple[int, ...]]:
    """The input of a windowed operator in N, C, spatial form, an explicit zero Pad merged in."""
    source, extra = _unpadded(b, name)
    if extra:
        pads = tuple(p + e for p, e in zip(pads or (0,) * len(extra), extra, strict=True))
    value = b.value(source)
    return b.form(value, spatial_groups(len(value.shape))), pads


def lower_conv(b: Builder, node: Conv) -> Value:
    weight = constant_of(b, node.inputs[1], "weight")
    shape = b.graph.shapes[node.output]
    x, pads = padded_input(b, node.inputs[0], node.pads)
    view = view_of(shape, spatial_groups(len(shape)))
    kernel = weight.reshape(*weight.shape[:2], *pair(weight.shape[2:], 1))
    scale = prescribed(b, node.inputs[1], (*range(1, weight.ndim), 0))
    bias = bias_of(b, node, weight.shape[0])
    geometry = (pair(node.strides, 1), four_pads(pads), pair(node.dilations, 1))
    if node.groups == weight.shape[0] > 1 and weight.shape[1] == 1:
        taps = np.ascontiguousarray(kernel[:, 0].transpose(1, 2, 0))
        op = Window(node.output, x.tensor, taps, bias, "add", *geometry,
                    weight_scale=scale, source=node.source)  # fmt: skip
        return b.emit(op, view)
    gemm = Gemm(node.output, x.tensor, np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)), bias,
                *geometry, node.groups, weight_scale=scale, source=node.source)  # fmt: skip
    return b.emit(gemm, view)


# ---------------------------------------------------------------- transposed convolution


@dataclass(frozen=True)
class Phases:
    """A transposed convolution along one axis as ``stride`` interleaved convolutions of the input.

    ``taps[r][t]`` is the source kernel index of phase r that meets x[q - t], or -1.  The convolution
    yields positions first <= q < first + count; ``pads`` before and after make it so.
    """

    taps: tuple[tuple[int, ...], ...]
    pads: Pair
    first: int
    count: int


def phases(size: int, kernel: int, stride: int, dilation: int, cut: int, out: int) -> Phases:
    """Phases of one axis; ``cut`` leading results are dropped, ``out`` are kept."""
    reach = (kernel - 1) * dilation // stride + 1
    taps = [[-1] * reach for _ in range(stride)]
    for k in range(kernel):
        t, r = divmod(k * dilation, stride)
        taps[r][t] = k
    first = min(cut // stride, reach - 1)
    last = max((out - 1 + cut) // stride, size - 1)
    pads = (reach - 1 - first, last + 1 - size)
    return Phases(tuple(map(tuple, taps)), pads, first, last + 1 - first)


def _phase_weight(weight: Array, groups: int, axes: tuple[Phases, Phases]) -> Array:
    """(C, M/g, KH, KW) -> (TH, TW, C/g, g * SH * SW * M/g); x[q - t] is tap T-1-t."""
    rows, cols = (np.array([p[::-1] for p in axis.taps]) for axis in axes)
    padded = np.pad(weight, ((0, 0), (0, 0), (0, 1), (0, 1)))  # index -1 reads a zero
    parts = padded[:, :, rows][..., cols]  # C, M/g, SH, TH, SW, TW
    c, m, sh, th, sw, tw = parts.shape
    split = parts.reshape(groups, c // groups, m, sh, th, sw, tw)
    ordered = split.transpose(4, 6, 1, 0, 3, 5, 2)  # TH, TW, C/g, g, SH, SW, M/g
    return np.ascontiguousarray(ordered).reshape(th, tw, c // groups, -1)


def lower_conv_transpose(b: Builder, node: ConvTranspose) -> Value:
    weight = constant_of(b, node.inputs[1], "weight")
    shape = b.graph.shapes[node.output]
    groups = spatial_groups(len(shape))
    x = b.form(b.value(node.inputs[0]), groups)
    kernel = weight.reshape(*weight.shape[:2], *pair(weight.shape[2:], 1))
    strides, dilations = pair(node.strides, 1), pair(node.dilations, 1)
    cuts, sizes, outs = four_pads(node.pads), x.view.canonical, view_of(shape, groups).canonical
    axes = tuple(
        phases(sizes[1 + i], kernel.shape[2 + i], strides[i], dilations[i], cuts[i], outs[1 + i])
        for i in range(2)
    )
    packed = _phase_weight(kernel, node.groups, (axes[0], axes[1]))
    blocks = (node.groups, *strides, weight.shape[1])
    bias = bias_of(b, node, node.groups * weight.shape[1]).reshape(node.groups, 1, 1, -1)
    step = prescribed(b, node.inputs[1], tuple(range(weight.ndim)))
    uniform = None if step is None or np.ptp(step) else np.full(packed.shape[3], step[0], np.float32)
    pads = (axes[0].pads[0], axes[1].pads[0], axes[0].pads[1], axes[1].pads[1])
    gemm = Gemm(f"{node.output}:phases", x.tensor, packed,
                np.broadcast_to(bias, blocks).reshape(-1).copy(), pads=pads, groups=node.groups,
                weight_scale=uniform, source=node.source)  # fmt: skip
    phased = (shape[0], axes[0].count, axes[1].count, packed.shape[3])
    done = b.emit(gemm, view_of(phased, ((0,), (1,), (2,), (3,))))
    return _interleaved(b, done, node, blocks, [p.first for p in axes], cuts[:2])


def _interleaved(
    b: Builder, phased: Direct, node: Node, blocks: Shape, firsts: list[int], cuts: Shape
) -> Value:
    """Depth to space, then the part of the canvas that the pads leave."""
    shape = b.graph.shapes[node.output]
    n, h, w, _ = phased.shape
    g, sh, sw, m = blocks
    whole = gathered(b, phased, node.output)
    index = whole.index.reshape(n, h, w, g, sh, sw, m).transpose(0, 3, 6, 1, 4, 2, 5)
    index = index.reshape(n, g * m, h * sh, w * sw)
    top, left = (cut - first * s for cut, first, s in zip(cuts, firsts, (sh, sw), strict=True))
    height, width = (shape[2:] if len(shape) == 4 else (1, shape[2]))
    index = index[:, :, top : top + height, left : left + width].reshape(shape)
    return Gathered(node.output, whole.sources, index, groups=spatial_groups(len(shape)))


# ---------------------------------------------------------------- matrix products


def _kernel_dims(view: View, axis: int) -> tuple[bool, bool] | None:
    """Whether the axis fills H and W besides C; None where it is not made of whole dimensions."""
    inner = set(axis_atoms(view)[axis])
    n, h, w, c = map(set, view.dims)
    whole = c <= inner and all(dim <= inner or not dim & inner for dim in (n, h, w))
    if not whole or n & inner:
        return None
    use_h, use_w = bool(h & inner), bool(w & inner)
    narrow = view.canonical[3] < LEAST_CHANNELS
    return None if narrow and (use_h or use_w) else (use_h, use_w)


def _with_kernel(b: Builder, value: Value, axis: int) -> tuple[Direct, tuple[bool, bool]]:
    """``value`` in a form in which a kernel covers ``axis`` and nothing else."""
    if isinstance(value, Direct):
        use = _kernel_dims(value.view, axis)
        if use is not None:
            return value, use
    return b.form(value, channel_groups(len(value.shape), (axis,))), (False, False)


def channel_gemm(
    b: Builder, value: Value, axis: int, weight: Array, node: Node, scale: Array | None = None
) -> Value:
    """weight (K, M) along one axis: y[.., m, ..] = sum over k of x[.., k, ..] * weight[k, m]."""
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
    """Both operands as matrices of equal rank."""
    a = a if len(a) > 1 else (1, *a)
    w = w if len(w) > 1 else (*w, 1)
    rank = max(len(a), len(w))
    return (1,) * (rank - len(a)) + a, (1,) * (rank - len(w)) + w


def _constant_product(
    b: Builder, node: MatMul, full: tuple[Shape, Shape], right: bool
) -> Value:
    """x @ w along the last axis, or w @ x along the last but one."""
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
    """One constant matrix per batch: the batch axes join the channels as groups."""
    batch = tuple(i for i, n in enumerate(weight.shape[:-2]) if n > 1)
    shape = list(x.shape)
    for i in batch:
        shape[i] = weight.shape[i]
    x = broadcast(b, x, tuple(shape), f"{node.output}:lhs")
    form = b.form(x, channel_groups(len(shape), (*batch, axis)))
    count, m = prod(weight.shape[i] for i in batch), weight.shape[-1]
    packed = weight.reshape(count, -1, m).swapaxes(0, 1)
    gemm = Gemm(node.output, form.tensor, np.ascontiguousarray(packed).reshape(1, 1, -1, count * m),
                zeros(count * m), groups=count, source=node.source)  # fmt: skip
    return b.emit(gemm, replace_axes(form.view, {axis: m}))


def _dynamic_product(b: Builder, node: MatMul, full: tuple[Shape, Shape]) -> Value:
    """Two computed operands: the right one takes the place of the weights."""
    rank = len(full[0])
    batch = tuple(range(rank - 2))
    lead = np.broadcast_shapes(full[0][:-2], full[1][:-2])
    left = reshaped(b, b.value(node.inputs[0]), full[0], f"{node.output}:lhs")
    left = broadcast(b, left, (*lead, *full[0][-2:]), f"{node.output}:lhs")
    right = reshaped(b, b.value(node.inputs[1]), full[1], f"{node.output}:rhs")
    if prod(full[1][:-2]) > 1:
        right = broadcast(b, right, (*lead, *full[1][-2:]), f"{node.output}:rhs")
    rows: Groups = (batch, (), (rank - 2,), (rank - 1,))
    x = b.form(left, rows)
    by_column = isinstance(right, Direct) and set(right.view.dims[3]) == set(
        axis_atoms(right.view)[rank - 2]
    )
    rhs = b.form(right, (batch, (), (rank - 1,), (rank - 2,)) if by_column else rows)
    m = full[1][-1]
    gemm = Gemm(node.output, x.tensor, None, zeros(m), rhs=rhs.tensor, rhs_transposed=by_column,
                source=node.source)  # fmt: skip
    return b.emit(gemm, view_of((*lead, full[0][-2], m), rows))
