# SPDX-License-Identifier: Apache-2.0
"""hls4ml's pooling: maxima, and means that are cast twice.

In: a layer and its input.  Out: its output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import prod

import numpy as np

from .builder import Builder, Value
from .fixed import Fixed
from .layer import Handler, Layer, Tensor, axes_of, channels_first, channels_last, window_of


def _pool(b: Builder, layer: Layer, xs: Sequence[Tensor], whole: bool = False) -> Tensor:
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    rank = len(x.shape)
    axes = axes_of(rank)
    kernel = list(x.shape[:-1]) if whole else layer.ints(*(f"pool_{axis}" for axis in axes))
    window: dict[str, list[int]] = {"strides": [1] * len(axes), "pads": [0] * 2 * len(axes)}
    window = window if whole else window_of(layer, axes)
    first = channels_first(b, x.name, rank, f"{layer.name}.x")
    if str(layer.attr("pool_op")) == "Max":
        out = b.emit("MaxPool", [first], f"{layer.name}.first", kernel_shape=kernel, **window)
        return b.recast(x, layer.shape, _back(b, out, layer, rank, whole), layer.fixed, layer.name)
    return _mean(b, layer, x, first, kernel, window, whole)


def _back(b: Builder, out: str, layer: Layer, rank: int, whole: bool) -> str:
    if whole:
        size = b.constant(f"{layer.name}.shape", np.array([1, *layer.shape]))
        return b.emit("Reshape", [out, size], layer.name)
    return channels_last(b, out, rank, layer.name)


def _mean(
    b: Builder, layer: Layer, x: Value, first: str, kernel: list[int], window: dict[str, list[int]],
    whole: bool,
) -> Tensor:  # fmt: skip
    """A mean is cast twice: to accum_t, then to the result's type."""
    count, accum = prod(kernel), layer.type("accum_t") or layer.fixed
    if x.low < 0:
        b.note(
            f"{layer.name}: hls4ml divides a sum by {count} toward 0, the array downward: a mean "
            "of negative values may be one step lower"
        )
    if any(window["pads"]) and not layer.attr("count_pad", False):
        out = b.emit("AveragePool", [first], f"{layer.name}.mean", kernel_shape=kernel, **window)
        b.note(f"{layer.name}: a mean over fewer values at the border is rounded as the array does")
        fraction: int | None = None
    else:
        out, fraction = _counted_mean(b, layer, x, first, kernel, window, accum)
    if accum.width > 16 and layer.fixed.rounding in ("TRN", "RND"):
        # what is dropped first, in the finer steps of accum_t, decides neither
        last = b.value(out, layer.shape, layer.fixed, (x.low, x.high), fraction,
                       f"{layer.name}.last")  # fmt: skip
        name = _back(b, last.name, layer, len(x.shape), whole)
        return Value(name, layer.shape, last.fixed, last.low, last.high)
    mean = b.value(out, layer.shape, accum, (x.low, x.high), fraction, f"{layer.name}.accum")
    back = _back(b, mean.name, layer, len(x.shape), whole)
    if count * max(-x.low, x.high) > accum.highest * accum.step:
        b.note(f"{layer.name}: accum_t {accum.text} may overflow; the array's sums do not")
    return b.recast(mean, layer.shape, back, layer.fixed, layer.name)


def _counted_mean(
    b: Builder, layer: Layer, x: Value, first: str, kernel: list[int], window: dict[str, list[int]],
    accum: Fixed,
) -> tuple[str, int | None]:  # fmt: skip
    """Append a mean of ``prod(kernel)`` values, as a convolution with weights of 1.

    A reciprocal that is no binary number is rounded: half the distance of a mean to the next step
    is added, so that means which are steps stay so.  hls4ml divides in the bits of accum_t and
    drops the rest, toward 0.
    """
    count, channels = prod(kernel), x.shape[-1]
    binary = count & (count - 1) == 0
    up = not binary and accum.rounding in ("TRN", "RND")
    codes = np.ones((channels, 1, *kernel), np.int8)
    weight = b.weights(f"{layer.name}.ones", codes, 1.0 / count)
    inputs = [first, weight]
    if up:
        half = np.full(channels, 0.5 * min(x.fixed.step, accum.step) / count, np.float32)
        inputs.append(b.constant(f"{layer.name}.half", half))
    out = b.emit("Conv", inputs, f"{layer.name}.mean", kernel_shape=kernel, group=channels,
                 **window)  # fmt: skip
    return out, x.fixed.fraction + count.bit_length() - 1 if binary else x.fixed.fraction + 40


HANDLERS: Mapping[str, Handler] = {
    "Pooling1D": _pool,
    "Pooling2D": _pool,
    "GlobalPooling1D": partial(_pool, whole=True),
    "GlobalPooling2D": partial(_pool, whole=True),
}
