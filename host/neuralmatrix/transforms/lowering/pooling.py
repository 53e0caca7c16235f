# SPDX-License-Identifier: Apache-2.0
"""Lowering of pooling and reductions to windows, products with ones, row maxima.

In: Pool and Reduce nodes.  Out: the value of each, exact in real arithmetic.
"""

from __future__ import annotations

from math import prod

import numpy as np

from ...ir.axis_view import View, axis_atoms, channel_groups, replace_axes, view_of
from ...ir.graph.nodes import Pool, Reduce
from ...ir.matgraph.ops import Epilogue, Gemm, RowMax, Window
from ...ir.types import Array, Function
from .builder import Builder, Direct, Refused, Value, reshaped
from .convolution import four_pads, padded_input, pair, spatial_groups, zeros
from .pointwise import unary

NEG = Function("neg")


def lower_pool(b: Builder, node: Pool) -> Value:
    shape = b.graph.shapes[node.output]
    view = view_of(shape, spatial_groups(len(shape)))
    kernel = pair(node.kernel, 1)
    if node.kind == "max":
        x = b.form(b.value(node.inputs[0]), spatial_groups(len(shape)))
        return _pooled(b, node, x, view, 1.0, four_pads(node.pads))
    if node.count_include_pad or not any(node.pads):
        x, pads = padded_input(b, node.inputs[0], node.pads)
        return _pooled(b, node, x, view, 1 / prod(kernel), four_pads(pads))
    x = b.form(b.value(node.inputs[0]), spatial_groups(len(shape)))
    scale = prod(kernel) / _counts(node, x.view.canonical, view.canonical)
    hadamard = b.constant(f"{node.output}:count", scale, broadcast=True)
    epilogue = Epilogue(hadamard=hadamard)
    return _pooled(b, node, x, view, 1 / prod(kernel), four_pads(node.pads), epilogue)


def _pooled(
    b: Builder,
    node: Pool,
    x: Direct,
    view: View,
    weight: float,
    pads: tuple[int, int, int, int],
    epilogue: Epilogue | None = None,
) -> Direct:
    taps = np.full((*pair(node.kernel, 1), 1), weight, np.float32)
    op = Window(node.output, x.tensor, taps, zeros(view.canonical[3]),
                reduce="max" if node.kind == "max" else "add", strides=pair(node.strides, 1),
                pads=pads, dilations=pair(node.dilations, 1), epilogue=epilogue or Epilogue(),
                source=node.source)  # fmt: skip
    return b.emit(op, view)


def _counts(node: Pool, source: tuple[int, ...], out: tuple[int, ...]) -> Array:
    """Return (1, OH, OW, 1): how many taps of each window lie inside the input."""
    pads, kernel = four_pads(node.pads), pair(node.kernel, 1)
    strides, dilations = pair(node.strides, 1), pair(node.dilations, 1)
    inside = []
    for i in range(2):
        at = np.arange(out[1 + i])[:, None] * strides[i] - pads[i]
        at = at + np.arange(kernel[i]) * dilations[i]
        inside.append(((at >= 0) & (at < source[1 + i])).sum(1))
    counts = np.outer(*inside).astype(np.float32)
    if not counts.all():
        raise Refused("its pads leave a window without any element")
    return np.asarray(counts.reshape(1, *counts.shape, 1))


# ---------------------------------------------------------------- reductions


def lower_reduce(b: Builder, node: Reduce) -> Value:
    x = b.value(node.inputs[0])
    done = reduce(b, x, node.axes, node.kind, node.output, node.source)
    return reshaped(b, done, b.graph.shapes[node.output], node.output)


def reduce(
    b: Builder, value: Value, axes: tuple[int, ...], kind: str, name: str, source: str
) -> Direct:
    """Return the reduction over ``axes``, kept as axes of size 1."""
    if kind == "min":
        negative = unary(b, value, NEG, f"{name}:negative", source)
        largest = reduce(b, negative, axes, "max", f"{name}:max", source)
        return unary(b, largest, NEG, name, source)
    x = _with_whole_dims(b, value, axes)
    inner = {a for axis in axes for a in axis_atoms(x.view)[axis]}
    if not inner:
        return b.window(x, name, source)
    return (_extreme if kind == "max" else _total)(b, x, axes, kind, name, source)


def _with_whole_dims(b: Builder, value: Value, axes: tuple[int, ...]) -> Direct:
    """Return ``value`` in a form whose reduced axes fill H, W or C, each whole or not at all."""
    x = b.direct(value)
    inner = {a for axis in axes for a in axis_atoms(x.view)[axis]}
    n, *rest = map(set, x.view.dims)
    if not n & inner and all(dim <= inner or not dim & inner for dim in rest):
        return x
    return b.form(value, channel_groups(len(value.shape), axes))


def _kernel(x: Direct, axes: tuple[int, ...]) -> tuple[int, int, bool]:
    """Return the extent of the reduction in H and W, and whether it includes the channels."""
    inner = {a for axis in axes for a in axis_atoms(x.view)[axis]}
    _, h, w, _ = x.view.canonical
    use_h, use_w, use_c = (bool(set(dim) & inner) for dim in x.view.dims[1:])
    return h if use_h else 1, w if use_w else 1, use_c


def _total(
    b: Builder, x: Direct, axes: tuple[int, ...], kind: str, name: str, source: str
) -> Direct:
    kh, kw, use_c = _kernel(x, axes)
    view = replace_axes(x.view, dict.fromkeys(axes, 1))
    channels = x.view.canonical[3]
    count = kh * kw * (channels if use_c else 1)
    weight = 1 / count if kind == "mean" else 1.0
    if use_c:
        ones = np.full((kh, kw, channels, 1), weight, np.float32)
        return b.emit(Gemm(name, x.tensor, ones, zeros(1), source=source), view, broadcast=True)
    taps = np.full((kh, kw, 1), weight, np.float32)
    op = Window(name, x.tensor, taps, zeros(channels), source=source)
    return b.emit(op, view, b.tensors[x.tensor].broadcast)


def _extreme(
    b: Builder, x: Direct, axes: tuple[int, ...], kind: str, name: str, source: str
) -> Direct:
    kh, kw, use_c = _kernel(x, axes)
    result = replace_axes(x.view, dict.fromkeys(axes, 1))
    if kh * kw > 1:
        n, h, w, c = x.view.canonical
        inside = view_of((n, h // kh, w // kw, c), ((0,), (1,), (2,), (3,)))
        taps = np.ones((kh, kw, 1), np.float32)
        op = Window(
            f"{name}:map" if use_c else name, x.tensor, taps, zeros(c), reduce="max", source=source
        )
        broadcast = b.tensors[x.tensor].broadcast
        x = b.emit(op, inside if use_c else result, broadcast)
    if not use_c:
        return x
    return b.emit(RowMax(name, x.tensor, source=source), result, broadcast=True)
