# SPDX-License-Identifier: Apache-2.0
"""hls4ml's layers that move values: reshape, transpose, padding, cropping, resize.

In: a layer and its input.  Out: its output, cast only where the layer's type changes values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..onnx.context import Refused
from .builder import Builder
from .layer import Handler, Layer, Tensor, axes_of, channels_first, channels_last, window_of


def _passed(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    return xs[0]


def _reshape(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    size = b.constant(f"{layer.name}.shape", np.array([1, *layer.shape], np.int64))
    out = b.emit("Reshape", [x.name, size], layer.name)
    return b.recast(x, layer.shape, out, layer.fixed, f"{layer.name}.cast")


def _transpose(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    perm = [0, *(int(p) + 1 for p in layer.attr("perm"))]
    out = b.emit("Transpose", [x.name], layer.name, perm=perm)
    return b.recast(x, layer.shape, out, layer.fixed, f"{layer.name}.cast")


def _padding(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    pads = window_of(layer, axes_of(len(x.shape)))["pads"]
    half = len(pads) // 2
    full = [0, *pads[:half], 0, 0, *pads[half:], 0]
    out = b.emit("Pad", [x.name, b.constant(f"{layer.name}.pads", np.array(full))], layer.name)
    return b.recast(x, layer.shape, out, layer.fixed, f"{layer.name}.cast")


def _cropping(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    rank = len(x.shape)
    sides = ("crop_top", "crop_left")[3 - rank :]
    starts = layer.ints(*sides)
    stops = [s + n for s, n in zip(starts, layer.shape, strict=False)]
    arrays = [np.array(v, np.int64) for v in (starts, stops, range(1, rank))]
    names = [b.constant(f"{layer.name}.slice", array) for array in arrays]
    out = b.emit("Slice", [x.name, *names], layer.name)
    return b.recast(x, layer.shape, out, layer.fixed, f"{layer.name}.cast")


def _resize(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    if str(layer.attr("algorithm", "nearest")) != "nearest":
        raise Refused("a bilinear resize; the nearest neighbour is supported")
    rank = len(x.shape)
    first = channels_first(b, x.name, rank, f"{layer.name}.x")
    scales = [1.0, 1.0, *(n / m for n, m in zip(layer.shape, x.shape[:-1], strict=False))]
    size = b.constant(f"{layer.name}.scales", np.array(scales, np.float32))
    out = b.emit("Resize", [first, "", size], f"{layer.name}.first", mode="nearest",
                 coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    back = channels_last(b, out, rank, layer.name)
    return b.recast(x, layer.shape, back, layer.fixed, f"{layer.name}.cast")


HANDLERS: Mapping[str, Handler] = {
    "Reshape": _reshape,
    "Transpose": _transpose,
    "ZeroPadding1D": _padding,
    "ZeroPadding2D": _padding,
    "Cropping1D": _cropping,
    "Cropping2D": _cropping,
    "Resize": _resize,
    "Clone": _passed,
    "Repack": _passed,
}
