# SPDX-License-Identifier: Apache-2.0
"""Fusion of element-wise windows into the epilogue or weights of the operation before them.

In: a MatGraph straight from the lowering rules.  Out: fewer operations, the same results.

A tensor disappears only when one operation reads it, no port shows it and no scale is given for it.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TypeGuard

import numpy as np

from ...hardware.target import Target
from ...ir import functions
from ...ir.matgraph.ops import Epilogue, Gemm, Linear, MatGraph, MatOp, Move, Window
from ...ir.matgraph.predicates import is_elementwise, is_identity
from ...ir.matgraph.rewrite import pruned
from ...ir.matgraph.uses import Uses
from ...ir.types import Array


def fuse_epilogues(mg: MatGraph, target: Target) -> MatGraph:
    """Merge element-wise windows into their producers; drop what no output needs."""
    mg = pruned(_hoisted(pruned(mg)))
    uses = Uses.of(mg)
    done: dict[str, MatOp] = {}
    for op in mg.ops:
        merged = _merged_once(op, done, uses, mg)
        while merged is not None:
            producer, op = merged
            del done[producer]
            merged = _merged_once(op, done, uses, mg)
        done[op.output] = op
    return pruned(replace(mg, ops=tuple(done.values())))


# ---------------------------------------------------------------- merging


def _merged_once(
    op: MatOp, done: dict[str, MatOp], uses: Uses, mg: MatGraph
) -> tuple[str, MatOp] | None:
    """Return ``op`` merged with the latest possible producer, and that producer's output."""
    if not is_elementwise(op):
        return None
    places = {name: i for i, name in enumerate(done)}
    operands = {op.input, op.epilogue.residual, op.epilogue.hadamard} & places.keys()
    for name in sorted((str(t) for t in operands), key=places.__getitem__, reverse=True):
        producer = done[name]
        if not isinstance(producer, Linear) or not _may_vanish(name, op, uses, mg):
            continue
        if producer.epilogue.rows:  # statistics of a result that the merge removes
            continue
        merged = _merge(producer, op)
        if merged is not None:
            return name, merged
    return None


def _may_vanish(name: str, op: Window, uses: Uses, mg: MatGraph) -> bool:
    tensor, out = mg.tensors[name], mg.tensors[op.output]
    alike = tensor.shape == out.shape and tensor.broadcast == out.broadcast
    return alike and uses.private(name)


def _merge(producer: Linear, op: Window) -> Linear | None:
    if op.input == producer.output:
        return _merge_main(producer, op)
    if op.epilogue.residual == producer.output:
        return _merge_residual(producer, op)
    return _merge_hadamard(producer, op)


def _scale_bias(op: Window) -> tuple[Array, Array]:
    """Return weight (1 or C) and bias (C) of an element-wise window."""
    return np.asarray(op.weight, np.float64).reshape(-1), np.asarray(op.bias, np.float64)


def _merge_main(producer: Linear, op: Window) -> Linear | None:
    """Merge where op's input is the producer's result."""
    old, new = producer.epilogue, op.epilogue
    if old.hadamard:
        return _merge_factor(producer, op)
    if old.activation:
        plain = is_identity(op) and not new.residual and not new.activation
        kept = replace(old, hadamard=new.hadamard, rows=new.rows)
        return _finished(producer, op, kept) if plain else None
    if not old.residual:
        scaled = _scaled(producer, *_scale_bias(op))
        return scaled and _finished(scaled, op, new)
    weight, _ = _scale_bias(op)
    if new.residual or len(weight) > 1:
        return None
    scaled = _scaled(producer, *_scale_bias(op))
    kept = replace(new, residual=old.residual, residual_gain=old.residual_gain * float(weight[0]))
    return scaled and _finished(scaled, op, kept)


def _merge_factor(producer: Linear, op: Window) -> Linear | None:
    """Merge a factor behind a product without a function: (x * w) * h is (x * h) * w."""
    weight, bias = _scale_bias(op)
    old, plain = producer.epilogue, replace(op.epilogue, rows=()) == Epilogue()
    if old.activation or old.residual or not plain or bias.any():
        return None
    scaled = _scaled(producer, weight, bias)
    return scaled and _finished(scaled, op, replace(old, rows=op.epilogue.rows))


