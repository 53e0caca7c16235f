# SPDX-License-Identifier: Apache-2.0
"""The nonzero blocks of a weight: the array skips blocks of zeros.

In: a weight and the lanes of the array.  Out: the pattern of its blocks, and their number.
"""

from __future__ import annotations

import numpy as np

from ..types import Array


def block_pattern(weight: Array, lanes: int) -> Array:
    """Return which lanes x lanes blocks of (..., K, M) weights are not all 0: bool (..., KB,
    MB)."""
    *lead, k, m = weight.shape
    pads = [*((0, 0) for _ in lead), (0, -k % lanes), (0, -m % lanes)]
    cells = np.pad(weight != 0, pads).reshape(*lead, -(-k // lanes), lanes, -(-m // lanes), lanes)
    return np.asarray(cells.any(axis=(-3, -1)))


def nonzero_blocks(weight: Array, lanes: int) -> int:
    """Return how many lanes x lanes blocks of (..., K, M) weights are not all 0."""
    return int(block_pattern(weight, lanes).sum())


__all__ = ["block_pattern", "nonzero_blocks"]
