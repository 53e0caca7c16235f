# SPDX-License-Identifier: Apache-2.0
"""Residual streams whose mean over the channels is 0, so that normalising them needs no mean.

In: a MatGraph.  Out: an equal one.  Where all that a stream is read by are centred normalisations
and further sums of the same stream, its mean makes no difference: it is taken out of the weights,
biases, tables and constants that write the stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ...hardware.target import Target
from ...ir.matgraph.ops import (
    Epilogue,
    Gemm,
    MatGraph,
    MatOp,
    Move,
    Port,
    RowMax,
    Window,
)
from ...ir.types import Array


@dataclass
class _Stream:
    """Tensors that are to have mean 0; constants that are part of them."""

    tensors: set[str] = field(default_factory=set)
    constants: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Uses:
    """Who makes and who reads every tensor."""

    mg: MatGraph
    makers: Mapping[str, MatOp]
    readers: Mapping[str, list[MatOp]]
    ports: Mapping[str, Port]
    shown: frozenset[str]


def center_residuals(mg: MatGraph, target: Target) -> MatGraph:
    """Every stream of ``mg`` that can be centred is."""
    uses = _uses(mg)
    done: set[str] = set()
    streams = []
    for op in mg.ops:
        if isinstance(op, Window) and op.minus and op.input not in done:
            stream = _closure(uses, op.input)
            done |= {op.input}
            if stream:
                streams.append(stream)
                done |= stream.tensors
    for stream in streams:
        mg = _centred(mg, stream)
    return mg


def _uses(mg: MatGraph) -> _Uses:
    readers: dict[str, list[MatOp]] = {}
    for op in mg.ops:
        for name in set(op.inputs):
            readers.setdefault(name, []).append(op)
    return _Uses(
        mg,
        {op.output: op for op in mg.ops},
        readers,
        {port.tensor: port for port in mg.inputs},
        frozenset(port.tensor for port in mg.outputs),
    )


# ---------------------------------------------------------------- what belongs to a stream


def _closure(uses: _Uses, start: str) -> _Stream | None:
    """All that has to be centred together with ``start``; None where something prevents it."""
    stream, waiting = _Stream(), [start]
    while waiting:
        name = waiting.pop()
        if name in stream.tensors or name in stream.constants:
            continue
        if name in uses.mg.constants:
            stream.constants.add(name)
            continue
        narrow = uses.mg.tensors[name].shape[3] != uses.mg.tensors[start].shape[3]
        if narrow or name in uses.shown or name in uses.mg.quant:
            return None
        stream.tensors.add(name)
        above, below = _above(uses, name), _below(uses, name)
        if above is None or below is None:
            return None
        waiting += above + below
    return stream


def _above(uses: _Uses, name: str) -> list[str] | None:
    """What the maker of ``name`` adds up, which then is part of the stream."""
    if name in uses.ports:
        return [] if uses.ports[name].table is not None else None
    op = uses.makers.get(name)
    if isinstance(op, Move):
        return list(op.inputs) if _keeps_rows(uses.mg, op) else None
    if not isinstance(op, Gemm | Window) or not _is_sum(op):
        return None
    residual = [op.epilogue.residual] if op.epilogue.residual else []
    return residual if isinstance(op, Gemm) else [op.input, *residual]


def _is_sum(op: Gemm | Window) -> bool:
    """A linear function whose channels can be centred by its constants or operands."""
    if op.epilogue.activation or op.epilogue.hadamard or op.weight_scale is not None:
        return False
    if isinstance(op, Gemm):
        return op.weight is not None and op.groups == 1
    return op.weight.size == 1 and op.reduce == "add" and not op.minus and not any(op.pads)


def _keeps_rows(mg: MatGraph, op: Move) -> bool:
    """Every row of the result is one row of an input, or 0."""
    channels = op.index.shape[3]
    if op.fill or any(mg.tensors[name].shape[3] != channels for name in op.inputs):
        return False
    rows = op.index.reshape(-1, channels)
    whole = (rows[:, :1] % channels == 0) & (rows == rows[:, :1] + np.arange(channels))
    return bool((whole | (rows == -1)).all(1).all())


def _below(uses: _Uses, name: str) -> list[str] | None:
    """The sums that read ``name``; None where a reader would notice its mean."""
    found = []
    for op in uses.readers.get(name, []):
        if _subtracts_mean(uses, op, name):
            continue
        sums = isinstance(op, Gemm | Window) and _adds(op, name)
        if isinstance(op, RowMax) or not (isinstance(op, Move) or sums):
            return None
        if not _counts_only(uses, op):
            found.append(op.output)
    return found if _statistics_fit(uses, name) else None


def _adds(op: Gemm | Window, name: str) -> bool:
    """Is ``name`` an addend of the result?"""
    if not _is_sum(op):
        return False
    return name == op.epilogue.residual or (isinstance(op, Window) and name == op.input)


def _mean_of(uses: _Uses, mean: str) -> str | None:
    """The tensor whose mean a statistic is; a window that only counts counts its input."""
    for op in uses.mg.ops:
        if isinstance(op, Gemm | Window) and mean in op.outputs[1:]:
            return op.input if _counts_only(uses, op) else op.output
    return None


def _counts_only(uses: _Uses, op: MatOp) -> bool:
    """A copy that nothing reads but its statistics."""
    if not isinstance(op, Window) or uses.readers.get(op.output) or op.output in uses.shown:
        return False
    plain = replace(op.epilogue, rows=()) == Epilogue() and op.weight.size == 1
    return plain and float(op.weight.flat[0]) == 1 and not op.bias.any() and not op.minus


def _subtracts_mean(uses: _Uses, op: MatOp, name: str) -> bool:
    """A normalisation that takes the mean off before anything else."""
    if not isinstance(op, Window) or not op.minus or op.input != name:
        return False
    others = (op.epilogue.residual, op.epilogue.hadamard)
    return name not in others and _mean_of(uses, op.minus) == name


def _statistics_fit(uses: _Uses, name: str) -> bool:
    """Are mean and square of ``name`` only used as the two parts of a variance?"""
    ops = [uses.makers.get(name), *uses.readers.get(name, [])]
    for op in ops:
        own = isinstance(op, Gemm | Window) and (op.output == name or _counts_only(uses, op))
        if not own or not isinstance(op, Gemm | Window):
            continue
        rows = {row.kind: row.tensor for row in op.epilogue.rows}
        if rows and (rows.keys() != {"mean", "square"} or not _is_variance(uses, **rows)):
            return False
    return True


def _is_variance(uses: _Uses, mean: str, square: str) -> bool:
    squares = {op.output for op in uses.readers.get(mean, []) if _squares(op, mean)}
    for op in uses.readers.get(mean, []):
        if not (op.output in squares or (isinstance(op, Window) and op.minus == mean)):
            return False
    readers = uses.readers.get(square, [])
    return all(isinstance(op, Window) and op.epilogue.residual in squares for op in readers)


def _squares(op: MatOp, mean: str) -> bool:
    plain = Epilogue(hadamard=mean)
    return isinstance(op, Window) and op.input == mean and op.epilogue == plain


# ---------------------------------------------------------------- taking the mean out


def _centred(mg: MatGraph, stream: _Stream) -> MatGraph:
    uses = _uses(mg)
    means = {
        row.tensor
        for op in mg.ops
        if isinstance(op, Gemm | Window)
        for row in op.epilogue.rows
        if row.kind == "mean" and _mean_of(uses, row.tensor) in stream.tensors
    }
    squares = {op.output for op in mg.ops for mean in means if _squares(op, mean)}
    ops = [_rewritten(op, stream, means, squares) for op in mg.ops if op.output not in squares]
    constants = {f"{name}:level": _level(mg.constants[name]) for name in stream.constants}
    tensors = {n: t for n, t in mg.tensors.items() if n not in means | squares}
    tensors |= {f"{n}:level": replace(mg.tensors[n], name=f"{n}:level") for n in stream.constants}
    read = {name for op in ops for name in op.inputs}
    unread = stream.constants - read
    return replace(
        mg,
        inputs=tuple(_level_port(port, stream) for port in mg.inputs),
        ops=tuple(ops),
        tensors={n: t for n, t in tensors.items() if n not in unread},
        constants={n: c for n, c in {**mg.constants, **constants}.items() if n not in unread},
    )


def _level(array: Array) -> Array:
    """Without its mean over the last axis."""
    exact = np.asarray(array, np.float64)
    return np.asarray(exact - exact.mean(-1, keepdims=True), np.float32)


def _level_port(port: Port, stream: _Stream) -> Port:
    if port.tensor not in stream.tensors or port.table is None:
        return port
    return replace(port, table=_level(port.table))


def _rewritten(op: MatOp, stream: _Stream, means: set[str], squares: set[str]) -> MatOp:
    if isinstance(op, Gemm | Window):
        op = _without_mean(op, means, squares)
    if op.output not in stream.tensors:
        return op
    if isinstance(op, Move):
        inputs = tuple(f"{n}:level" if n in stream.constants else n for n in op.inputs)
        return replace(op, parts=inputs)
    assert isinstance(op, Gemm | Window)
    residual = op.epilogue.residual
    if residual in stream.constants:
        op = replace(op, epilogue=replace(op.epilogue, residual=f"{residual}:level"))
    if isinstance(op, Window):
        x = f"{op.input}:level" if op.input in stream.constants else op.input
        return replace(op, input=x, bias=_level(op.bias))
    assert op.weight is not None
    return replace(op, weight=_level(op.weight), bias=_level(op.bias))


def _without_mean(op: Gemm | Window, means: set[str], squares: set[str]) -> Gemm | Window:
    epilogue = op.epilogue
    rows = tuple(row for row in epilogue.rows if row.tensor not in means)
    epilogue = replace(epilogue, rows=rows)
    if epilogue.residual in squares:
        epilogue = replace(epilogue, residual=None, residual_gain=1.0)
    if isinstance(op, Window) and op.minus in means:
        return replace(op, epilogue=epilogue, minus=None)
    return replace(op, epilogue=epilogue)
