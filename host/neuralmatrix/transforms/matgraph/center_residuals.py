# SPDX-License-Identifier: Apache-2.0
"""Residual streams whose mean over the channels is 0, so that normalising them needs no mean.

In: a MatGraph.  Out: an equal one.  Where only centred normalisations and further sums of the
stream read a stream, its mean has no effect: it is removed from the weights, biases, tables and
constants that write the stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeGuard

import numpy as np

from ...hardware.target import Target
from ...ir.matgraph.ops import Epilogue, Linear, MatGraph, MatOp, Move, Port, Window
from ...ir.matgraph.predicates import is_projection, only_statistics
from ...ir.matgraph.uses import Uses
from ...ir.types import Array


@dataclass
class _Stream:
    """Tensors that get mean 0, and the constants that are part of them."""

    tensors: set[str] = field(default_factory=set)
    constants: set[str] = field(default_factory=set)


def center_residuals(mg: MatGraph, target: Target) -> MatGraph:
    """Centre every residual stream of ``mg`` that can be centred."""
    uses = Uses.of(mg)
    done: set[str] = set()
    streams = []
    for op in mg.ops:
        if isinstance(op, Window) and op.minus and op.input not in done:
            stream = _closure(mg, uses, op.input)
            done |= {op.input}
            if stream:
                streams.append(stream)
                done |= stream.tensors
    for stream in streams:
        mg = _centered(mg, stream)
    return mg


# ---------------------------------------------------------------- what belongs to a stream


def _closure(mg: MatGraph, uses: Uses, start: str) -> _Stream | None:
    """Return all that has to be centred together with ``start``; None if something prevents it."""
    stream, waiting = _Stream(), [start]
    while waiting:
        name = waiting.pop()
        if name in stream.tensors or name in stream.constants:
            continue
        if name in mg.constants:
            stream.constants.add(name)
            continue
        narrow = mg.tensors[name].shape[3] != mg.tensors[start].shape[3]
        if narrow or uses.fixed(name):
            return None
        stream.tensors.add(name)
        above, below = _addends(mg, uses, name), _sums(uses, name)
        if above is None or below is None:
            return None
        waiting += above + below
    return stream


def _addends(mg: MatGraph, uses: Uses, name: str) -> list[str] | None:
    """Return the addends of the maker of ``name``, which are then part of the stream."""
    op = uses.maker(name)
    if op is None:  # rows of a table can be centred, other inputs of the network cannot
        return [] if any(p.tensor == name and p.table is not None for p in mg.inputs) else None
    if isinstance(op, Move):
        return list(op.parts) if _keeps_rows(mg, op) else None
    if op.output != name or not _is_sum(op):
        return None
    main = [op.input] if isinstance(op, Window) else []
    return main + ([op.epilogue.residual] if op.epilogue.residual else [])


def _is_sum(op: MatOp) -> TypeGuard[Linear]:
    """Return whether an operation is linear and can be centred by its constants or operands."""
    if op.epilogue.activation or op.epilogue.hadamard:
        return False
    if is_projection(op):
        return op.weight_scale is None
    if not isinstance(op, Window) or op.weight_scale is not None:
        return False
    return op.weight.size == 1 and op.reduce == "add" and not op.minus and not any(op.pads)


def _keeps_rows(mg: MatGraph, op: Move) -> bool:
    """Return whether every row of the result is one row of an input, or 0."""
    channels = op.index.shape[3]
    if op.fill or any(mg.tensors[name].shape[3] != channels for name in op.parts):
        return False
    rows = op.index.reshape(-1, channels)
    whole = (rows[:, :1] % channels == 0) & (rows == rows[:, :1] + np.arange(channels))
    return bool((whole | (rows == -1)).all(1).all())


def _sums(uses: Uses, name: str) -> list[str] | None:
    """Return the sums that read ``name``; None if a reader depends on its mean."""
    found = []
    for op in uses.readers(name):
        if _subtracts_mean(uses, op, name):
            continue
        if not isinstance(op, Move) and not _adds(op, name):
            return None
        if not only_statistics(op, uses):
            found.append(op.output)
    return found if _statistics_fit(uses, name) else None


def _adds(op: MatOp, name: str) -> bool:
    """Return whether ``name`` is an addend of the result."""
    if not _is_sum(op):
        return False
    return name == op.epilogue.residual or (isinstance(op, Window) and name == op.input)


def _mean_of(uses: Uses, mean: str) -> str | None:
    """Return the tensor whose mean a statistic is; a statistics-only window reports its input's
    mean."""
    op = uses.maker(mean)
    if op is None or op.output == mean:
        return None
    return op.input if only_statistics(op, uses) else op.output


def _subtracts_mean(uses: Uses, op: MatOp, name: str) -> bool:
    """Return whether an operation is a normalisation that first subtracts the mean."""
    if not isinstance(op, Window) or not op.minus or op.input != name:
        return False
    others = (op.epilogue.residual, op.epilogue.hadamard)
    return name not in others and _mean_of(uses, op.minus) == name


def _statistics_fit(uses: Uses, name: str) -> bool:
    """Return whether mean and square of ``name`` are only used as the two parts of a variance."""
    makers = [op for op in (uses.maker(name),) if op and op.output == name]
    for op in (*makers, *(op for op in uses.readers(name) if only_statistics(op, uses))):
        rows = {row.kind: row.tensor for row in op.epilogue.rows}
        if rows and (rows.keys() != {"mean", "square"} or not _is_variance(uses, **rows)):
            return False
    return True


def _is_variance(uses: Uses, mean: str, square: str) -> bool:
    squares = {op.output for op in uses.readers(mean) if _squares(op, mean)}
    for op in uses.readers(mean):
        if not (op.output in squares or (isinstance(op, Window) and op.minus == mean)):
            return False
    readers = uses.readers(square)
    return all(isinstance(op, Window) and op.epilogue.residual in squares for op in readers)


def _squares(op: MatOp, mean: str) -> bool:
    plain = Epilogue(hadamard=mean)
    return isinstance(op, Window) and op.input == mean and op.epilogue == plain


# ---------------------------------------------------------------- removing the mean


def _centered(mg: MatGraph, stream: _Stream) -> MatGraph:
    uses = Uses.of(mg)
    means = {
        row.tensor
        for op in mg.ops
        for row in op.epilogue.rows
        if row.kind == "mean" and _mean_of(uses, row.tensor) in stream.tensors
    }
    squares = {op.output for op in mg.ops for mean in means if _squares(op, mean)}
    ops = [_rewritten(op, stream, means, squares) for op in mg.ops if op.output not in squares]
    shared = [name for name in mg.constants if name in stream.constants]
    constants = {f"{name}:level": _level(mg.constants[name]) for name in shared}
    tensors = {n: t for n, t in mg.tensors.items() if n not in means | squares}
    tensors |= {f"{n}:level": replace(mg.tensors[n], name=f"{n}:level") for n in shared}
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
    """Return the array without its mean over the last axis."""
    exact = np.asarray(array, np.float64)
    return np.asarray(exact - exact.mean(-1, keepdims=True), np.float32)


def _level_port(port: Port, stream: _Stream) -> Port:
    if port.tensor not in stream.tensors or port.table is None:
        return port
    return replace(port, table=_level(port.table))


def _rewritten(op: MatOp, stream: _Stream, means: set[str], squares: set[str]) -> MatOp:
    if isinstance(op, Linear):
        op = _without_mean(op, means, squares)
    if op.output not in stream.tensors:
        return op
    level = {name: f"{name}:level" for name in stream.constants}
    if isinstance(op, Move):
        return op.renamed(level)
    assert isinstance(op, Linear)
    op = replace(op, epilogue=op.epilogue.renamed(level), bias=_level(op.bias))
    if isinstance(op, Window):
        return replace(op, input=level.get(op.input, op.input))
    assert op.weight is not None
    return replace(op, weight=_level(op.weight))


def _without_mean(op: Linear, means: set[str], squares: set[str]) -> Linear:
    epilogue = op.epilogue
    rows = tuple(row for row in epilogue.rows if row.tensor not in means)
    epilogue = replace(epilogue, rows=rows)
    if epilogue.residual in squares:
        epilogue = replace(epilogue, residual=None, residual_gain=1.0)
    if isinstance(op, Window) and op.minus in means:
        return replace(op, epilogue=epilogue, minus=None)
    return replace(op, epilogue=epilogue)
