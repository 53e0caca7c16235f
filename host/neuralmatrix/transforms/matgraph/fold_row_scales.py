# SPDX-License-Identifier: Apache-2.0
"""Values per row that need no pass of their own: columns read by every lane, factors of products.

In: a MatGraph.  Out: an equal one.  A column that a Move repeats for all channels is made in every
lane at once; diag(u) x in front of a product, x W, becomes a factor of the product's rows.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from math import prod

import numpy as np

from ...hardware.target import Target
from ...ir.matgraph.ops import Epilogue, Gemm, MatGraph, MatOp, Move, Tensor, Window
from .fuse_epilogues import is_pointwise


def fold_row_scales(mg: MatGraph, target: Target) -> MatGraph:
    """``mg`` without the passes that only repeat or multiply a column."""
    uses = Counter(t for op in mg.ops for t in op.inputs)
    uses.update(port.tensor for port in mg.outputs)
    ops, tensors = {op.output: op for op in mg.ops}, dict(mg.tensors)
    for op in mg.ops:
        if isinstance(op, Window) and op.input in ops:
            _read_column(op, ops, tensors, uses, mg)
        elif isinstance(op, Gemm) and op.input in ops:
            _factor_behind(op, ops, tensors, uses, mg)
    return replace(mg, ops=tuple(ops.values()), tensors=tensors)


def _read_column(
    op: Window,
    ops: dict[str, MatOp],
    tensors: dict[str, Tensor],
    uses: Counter[str],
    mg: MatGraph,
) -> None:
    """The window reads the column itself instead of a Move's copies of it."""
    move = ops[op.input]
    if not isinstance(move, Move) or len(move.inputs) > 1 or not is_pointwise(op):
        return
    maker, column = ops.get(move.inputs[0]), tensors[move.inputs[0]]
    given = {op.input, column.name} & mg.quant.keys()
    alone = uses[op.input] == 1 and op.minus is None and not given
    if not alone or not _repeats(move, column):
        return
    if not _in_place(move, column):
        if column.replicated:
            _move_column(op, move, ops, tensors)
        return
    if not column.replicated:
        if uses[column.name] > 1 or not isinstance(maker, Gemm) or not _is_plain(maker):
            return
        tensors[column.name] = replace(column, replicated=True)
    del ops[op.input], tensors[op.input]
    ops[op.output] = replace(op, input=column.name)


def _repeats(move: Move, column: Tensor) -> bool:
    """One channel, the same for all channels of the result."""
    several = column.shape[3] == 1 < move.index.shape[3]
    return several and bool((move.index == move.index[..., :1]).all())


def _in_place(move: Move, column: Tensor) -> bool:
    """Every position of the result reads its own position."""
    return move.index.shape[:3] == column.shape[:3] and bool(
        (move.index[..., 0].reshape(-1) == np.arange(prod(column.shape))).all()
    )


def _move_column(op: Window, move: Move, ops: dict[str, MatOp], tensors: dict[str, Tensor]) -> None:
    """Only the column is moved, not its copies."""
    name = f"{move.output}:column"
    n, h, w, _ = move.index.shape
    tensors[name] = Tensor(name, (n, h, w, 1), True)
    column = replace(move, output=name, index=np.ascontiguousarray(move.index[..., :1]))
    _put_before(ops, op.output, column, replace(op, input=name))
    del ops[move.output], tensors[move.output]


def _is_plain(op: Gemm) -> bool:
    """A product with constants and nothing more."""
    return op.weight is not None and op.epilogue == Epilogue()


def _factor_behind(
    op: Gemm, ops: dict[str, MatOp], tensors: dict[str, Tensor], uses: Counter[str], mg: MatGraph
) -> None:
    """The factor of x's rows multiplies the product's rows instead."""
    scaled = ops[op.input]
    if not isinstance(scaled, Window) or not _is_row_factor(scaled, tensors):
        return
    alone = uses[op.input] == 1 and op.input not in mg.quant and op.rhs != op.input
    plain = op.epilogue == Epilogue() and not op.bias.any()
    fewer = op.output not in mg.quant and 2 * _size(op.output, tensors) <= _size(op.input, tensors)
    if not alone or not _is_rowwise(op) or not (plain or fewer):
        return
    del ops[op.input], tensors[op.input]
    factor = Epilogue(hadamard=scaled.epilogue.hadamard)
    if plain:
        ops[op.output] = replace(op, input=scaled.input, epilogue=factor)
        return
    product = f"{op.output}:scaled"  # what else the epilogue did follows in a pass of its own
    tensors[product] = replace(tensors[op.output], name=product)
    zeros = np.zeros_like(op.bias)
    inner = replace(op, output=product, input=scaled.input, bias=zeros, epilogue=factor)
    outer = Window(op.output, product, np.ones((1, 1, 1), np.float32), op.bias,
                   epilogue=op.epilogue, source=op.source)  # fmt: skip
    _put_before(ops, op.output, inner, outer)


def _size(name: str, tensors: dict[str, Tensor]) -> int:
    return prod(tensors[name].shape)


def _put_before(ops: dict[str, MatOp], name: str, new: MatOp, changed: MatOp) -> None:
    """``changed`` in place of the operation ``name``, with ``new`` in front of it."""
    order = list(ops.items())
    ops.clear()
    for key, op in order:
        if key == name:
            ops[new.output] = new
        ops[key] = changed if key == name else op


def _is_rowwise(op: Gemm) -> bool:
    kernel = (1, 1) if op.weight is None else op.weight.shape[:2]
    return kernel == (1, 1) and (op.strides, op.pads) == ((1, 1), (0, 0, 0, 0))


def _is_row_factor(op: Window, tensors: dict[str, Tensor]) -> bool:
    """x times a replicated tensor, and nothing else."""
    factor = op.epilogue.hadamard
    if factor is None or op.epilogue != Epilogue(hadamard=factor) or not is_pointwise(op):
        return False
    same = tensors[op.input].shape == tensors[op.output].shape and op.minus is None
    unit = bool(np.all(op.weight == 1)) and not op.bias.any()
    return same and tensors[factor].replicated and unit
