# SPDX-License-Identifier: Apache-2.0
"""The inputs and the weights of a layer as the matrices whose product it is.

In: a Gemm or a Window with its own weights in every channel, and its input.  Out: (G, rows, K) and
(G, K, M): one product per group of channels; a Window's groups are its channels.
"""

from __future__ import annotations

from math import prod

import numpy as np

from ..ir.matgraph.ops import Gemm, Window
from ..ir.matgraph.reference_ops import input_windows
from ..ir.types import Array

MOST_ROWS = 4096
MOST_FLOATS = 1 << 24  # of all rows; layers with more inputs have fewer rows


def groups_of(op: Gemm | Window) -> int:
    """Return into how many products an operation falls apart."""
    return op.groups if isinstance(op, Gemm) else len(op.bias)


def input_matrices(op: Gemm | Window, x: Array, share: int = 1) -> Array:
    """Return (G, rows, K) of at most 4096 rows, or of one of ``share`` parts of them."""
    assert op.weight is not None
    taps = prod(op.weight.shape[:2])
    channels = op.weight.shape[2] * op.groups if isinstance(op, Gemm) else len(op.bias)
    most = max(1, min(MOST_ROWS, MOST_FLOATS // (taps * channels)) // share)
    rows = input_windows(op, x, most)
    rows = np.broadcast_to(rows, (*rows.shape[:3], channels))  # a broadcast input has one channel
    split = rows.reshape(len(rows), taps, groups_of(op), -1)
    return np.ascontiguousarray(split.transpose(2, 0, 1, 3)).reshape(groups_of(op), len(rows), -1)


def weight_matrices(op: Gemm | Window, weight: Array) -> Array:
    """Return (G, K, M) of an array of the weights' shape."""
    groups = groups_of(op)
    if isinstance(op, Window):
        return np.asarray(weight.reshape(-1, groups).T[:, :, None])
    return np.asarray(weight.reshape(-1, groups, weight.shape[3] // groups).swapaxes(0, 1))


def from_matrices(op: Gemm | Window, matrices: Array) -> Array:
    """Return what ``weight_matrices`` was made of."""
    assert op.weight is not None
    if isinstance(op, Window):
        return np.ascontiguousarray(matrices[:, :, 0].T).reshape(*op.weight.shape[:2], -1)
    return np.ascontiguousarray(matrices.swapaxes(0, 1)).reshape(op.weight.shape)
