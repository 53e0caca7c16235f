# SPDX-License-Identifier: Apache-2.0
"""Quantised weights beyond int8: codes less a zero point that is not in their middle.

In: a tensor and its weights, whose steps reach up to twice the ends of int8.  Out: the tensor with
every channel twice, and weights of two int8 parts that belong to them, so that one accumulator sums
the exact product.  The second part is 0 wherever the first one suffices.
"""

from __future__ import annotations

import numpy as np

from ....ir.graph.nodes import Take
from ....ir.types import Array
from ..context import Call, Context

_LO, _HI = -128, 127


def fits_two(steps: Array) -> bool:
    """Return whether integers are sums of two int8 ones."""
    return bool(2 * _LO <= steps.min() and steps.max() <= 2 * _HI)


def matmul_operands(ctx: Context, call: Call, x: str, weight: str) -> tuple[str, str]:
    """Return the operands of x @ weight, twice as deep where the weight is beyond int8."""
    return _twice(ctx, call, (x, len(ctx.shapes[x]) - 1), (weight, len(ctx.shapes[weight]) - 2))


def conv_operands(ctx: Context, call: Call, x: str, weight: str, groups: int) -> tuple[str, str]:
    """Return the operands of a convolution, every group with twice the channels where the weight
    is beyond int8."""
    return _twice(ctx, call, (x, 1), (weight, 1), groups)


def _twice(
    ctx: Context, call: Call, data: tuple[str, int], kernel: tuple[str, int], groups: int = 1
) -> tuple[str, str]:
    """Return ``data`` and ``kernel`` (name, axis that is summed over) with that axis doubled."""
    (x, channels), (weight, axis) = data, kernel
    scale = ctx.scales.get(weight)
    if scale is None or weight not in ctx.constants:
        return x, weight
    steps = np.rint(ctx.constants[weight] / scale)
    near = np.clip(steps, _LO, _HI)
    if np.array_equal(near, steps):
        return x, weight
    both = np.concatenate((near * scale, (steps - near) * scale), axis)
    if scale.ndim and scale.shape[axis] > 1:
        scale = np.concatenate((scale, scale), axis)
    doubled = ctx.constant(f"{weight}.both", both, scale)
    each = np.arange(ctx.shapes[x][channels]).reshape(groups, 1, -1)
    indices = tuple(np.tile(each, (1, 2, 1)).reshape(-1).tolist())
    name = ctx.fresh(f"{call.output}.twice")
    twice = ctx.emit(Take((x,), name, call.name, axis=channels, indices=indices))
    if x in ctx.quant:
        ctx.quant[twice] = ctx.quant[x]
    return twice, doubled
