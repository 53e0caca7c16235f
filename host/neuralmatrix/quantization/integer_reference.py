# SPDX-License-Identifier: Apache-2.0
"""The exact integer reference: the values of every tensor of a QGraph, bit for bit.

In: a QGraph and its inputs.  Out: the quantised values of its tensors, as docs/numerics.md
defines them.  It is plain numpy on whole tensors, independent of tiles, lane vectors and
instructions.  Between operations integers are kept in float32, which holds them all exactly;
several model batches may lie side by side along the first axis, as in the float reference.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np

from ..ir.matgraph.ops import Gemm, MatOp, Move, RowMax, Window
from ..ir.matgraph.reference import port_values
from ..ir.matgraph.reference_ops import moved, repeated
from ..ir.quantized_values import dequantize_array, quantize_array, real_values
from ..ir.types import Array, QParams, apply_steps
from .exact_epilogues import MANY, Finish, Lookup, listed, looked_up
from .exact_products import (
    VALUES,
    Sums,
    Weights,
    convolved,
    float_weights,
    product,
    row_slices,
    windowed,
)
from .qgraph import QEpilogue, QGraph, QOp

Values = dict[str, Array]

STACKED = 1 << 21  # values of the largest tensor of several images that run side by side


def run_integer(
    graph: QGraph, feeds: Mapping[str, Array], keep: Collection[str] | None = None
) -> Values:
    """Return the quantised values of every tensor, (N,H,W,C) int32, or of those in ``keep`` alone.

    ``feeds``: input name -> real values in the source shape, or any multiple of it along its
    leading axis (more images than the model's batch run side by side).
    """
    return _Run(graph).values(feeds, keep)


def run_images(
    graph: QGraph, feeds: Sequence[Mapping[str, Array]], keep: Collection[str] | None = None
) -> list[Values]:
    """Return what ``run_integer`` returns for each of several feeds of one model batch.

    Small networks run several of them side by side, which is faster.
    """
    run = _Run(graph)
    largest = max((prod(tensor.shape) for tensor in graph.tensors.values()), default=1)
    several = all(port.shape for port in graph.inputs)
    step = max(1, STACKED // largest) if several else 1
    found: list[Values] = []
    for i in range(0, len(feeds), step):
        some = feeds[i : i + step]
        stacked = {p.name: np.concatenate([f[p.name] for f in some]) if several else some[0][p.name]
                   for p in graph.inputs}  # fmt: skip
        found += _split(graph, run.values(stacked, keep), len(some))
    return found


def _split(graph: QGraph, values: Values, count: int) -> list[Values]:
    """Return the values of each model batch; constants belong to all."""
    each = {name: tensor.shape[0] for name, tensor in graph.tensors.items()}
    return [
        {
            name: x if len(x) == each[name] else x[i * each[name] : (i + 1) * each[name]]
            for name, x in values.items()
        }
        for i in range(count)
    ]


@dataclass
class _Run:
    """The evaluation of a graph; weights and tables as floats are kept from run to run."""

    graph: QGraph
    weights: dict[str, Weights] = field(default_factory=dict)
    tables: dict[str, Lookup] = field(default_factory=dict)

    def values(self, feeds: Mapping[str, Array], keep: Collection[str] | None) -> Values:
        """Return the integers of all tensors, or of ``keep``; others are freed when read."""
        graph, live = self.graph, self._sources(feeds)
        wanted = set(graph.tensors if keep is None else keep)
        found = {name: _integers(x) for name, x in live.items() if name in wanted}
        last = {name: i for i, qop in enumerate(graph.ops) for name in qop.op.inputs}
        for i, qop in enumerate(graph.ops):
            made = self._evaluated(qop, live)
            found.update({n: _integers(x) for n, x in made.items() if n in wanted})
            live.update({n: x for n, x in made.items() if n in last})
            for name in qop.op.inputs:
                if last[name] == i:
                    live.pop(name, None)
        return found

    def _sources(self, feeds: Mapping[str, Array]) -> Values:
        """Return constants and quantised inputs."""
        graph = self.graph
        values: Values = {n: np.asarray(q, np.float32) for n, q in graph.constants.items()}
        for name, real in port_values(graph.inputs, feeds).items():
            values[name] = quantize_array(real, graph.qparams[name]).astype(np.float32)
        return values

    def _evaluated(self, qop: QOp, live: Values) -> Values:
        """Return the tensors that one operation makes."""
        op, e = qop.op, qop.epilogue
        if isinstance(op, Move):
            return {op.output: moved(op, live, self.graph.tensors, qop.fill)}
        assert e is not None
        sums = self._sums(qop, live)
        positions = prod(sums.shape)
        channels = self.graph.tensors[op.output].shape[3]
        of_stat = {row.kind: np.empty((positions, 1), np.float32) for row in op.epilogue.rows}
        out = np.empty((positions, channels), np.float32)
        finish = self._finish(qop, sums, live)
        for part, acc in _small(sums, max(len(e.bias), channels)):
            rows = finish.rows(part, acc)
            out[part] = rows.q.max(-1, keepdims=True) if isinstance(op, RowMax) else rows.q
            for kind, values in (finish.statistics(rows) if of_stat else {}).items():
                if kind in of_stat:
                    of_stat[kind][part] = values
        found = {row.tensor: of_stat[row.kind] for row in op.epilogue.rows}
        shaped = {op.output: out, **found}
        return {name: x.reshape(*sums.shape, -1) for name, x in shaped.items()}

    def _sums(self, qop: QOp, live: Values) -> Sums:
        """Return the accumulators of an operation."""
        op, x, qparams = qop.op, live[qop.op.inputs[0]], self.graph.qparams
        source = qparams[op.inputs[0]]
        if isinstance(op, RowMax):
            flat = x.reshape(-1, x.shape[3])
            return Sums(x.shape[:3], iter([(slice(0, len(flat)), flat)]), _peak(source))
        if isinstance(op, Gemm) and op.rhs is not None:
            operands = repeated(op, x, live[op.rhs], self.graph.tensors)
            return product(op, *operands, _peak(source) * _peak(qparams[op.rhs]))
        assert qop.weight is not None and isinstance(op, Gemm | Window)
        minus = op.minus if isinstance(op, Window) else None
        if op.output not in self.weights:
            peak = _peak(source) + (_peak(qparams[minus]) if minus else 0)
            self.weights[op.output] = float_weights(op, qop.weight, peak)
        weights = self.weights[op.output]
        if isinstance(op, Gemm):
            return convolved(op, x, weights, source.zero_point)
        fill = source.qmin if op.reduce == "max" else source.zero_point
        return windowed(op, x, self._operand(minus, op, live), weights, fill)

    def _finish(self, qop: QOp, sums: Sums, live: Values) -> Finish:
        op, e = qop.op, qop.epilogue
        assert e is not None
        table = self._table(op.output, e, prod(sums.shape) * len(e.bias))
        residual, hadamard = (self._operand(n, op, live) for n in (e.residual, e.hadamard))
        return Finish(e, sums.reach, residual, hadamard, table)

    def _table(self, name: str, e: QEpilogue, count: int) -> Lookup | None:
        """Return the evaluation of an epilogue's table for ``count`` values."""
        if e.table is None:
            return None
        if name not in self.tables and count >= MANY:
            self.tables[name] = listed(e.table)
        return self.tables.get(name) or looked_up(e.table)

    def _batches(self, name: str, x: Array) -> int:
        return len(x) // self.graph.tensors[name].shape[0]

    def _operand(self, name: str | None, op: MatOp, live: Values) -> Array | None:
        """Return a second operand as (rows, channels or 1), broadcast over positions."""
        if name is None:
            return None
        x, own = live[name], self.graph.tensors[name].shape
        out = self.graph.tensors[op.output].shape
        batches = max(self._batches(n, live[n]) for n in op.inputs)  # a constant side has one
        shape = (batches, *out[:3], own[3])
        return np.broadcast_to(x.reshape(-1, *own), shape).reshape(-1, own[3])


def _small(sums: Sums, channels: int) -> Iterator[tuple[slice, Array]]:
    """Yield the blocks in pieces that fit the cache."""
    for part, acc in sums.blocks:
        for piece in row_slices(len(acc), channels, VALUES):
            yield slice(part.start + piece.start, part.start + piece.stop), acc[piece]


def _peak(q: QParams) -> int:
    """Return the largest |q| of a tensor; a row statistic may exceed the limit of its QParams."""
    return 32640 if q.int16 else 128


def _integers(x: Array) -> Array:
    return np.asarray(x, np.int32)


def outputs_of(graph: QGraph, values: Mapping[str, Array]) -> dict[str, Array]:
    """Return the network outputs in the source model's shapes (arg-max not applied)."""
    found = {}
    for port in graph.outputs:
        stored = dequantize_array(values[port.tensor], graph.qparams[port.tensor])
        found[port.name] = apply_steps(real_values(stored, port.units), port.steps)
    return found


__all__ = ["outputs_of", "run_images", "run_integer"]
