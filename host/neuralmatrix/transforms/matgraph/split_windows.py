# SPDX-License-Identifier: Apache-2.0
"""Splitting of windows that are longer than the array's loops over taps reach.

In: a MatGraph.  Out: an equal one: a mean, a sum or a maximum over a long window becomes the same
of short windows that do not overlap, and then of their results.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import gcd

import numpy as np

from ...hardware.target import Target
from ...ir.matgraph.ops import MatGraph, MatOp, Tensor, Window
from ...ir.matgraph.rewrite import fresh_name, with_ops

LOOP = 255  # largest count of the loops over tiles of taps
H, W = 0, 1


def split_windows(mg: MatGraph, target: Target, loop: int = LOOP) -> MatGraph:
    """Split windows of equal taps that are too long; the same object if there are none."""
    tensors, changed = dict(mg.tensors), {}
    for op in mg.ops:
        found = list(_stages(op, tensors, target.array.win, loop))
        if len(found) > 1:
            changed[op.output] = found
    return with_ops(mg, changed, tensors)


def _stages(op: MatOp, tensors: dict[str, Tensor], win: int, loop: int) -> Iterator[MatOp]:
    """Return the operation, and before it the windows that shorten its own."""
    while isinstance(op, Window) and max(op.weight.shape[:2]) > loop * win:
        axis = H if op.weight.shape[0] > loop * win else W
        length = _length(op, axis, tensors[op.output].shape[1 + axis], 2 * win)
        if not length:
            break
        first, op = _halves(op, axis, length, tensors)
        yield first
    yield op


def _length(op: Window, axis: int, results: int, most: int) -> int:
    """Return how many taps a short window may have; 0 if there is no such number.

    The results of short windows must be what the long one adds up, wherever it lies.
    """
    equal = op.weight.shape[2] == 1 and bool(np.all(op.weight == op.weight.flat[0]))
    if not equal or op.dilations != (1, 1) or op.minus is not None:
        return 0
    before, after = op.pads[axis], op.pads[axis + 2]
    if results == 1 and not before and not after:
        return most
    step = gcd(op.weight.shape[axis], gcd(op.strides[axis], before))
    return max((n for n in range(2, most + 1) if step % n == 0), default=0)


def _halves(
    op: Window, axis: int, length: int, tensors: dict[str, Tensor]
) -> tuple[Window, Window]:
    """Return windows of ``length`` taps along an axis, and the window over their results."""
    source = tensors[op.input]
    size, kernel = source.shape[1 + axis], op.weight.shape[axis]
    pads, shape = list(op.pads), list(source.shape)
    before, after = pads[axis], pads[axis + 2]
    count = shape[1 + axis] = -(-size // length)  # windows of padding alone are padding again
    pads[axis], pads[axis + 2] = before // length, -(-(size + after) // length) - count
    name = fresh_name(f"{op.output}:in {length}", tensors)
    n, h, w, c = shape
    tensors[name] = Tensor(name, (n, h, w, c), source.broadcast)
    taps = [1, 1]
    taps[axis] = length
    part = 1.0 if op.reduce == "max" else 1.0 / length
    first_pads = [0, 0, 0, 0]
    first_pads[axis + 2] = count * length - size
    first = Window(
        name, op.input, np.full((*taps, 1), part, np.float32), np.zeros(c, np.float32),
        strides=(taps[0], taps[1]), pads=_four(first_pads), reduce=op.reduce, source=op.source,
    )  # fmt: skip
    left = list(op.weight.shape)
    left[axis] = -(-kernel // length)
    strides = list(op.strides)
    strides[axis] = -(-strides[axis] // length)
    weight = np.full(left, op.weight.flat[0] / part, op.weight.dtype)
    return first, replace(op, input=name, weight=weight, strides=(strides[0], strides[1]),
                          pads=_four(pads))  # fmt: skip


def _four(pads: list[int]) -> tuple[int, int, int, int]:
    top, left, bottom, right = pads
    return top, left, bottom, right


__all__ = ["split_windows"]
