# SPDX-License-Identifier: Apache-2.0
"""Integer weights, and the real value of one unit of them per output channel.

In: a Gemm or a Window.  Out: ``IntWeight``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from ..ir.matgraph.ops import Gemm, MatOp, Window
from ..ir.types import Array, QParams

BIAS_LIMIT = 2**26  # bounds the integer bias of a channel whose weights are almost 0
MOST_REACH = (2**31 - 2 * BIAS_LIMIT) // 2**8 - 1  # sum|w| with which any int8 values fit a sum


@dataclass(frozen=True)
class IntWeight:
    """Integer weights, the real value of one unit per output channel, and max over channels of
    sum|w|."""

    values: Array
    scale: Array  # (M,)
    reach: int


def is_weighted(op: MatOp) -> TypeGuard[Gemm | Window]:
    """Return whether an operation multiplies by constants."""
    return isinstance(op, Window) or (isinstance(op, Gemm) and op.rhs is None)


def int_weight(op: Gemm | Window, floor: float = 0.0) -> IntWeight:
    """Return the integer weights of an operation.

    ``floor``: least real weight step, for channels whose bias is far larger than their weights.
    """
    if isinstance(op, Window):
        if op.reduce == "max":
            return IntWeight((op.weight != 0).astype(np.int32), np.ones(len(op.bias)), 1)
        if op.minus is not None or (floor == 0.0 and _is_uniform(op)):
            return _uniform_weight(op)
    assert op.weight is not None
    weight = np.asarray(op.weight, np.float64)
    if isinstance(op, Window):
        weight = np.broadcast_to(weight, (*weight.shape[:2], len(op.bias)))
    if op.weight_scale is not None:
        scale = np.broadcast_to(np.asarray(op.weight_scale, np.float64), (len(op.bias),))
    else:
        peak = np.abs(weight).reshape(-1, weight.shape[-1]).max(0) / 127.0
        least = np.maximum(np.abs(op.bias) * floor, max(float(peak.max()) * 2.0**-20, 1e-30))
        scale = np.maximum(peak, least)
    values = np.rint(weight / scale).astype(np.int32)
    found = IntWeight(values, scale, reach_of(values))
    return found if op.weight_scale is not None else _within_reach(weight, found)


def _within_reach(weight: Array, found: IntWeight) -> IntWeight:
    """Return coarser weights for channels whose sum int8 values could let overflow.

    A plain sum, whose weights are all equal, loses nothing by weights of 1.
    """
    if found.reach <= MOST_REACH:
        return found
    taps = weight.reshape(-1, weight.shape[-1])
    reach = np.abs(found.values).reshape(taps.shape).sum(0)
    coarser = np.where(np.all(taps == taps[0], axis=0), 127.0, reach / (MOST_REACH - len(taps)))
    scale = found.scale * np.where(reach > MOST_REACH, coarser, 1.0)
    values = np.rint(weight / scale).astype(np.int32)
    return IntWeight(values, scale, reach_of(values))


def bias_too_large(op: Gemm | Window, weight: IntWeight, source: QParams) -> bool:
    """Return whether a bias is more than ``BIAS_LIMIT`` steps of the products with ``source``."""
    return bool(np.any(np.abs(op.bias) > np.abs(weight.scale) * source.scale * BIAS_LIMIT))


def fitting_weight(op: Gemm | Window, weight: IntWeight, source: QParams) -> IntWeight:
    """Return ``weight``, with coarser steps where the bias needs them and they are free."""
    if op.weight_scale is None and bias_too_large(op, weight, source):
        return int_weight(op, 2.0 / (source.scale * BIAS_LIMIT))
    return weight


def reach_of(values: Array) -> int:
    """Return the largest sum of |w| of a channel."""
    return int(np.abs(values).reshape(-1, values.shape[-1]).sum(0).max())


def _is_uniform(op: Window) -> bool:
    """Return whether all taps of a channel have one weight: element-wise operators, mean
    pooling."""
    taps = op.weight.reshape(-1, op.weight.shape[-1])
    present = taps != 0
    factor = np.abs(taps).max(0)
    same_taps = np.all(present == present[:, :1])
    first = taps[np.abs(taps[:, 0]).argmax()]
    same_value = np.all((taps == first) | ~present)
    largest = max(float(factor.max()), float(np.abs(op.bias).max(initial=0)))
    visible = np.all(factor > 1e-6 * largest)
    return bool(same_taps and same_value and visible)


def _uniform_weight(op: Window) -> IntWeight:
    """Return one tap value for all channels; a channel's factor and sign go into its scale.

    A bias needs the finer accumulator step that a weight of 127 gives.  Subtracted values are
    multiplied by the negated weight.
    """
    unit = 127 if np.any(op.bias) else 1
    taps = op.weight.reshape(-1, op.weight.shape[-1])
    factor = taps[np.abs(taps[:, 0]).argmax()].astype(np.float64)
    present = np.ones((1, 1, 1), bool) if op.minus is not None else op.weight[..., :1] != 0
    values = np.where(present, unit, 0).astype(np.int32)
    scale = np.broadcast_to(factor / unit, (len(op.bias),)).copy()
    return IntWeight(values, scale, reach_of(values) * (2 if op.minus is not None else 1))
