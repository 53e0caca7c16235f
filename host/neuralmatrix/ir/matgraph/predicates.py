# SPDX-License-Identifier: Apache-2.0
"""Predicates of one operation of a MatGraph that several passes need.

In: an operation.  Out: bool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeGuard

import numpy as np

from .ops import NO_EPILOGUE, Gemm, Linear, MatOp, Move, RowMax, Tensor, Window
from .uses import Uses


def is_pointwise(op: Linear) -> bool:
    """Return whether every result depends on one position of the input: 1x1, no strides, no
    padding."""
    kernel = (1, 1) if op.weight is None else op.weight.shape[:2]
    return kernel == (1, 1) and (op.strides, op.pads) == ((1, 1), (0, 0, 0, 0))


def is_elementwise(op: MatOp) -> TypeGuard[Window]:
    """Return whether an operation is x * weight + bias per element, and then an epilogue."""
    is_sum = isinstance(op, Window) and op.reduce == "add" and op.minus is None
    return isinstance(op, Window) and is_sum and is_pointwise(op)


def is_identity(op: MatOp) -> TypeGuard[Window]:
    """Return whether an operation passes its input on to its epilogue unchanged."""
    return is_elementwise(op) and bool(np.all(op.weight == 1)) and not np.any(op.bias)


def is_copy(op: MatOp) -> TypeGuard[Window]:
    """Return whether the result of an operation is its input; it may have row statistics."""
    return is_identity(op) and replace(op.epilogue, rows=()) == NO_EPILOGUE


def only_statistics(op: MatOp, uses: Uses) -> TypeGuard[Window]:
    """Return whether an operation is a copy that exists for its row statistics alone."""
    return bool(op.epilogue.rows) and not uses.count(op.output) and is_copy(op)


def is_difference(op: MatOp) -> TypeGuard[Window]:
    """Return whether an operation is x minus its residual, and nothing more; a bias is allowed."""
    e = op.epilogue
    minus = e.residual is not None and e.residual_gain == -1.0
    plain = minus and e.activation is None and e.hadamard is None
    return plain and is_elementwise(op) and op.weight.size == 1 and op.weight.flat[0] == 1.0


def is_square(op: MatOp) -> TypeGuard[Window]:
    """Return whether an operation multiplies a tensor, or a multiple of it, by itself."""
    e = op.epilogue
    plain = e.residual is None and e.activation is None and not np.any(getattr(op, "bias", 1))
    return plain and is_elementwise(op) and op.input == e.hadamard


def is_projection(op: MatOp | None) -> TypeGuard[Gemm]:
    """Return whether an operation multiplies all channels of its input by weights: one group of
    them."""
    return isinstance(op, Gemm) and op.weight is not None and op.groups == 1


def is_transposition(op: MatOp, tensors: Mapping[str, Tensor]) -> TypeGuard[Move]:
    """Return whether an operation moves one matrix (1, 1, R, C) to its transpose."""
    if not isinstance(op, Move) or len(op.parts) > 1:
        return False
    x, out = tensors[op.parts[0]], tensors[op.output]
    rows, cols = x.shape[2:]
    if x.shape[:2] != (1, 1) or out.shape != (1, 1, cols, rows) or x.broadcast or out.broadcast:
        return False
    return bool(np.array_equal(op.index[0, 0].T.reshape(-1), np.arange(rows * cols)))


def copied_inputs(op: MatOp) -> tuple[str, ...]:
    """Return the tensors of which the operation copies quantised values: one scale holds them
    all."""
    if isinstance(op, Move):
        return op.inputs
    plain_max = (
        isinstance(op, Window)
        and op.reduce == "max"
        and not (op.epilogue.residual or op.epilogue.hadamard or op.epilogue.activation)
        and not np.any(op.bias)
        and op.epilogue.factor == 1.0
    )
    return op.inputs if plain_max or isinstance(op, RowMax) else ()


def tied_statistics(op: MatOp) -> list[tuple[str, str]]:
    """Return pairs of one scale: a row and its maximum or mean; x and the mean subtracted from
    it."""
    pairs = [(row.tensor, op.output) for row in op.epilogue.rows if row.kind in ("max", "mean")]
    if isinstance(op, Window) and op.minus is not None:
        pairs.append((op.minus, op.input))
    return pairs


__all__ = [
    "copied_inputs",
    "is_copy",
    "is_difference",
    "is_elementwise",
    "is_identity",
    "is_pointwise",
    "is_projection",
    "is_square",
    "is_transposition",
    "only_statistics",
    "tied_statistics",
]
