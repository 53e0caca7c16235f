# SPDX-License-Identifier: Apache-2.0
"""Legalisation: identity Windows in front of operations that need an operand in another form.

In: a MatGraph.  Out: an equal one in which every operand of an activation-activation matmul may be
symmetric and has zeros in its padding lanes, every tensor with a mean may be int16, and the bias of
such a matmul is a constant operand (its accumulator's step may be far too fine for a bias).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ...hardware.target import Target
from ...ir.matgraph.ops import Epilogue, Gemm, Linear, MatGraph, MatOp, Move, RowMax, Tensor, Window
from ...ir.matgraph.rewrite import fresh_name
from ...ir.types import Array, QParams


@dataclass
class _Copier:
    """The operations so far, and the copies made: (tensor, purpose) to the copy's name."""

    word_bytes: int  # channel counts that are a multiple of it leave no padding lanes
    tensors: dict[str, Tensor]
    constants: dict[str, Array]
    ops: list[MatOp] = field(default_factory=list)
    made: dict[tuple[str, str], str] = field(default_factory=dict)

    def copy(self, name: str, purpose: str, source: str, epilogue: Epilogue | None = None) -> str:
        """Return an identity Window of ``name``, one per purpose."""
        key = (name, purpose)
        if key not in self.made or epilogue:
            fresh = fresh_name(f"{name}:{purpose}", self.tensors)
            self.tensors[fresh] = replace(self.tensors[name], name=fresh, copy_of=name)
            bias = np.zeros(self.tensors[name].shape[3], np.float32)
            one = np.ones((1, 1, 1), np.float32)
            self.ops.append(
                Window(fresh, name, one, bias, epilogue=epilogue or Epilogue(), source=source)
            )
            self.made[key] = fresh
        return self.made[key]


def legalize_operands(graph: MatGraph, target: Target) -> MatGraph:
    """Return ``graph`` with the copies that legalisation needs."""
    copier = _Copier(target.word_bytes, dict(graph.tensors), dict(graph.constants))
    padded: dict[str, bool] = {}  # whether the padding lanes of a tensor may be nonzero
    for op in graph.ops:
        for rule in (_centered, _symmetric, _zero_padded, _without_bias):
            op = rule(op, graph, copier, padded)
        _append(op, graph, copier)
        padded[op.output] = may_fill_padding(op, padded)
    ops, constants = tuple(copier.ops), copier.constants
    return replace(graph, ops=ops, tensors=copier.tensors, constants=constants)


def _centered(op: MatOp, mg: MatGraph, copier: _Copier, padded: dict[str, bool]) -> MatOp:
    """Return ``op`` with an int16 operand where it subtracts a mean."""
    if not isinstance(op, Window) or op.minus is None or not _is_int8(op.input, mg):
        return op
    return replace(op, input=copier.copy(op.input, "centred", op.source))


def _is_int8(name: str, mg: MatGraph) -> bool:
    return name in mg.quant and not mg.quant[name].int16


def _symmetric(op: MatOp, mg: MatGraph, copier: _Copier, padded: dict[str, bool]) -> MatOp:
    """Return an activation-activation matmul with operands whose zero point is 0."""
    if not isinstance(op, Gemm) or op.rhs is None:
        return op
    x, rhs = (
        copier.copy(name, "symmetric", op.source) if _is_shifted(mg.quant.get(name)) else name
        for name in (op.input, op.rhs)
    )
    return replace(op, input=x, rhs=rhs)


def _is_shifted(qp: QParams | None) -> bool:
    return qp is not None and qp.zero_point != 0


def _zero_padded(op: MatOp, mg: MatGraph, copier: _Copier, padded: dict[str, bool]) -> MatOp:
    """Return a product whose operands are 0 in padding lanes, if it sums over their channels."""
    if not isinstance(op, Gemm) or op.rhs is None or not op.rhs_transposed:
        return op
    channels = copier.tensors[op.input].shape[3]
    if channels % copier.word_bytes == 0 or not padded.get(op.rhs, False):
        return op
    return replace(op, rhs=copier.copy(op.rhs, "padded", op.source))


def _without_bias(op: MatOp, mg: MatGraph, copier: _Copier, padded: dict[str, bool]) -> MatOp:
    if not isinstance(op, Gemm) or op.rhs is None or op.epilogue.residual or not np.any(op.bias):
        return op
    name = fresh_name(f"{op.output}:bias", copier.tensors)
    value = np.asarray(op.bias, np.float32).reshape(1, 1, 1, -1)
    copier.constants[name] = value
    copier.tensors[name] = Tensor(name, (1, 1, 1, value.shape[3]))
    epilogue = replace(op.epilogue, residual=name, residual_gain=1.0)
    return replace(op, bias=np.zeros_like(op.bias), epilogue=epilogue)


def may_fill_padding(op: MatOp, padded: Mapping[str, bool]) -> bool:
    """Return whether padding lanes may be nonzero: by an addend, or by a function with f(0) !=
    0."""
    if isinstance(op, Move):
        return op.fill != 0 or any(padded.get(name, False) for name in op.inputs)
    if isinstance(op, RowMax):
        return True
    e = op.epilogue
    return bool(e.residual or e.hadamard or (e.activation and e.activation.name != "relu"))


def _append(op: MatOp, mg: MatGraph, copier: _Copier) -> None:
    """Append ``op``; a mean or square of a prescribed int8 tensor is taken of an int16 copy."""
    if not isinstance(op, Linear) or not op.epilogue.rows or not _is_int8(op.output, mg):
        copier.ops.append(op)
        return
    rows = op.epilogue.rows
    if all(row.kind in ("max", "sum") for row in rows):
        copier.ops.append(op)
        return
    copier.ops.append(replace(op, epilogue=replace(op.epilogue, rows=())))
    copier.copy(op.output, "centred", op.source, Epilogue(rows=rows))
