# SPDX-License-Identifier: Apache-2.0
"""Convolution, transposed convolution and pooling: shapes and numpy references.

In: a node of ``ir`` and the shapes or arrays of its inputs.  Out: the output's shape or array.
Any number of spatial axes; one matrix product per kernel tap.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Any

import numpy as np

from ..types import Array, Shape
from .nodes import Conv, ConvTranspose, Pool

Slices = tuple[slice, ...]


class ShapeError(ValueError):
    """The shapes of a node's operands do not fit each other or the node's attributes."""


def need(condition: bool, message: str) -> None:
    """Raise ShapeError unless ``condition``."""
    if not condition:
        raise ShapeError(message)


def reach(kernel: Shape, dilations: Shape) -> Shape:
    """Return the number of positions that a dilated kernel spans."""
    return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))


def _need_attributes(node: Conv | ConvTranspose | Pool, rank: int) -> None:
    lengths = (len(node.strides), len(node.dilations), len(node.pads))
    need(
        lengths == (rank, rank, 2 * rank),
        f"strides, dilations, pads have {lengths} entries for {rank} spatial axes",
    )
    need(min(*node.strides, *node.dilations) > 0, "strides and dilations must be positive")
    need(min(node.pads) >= 0, f"pads {node.pads} must not be negative")


def _windows(size: Shape, kernel: Shape, strides: Shape, pads: Shape, dilations: Shape) -> Shape:
    rank = len(size)
    span = reach(kernel, dilations)
    full = tuple(size[i] + pads[i] + pads[rank + i] for i in range(rank))
    need(
        all(f >= s for f, s in zip(full, span, strict=True)),
        f"the kernel spans {span}, more than the padded input {full}",
    )
    return tuple((full[i] - span[i]) // strides[i] + 1 for i in range(rank))


def conv_shape(node: Conv, x: Shape, w: Shape, bias: Shape | None = None) -> Shape:
    need(len(x) == len(w) >= 3, f"input {x} and weight {w} need the same rank, 3 or more")
    _need_attributes(node, len(x) - 2)
    need(x[1] == w[1] * node.groups, f"{x[1]} channels, but weight {w} x {node.groups} groups")
    need(w[0] % node.groups == 0, f"{w[0]} output channels do not split into {node.groups} groups")
    need(bias in (None, (w[0],)), f"bias {bias} is not ({w[0]},)")
    spatial = _windows(x[2:], w[2:], node.strides, node.pads, node.dilations)
    return (x[0], w[0], *spatial)


def _padded(x: Array, pads: Shape, value: float) -> Array:
    if not any(pads):
        return x
    rank = len(pads) // 2
    widths = [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)]
    return np.pad(x, widths, constant_values=value)


def _at(where: tuple[Any, ...]) -> Any:
    """Return an index of the last axes."""
    return (..., *where)


def _taps(
    kernel: Shape, out: Shape, strides: Shape, dilations: Shape
) -> Iterator[tuple[Shape, Slices]]:
    """Yield every kernel tap with the slices of a padded tensor under it."""
    for tap in product(*map(range, kernel)):
        yield (
            tap,
            tuple(
                slice(t * d, t * d + (o - 1) * s + 1, s)
                for t, d, o, s in zip(tap, dilations, out, strides, strict=True)
            ),
        )


def _channel_product(w: Array, x: Array) -> Array:
    """Return (G, M, C) times (N, G, C, L); one channel per group needs no matrix product."""
    return np.asarray(w * x if w.shape[2] == 1 else np.matmul(w, x))


def conv(node: Conv, x: Array, w: Array, bias: Array | None = None) -> Array:
    shape = conv_shape(node, x.shape, w.shape)
    groups, out = node.groups, shape[2:]
    padded = _padded(x, node.pads, 0.0)
    grouped = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    total = np.zeros((x.shape[0], groups, w.shape[0] // groups, prod(out)), x.dtype)
    for tap, where in _taps(w.shape[2:], out, node.strides, node.dilations):
        part = padded[_at(where)].reshape(x.shape[0], groups, w.shape[1], -1)
        total += _channel_product(grouped[_at(tap)], part)
    y = total.reshape(shape)
    return y if bias is None else y + bias.reshape(-1, *[1] * len(out))


def _transposed_full(node: ConvTranspose, size: Shape, kernel: Shape) -> Shape:
    span = reach(kernel, node.dilations)
    return tuple((n - 1) * s + k for n, s, k in zip(size, node.strides, span, strict=True))


def conv_transpose_shape(
    node: ConvTranspose, x: Shape, w: Shape, bias: Shape | None = None
) -> Shape:
    need(len(x) == len(w) >= 3, f"input {x} and weight {w} need the same rank, 3 or more")
    rank = len(x) - 2
    _need_attributes(node, rank)
    need(len(node.output_padding) == rank, f"output_padding {node.output_padding} is not {rank}")
    need(x[1] == w[0] and w[0] % node.groups == 0, f"{x[1]} channels, but weight {w}")
    channels = w[1] * node.groups
    need(bias in (None, (channels,)), f"bias {bias} is not ({channels},)")
    full = _transposed_full(node, x[2:], w[2:])
    cut = (b + e for b, e in zip(node.pads[:rank], node.pads[rank:], strict=True))
    spatial = tuple(f - c + o for f, c, o in zip(full, cut, node.output_padding, strict=True))
    need(min(spatial) > 0, f"pads {node.pads} leave nothing of the output {full}")
    return (x[0], channels, *spatial)


def conv_transpose(node: ConvTranspose, x: Array, w: Array, bias: Array | None = None) -> Array:
    shape = conv_transpose_shape(node, x.shape, w.shape)
    rank, groups = len(shape) - 2, node.groups
    full = _transposed_full(node, x.shape[2:], w.shape[2:])
    canvas = tuple(f + o for f, o in zip(full, node.output_padding, strict=True))
    grouped = w.reshape(groups, w.shape[0] // groups, *w.shape[1:]).swapaxes(1, 2)
    columns = x.reshape(x.shape[0], groups, w.shape[0] // groups, -1)
    y = np.zeros((*shape[:2], *canvas), x.dtype)
    for tap, where in _taps(w.shape[2:], x.shape[2:], node.strides, node.dilations):
        part = np.matmul(grouped[_at(tap)], columns)
        y[_at(where)] += part.reshape(*shape[:2], *x.shape[2:])
    inside = tuple(slice(b, b + n) for b, n in zip(node.pads[:rank], shape[2:], strict=True))
    y = np.asarray(y[_at(inside)])
    return y if bias is None else y + bias.reshape(-1, *[1] * rank)


def pool_shape(node: Pool, x: Shape) -> Shape:
    rank = len(x) - 2
    need(rank >= 1 and len(node.kernel) == rank, f"kernel {node.kernel} for input {x}")
    _need_attributes(node, rank)
    return (*x[:2], *_windows(x[2:], node.kernel, node.strides, node.pads, node.dilations))


def pool(node: Pool, x: Array) -> Array:
    out = pool_shape(node, x.shape)[2:]
    taps = [where for _, where in _taps(node.kernel, out, node.strides, node.dilations)]
    if node.kind == "max":
        padded = _padded(x, node.pads, -np.inf)
        return np.asarray(np.maximum.reduce([padded[_at(where)] for where in taps]))
    padded = _padded(x, node.pads, 0.0)
    total = np.add.reduce([padded[_at(where)] for where in taps])
    return np.asarray(total / _divisor(node, x, taps), x.dtype)


def _divisor(node: Pool, x: Array, taps: list[Slices]) -> Array:
    """Return how many elements each window averages."""
    if node.count_include_pad:
        return np.asarray(len(taps), x.dtype)
    ones = _padded(np.ones((1, 1, *x.shape[2:]), x.dtype), node.pads, 0.0)
    count = np.add.reduce([ones[_at(where)] for where in taps])
    need(bool(count.min() > 0), f"pads {node.pads} leave a window without any element")
    return np.asarray(count)
