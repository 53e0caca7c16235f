# SPDX-License-Identifier: Apache-2.0
"""Folding of values per row, which then need no pass: broadcast columns, factors of products.

In: a MatGraph.  Out: an equal one.  A column that a Move repeats for all channels is broadcast
instead; diag(u) x in front of a product x W becomes a factor of the product's rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import TypeGuard

import numpy as np

from ...hardware.target import Target
from ...ir.matgraph.ops import Epilogue, Gemm, MatGraph, MatOp, Move, Tensor, Window
from ...ir.matgraph.predicates import is_elementwise, is_identity, is_pointwise
from ...ir.matgraph.uses import Uses


@dataclass
class _State:
    """Operations by their output, in execution order, and tensors so far; ``uses`` of the start."""

    uses: Uses
    ops: dict[str, MatOp]
    tensors: dict[str, Tensor]

    def drop(self, name: str) -> None:
        """Remove the operation ``name`` and its result."""
        del self.ops[name], self.tensors[name]

    def put_before(self, name: str, new: MatOp, changed: MatOp) -> None:
        """Replace the operation ``name`` by ``changed``, with ``new`` in front of it."""
        order = list(self.ops.items())
        self.ops.clear()
        for key, op in order:
            if key == name:
                self.ops[new.output] = new
            self.ops[key] = changed if key == name else op

    def size(self, name: str) -> int:
        return prod(self.tensors[name].shape)


def fold_row_scales(mg: MatGraph, target: Target) -> MatGraph:
    """Return ``mg`` without the passes that only repeat or multiply a column."""
    state = _State(Uses.of(mg), {op.output: op for op in mg.ops}, dict(mg.tensors))
    for op in mg.ops:
        if is_elementwise(op) and op.input in state.ops:
            _read_column(op, state)
        elif isinstance(op, Gemm) and op.input in state.ops:
            _factor_behind(op, state)
    return replace(mg, ops=tuple(state.ops.values()), tensors=state.tensors)


def _read_column(op: Window, state: _State) -> None:
    """Let a window read the broadcast column instead of a Move's copies of it."""
    move = state.ops[op.input]
    if not isinstance(move, Move) or len(move.parts) > 1 or not state.uses.private(op.input):
        return
    column = state.tensors[move.parts[0]]
    if state.uses.prescribed(column.name) or not _repeats(move, column):
        return
    if not _in_place(move, column):
        if column.broadcast:
            _move_column(op, move, state)
        return
    if not column.broadcast:
        maker = state.ops.get(column.name)
        if state.uses.count(column.name) > 1 or maker is None or not _multiplies_only(maker):
            return
        state.tensors[column.name] = replace(column, broadcast=True)
    state.drop(op.input)
    state.ops[op.output] = replace(op, input=column.name)


def _repeats(move: Move, column: Tensor) -> bool:
    """Return whether a Move repeats one channel for all channels of the result."""
    several = column.shape[3] == 1 < move.index.shape[3]
    return several and bool((move.index == move.index[..., :1]).all())


def _in_place(move: Move, column: Tensor) -> bool:
    """Return whether every position of the result reads its own position."""
    return move.index.shape[:3] == column.shape[:3] and bool(
        (move.index[..., 0].reshape(-1) == np.arange(prod(column.shape))).all()
    )


def _move_column(op: Window, move: Move, state: _State) -> None:
    """Move only the column, not its copies."""
    name = f"{move.output}:column"
    n, h, w, _ = move.index.shape
    state.tensors[name] = Tensor(name, (n, h, w, 1), True)
    column = replace(move, output=name, index=np.ascontiguousarray(move.index[..., :1]))
    state.put_before(op.output, column, replace(op, input=name))
    state.drop(move.output)


def _multiplies_only(op: MatOp) -> bool:
    """Return whether an operation is a product with constants and nothing more."""
    return isinstance(op, Gemm) and op.weight is not None and op.epilogue == Epilogue()


def _factor_behind(op: Gemm, state: _State) -> None:
    """Multiply the product's rows by the factor instead of x's rows."""
    scaled = state.ops[op.input]
    if not _is_row_factor(scaled, state.tensors):
        return
    alone = state.uses.private(op.input) and op.rhs != op.input
    plain = op.epilogue == Epilogue() and not op.bias.any()
    smaller = 2 * state.size(op.output) <= state.size(op.input)
    fewer = smaller and not state.uses.prescribed(op.output)
    if not alone or not is_pointwise(op) or not (plain or fewer):
        return
    state.drop(op.input)
    factor = Epilogue(hadamard=scaled.epilogue.hadamard)
    if plain:
        state.ops[op.output] = replace(op, input=scaled.input, epilogue=factor)
        return
    product = f"{op.output}:scaled"  # the rest of the epilogue follows in a pass of its own
    state.tensors[product] = replace(state.tensors[op.output], name=product)
    zeros = np.zeros_like(op.bias)
    inner = replace(op, output=product, input=scaled.input, bias=zeros, epilogue=factor)
    outer = Window(op.output, product, np.ones((1, 1, 1), np.float32), op.bias,
                   epilogue=op.epilogue, source=op.source)  # fmt: skip
    state.put_before(op.output, inner, outer)


def _is_row_factor(op: MatOp, tensors: Mapping[str, Tensor]) -> TypeGuard[Window]:
    """Return whether an operation is x times a broadcast tensor, and nothing else."""
    factor = op.epilogue.hadamard
    if factor is None or op.epilogue != Epilogue(hadamard=factor) or not is_identity(op):
        return False
    same = tensors[op.input].shape == tensors[op.output].shape
    return same and tensors[factor].broadcast
