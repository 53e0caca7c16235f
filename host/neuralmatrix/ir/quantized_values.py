# SPDX-License-Identifier: Apache-2.0
"""Quantisation of real values to integers and back, as ONNX defines it.

In: an array and the QParams of its tensor.  Out: quantised values, reals, or rounded reals.
All of it is in float32, and halves round to even: the runtimes of QDQ models do the same.
"""

from __future__ import annotations

import numpy as np

from .types import Array, QParams


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


def _quantized_values(x: Array, q: QParams) -> Array:
    """Return quantised values as float32."""
    with np.errstate(over="ignore"):  # infinity is clipped like every value that is too large
        steps = np.rint(np.asarray(x, np.float32) / np.float32(q.scale))
    return np.asarray(np.clip(steps + np.float32(q.zero_point), q.qmin, q.qmax))
