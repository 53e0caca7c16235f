# SPDX-License-Identifier: Apache-2.0
"""The accumulators of the integer reference: sums of products in floats that hold them exactly.

In: an operation with integer weights, its operands as integers in float32, which may hold several
model batches side by side.  Out: ``Sums``, blocks of rows of accumulators.
A float32 sum is exact while the largest that could occur is below 2^24, a float64 one below 2^53;
the compiler has proved all below 2^31.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..ir.matgraph.ops import Gemm, Linear, Window
from ..ir.matgraph.reference_ops import padded, windows_of
from ..ir.types import Array

EXACT = 2**24  # integers up to here are exact in float32
COLUMNS = 1 << 19  # floats of the operand or result of one product, so that they fit the cache
VALUES = 1 << 15  # values of one block of an element-wise operation
LEAST = -(2.0**24)  # a maximum begins here
SHORT = 16  # taps up to which a loop over them is faster than a sum over a view

Blocks = Iterator[tuple[slice, Array]]


@dataclass(frozen=True)
class Sums:
    """Accumulators of one operation as blocks of rows, N*H*W rows in all, of C values or of 1 for
    all channels.

    ``reach``: no |accumulator| is larger.
    """

    shape: tuple[int, int, int]
    blocks: Blocks
    reach: float


# ------------------------------------------------------------------ weights


@dataclass(frozen=True)
class Weights:
    """Integer weights as floats in which their sums are exact.

    ``parts``: of a Gemm the matrices (K, M), or (groups, K, M) where there are several, of
    consecutive inputs; of a Window (KH, KW, C).  ``reach``: the largest possible |sum|.
    """

    parts: tuple[Array, ...]
    reach: float


def float_weights(op: Linear, values: Array, peak: int) -> Weights:
    """Return the weights of an operation whose operand holds integers up to +-``peak``."""
    if isinstance(op, Window):
        return _window_weights(op, values, peak)
    assert isinstance(op, Gemm)
    matrix = values.reshape(-1, values.shape[3]).astype(np.float32)
    sums = np.abs(matrix).sum(0, dtype=np.float64) * peak
    reach = float(sums.max(initial=0.0))
    if op.groups > 1:
        split = matrix.reshape(len(matrix), op.groups, -1).swapaxes(0, 1)
        return Weights((np.ascontiguousarray(split, _exact_type(reach)),), reach)
    halves = (matrix,) if reach < EXACT else tuple(np.array_split(matrix, 2))
    if all(float(np.abs(half).sum(0).max(initial=0.0)) * peak < EXACT for half in halves):
        return Weights(halves, reach)
    return Weights((matrix.astype(np.float64),), reach)


def _window_weights(op: Window, values: Array, peak: int) -> Weights:
    if op.reduce == "max":
        return Weights((values != 0,), -LEAST)
    sums = np.abs(values.astype(np.float64)).sum((0, 1)) * peak
    reach = float(sums.max(initial=0.0))
    return Weights((values.astype(_exact_type(reach)),), reach)


def _exact_type(reach: float) -> type[np.floating[Any]]:
    return np.float32 if reach < EXACT else np.float64


# ------------------------------------------------------------------ blocks


def row_slices(rows: int, width: int, most: int) -> Iterator[slice]:
    """Yield slices of ``rows`` rows of ``width`` values, about ``most`` values each."""
    step = max(1, most // max(width, 1))
    return (slice(i, min(i + step, rows)) for i in range(0, rows, step))


def _stretches(shape: tuple[int, int, int], rows: int) -> Iterator[tuple[slice, slice, slice]]:
    """Yield (rows, images, lines) of blocks of about ``rows`` positions of (N, H, W) ones."""
    n, h, w = shape
    images, lines = max(1, rows // (h * w)), min(h, max(1, rows // w))
    lines = h if images > 1 else lines
    for i in range(0, n, images):
        last = min(i + images, n)
        for j in range(0, h, lines):
            end = min(j + lines, h)
            first = (i * h + j) * w
            yield slice(first, first + (last - i) * (end - j) * w), slice(i, last), slice(j, end)


# ------------------------------------------------------------------ matrix products


def convolved(op: Gemm, x: Array, weights: Weights, fill: int) -> Sums:
    """Return the sums of a convolution or of a product with constant weights."""
    kernel = op.weight.shape[:2] if op.weight is not None else (1, 1)
    width = max(prod(kernel) * x.shape[3], weights.parts[0].shape[-1] * op.groups)
    if kernel == (1, 1) and op.strides == (1, 1) and not any(op.pads):
        flat = x.reshape(-1, x.shape[3])
        parts = row_slices(len(flat), width, COLUMNS)
        blocks = ((part, _multiplied(op, flat[part], weights)) for part in parts)
        return Sums(_first_three(x), blocks, weights.reach)
    windows = windows_of(op, padded(x, op.pads, fill), kernel)
    blocks = (
        (rows, _multiplied(op, _columns(windows[n, h]), weights))
        for rows, n, h in _stretches(_first_three(windows), max(1, COLUMNS // width))
    )
    return Sums(_first_three(windows), blocks, weights.reach)


def _first_three(x: Array) -> tuple[int, int, int]:
    return x.shape[0], x.shape[1], x.shape[2]


def _columns(windows: Array) -> Array:
    return windows.reshape(prod(windows.shape[:3]), -1)


def _multiplied(op: Gemm, columns: Array, weights: Weights) -> Array:
    """Return the (rows, KH*KW*C) columns times all parts of the weights."""
    first = weights.parts[0]
    if op.groups > 1:
        split = columns.reshape(len(columns), -1, op.groups, columns.shape[1] // _taps(op, columns))
        return _grouped(split, first)
    if len(weights.parts) == 1:
        return np.asarray(np.matmul(columns.astype(first.dtype, copy=False), first))
    found, at = np.zeros((len(columns), first.shape[1])), 0
    for part in weights.parts:
        found += np.matmul(columns[:, at : at + len(part)], part)
        at += len(part)
    return found


def _taps(op: Gemm, columns: Array) -> int:
    """Return taps times groups, by which the columns divide."""
    assert op.weight is not None
    return int(prod(op.weight.shape[:2]) * op.groups)


def _grouped(split: Array, matrices: Array) -> Array:
    """Return (rows, taps, groups, C) times (groups, taps*C, M), as (rows, groups*M)."""
    rows, groups = len(split), len(matrices)
    columns = split.transpose(2, 0, 1, 3).reshape(groups, rows, -1)
    found = np.matmul(columns.astype(matrices.dtype, copy=False), matrices)
    return np.asarray(found.swapaxes(0, 1).reshape(rows, -1))


def product(op: Gemm, x: Array, rhs: Array, peak: int) -> Sums:
    """Return the sums of the matmul of consecutive images of x and one of the right operand.

    ``peak``: the largest |product of two values|.
    """
    w = rhs[:, 0].swapaxes(1, 2) if op.rhs_transposed else rhs[:, 0]
    reach = float(peak) * x.shape[3]
    dtype = _exact_type(reach)
    rows = x.reshape(len(w), -1, x.shape[3]).astype(dtype, copy=False)
    found = np.matmul(rows, w.astype(dtype, copy=False)).reshape(-1, w.shape[2])
    return Sums(_first_three(x), iter([(slice(0, len(found)), found)]), reach)


# ------------------------------------------------------------------ windows


def windowed(op: Window, x: Array, minus: Array | None, weights: Weights, fill: int) -> Sums:
    """Return the sums or maxima of a window; ``minus`` (rows, 1) is subtracted before."""
    (w,) = weights.parts
    kernel, is_max = w.shape[:2], op.reduce == "max"
    if kernel == (1, 1) and op.strides == (1, 1) and not any(op.pads) and not is_max:
        blocks = _scaled(x.reshape(-1, x.shape[3]), minus, w[0, 0])
        return Sums(_first_three(x), blocks, weights.reach)
    assert minus is None  # an operand of 1x1 windows alone
    full = padded(x, op.pads, fill)
    shape = _first_three(windows_of(op, full, kernel))
    if not is_max and prod(kernel) > max(SHORT, prod(shape[1:])):
        every = windows_of(op, full, kernel)
        found = np.einsum("nhwijc,ijc->nhwc", every, np.broadcast_to(w, (*kernel, w.shape[2])))
        rows = found.reshape(prod(shape), -1)
        return Sums(shape, iter([(slice(0, len(rows)), rows)]), weights.reach)
    return Sums(shape, _shifted_maps(op, full, w, shape), weights.reach)


def _scaled(flat: Array, minus: Array | None, weight: Array) -> Blocks:
    plain = bool(np.all(weight == 1))
    for part in row_slices(len(flat), max(flat.shape[1], len(weight)), VALUES):
        x = flat[part] if minus is None else flat[part] - minus[part]
        yield part, x if plain else x * weight


def _shifted_maps(op: Window, x: Array, weight: Array, shape: tuple[int, int, int]) -> Blocks:
    """Yield sums over taps of maps, or maxima; columns that are strided are gathered before."""
    (sh, sw), (dh, dw) = op.strides, op.dilations
    phases = [np.ascontiguousarray(x[:, :, p::sw]) for p in range(sw)] if sw > 1 else [x]
    wide = shape[2] if x.shape[3] == weight.shape[2] else 1
    combine: Callable[..., Any] = _largest if op.reduce == "max" else _added
    taps = [
        (i * dh, phases[j * dw % sw], j * dw // sw, np.tile(weight[i, j], wide))
        for i, j in np.ndindex(*weight.shape[:2])
    ]
    channels = max(x.shape[3], weight.shape[2])
    for rows, n, h in _stretches(shape, max(1, VALUES // channels)):
        found: Array | None = None
        for down, phase, right, w in taps:
            lines = slice(h.start * sh + down, (h.stop - 1) * sh + down + 1, sh)
            view = phase[n, lines, right : right + shape[2]]
            view = view.reshape(*view.shape[:2], -1) if wide > 1 or shape[2] == 1 else view
            found = combine(found, view, w)
        assert found is not None
        yield rows, found.reshape(rows.stop - rows.start, -1)


def _added(found: Array | None, view: Array, weight: Array) -> Array:
    term = view * weight
    return term if found is None else np.add(found, term, out=found)


def _largest(found: Array | None, view: Array, used: Array) -> Array:
    seen = view if used.all() else np.where(used, view, np.float32(LEAST))
    if found is None:
        return np.asarray(np.maximum(seen, np.float32(LEAST)))
    return np.asarray(np.maximum(found, seen))
