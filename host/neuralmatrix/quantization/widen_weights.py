# SPDX-License-Identifier: Apache-2.0
"""Weights of two int8 digits, for layers whose int8 weights lose too much.

In: a MatGraph, the names of such layers' outputs.  Out: an equal MatGraph: a layer W x becomes
t = W_lo x, an int16 tensor, and W_hi x + t.  W_hi are the reals of the int8 weights of W, so that
they are not rounded again, and W_lo the rest, whose int8 rounding error is about 250 times smaller.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeGuard

import numpy as np

from ..errors import BadModel
from ..hardware.target import Target
from ..ir.matgraph.ops import Epilogue, Gemm, MatGraph, MatOp, Tensor, Window
from ..ir.matgraph.rewrite import fresh_name, with_ops
from ..ir.types import Array
from .integer_weights import int_weight, is_weighted


def widen_weights(graph: MatGraph, target: Target, *, names: Sequence[str]) -> MatGraph:
    """Return ``graph`` with two digits for the weights of the operations that make ``names``.

    It has to run after all passes that change weights.  BadModel: an operation has no such weights,
    or is named twice.
    """
    if not names:
        return graph
    ops, tensors = {op.output: op for op in graph.ops}, dict(graph.tensors)
    changed = {}
    for name in names:
        op = ops.get(name)
        if op is None or not may_widen(op) or name in changed:
            raise BadModel(f"no weights of {name!r} can be widened")
        changed[name] = _digits(op, tensors)
    recipe = replace(graph.recipe, widened=tuple(names))
    return replace(with_ops(graph, changed, tensors), recipe=recipe)


def may_widen(op: MatOp) -> TypeGuard[Gemm | Window]:
    """Return whether int8 rounds the weights of an operation, and nothing prescribes how."""
    if not is_weighted(op) or op.weight_scale is not None:
        return False
    if isinstance(op, Gemm):
        return True
    own = op.reduce == "add" and op.minus is None
    return own and int_weight(op).values.shape[-1] == np.shape(op.weight)[-1] > 1


def _digits(op: Gemm | Window, tensors: dict[str, Tensor]) -> list[MatOp]:
    """Return the operation of the low digit, which also adds the residual, and the one of the
    high."""
    name = fresh_name(f"{op.output}:fine", tensors)
    tensors[name] = replace(tensors[op.output], name=name, copy_of=None)
    high = high_digit(op)
    rest = np.asarray(np.asarray(op.weight, np.float64) - high, np.float32)
    e = op.epilogue
    low = replace(
        op, output=name, weight=rest, bias=np.zeros_like(op.bias),
        epilogue=Epilogue(e.residual, e.residual_gain),
    )  # fmt: skip
    sums = replace(e, residual=name, residual_gain=1.0)
    return [low, replace(op, weight=high, epilogue=sums)]


def high_digit(op: Gemm | Window) -> Array:
    """Return the reals, float32, of the int8 weights of an operation."""
    found = int_weight(op)
    return np.asarray(found.values * found.scale, np.float32)
