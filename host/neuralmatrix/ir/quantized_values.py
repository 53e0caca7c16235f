# SPDX-License-Identifier: Apache-2.0
"""Quantisation of real values to integers and back, as ONNX defines it.

In: an array and the QParams of its tensor.  Out: quantised values, reals, or rounded reals.
Parts of a port's tensor may have units of their own: the host converts them in front or behind.
All of it is in float32, and halves round to even: the runtimes of QDQ models do the same.
"""

from __future__ import annotations

import numpy as np

from .types import Array, QParams, Units


def quantize_array(x: Array, q: QParams) -> Array:
    """Return clip(round_half_even(x / scale) + zero_point) as int16, of x's shape.

    Infinite values saturate.  ``x`` holds no NaN.
    """
    return np.asarray(_quantized_values(x, q), np.int16)


def dequantize_array(quantized_values: Array, q: QParams) -> Array:
    """Return scale * (q - zero_point) as float32, of the shape of ``quantized_values``."""
    steps = np.asarray(quantized_values, np.int32) - np.int32(q.zero_point)
    return np.asarray(steps.astype(np.float32) * np.float32(q.scale), np.float32)


def rounded(x: Array, q: QParams) -> Array:
    """Return the reals of the quantised values of ``x``, float32; NaN stays NaN."""
    steps = _quantized_values(x, q) - np.float32(q.zero_point)
    return np.asarray(steps * np.float32(q.scale), np.float32)


def stored_values(x: Array, units: Units | None) -> Array:
    """Return (x - offset) / divisor as float32; ``x`` ends in the four axes of the tensor."""
    if units is None:
        return x
    with np.errstate(over="ignore"):  # infinity is clipped like every value that is too large
        x = np.asarray(x, np.float32) - _part_array(units, units.offset)
        return np.asarray(x / _part_array(units, units.divisor))


def real_values(stored: Array, units: Units | None) -> Array:
    """Return offset + divisor * stored as float32; ``stored`` ends in the axes of the tensor."""
    if units is None:
        return stored
    with np.errstate(over="ignore"):
        scaled = np.asarray(stored, np.float32) * _part_array(units, units.divisor)
        return np.asarray(scaled + _part_array(units, units.offset))


def _part_array(units: Units, values: tuple[float, ...]) -> Array:
    """Return the numbers of all parts as float32, to be broadcast; 0 if there are none."""
    if not values:
        return np.zeros((1, 1, 1, 1), np.float32)
    return np.asarray(values, np.float32).reshape(units.shape)


def _quantized_values(x: Array, q: QParams) -> Array:
    """Return quantised values as float32."""
    with np.errstate(over="ignore"):  # infinity is clipped like every value that is too large
        steps = np.rint(np.asarray(x, np.float32) / np.float32(q.scale))
    return np.asarray(np.clip(steps + np.float32(q.zero_point), q.qmin, q.qmax))
