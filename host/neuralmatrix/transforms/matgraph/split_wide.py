# SPDX-License-Identifier: Apache-2.0
"""Splitting of operations whose row statistics add up more channels than a row's 32 bits hold.

In: a MatGraph.  Out: an equal one: such an operation becomes one per slice of its channels, each
with statistics of its own, and one value per row joins them.  Slices and the joined result are
whole blocks of channels, so that the scheduler makes addresses of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeGuard

import numpy as np

from ...hardware.target import Target
from ...ir.matgraph.ops import (
    Epilogue,
    Gemm,
    Linear,
    MatGraph,
    MatOp,
    Move,
    RowStat,
    Tensor,
    Window,
)
from ...ir.matgraph.rewrite import fresh_name
from ...ir.matgraph.uses import Uses
from ...ir.types import Array, QParams

MOST_CHANNELS = 2**31 // 2**15 - 1  # int16 values whose sum fits 32 bits
ADDED = frozenset({"sum", "mean", "square"})


def split_wide(mg: MatGraph, target: Target, most: int = MOST_CHANNELS) -> MatGraph:
    """Split operations with sums over more than ``most`` channels; the same object if there are
    none."""
    uses, state = Uses.of(mg), _State(mg)
    for op in mg.ops:
        if _is_too_wide(op, state.tensors, most):
            state.ops += _split(op, state, most, target.lanes, uses)
        else:
            state.ops.append(op)
    if len(state.ops) == len(mg.ops):
        return mg
    return replace(mg, ops=tuple(state.ops), tensors=state.tensors, constants=state.constants,
                   quant=state.quant)  # fmt: skip


@dataclass
class _State:
    """The graph under construction; ``slices``: parts of tensors that exist already."""

    mg: MatGraph
    ops: list[MatOp] = field(default_factory=list)
    slices: dict[tuple[str, int, int, int], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tensors: dict[str, Tensor] = dict(self.mg.tensors)
        self.constants: dict[str, Array] = dict(self.mg.constants)
        self.quant: dict[str, QParams] = dict(self.mg.quant)

    def declare(self, name: str, like: str, shape: tuple[int, ...]) -> str:
        """Add a tensor with the properties of another, and return its name."""
        name = fresh_name(name, self.tensors)
        n, h, w, c = shape
        self.tensors[name] = Tensor(name, (n, h, w, c), self.tensors[like].broadcast)
        if like in self.quant:
            self.quant[name] = self.quant[like]
        return name

    def part(self, name: str, axis: int, start: int, stop: int) -> str:
        """Return a tensor's slice along an axis; a broadcast one serves all slices."""
        tensor = self.tensors[name]
        if tensor.broadcast:
            return name
        key = (name, axis, start, stop)
        if key not in self.slices:
            cut = (slice(None),) * axis + (slice(start, stop),)
            index = np.arange(np.prod(tensor.shape), dtype=np.int64).reshape(tensor.shape)[cut]
            made = self.slices[key] = self.declare(f"{name}:{start}", name, index.shape)
            if name in self.constants:
                self.constants[made] = np.ascontiguousarray(self.constants[name][cut])
            else:
                self.ops.append(Move(made, (name,), np.ascontiguousarray(index)))
        return self.slices[key]


def _is_too_wide(op: MatOp, tensors: Mapping[str, Tensor], most: int) -> TypeGuard[Linear]:
    added = any(row.kind in ADDED for row in op.epilogue.rows)
    wide = added and tensors[op.output].shape[3] > most
    return wide and isinstance(op, Linear) and getattr(op, "groups", 1) == 1


def _split(op: Linear, state: _State, most: int, lanes: int, uses: Uses) -> Iterable[MatOp]:
    """Return one operation per slice of channels, and those that join their results."""
    n, h, w, channels = state.tensors[op.output].shape
    count = -(-channels // (most // lanes * lanes))
    step = -(-channels // count)
    step += -step % lanes  # whole lane vectors
    cuts = [(start, min(start + step, channels)) for start in range(0, channels, step)]
    parts = [_sliced(op, state, *cut) for cut in cuts]
    made: list[MatOp] = list(parts)
    for i, row in enumerate(op.epilogue.rows):
        rows = [part.epilogue.rows[i].tensor for part in parts]
        shares = [(b - a) / channels if row.kind != "sum" else 1.0 for a, b in cuts]
        made += _added(rows, shares, row, state, op.source)
    if uses.count(op.output):
        shape, starts = (n, h, w), np.cumsum([0, *(n * h * w * (b - a) for a, b in cuts)])
        index = [start + np.arange(n * h * w * (b - a), dtype=np.int64).reshape(*shape, b - a)
                 for start, (a, b) in zip(starts, cuts, strict=False)]  # fmt: skip
        names = tuple(part.output for part in parts)
        made.append(Move(op.output, names, np.concatenate(index, 3), source=op.source))
    else:
        del state.tensors[op.output]
    return made


def _sliced(op: Linear, state: _State, start: int, stop: int) -> Linear:
    """Return the operation for some of its channels."""
    n, h, w, _ = state.tensors[op.output].shape
    e, own = op.epilogue, slice(start, stop)
    name = state.declare(f"{op.output}:{start}", op.output, (n, h, w, stop - start))
    rows = tuple(replace(row, tensor=state.declare(f"{row.tensor}:{start}", row.tensor,
                                                   state.tensors[row.tensor].shape))
                 for row in e.rows)  # fmt: skip
    residual, hadamard = (
        other and state.part(other, 3, start, stop) for other in (e.residual, e.hadamard)
    )
    scale = op.weight_scale
    changed = replace(
        op, output=name, bias=op.bias[own], weight=_columns(op.weight, own),
        weight_scale=None if scale is None else scale[own],
        epilogue=replace(e, rows=rows, residual=residual, hadamard=hadamard),
    )  # fmt: skip
    if isinstance(changed, Gemm):
        axis = 2 if changed.rhs_transposed else 3
        return replace(changed, rhs=changed.rhs and state.part(changed.rhs, axis, start, stop))
    return replace(changed, input=state.part(op.input, 3, start, stop))


def _columns(weight: Array | None, own: slice) -> Array | None:
    """Return the weights of some channels; one weight may serve all."""
    return weight if weight is None or weight.shape[-1] == 1 else weight[..., own]


def _added(
    rows: list[str], shares: list[float], row: RowStat, state: _State, source: str
) -> list[MatOp]:
    """Return the operations that add up ``shares`` of the slices' statistics."""
    made: list[MatOp] = []
    total, share = rows[0], shares[0]
    for i in range(1, len(rows)):
        last = i == len(rows) - 1
        shape = state.tensors[row.tensor].shape
        name = row.tensor if last else state.declare(f"{row.tensor}:to:{i}", row.tensor, shape)
        epilogue = Epilogue(residual=rows[i], residual_gain=shares[i])
        made.append(Window(name, total, np.full((1, 1, 1), share, np.float32),
                           np.zeros(1, np.float32), epilogue=epilogue, source=source))  # fmt: skip
        total, share = name, 1.0
    return made


__all__ = ["MOST_CHANNELS", "split_wide"]
