# SPDX-License-Identifier: Apache-2.0
"""Activations with a prescribed result move in front of the Move whose result they read.

In: a MatGraph.  Out: an equal one in which the operation before the Move, as the phases of a
transposed convolution, ends in the prescribed integers, and the Move copies these: its own result
has no prescribed scale and would be rounded once more.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...hardware.target import Target
from ...ir.functions import evaluate
from ...ir.matgraph.ops import Epilogue, MatGraph, MatOp, Move, Tensor, Window
from ...ir.matgraph.predicates import is_identity
from ...ir.matgraph.rewrite import fresh_name, with_ops
from ...ir.matgraph.uses import Uses
from ...ir.types import QParams


def quantize_before_moves(mg: MatGraph, target: Target) -> MatGraph:
    """Return ``mg`` with such activations in front of their Moves."""
    uses, tensors = Uses.of(mg), dict(mg.tensors)
    changed: dict[str, tuple[MatOp, ...]] = {}
    quant: dict[str, QParams] = {}
    for op in mg.ops:
        move = uses.maker(op.inputs[0])
        if isinstance(move, Move) and _follows(op, move, uses):
            assert isinstance(op, Window)
            made = _swapped(op, move, tensors)
            quant[made[0].output] = mg.quant[op.output]
            changed |= {move.output: made, op.output: ()}
            del tensors[move.output]
    found = with_ops(mg, changed, tensors)
    return replace(found, quant={**found.quant, **quant}) if quant else mg


def _follows(op: MatOp, move: Move, uses: Uses) -> bool:
    """Return whether an operation only activates and rounds what a Move alone makes for it."""
    if not is_identity(op) or not uses.prescribed(op.output):
        return False
    plain = replace(op.epilogue, activation=None) == Epilogue()
    alone = len(set(move.parts)) == 1 and uses.private(move.output)
    return plain and alone and uses.only_reader(move.parts[0]) is move


def _swapped(op: Window, move: Move, tensors: dict[str, Tensor]) -> tuple[MatOp, MatOp]:
    """Return the activation of the Move's source, and the Move of its result."""
    (source,) = set(move.parts)
    name = _declared(f"{op.output}:whole", tensors, source)
    bias = np.zeros(tensors[source].shape[3], np.float32)
    first = replace(op, output=name, input=source, bias=bias, weight=np.ones((1, 1, 1), np.float32))
    activation = op.epilogue.activation
    fill = move.fill if activation is None else float(evaluate(activation, move.fill))
    parts = (name,) * len(move.parts)
    return first, replace(move, output=op.output, parts=parts, fill=fill)


def _declared(name: str, tensors: dict[str, Tensor], like: str) -> str:
    fresh = fresh_name(name, tensors)
    tensors[fresh] = replace(tensors[like], name=fresh)
    return fresh


__all__ = ["quantize_before_moves"]