def _merge_residual(producer: Linear, op: Window) -> Linear | None:
    """Merge where op's residual is the producer's result: op's input becomes the residual."""
    weight, bias = _scale_bias(op)
    if producer.epilogue != Epilogue() or len(weight) > 1:
        return None
    scaled = _scaled(producer, np.array([op.epilogue.residual_gain]), bias)
    epilogue = replace(op.epilogue, residual=op.input, residual_gain=float(weight[0]))
    return scaled and _finished(scaled, op, epilogue)


def _merge_hadamard(producer: Linear, op: Window) -> Linear | None:
    """Merge where op multiplies its input by the producer's result: multiplication commutes."""
    plain = is_identity(op) and not op.epilogue.residual and not op.epilogue.activation
    if not plain or producer.epilogue.hadamard:
        return None
    kept = replace(producer.epilogue, hadamard=op.input, rows=op.epilogue.rows)
    return _finished(producer, op, kept)


def _finished(producer: Linear, op: Window, epilogue: Epilogue) -> Linear | None:
    if epilogue.hadamard and any(row.kind == "square" for row in epilogue.rows):
        return None
    return replace(
        producer, output=op.output, epilogue=epilogue, source=producer.source or op.source
    )


def _scaled(producer: Linear, weight: Array, bias: Array) -> Linear | None:
    """Fold weight * producer + bias into the producer's weights; None if that is not possible."""
    if np.all(weight == 1):
        return replace(producer, bias=_float32(producer.bias + bias))
    if isinstance(producer, Gemm) and producer.rhs and len(set(weight)) == 1 and weight[0]:
        gain = producer.gain * float(weight[0])
        return replace(producer, gain=gain, bias=_float32(producer.bias * weight + bias))
    if producer.weight is None or (isinstance(producer, Window) and producer.reduce == "max"):
        return None
    scale = producer.weight_scale
    if scale is not None:
        scale = _float32(scale * np.abs(weight)) if weight.all() else None
    return replace(
        producer,
        weight=_float32(producer.weight * weight),
        bias=_float32(producer.bias * weight + bias),
        weight_scale=scale,
    )


def _float32(x: Array) -> Array:
    return np.asarray(x, np.float32)


# ---------------------------------------------------------------- windows behind Moves


PROBES = (-30.0, -1.0, -1e-6, 0.0, 1e-6, 1.0, 30.0)  # beyond poles and ends of domains


def _hoisted(mg: MatGraph) -> MatGraph:
    """Move activations right behind a Move of one tensor before it, where they can be merged."""
    uses, tensors = Uses.of(mg), dict(mg.tensors)
    ops = {op.output: op for op in mg.ops}
    for op in mg.ops:
        if not _is_uniform_function(op):
            continue
        move = ops.get(op.input)
        if not isinstance(move, Move) or not _may_swap(move, op, uses, mg):
            continue
        if not isinstance(ops.get(move.parts[0]), Linear):
            continue
        x = tensors[move.parts[0]]
        tensors[move.output] = replace(x, name=move.output)
        bias = np.full(x.shape[3], op.bias[0], np.float32)
        fill = float(_value(op, move.fill))
        ops[move.output] = replace(op, output=move.output, input=x.name, bias=bias)
        ops[op.output] = replace(move, output=op.output, parts=(move.output,), fill=fill)
    return replace(mg, ops=tuple(ops.values()), tensors=tensors)


def _is_uniform_function(op: MatOp) -> TypeGuard[Window]:
    """Return whether a window is the same scalar function for every element."""
    plain = replace(op.epilogue, activation=None) == Epilogue()
    if not plain or not is_elementwise(op):
        return False
    return op.weight.size == 1 and not np.ptp(op.bias) and op.weight_scale is None


def _value(op: Window, x: float) -> Array:
    y = np.asarray(x * float(op.weight.flat[0]) + float(op.bias[0]))
    return functions.evaluate(op.epilogue.activation, y) if op.epilogue.activation else y


def _may_swap(move: Move, op: Window, uses: Uses, mg: MatGraph) -> bool:
    """Return whether the Move's tensors may change and the window gets at most 1.5 times the
    elements."""
    if len(move.parts) > 1 or op.output in mg.quant:
        return False
    free = uses.private(move.output) and uses.private(move.parts[0])
    size = prod(mg.tensors[move.parts[0]].shape)
    # what the Move leaves out may lie outside the domain: 1 / 0 of a node without edges
    whole = np.unique(move.index).size == size and move.index.min() >= 0
    return free and size <= 1.5 * move.index.size and (whole or _is_defined_everywhere(op))


def _is_defined_everywhere(op: Window) -> bool:
    return bool(np.isfinite([_value(op, x) for x in PROBES]).all())
