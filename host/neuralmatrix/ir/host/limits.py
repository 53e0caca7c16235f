# SPDX-License-Identifier: Apache-2.0
"""Sizes that operations of the host may reach, so that a hostile program cannot take all memory.

In: shapes.  Out: the same, or ``TooLarge``.
"""

from __future__ import annotations

from math import prod

import numpy as np

from ..types import Array, Shape

MOST_ELEMENTS = 1 << 26  # of one value
MOST_TOGETHER = 1 << 30  # of all values that one run computes
MOST_PAIRS = 1 << 33  # of boxes that one suppression compares


class TooLarge(ValueError):
    """A value would exceed the limit."""


def bounded(shape: Shape) -> Shape:
    """Return ``shape``; TooLarge if it has too many elements or a negative size."""
    if any(size < 0 for size in shape) or prod(shape) > MOST_ELEMENTS:
        raise TooLarge(f"a value of shape {shape}; at most {MOST_ELEMENTS} elements are allowed")
    return shape


def broadcast(*arrays: Array) -> Shape:
    """Return the shape to which arrays broadcast."""
    shapes = [np.shape(array) for array in arrays]
    rank = max(len(shape) for shape in shapes)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    sizes = [[n for n in column if n != 1] or [1] for column in zip(*padded, strict=True)]
    if any(len(set(column)) > 1 for column in sizes):
        raise ValueError(f"shapes {', '.join(map(str, shapes))} do not broadcast")
    return bounded(tuple(column[0] for column in sizes))
