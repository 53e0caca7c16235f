# SPDX-License-Identifier: Apache-2.0
"""Integer weights whose rounding errors cancel on typical inputs: the method of GPTQ.

In: real weights in integer steps, and the second moments of the inputs that they multiply.
Out: integers of small error.  Weights are rounded one input after the other, and the next ones make
up for the error so far (Babai's nearest plane in the Cholesky factor of the moments).
"""

from __future__ import annotations

import numpy as np

from ..ir.types import Array

DAMPING = 0.02  # of the mean second moment, added to each: inputs that the samples never excite
ROUNDING = 1e-5  # of their sum, added to each: what moments summed in float32 may be wrong by
BLOCK = 128  # inputs whose mutual corrections are made one by one; those of later ones are products
PEAK = 127


def least_error(weight: Array, moments: Array) -> Array:
    """Return int32 (G, K, M) within -127..127 and at most 1 from the nearest integers, with a small
    ``trace(E' moments E)`` for E = weight - result.  Zeros stay.

    ``weight`` (G, K, M), within -127..127; ``moments`` (G, K, K): of the inputs of each group.
    """
    order = np.argsort(np.diagonal(moments, axis1=1, axis2=2), axis=1, kind="stable")
    groups = np.arange(len(order))[:, None, None]
    ordered = moments[groups, order[:, :, None], order[:, None, :]]
    rows = order[:, :, None]
    weights = np.take_along_axis(weight.astype(np.float64), rows, 1)
    found = np.empty(weight.shape, np.int32)
    np.put_along_axis(found, rows, _nearest_plane(weights, _factor(ordered)), 1)
    return found


def _factor(moments: Array) -> Array:
    """Return R, upper triangular with a diagonal of 1, such that R' D R are the damped moments."""
    count = moments.shape[1]
    total = np.trace(moments, axis1=1, axis2=2)
    damped = moments.astype(np.float64)
    damped[:, range(count), range(count)] += (total * (DAMPING / count + ROUNDING) + 1e-30)[:, None]
    lower = _cholesky(damped)
    lower /= np.diagonal(lower, axis1=1, axis2=2)[:, None, :].copy()
    return np.asarray(lower.swapaxes(1, 2))


def _cholesky(a: Array) -> Array:
    """Return the lower factor, made in place by blocks: several times as fast as numpy's."""
    count = a.shape[1]
    for start in range(0, count, BLOCK):
        end = min(start + BLOCK, count)
        left = a[:, start:end, :start]
        a[:, start:, start:end] -= a[:, start:, :start] @ left.swapaxes(1, 2)
        a[:, :start, start:end] = 0.0
        corner = np.linalg.cholesky(a[:, start:end, start:end])
        a[:, start:end, start:end] = corner
        a[:, end:, start:end] = a[:, end:, start:end] @ np.linalg.inv(corner).swapaxes(1, 2)
    return a


def _nearest_plane(weight: Array, factor: Array) -> Array:
    """Round from the last input, the strongest, to the first."""
    count, nearest = weight.shape[1], np.rint(weight)
    freedom = np.where(weight == 0, 0, 1)  # blocks of zeros are never multiplied
    low, high = np.maximum(nearest - freedom, -PEAK), np.minimum(nearest + freedom, PEAK)
    found, error = np.zeros(weight.shape, np.int32), np.zeros(weight.shape)
    for start in range((count - 1) // BLOCK * BLOCK, -1, -BLOCK):
        end = min(start + BLOCK, count)
        wanted = weight[:, start:end] + factor[:, start:end, end:] @ error[:, end:]
        for i in range(end - 1, start - 1, -1):
            later = factor[:, i : i + 1, i + 1 : end] @ error[:, i + 1 : end]
            values = np.rint(wanted[:, i - start] + later[:, 0])
            found[:, i] = np.clip(values, low[:, i], high[:, i])
            error[:, i] = weight[:, i] - found[:, i]
    return found
