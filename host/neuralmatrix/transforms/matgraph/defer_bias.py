# SPDX-License-Identifier: Apache-2.0
"""Constants added per channel move into the biases of the readers.

In: a fused MatGraph.  Out: an equal one in which the bias of a normalisation, which follows the
product with the row's factor and would need a pass of its own, is part of its readers:
``W (y + b) + c`` is ``W y + (W b + c)``.  Readers that cannot take it read the sum from a window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeGuard

import numpy as np

from ...hardware.target import Target
from ...ir.matgraph.ops import Epilogue, Gemm, Linear, MatGraph, MatOp, Move, Tensor, Window
from ...ir.matgraph.predicates import is_elementwise
from ...ir.types import Array


@dataclass(frozen=True)
class Offset:
    """The sum ``tensor`` + ``value`` per channel, which the window ``made`` computes."""

    tensor: str
    value: Array
    made: Window


@dataclass
class _State:
    """The operations rewritten so far."""

    mg: MatGraph
    tensors: dict[str, Tensor]
    ops: list[MatOp] = field(default_factory=list)
    waiting: dict[str, Offset] = field(default_factory=dict)  # by the tensor that is not made yet

    def read(self, op: MatOp, name: str) -> None:
        """Emit the pending window of a tensor that ``op`` reads unchanged."""
        if name in self.waiting:
            self.ops.append(self.waiting.pop(name).made)


def defer_bias(mg: MatGraph, target: Target) -> MatGraph:
    """Fold windows that only add a constant per channel into their readers where possible."""
    state = _State(mg, dict(mg.tensors))
    for op in mg.ops:
        if _adds_only(op) and op.output not in mg.quant:
            _wait(state, op)
        elif isinstance(op, Move):
            _move(state, op)
        else:
            _reader(state, op)
    for port in mg.outputs:
        if port.tensor in state.waiting:
            state.ops.append(state.waiting.pop(port.tensor).made)
    gone = state.waiting.keys()
    tensors = {name: t for name, t in state.tensors.items() if name not in gone}
    return replace(mg, ops=tuple(state.ops), tensors=tensors)


def _adds_only(op: MatOp) -> TypeGuard[Window]:
    """Return whether an operation is x + bias and nothing else."""
    if not is_elementwise(op) or op.epilogue != Epilogue():
        return False
    return op.weight.size == 1 and float(op.weight.flat[0]) == 1


def _wait(state: _State, op: Window) -> None:
    """Defer a window until an operation needs its result."""
    inner = state.waiting.get(op.input)
    if state.tensors[op.input].shape != state.tensors[op.output].shape:
        state.read(op, op.input)
        state.ops.append(op)
        return
    source = inner.tensor if inner else op.input
    value = np.asarray(op.bias, np.float64) + (inner.value if inner else 0)
    made = replace(op, input=source, bias=np.asarray(value, np.float32))
    state.waiting[op.output] = Offset(source, value, made)


# ---------------------------------------------------------------- readers


def _reader(state: _State, op: MatOp) -> None:
    for name in op.inputs:
        offset = state.waiting.get(name)
        taken = _taken(op, name, offset) if offset and isinstance(op, Linear) else None
        if offset and taken:
            op = taken.renamed({name: offset.tensor})
        else:
            state.read(op, name)
    state.ops.append(op)


def _taken(op: Linear, name: str, offset: Offset) -> Linear | None:
    """Return ``op`` with the offset of one operand in its bias; None if that is not equal."""
    is_main, is_residual = op.input == name, op.epilogue.residual == name
    if op.inputs.count(name) > is_main + is_residual:  # it is another operand too
        return None
    total = np.asarray(op.bias, np.float64)
    if is_residual:
        total = total + op.epilogue.residual_gain * offset.value
    if is_main:
        through = _through(op, offset.value)
        if through is None:
            return None
        total = total + through
    return replace(op, bias=np.asarray(total, np.float32))


def _through(op: Linear, value: Array) -> Array | None:
    """Return what an offset of the main operand adds to every result."""
    if any(op.pads):
        return None
    if isinstance(op, Window):
        if op.reduce == "max":
            return value
        return np.asarray(value * op.weight.astype(np.float64).sum((0, 1)))
    if not isinstance(op, Gemm) or op.weight is None:
        return None
    weight = op.weight.astype(np.float64).sum((0, 1))
    parts = np.split(value, op.groups)
    columns = np.split(weight, op.groups, axis=1)
    return np.concatenate([p @ w for p, w in zip(parts, columns, strict=True)])


# ---------------------------------------------------------------- moves


def _move(state: _State, op: Move) -> None:
    """Pass an offset through a Move if it depends on the new channel alone."""
    offsets = {n: state.waiting[n] for n in op.parts if n in state.waiting}
    value = _moved(state.tensors, op, offsets) if offsets else None
    if value is None or op.output in state.mg.quant:
        for name in op.inputs:
            state.read(op, name)
        state.ops.append(op)
        return
    base = f"{op.output}:base"
    while base in state.tensors:
        base += "'"
    tensor = state.tensors[op.output]
    state.tensors[base] = replace(tensor, name=base)
    inputs = tuple(offsets[n].tensor if n in offsets else n for n in op.parts)
    state.ops.append(replace(op, output=base, parts=inputs))
    made = Window(op.output, base, np.ones((1, 1, 1), np.float32),
                  np.asarray(value, np.float32), source=op.source)  # fmt: skip
    state.waiting[op.output] = Offset(base, value, made)


def _moved(tensors: Mapping[str, Tensor], op: Move, offsets: Mapping[str, Offset]) -> Array | None:
    parts = []
    for name in op.inputs:
        shape = tensors[name].shape
        value = offsets[name].value if name in offsets else np.zeros(shape[3])
        parts.append(np.broadcast_to(value, shape).reshape(-1))
    flat = np.concatenate([*parts, [0.0]])[op.index]
    rows = flat.reshape(-1, flat.shape[-1])
    return np.asarray(rows[0]) if (rows == rows[0]).all() else None
