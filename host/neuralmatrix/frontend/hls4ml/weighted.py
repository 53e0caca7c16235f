# SPDX-License-Identifier: Apache-2.0
"""hls4ml's layers with weights: Dense, convolutions, BatchNormalization.

In: a layer and its input.  Out: the exact sums of products, cast by what comes behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import prod
from typing import Any

import numpy as np

from ...ir.types import Array
from .builder import Builder, Function, Pending, Value
from .fixed import Fixed
from .layer import Handler, Layer, Tensor, axes_of, channels_first, channels_last, window_of
from .products import Weights, product


def _accumulated(b: Builder, layer: Layer, made: Pending) -> Pending:
    """Note where hls4ml's accumulator rounds or overflows, which the array's does not."""
    accum = layer.type("accum_t")
    if accum is None or made.fraction is None:
        return made
    if accum.fraction < made.fraction:
        b.note(
            f"{layer.name}: accum_t {accum.text} has fewer bits behind the point than products "
            f"({made.fraction}) and rounds each; the array's sums are exact: set accum to auto"
        )
    wraps = accum.overflow == "WRAP" and made.fixed.holds(made.low, made.high)
    if not accum.holds(made.low, made.high) and not wraps:
        b.note(
            f"{layer.name}: accum_t {accum.text} may overflow (up to "
            f"{max(-made.low, made.high):.4g} by its weights); the array's sums do not: set accum "
            "to auto"
        )
    return made


def _bias(layer: Layer, count: int) -> tuple[Array, int]:
    if not layer.has("bias"):
        return np.zeros(count, np.int64), 0
    codes, fixed = layer.weights("bias")
    return codes.reshape(-1), fixed.fraction


def _dense(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    codes, fixed = layer.weights("weight")
    count = layer.shape[-1]
    codes = codes.T if layer.attr("_weights_transposed", False) else codes
    codes = codes.reshape(-1, count)
    bias, bias_fraction = _bias(layer, count)

    def apply(name: str, weight: str, bias_name: str, hint: str) -> str:
        out = b.emit("MatMul", [name, weight], hint)
        return b.emit("Add", [out, bias_name], f"{hint}.biased") if bias_name else out

    weights = Weights(codes, fixed.fraction, bias, bias_fraction, 1)
    made = product(b, x, weights, layer.shape, layer.fixed, apply, layer.name)
    return _accumulated(b, layer, made)


def _conv(b: Builder, layer: Layer, xs: Sequence[Tensor], depthwise: bool = False) -> Tensor:
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    rank = len(layer.shape)
    axes = axes_of(rank)
    kernel = layer.ints(*(f"filt_{axis}" for axis in axes))
    chans, filters = int(layer.attr("n_chan")), layer.shape[-1]
    codes, fixed = layer.weights("weight")
    if layer.attr("_weights_transposed", False):  # (F, ...) instead of (..., F)
        codes = np.moveaxis(codes, 0, -1)
    if depthwise:
        codes = codes.reshape(*kernel, 1, filters)
    else:
        codes = codes.reshape(*kernel, chans, filters)
    codes = np.moveaxis(codes, (-1, -2), (0, 1))
    bias, bias_fraction = _bias(layer, filters)
    attrs: dict[str, Any] = {**window_of(layer, axes), "group": chans if depthwise else 1}
    dilation = int(layer.attr("dilation", 1) or 1)
    if dilation > 1:
        attrs["dilations"] = [dilation] * len(axes)

    def apply(name: str, weight: str, bias_name: str, hint: str) -> str:
        first = channels_first(b, name, rank, f"{hint}.x")
        inputs = [first, weight, *([bias_name] if bias_name else [])]
        return b.emit("Conv", inputs, f"{hint}.first", kernel_shape=kernel, **attrs)

    weights = Weights(codes, fixed.fraction, bias, bias_fraction, 0)
    made = _in_channels_first(b, x, weights, layer, apply)
    return _accumulated(b, layer, made)


def _in_channels_first(b: Builder, x: Value, weights: Weights, layer: Layer, apply: Any) -> Pending:
    """Return a product whose cast comes before the transpose to channels last."""
    made = product(b, x, weights, layer.shape, layer.fixed, apply, layer.name)

    def finish(name: str, fixed: Fixed, function: Function | None) -> Value:
        first = made.finish(f"{name}.first", fixed, function)
        out = channels_last(b, first.name, len(layer.shape), name)
        return Value(out, layer.shape, first.fixed, first.low, first.high)

    return Pending(made.shape, made.fixed, made.fraction, made.low, made.high, finish)


def _scale(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    """BatchNormalization and ApplyAlpha: scale and bias per channel, or per element."""
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    codes, fixed = layer.weights("scale")
    bias, bias_fraction = _bias(layer, codes.size)
    count = int(layer.attr("n_filt", -1))
    shape = layer.shape
    # one row of channels, each its own group
    groups = shape[-1] if count == shape[-1] or codes.size == shape[-1] else prod(shape)
    codes = np.broadcast_to(codes.reshape(-1), (groups,)) if codes.size == 1 else codes.reshape(-1)
    bias = np.broadcast_to(bias, (groups,)) if bias.size == 1 else bias
    flat = [1, prod(shape) // groups, groups]

    def apply(name: str, weight: str, bias_name: str, hint: str) -> str:
        rows = b.emit("Reshape", [name, b.constant(f"{hint}.rows", np.array(flat))], f"{hint}.flat")
        first = b.emit("Transpose", [rows], f"{hint}.x", perm=[0, 2, 1])
        inputs = [first, weight, *([bias_name] if bias_name else [])]
        return b.emit("Conv", inputs, f"{hint}.first", kernel_shape=[1], group=groups)

    weights = Weights(codes.reshape(groups, 1, 1), fixed.fraction, bias, bias_fraction, 0)
    made = product(b, x, weights, shape, layer.fixed, apply, layer.name)

    def finish(name: str, target: Fixed, function: Function | None) -> Value:
        first = made.finish(f"{name}.first", target, function)
        last = b.emit("Transpose", [first.name], f"{name}.last", perm=[0, 2, 1])
        size = b.constant(f"{name}.shape", np.array([1, *shape]))
        out = b.emit("Reshape", [last, size], name)
        return Value(out, shape, first.fixed, first.low, first.high)

    return Pending(shape, made.fixed, made.fraction, made.low, made.high, finish)


HANDLERS: Mapping[str, Handler] = {
    "Dense": _dense,
    "Conv1D": _conv,
    "Conv2D": _conv,
    "DepthwiseConv1D": partial(_conv, depthwise=True),
    "DepthwiseConv2D": partial(_conv, depthwise=True),
    "BatchNormalization": _scale,
}
