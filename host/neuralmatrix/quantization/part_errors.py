# SPDX-License-Identifier: Apache-2.0
"""The error that rounding a scale group causes at its readers, part by part.

In: a MatGraph, the values of its tensors on samples, labels of their parts.  Out: the relative
squared error in decades, every part and every result of a product counted alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from ..ir.matgraph.facts import Facts
from ..ir.matgraph.ops import Epilogue, Gemm, MatGraph, Move
from ..ir.matgraph.reference import evaluate
from ..ir.matgraph.uses import Uses
from ..ir.quantized_values import rounded
from ..ir.types import Array, QParams
from .fake_quant import Values, rounded_weight
from .scales import choose_qparams

LEAST_ERROR = 1e-6  # of an int16 tensor well used, and of what int8 weights allow


class PartErrors:
    """Measures errors for any choice of divisors; ``labels`` are those of ``unit_labels``."""

    def __init__(
        self,
        mg: MatGraph,
        facts: Facts,
        values: Values,
        labels: Mapping[str, Array],
        precision: str,
    ) -> None:
        self.mg, self._facts, self._values, self.labels = mg, facts, values, labels
        self._uses, self._int16 = Uses.of(mg), precision == "int16"

    def is_int16(self, name: str) -> bool:
        """Return whether a tensor is int16 without mixed precision."""
        return self._int16 or self._facts.scale_groups.root(name) in self._facts.int16

    def of(self, groups: Iterable[tuple[str, ...]], divisors: Mapping[int, float]) -> float:
        """Return the sum over the readers of the errors of their parts."""
        return sum(self._group(names, divisors) for names in groups)

    def _group(self, names: tuple[str, ...], divisors: Mapping[int, float]) -> float:
        stored = {name: self._values[name] / self._spread_out(name, divisors) for name in names}
        ends = [(float(x.min()), float(x.max())) for x in stored.values()]
        lo, hi = min(0.0, *(a for a, _ in ends)), max(0.0, *(b for _, b in ends))
        symmetric = self._facts.scale_groups.root(names[0]) in self._facts.symmetric
        qp = choose_qparams(lo, hi, self.is_int16(names[0]), symmetric=symmetric)
        return sum(self._tensor(name, stored[name], qp, divisors) for name in names)

    def _divisor(self, name: str, divisors: Mapping[int, float]) -> Array:
        labels = self.labels[name]
        kinds, places = np.unique(labels, return_inverse=True)
        values = np.array([divisors.get(int(kind), 1.0) for kind in kinds])
        return np.asarray(values[places].reshape(labels.shape), np.float32)

    def _spread_out(self, name: str, divisors: Mapping[int, float]) -> Array:
        """Return the divisors of a tensor for all images side by side."""
        divisor, shape = self._divisor(name, divisors), self.mg.tensors[name].shape
        if divisor.shape[0] == 1:
            return divisor
        return np.tile(divisor, (len(self._values[name]) // shape[0], 1, 1, 1))

    def _tensor(
        self, name: str, stored: Array, qp: QParams, divisors: Mapping[int, float]
    ) -> float:
        """Return the errors at all readers of one tensor but Moves, which only copy it."""
        coarse, total = rounded(np.asarray(stored, np.float32), qp), 0.0
        readers = [op for op in self._uses.readers(name) if not isinstance(op, Move)]
        products = [op for op in readers if isinstance(op, Gemm) and op.weight is not None]
        by_weights = [op for op in products if op.inputs.count(name) == 1 and op.input == name]
        for op in by_weights:
            total += self._product(op, coarse, self._divisor(name, divisors))
        others = len(readers) - len(by_weights) + (name in self._uses.shown)
        return total + (others * self._parts(name, coarse, divisors) if others else 0.0)

    def _product(self, op: Gemm, coarse: Array, divisor: Array) -> float:
        """Return the error of a product with rounded weights, the mean over its channels."""
        assert op.weight is not None
        plain = replace(op, epilogue=Epilogue(), bias=np.zeros_like(op.bias))
        rows = np.broadcast_to(divisor.reshape(-1), self.mg.tensors[op.input].shape[3:])
        by_group = np.repeat(rows.reshape(op.groups, -1).T, op.weight.shape[3] // op.groups, 1)
        weight = np.asarray(op.weight * by_group, np.float32)
        scaled = rounded_weight(replace(plain, weight=weight))
        wanted = evaluate(plain, {op.input: self._values[op.input]}, self.mg, {})[op.output]
        found = evaluate(scaled, {op.input: coarse}, self.mg, {})[op.output]
        return _relative(found - wanted, wanted, (0, 1, 2))

    def _parts(self, name: str, coarse: Array, divisors: Mapping[int, float]) -> float:
        """Return the mean over the parts of a tensor of their errors."""
        real, labels = self._values[name], self.labels[name]
        error = coarse * self._spread_out(name, divisors) - real
        shape = self.mg.tensors[name].shape
        joined = (0, *(axis + 1 for axis in range(4) if labels.shape[axis] == 1))
        split = (error.reshape(-1, *shape), real.reshape(-1, *shape))
        noise, power = (np.square(x, dtype=np.float64).sum(joined) for x in split)
        _, places = np.unique(labels, return_inverse=True)
        places = places.ravel()
        noise, power = (np.bincount(places, x.ravel()) for x in (noise, power))
        return _share(noise, power)


def _relative(error: Array, wanted: Array, axes: tuple[int, ...]) -> float:
    noise, power = (np.square(x, dtype=np.float64).sum(axes) for x in (error, wanted))
    return _share(noise, power)


def _share(noise: Array, power: Array) -> float:
    """Return noise over power in decades above LEAST_ERROR, of parts that are not always 0: the
    mean of their mean and their largest, so that no part is lost among many."""
    used = power > 0
    if not used.any():
        return 0.0
    decades = np.log10(np.minimum(noise[used] / power[used], 1.0) / LEAST_ERROR + 1.0)
    return float(decades.mean() + decades.max()) / 2
