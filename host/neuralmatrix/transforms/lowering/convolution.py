# SPDX-License-Identifier: Apache-2.0
"""Lowering of convolutions to Gemms, depthwise ones to Windows, transposed ones with a Move.

In: Conv and ConvTranspose nodes.  Out: the value of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...ir.axis_view import Groups, view_of
from ...ir.graph.nodes import Conv, ConvTranspose, Node, Pad
from ...ir.matgraph.ops import Gemm, Window
from ...ir.types import Array, Shape
from .builder import Builder, Direct, Gathered, Refused, Value, gathered

Pads = tuple[int, int, int, int]
Pair = tuple[int, int]


def zeros(count: int) -> Array:
    return np.zeros(count, np.float32)


def spatial_groups(rank: int) -> Groups:
    """Return the groups of (N, C, *spatial) with one or two spatial axes."""
    if rank not in (3, 4):
        raise Refused(f"{rank - 2} spatial axes; the array runs one or two")
    return ((0,), (), (2,), (1,)) if rank == 3 else ((0,), (2,), (3,), (1,))


def pair(values: tuple[int, ...], default: int) -> Pair:
    """Return one or two spatial attributes as (vertical, horizontal)."""
    if len(values) == 1:
        return default, values[0]
    return (values[0], values[1]) if values else (default, default)


def four_pads(pads: tuple[int, ...]) -> Pads:
    """Return ONNX pads (begins, then ends) as top, left, bottom, right."""
    if min(pads, default=0) < 0:
        raise Refused(f"negative pads {pads}; slice the input instead")
    if len(pads) == 2:
        return 0, pads[0], 0, pads[1]
    return (pads[0], pads[1], pads[2], pads[3]) if pads else (0, 0, 0, 0)


def constant_of(b: Builder, name: str, what: str) -> Array:
    """Return a constant operand; Refused if it is computed."""
    if name not in b.graph.constants:
        raise Refused(f"its {what} {name!r} is computed at run time; it has to be a constant")
    return np.asarray(b.graph.constants[name], np.float32)


def bias_of(b: Builder, node: Node, channels: int) -> Array:
    if len(node.inputs) < 3:
        return zeros(channels)
    return constant_of(b, node.inputs[2], "bias").reshape(channels)


def prescribed(b: Builder, name: str, order: tuple[int, ...]) -> Array | None:
    """Return a QDQ model's weight scales per output channel; ``order`` moves channel axes last.

    None without any, and if scales vary along other axes than the output channel.
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
    """Return the tensor before a zero padding of spatial axes, and the pads to add."""
    node = b.producers.get(name)
    if not isinstance(node, Pad) or node.value != 0 or any(map(any, node.pads[:2])):
        return name, ()
    source = node.inputs[0]
    if b.graph.quant.get(name) != b.graph.quant.get(source):
        return name, ()
    begins, ends = zip(*node.pads[2:], strict=True)
    return source, (*begins, *ends)


def padded_input(b: Builder, name: str, pads: tuple[int, ...]) -> tuple[Direct, tuple[int, ...]]:
    """Return the input of a windowed operator in N, C, spatial form, and pads with a Pad merged."""
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
    strides, dilations = pair(node.strides, 1), pair(node.dilations, 1)
    if node.groups == weight.shape[0] > 1 and weight.shape[1] == 1:
        taps = np.ascontiguousarray(kernel[:, 0].transpose(1, 2, 0))
        op = Window(node.output, x.tensor, taps, bias, strides=strides, pads=four_pads(pads),
                    dilations=dilations, weight_scale=scale, source=node.source)  # fmt: skip
        return b.emit(op, view)
    gemm = Gemm(node.output, x.tensor, np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)), bias,
                strides=strides, pads=four_pads(pads), dilations=dilations, groups=node.groups,
                weight_scale=scale, source=node.source)  # fmt: skip
    return b.emit(gemm, view)


# ---------------------------------------------------------------- transposed convolution


@dataclass(frozen=True)
class Phases:
    """A transposed convolution along one axis as ``stride`` interleaved convolutions of the input.

    ``taps[r][t]`` is the source kernel index of phase r for x[q - t], or -1.  The
    convolution yields positions first <= q < first + count; ``pads`` before and after make it so.
    """

    taps: tuple[tuple[int, ...], ...]
    pads: Pair
    first: int
    count: int


def phases(size: int, kernel: int, stride: int, dilation: int, cut: int, out: int) -> Phases:
    """Return the phases of one axis; ``cut`` leading results are dropped, ``out`` are kept."""
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
    """Return (C, M/g, KH, KW) as (TH, TW, C/g, g * SH * SW * M/g); x[q - t] is tap T-1-t."""
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
    scale = _phase_scale(b, node, blocks)
    pads = (axes[0].pads[0], axes[1].pads[0], axes[0].pads[1], axes[1].pads[1])
    gemm = Gemm(f"{node.output}:phases", x.tensor, packed,
                np.broadcast_to(bias, blocks).reshape(-1).copy(), pads=pads, groups=node.groups,
                weight_scale=scale, source=node.source)  # fmt: skip
    phased = (shape[0], axes[0].count, axes[1].count, packed.shape[3])
    done = b.emit(gemm, view_of(phased, ((0,), (1,), (2,), (3,))))
    return _interleaved(b, done, node, blocks, [p.first for p in axes], cuts[:2])


def _phase_scale(b: Builder, node: ConvTranspose, blocks: Shape) -> Array | None:
    """Return the prescribed weight scales of all phases' channels; None without any, and if they
    vary along other axes than the output channel."""
    scale = b.graph.weight_scales.get(node.inputs[1])
    if scale is None:
        return None
    shape = b.graph.constants[node.inputs[1]].shape
    split = (node.groups, shape[0] // node.groups, shape[1], -1)
    each = np.broadcast_to(np.asarray(scale, np.float32), shape).reshape(split)
    rows = each.transpose(1, 3, 0, 2).reshape(-1, node.groups, 1, 1, shape[1])
    if not np.array_equal(rows.min(0), rows.max(0)):
        return None
    return np.asarray(np.broadcast_to(rows[0], blocks).reshape(-1).copy())


def _interleaved(
    b: Builder, phased: Direct, node: Node, blocks: Shape, firsts: list[int], cuts: Shape
) -> Value:
    """Apply depth to space, then crop by the pads."""
    shape = b.graph.shapes[node.output]
    n, h, w, _ = phased.shape
    g, sh, sw, m = blocks
    whole = gathered(b, phased, node.output)
    index = whole.index.reshape(n, h, w, g, sh, sw, m).transpose(0, 3, 6, 1, 4, 2, 5)
    index = index.reshape(n, g * m, h * sh, w * sw)
    top, left = (cut - first * s for cut, first, s in zip(cuts, firsts, (sh, sw), strict=True))
    height, width = shape[2:] if len(shape) == 4 else (1, shape[2])
    index = index[:, :, top : top + height, left : left + width].reshape(shape)
    return Gathered(node.output, whole.sources, index, groups=spatial_groups(len(shape)))
