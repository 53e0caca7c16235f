# SPDX-License-Identifier: Apache-2.0
"""Convolution and pooling over three spatial axes, by two-dimensional ones.

In: one ``Call`` with an input (N, C, D, H, W).  Out: nodes of at most two spatial axes.

A convolution takes, for every position of its output along D, the frames that its kernel sees,
joins them as channels and convolves these.  A transposed one does so for the positions that are
equal modulo its stride along D: they see the same taps.  A pool runs over H and W, then over D: the
maximum of maxima is the maximum, and the average of averages the average, because the number of
counted positions is a product over the axes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ....ir.graph.nodes import (
    Concat,
    Conv,
    ConvTranspose,
    Pad,
    Pool,
    Reshape,
    Slice,
    Transpose,
)
from ....ir.types import Array, Shape
from ..context import Call, Context


def _named(ctx: Context, call: Call, label: str) -> str:
    return ctx.fresh(f"{call.output}.{label}")


def _reshaped(ctx: Context, call: Call, x: str, shape: Shape, out: str = "") -> str:
    out = out or _named(ctx, call, "reshaped")
    return ctx.emit(Reshape((x,), out, call.name, shape=shape))


def _turned(ctx: Context, call: Call, x: str, perm: Shape, out: str = "") -> str:
    return ctx.emit(Transpose((x,), out or _named(ctx, call, "turned"), call.name, perm=perm))


def _frames(ctx: Context, call: Call, x: str, node: Conv, depth: int) -> str:
    """Return (N, C, taps, D', H, W): for every depth of the output the frames under the kernel."""
    before, after = node.pads[0], node.pads[3]
    if before or after:
        pads = ((0, 0), (0, 0), (before, after), (0, 0), (0, 0))
        x = ctx.emit(Pad((x,), _named(ctx, call, "padded"), call.name, pads=pads))
    n, c, size, h, w = ctx.shapes[x]
    step, apart = node.strides[0], node.dilations[0]
    count = (size - (depth - 1) * apart - 1) // step + 1
    taps = []
    for tap in range(depth):
        start = tap * apart
        whole = ((0, n, 1), (0, c, 1), (start, start + (count - 1) * step + 1, step))
        cut = Slice((x,), _named(ctx, call, "tap"), call.name, (*whole, (0, h, 1), (0, w, 1)))
        taps.append(_reshaped(ctx, call, ctx.emit(cut), (n, c, 1, count, h, w)))
    if depth == 1:
        return taps[0]
    return ctx.emit(Concat(tuple(taps), _named(ctx, call, "taps"), call.name, axis=2))


def conv_3d(ctx: Context, call: Call, node: Conv) -> None:
    """Append a convolution over three axes, described by ``node``."""
    x, weight, *bias = node.inputs
    array = ctx.constants[weight]
    m, per_group, depth, kh, kw = array.shape
    taps = _frames(ctx, call, x, node, depth)
    n, c, _, count, h, w = ctx.shapes[taps]
    images = _turned(ctx, call, taps, (0, 3, 1, 2, 4, 5))
    images = _reshaped(ctx, call, images, (n * count, c * depth, h, w))
    flat = ctx.constant(f"{call.output}.weight", array.reshape(m, per_group * depth, kh, kw),
                        _scale(ctx, weight))  # fmt: skip
    flat_node = Conv(
        (images, flat, *bias), _named(ctx, call, "frames"), call.name, node.strides[1:],
        (*node.pads[1:3], *node.pads[4:]), node.dilations[1:], node.groups,
    )  # fmt: skip
    found = ctx.emit(flat_node)
    _, _, oh, ow = ctx.shapes[found]
    apart = _reshaped(ctx, call, found, (n, count, m, oh, ow))
    _turned(ctx, call, apart, (0, 2, 1, 3, 4), call.output)


def conv_transpose_3d(ctx: Context, call: Call, node: ConvTranspose) -> None:
    """Append a transposed convolution over three axes, described by ``node``."""
    depth, kernel = ctx.shape(call.input(0))[2], ctx.constants[node.inputs[1]].shape[2]
    step, apart = node.strides[0], node.dilations[0]
    full = (depth - 1) * step + (kernel - 1) * apart + 1 + node.output_padding[0]
    length = full - node.pads[0] - node.pads[3]
    count = -(-length // step)
    phases = []
    for phase in range(step):
        # frame j of the input meets tap t at the output's position j * step + t * apart - pad
        at = {t: phase + node.pads[0] - t * apart for t in range(kernel)}
        first = {t: position // step for t, position in at.items() if position % step == 0}
        phases.append(_phase(ctx, call, node, first or {0: depth}, count))
    n, m, _, oh, ow = ctx.shapes[phases[0]]
    apart_ones = [_reshaped(ctx, call, x, (n, m, count, 1, oh, ow)) for x in phases]
    joined = ctx.emit(Concat(tuple(apart_ones), _named(ctx, call, "phases"), call.name, axis=3))
    frames = _reshaped(ctx, call, joined, (n, m, count * step, oh, ow))
    cut = ((0, n, 1), (0, m, 1), (0, length, 1), (0, oh, 1), (0, ow, 1))
    ctx.emit(Slice((frames,), call.output, call.name, cut))


def _phase(ctx: Context, call: Call, node: ConvTranspose, first: dict[int, int], count: int) -> str:
    """Return (N, M, count, H', W') of the taps ``first``; their values: the frame of the input that
    meets each of them at the first position."""
    _, weight, *bias = node.inputs
    taps = _shifted(ctx, call, node.inputs[0], tuple(first.values()), count)
    n, c, many, _, h, w = ctx.shapes[taps]
    images = _turned(ctx, call, taps, (0, 3, 1, 2, 4, 5))
    images = _reshaped(ctx, call, images, (n * count, c * many, h, w))
    kernels = ctx.constants[weight][:, :, list(first)].transpose(0, 2, 1, 3, 4)
    flat = ctx.constant(f"{call.output}.weight", kernels.reshape(c * many, *kernels.shape[2:]),
                        _scale(ctx, weight))  # fmt: skip
    frames = replace(
        node, inputs=(images, flat, *bias), output=_named(ctx, call, "frames"),
        strides=node.strides[1:], pads=(*node.pads[1:3], *node.pads[4:]),
        dilations=node.dilations[1:], output_padding=node.output_padding[1:],
    )  # fmt: skip
    found = ctx.emit(frames)
    _, m, oh, ow = ctx.shapes[found]
    apart = _reshaped(ctx, call, found, (n, count, m, oh, ow))
    return _turned(ctx, call, apart, (0, 2, 1, 3, 4))


def _shifted(ctx: Context, call: Call, x: str, starts: tuple[int, ...], count: int) -> str:
    """Return (N, C, starts, count, H, W): frames from each of ``starts`` on, zeros outside."""
    n, c, depth, h, w = ctx.shapes[x]
    before, after = max(0, -min(starts)), max(0, max(starts) + count - depth)
    if before or after:
        pads = ((0, 0), (0, 0), (before, after), (0, 0), (0, 0))
        x = ctx.emit(Pad((x,), _named(ctx, call, "padded"), call.name, pads=pads))
    taps = []
    for start in starts:
        rows = (start + before, start + before + count, 1)
        ranges = ((0, n, 1), (0, c, 1), rows, (0, h, 1), (0, w, 1))
        cut = ctx.emit(Slice((x,), _named(ctx, call, "tap"), call.name, ranges))
        taps.append(_reshaped(ctx, call, cut, (n, c, 1, count, h, w)))
    if len(taps) == 1:
        return taps[0]
    return ctx.emit(Concat(tuple(taps), _named(ctx, call, "taps"), call.name, axis=2))


def _scale(ctx: Context, weight: str) -> Array | None:
    """Return the scale of quantised weights without their axis of depth."""
    scale = ctx.scales.get(weight)
    return scale if scale is None or not scale.ndim else np.asarray(scale)[:, :, 0]


def pool_3d(ctx: Context, call: Call, node: Pool) -> str:
    """Append a pool over three axes, described by ``node``; return its output's name."""
    (x,) = node.inputs
    n, c, depth, h, w = ctx.shapes[x]
    images = _reshaped(ctx, call, x, (n, c * depth, h, w))
    over_frames = Pool(
        (images,), _named(ctx, call, "frames"), call.name, node.kind, node.kernel[1:],
        node.strides[1:], (*node.pads[1:3], *node.pads[4:]), node.dilations[1:],
        node.count_include_pad,
    )  # fmt: skip
    found = ctx.emit(over_frames)
    _, _, oh, ow = ctx.shapes[found]
    columns = _reshaped(ctx, call, found, (n, c, depth, oh * ow))
    over_depth = Pool(
        (columns,), _named(ctx, call, "depth"), call.name, node.kind, (node.kernel[0], 1),
        (node.strides[0], 1), (node.pads[0], 0, node.pads[3], 0), (node.dilations[0], 1),
        node.count_include_pad,
    )  # fmt: skip
    found = ctx.emit(over_depth)
    return _reshaped(ctx, call, found, (n, c, ctx.shapes[found][2], oh, ow), node.output)
