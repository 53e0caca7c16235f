# SPDX-License-Identifier: Apache-2.0
"""The float reference of each operation of a MatGraph.

In: an operation and the arrays (N,H,W,C) of its operands, which may hold several model batches side
by side.  Out: its result, the values in front of its activation and of its Hadamard product, and
its row statistics, float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any

import numpy as np

from .. import functions
from ..points import Point
from ..types import Array, Function, Shape
from .ops import Epilogue, Gemm, Linear, MatGraph, MatOp, Move, RowMax, Tensor, Window

PointValues = dict[Point, Array]
Adjust = Callable[[Point, Array], Array]  # what replaces the values of a point

COLUMN_FLOATS = 1 << 20  # convolution columns made at a time, so that they fit the cache
FLOAT32_MAX = np.finfo(np.float32).max
EXACT_IN_FLOAT32 = frozenset({"relu", "clip", "abs", "neg", "identity"})


def padded(x: Array, pads: tuple[int, int, int, int], value: float) -> Array:
    if not any(pads):
        return x
    top, left, bottom, right = pads
    n, h, w, c = x.shape
    full = np.full((n, h + top + bottom, w + left + right, c), value, np.float32)
    full[:, top : top + h, left : left + w] = x
    return full


def _positions(op: Linear, x: Array, kernel: Shape) -> tuple[int, int]:
    """Return the output height and width over a padded input."""
    height, width = (
        (x.shape[1 + i] - op.dilations[i] * (kernel[i] - 1) - 1) // op.strides[i] + 1
        for i in range(2)
    )
    return height, width


def windows_of(op: Linear, x: Array, kernel: Shape) -> Array:
    """Return the (N, OH, OW, KH, KW, C) view of a padded input."""
    n, h, w, c = x.strides
    (sh, sw), (dh, dw) = op.strides, op.dilations
    shape = (x.shape[0], *_positions(op, x, kernel), *kernel, x.shape[3])
    strides = (n, h * sh, w * sw, h * dh, w * dw, c)
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)


def input_windows(op: Linear, x: Array, most: int) -> Array:
    """Return the inputs (rows, KH, KW, C) of at most ``most`` results, spread evenly over all
    positions and images; padding is 0."""
    assert op.weight is not None
    windows = windows_of(op, padded(x, op.pads, 0.0), op.weight.shape[:2])
    size = windows.shape[:3]
    total = prod(size)
    count = min(most, total)
    # random within even strata: even steps would meet the same columns in every row
    within = np.random.default_rng(0).random(count)
    picks = ((np.arange(count) + within) * (total / count)).astype(np.int64)
    return np.asarray(windows[np.unravel_index(np.minimum(picks, total - 1), size)])


def _gemm(op: Gemm, values: Mapping[str, Array], mg: MatGraph, adjust: Adjust) -> PointValues:
    x = values[op.input]
    if op.rhs is not None:
        lin = _dynamic(op, x, values[op.rhs], mg)
    else:
        assert op.weight is not None
        lin = _convolution(op, x, op.weight)
    lin += op.bias
    return _finished(op, lin, values, mg, adjust)


def _dynamic(op: Gemm, x: Array, rhs: Array, mg: MatGraph) -> Array:
    """Return x @ rhs; each image of rhs is used for a group of consecutive images of x."""
    x, rhs = repeated(op, x, rhs, mg.tensors)
    w = rhs[:, 0].swapaxes(1, 2) if op.rhs_transposed else rhs[:, 0]
    rows = np.matmul(x.reshape(len(w), -1, x.shape[3]), w)
    if op.gain != 1:
        rows *= np.float32(op.gain)
    return np.asarray(rows.reshape(*x.shape[:3], w.shape[2]))


def repeated(op: Gemm, x: Array, rhs: Array, tensors: Mapping[str, Tensor]) -> tuple[Array, Array]:
    """Return both operands of a product for equally many model batches: a constant one is the same
    for all."""
    assert op.rhs is not None
    own = (len(x) // tensors[op.input].shape[0], len(rhs) // tensors[op.rhs].shape[0])
    batches = max(own)
    x = np.tile(x, (batches // own[0], 1, 1, 1)) if own[0] < batches else x
    rhs = np.tile(rhs, (batches // own[1], 1, 1, 1)) if own[1] < batches else rhs
    return x, rhs


def _convolution(op: Gemm, x: Array, weight: Array) -> Array:
    kernel, m = weight.shape[:2], weight.shape[3]
    if kernel == (1, 1) and op.strides == (1, 1) and op.groups == 1 and not any(op.pads):
        rows = np.matmul(x.reshape(-1, x.shape[3]), weight[0, 0])
        return np.asarray(rows.reshape(*x.shape[:3], m))
    windows = windows_of(op, padded(x, op.pads, 0.0), kernel)
    out = np.empty((*windows.shape[:3], m), np.float32)
    for part in _chunks(len(x), prod(windows.shape[1:])):
        out[part] = _products(op, windows[part], weight)
    return out


def _chunks(count: int, floats: int) -> Iterator[slice]:
    step = max(1, COLUMN_FLOATS // floats)
    return (slice(i, i + step) for i in range(0, count, step))


def _products(op: Gemm, windows: Array, weight: Array) -> Array:
    """Return (n, OH, OW, KH, KW, C) times (KH, KW, C/g, M)."""
    g, m = op.groups, weight.shape[3]
    taps = prod(weight.shape[:2])
    if g == 1:
        columns = windows.reshape(-1, taps * weight.shape[2])
        return np.asarray(columns.dot(weight.reshape(-1, m)).reshape(*windows.shape[:3], m))
    split = windows.reshape(-1, taps, g, weight.shape[2]).transpose(2, 0, 1, 3)
    matrices = weight.reshape(-1, g, m // g).swapaxes(0, 1)
    parts = np.matmul(split.reshape(g, split.shape[1], -1), matrices)
    return np.asarray(parts.swapaxes(0, 1).reshape(*windows.shape[:3], m))


def _window(op: Window, values: Mapping[str, Array], mg: MatGraph, adjust: Adjust) -> PointValues:
    is_max = op.reduce == "max"
    x = values[op.input]
    if op.minus is not None:
        x = x - values[op.minus]
    kernel = op.weight.shape[:2]
    if kernel == (1, 1) and op.strides == (1, 1) and not any(op.pads) and not is_max:
        lin = x * op.weight[0, 0] if np.any(op.weight != 1) else x.copy()
    else:
        full = padded(x, op.pads, -np.inf if is_max else 0.0)
        windows = windows_of(op, full, kernel)
        lin = (_largest if is_max else _weighted)(windows, op.weight)
    return _finished(op, lin + op.bias, values, mg, adjust)


def _weighted(windows: Array, weight: Array) -> Array:
    """Return the sum over taps: whole-map kernels sum positions, small ones sum shifted maps."""
    n, oh, ow, kh, kw, c = windows.shape
    if kh * kw > oh * ow:
        w = np.broadcast_to(weight, (kh, kw, c))
        return np.asarray(np.einsum("nhwijc,ijc->nhwc", windows, w))
    out = windows[:, :, :, 0, 0] * weight[0, 0]
    buffer = np.empty_like(out)
    for i, j in list(np.ndindex(kh, kw))[1:]:
        out += np.multiply(windows[:, :, :, i, j], weight[i, j], out=buffer)
    return np.asarray(out)


def _largest(windows: Array, weight: Array) -> Array:
    n, oh, ow, kh, kw, c = windows.shape
    out = np.full((n, oh, ow, c), -np.inf, np.float32)
    for i, j in np.ndindex(kh, kw):
        tap = windows[:, :, :, i, j]
        used = weight[i, j] != 0
        np.maximum(out, tap if used.all() else np.where(used, tap, -np.inf), out=out)
    return out


def _rowmax(op: RowMax, values: Mapping[str, Array], mg: MatGraph, adjust: Adjust) -> PointValues:
    return {Point(op.output): values[op.input].max(-1, keepdims=True)}


def _move(op: Move, values: Mapping[str, Array], mg: MatGraph, adjust: Adjust) -> PointValues:
    return {Point(op.output): moved(op, values, mg.tensors, op.fill)}


def moved(
    op: Move, values: Mapping[str, Array], tensors: Mapping[str, Tensor], fill: float
) -> Array:
    """Return the moved elements, float32; the index counts within one model batch."""
    sizes = [prod(tensors[name].shape) for name in op.inputs]
    batches = max(values[n].size // s for n, s in zip(op.inputs, sizes, strict=True))
    parts = [
        np.broadcast_to(values[n].reshape(-1, s), (batches, s))
        for n, s in zip(op.inputs, sizes, strict=True)
    ]
    flat = np.concatenate([*parts, np.full((batches, 1), fill, np.float32)], 1)
    out = np.take(flat, op.index.reshape(-1), 1)  # index -1 reads the fill at the end
    return np.asarray(out.reshape(-1, *op.index.shape[1:]))


def as_it_is(point: Point, values: Array) -> Array:
    """Return the values themselves: nothing is adjusted."""
    return values


EVALUATE: Mapping[type[MatOp], Callable[..., PointValues]] = {
    Gemm: _gemm,
    Window: _window,
    RowMax: _rowmax,
    Move: _move,
}


# ---------------------------------------------------------------- epilogue


def _finished(
    op: Linear, lin: Array, values: Mapping[str, Array], mg: MatGraph, adjust: Adjust
) -> PointValues:
    """Return the result of the epilogue, and the values in between."""
    e: Epilogue = op.epilogue
    found: PointValues = {}
    if e.residual:
        lin = lin + _operand(e.residual, lin, values, mg) * np.float32(e.residual_gain)
    if e.activation:
        lin = np.maximum(lin, op.bias) if _is_variance(op, mg) else lin
        point = Point(op.output, "pre_activation")
        found[point] = lin = adjust(point, lin)
        lin = _activated(e.activation, lin)
    if e.hadamard:
        # a factor of 0 removes overflowed powers: those of masked attention scores
        point = Point(op.output, "pre_product")
        found[point] = lin = adjust(point, np.clip(lin, -FLOAT32_MAX, FLOAT32_MAX))
        lin = lin * _operand(e.hadamard, lin, values, mg)
    if e.factor != 1.0:
        lin = lin * np.float32(e.factor)
    return {**found, Point(op.output): lin}


def _is_variance(op: Linear, mg: MatGraph) -> bool:
    """Return whether 1/sqrt is taken of a mean square less the square of a mean, plus a bias: the
    bias is the least that it can be, and float32 cancels to less in constant rows."""
    e = op.epilogue
    if e.activation is None or e.activation.name != "rsqrt" or e.residual is None:
        return False
    of_rows = mg.tensors[op.input].broadcast and mg.tensors[e.residual].broadcast
    return of_rows and e.residual_gain < 0 and bool(np.all(op.bias > 0))


def row_statistics(op: MatOp, out: Array) -> PointValues:
    """Return the statistics over the channels of an op's result."""
    return {Point(row.tensor): _STATISTIC[row.kind](out) for row in op.epilogue.rows}


_STATISTIC: Mapping[str, Callable[[Array], Array]] = {
    "max": lambda x: np.asarray(x.max(-1, keepdims=True)),
    "sum": lambda x: np.asarray(x.sum(-1, keepdims=True)),
    "mean": lambda x: np.asarray(x.mean(-1, keepdims=True)),
    "square": lambda x: np.asarray(np.square(x).mean(-1, keepdims=True)),
}


def _operand(name: str, out: Array, values: Mapping[str, Array], mg: MatGraph) -> Array:
    """Return a second operand shaped to broadcast: its images repeat per model batch."""
    operand = values[name]
    if operand.shape[0] in (1, out.shape[0]):
        return operand
    batches = values[name].shape[0] // mg.tensors[name].shape[0]
    if batches == 1:
        return np.tile(operand, (out.shape[0] // operand.shape[0], 1, 1, 1))
    return np.repeat(operand, out.shape[0] // operand.shape[0], 0)


def _activated(function: Function, x: Array) -> Array:
    if function.name not in EXACT_IN_FLOAT32:
        with np.errstate(over="ignore"):
            return functions.evaluate(function, x).astype(np.float32)
    exact: Any = functions.FUNCTIONS[function.name]
    return np.asarray(exact(x, *function.params), np.float32)
