# SPDX-License-Identifier: Apache-2.0
"""Moves that select channels: every result comes from the same position of a source.

In: a Move and the tensors of its graph.  Out: ``Selection``, or None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from ..types import Array
from .ops import MatOp, Move, Tensor


@dataclass(frozen=True)
class Selection:
    """For each channel of the result the number of its part, -1 for the fill, and its channel."""

    part: Array
    channel: Array


def selection_of(op: MatOp, tensors: Mapping[str, Tensor]) -> Selection | None:
    """Return the selection that a Move is, or None."""
    if not isinstance(op, Move):
        return None
    out, parts = tensors[op.output], [tensors[name] for name in op.parts]
    if out.broadcast or any(p.broadcast or p.shape[:3] != out.shape[:3] for p in parts):
        return None
    sizes = [prod(p.shape) for p in parts]
    starts = np.cumsum([0, *sizes])
    first = op.index[0, 0, 0]
    part = np.where(first < 0, -1, np.searchsorted(starts, first, side="right") - 1)
    channel = np.where(first < 0, 0, first - starts[part])
    found = Selection(part, channel)
    channels = np.array([p.shape[3] for p in parts])
    if np.any(channel >= channels[part]):
        return None
    return found if np.array_equal(index_of(found, op, tensors), op.index) else None


def index_of(selection: Selection, op: Move, tensors: Mapping[str, Tensor]) -> Array:
    """Return the index of the Move that makes ``selection`` of the parts of ``op``."""
    n, h, w, _ = tensors[op.output].shape
    channels = np.array([tensors[name].shape[3] for name in op.parts])
    starts = np.cumsum([0, *(channels * (n * h * w))])
    positions = np.arange(n * h * w).reshape(n, h, w, 1)
    part = selection.part
    index = starts[part] + positions * channels[part] + selection.channel
    return np.asarray(np.where(part < 0, -1, index), np.int64)


__all__ = ["Selection", "index_of", "selection_of"]
