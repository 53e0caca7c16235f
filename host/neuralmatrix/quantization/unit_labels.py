# SPDX-License-Identifier: Apache-2.0
"""Which parts of tensors may have units of their own, and which must have the same.

In: a MatGraph and its facts.  Out: one label per part of every tensor; the elements of one label,
in whichever tensors, have one divisor.  Label 0 is that of elements that must stay as they are.

An operation takes any divisor per channel of its input into its weights, and of its results where
its activation is proportional.  Everything else is tied here, so that ``divide_tensors`` can
absorb every choice of one divisor per label.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from math import prod

import numpy as np

from ..ir.matgraph.facts import Facts
from ..ir.matgraph.ops import Gemm, Linear, MatGraph, MatOp, Move, RowMax, Window
from ..ir.matgraph.predicates import is_elementwise
from ..ir.matgraph.uses import Uses
from ..ir.types import Array
from .apply_units import proportional
from .label_forest import Labels
from .tensor_units import compressed, varies

MOST_LABELS = 1 << 16  # of one tensor
# A divisor per channel needs that many values of the channel; fewer say little of its range.
FEWEST_VALUES = 16
ALL_AXES = (0, 1, 2, 3)
FIXED = 0


def labels_of(mg: MatGraph, facts: Facts, runs: int, whole: Iterable[str] = ()) -> dict[str, Array]:
    """Return the labels of all tensors, to be broadcast against them.

    ``runs``: number of samples.  ``whole``: further tensors that must stay as they are.  Labels
    that the readers join in the end begin joined: apart, they would tie more than they need.
    """
    first = _Labelled(mg, facts, runs, {}).result(whole)
    kept = {name: tuple(size > 1 for size in found.shape) for name, found in first.items()}
    return _Labelled(mg, facts, runs, kept).result(whole)


class _Labelled:
    """``kept``: along which axes the labels of a tensor may differ; all if it has no entry."""

    def __init__(
        self, mg: MatGraph, facts: Facts, runs: int, kept: Mapping[str, tuple[bool, ...]]
    ) -> None:
        self.mg, self.facts, self.runs, self.kept = mg, facts, runs, kept
        self.uses, self.labels = Uses.of(mg), Labels()
        self.of: dict[str, Array] = {}

    def result(self, whole: Iterable[str]) -> dict[str, Array]:
        """Return the labels of all tensors."""
        for port in self.mg.inputs:
            axes = () if port.table is not None else self._absorbed_axes(port.tensor)
            self.of[port.tensor] = self._fresh(port.tensor, axes)
        operands = {n for op in self.mg.ops for n in _main_inputs(op)}
        for name in self.mg.constants:
            axes = self._absorbed_axes(name) if name in operands else ()
            self.of[name] = self._fresh(name, axes)
        for op in self.mg.ops:
            self._op(op)
        for ops in _repeated(self.mg.ops):
            self._tie_steps(ops)
        self._fix(sorted(_unchangeable(self.mg, self.facts).union(whole)))
        return {name: compressed(self.labels.roots(found)) for name, found in self.of.items()}

    # ------------------------------------------------------------ new labels

    def _absorbed_axes(self, name: str) -> tuple[int, ...]:
        """Return the axes along which every reader can take different divisors."""
        axes = set(ALL_AXES)
        for op in self.uses.readers(name):
            axes &= self._axes_of_reader(op, name)
        return tuple(sorted(axes))

    def _axes_of_reader(self, op: MatOp, name: str) -> set[int]:
        if isinstance(op, Move) or name not in _main_inputs(op) or is_elementwise(op):
            return set(ALL_AXES)
        if isinstance(op, Gemm) and op.rhs is not None:
            is_summed = op.rhs == name and op.input in self.mg.constants
            return {3 if op.rhs_transposed else 2} if is_summed else set()
        return {3}

    def _fresh(self, name: str, axes: tuple[int, ...]) -> Array:
        """Return new labels along ``axes``, as fine as the samples' values allow."""
        whole = self.mg.tensors[name].shape
        kept = self.kept.get(name, (True,) * 4)
        shape = [size if a in axes and kept[a] else 1 for a, size in enumerate(whole)]
        while prod(shape) > MOST_LABELS:
            shape[int(np.argmax(shape))] = 1
        constant = name in self.mg.constants
        if constant or self.runs * prod(whole) >= FEWEST_VALUES * prod(shape):
            return self.labels.fresh(*shape)
        return self._by_readers(name, tuple(shape))

    def _by_readers(self, name: str, shape: tuple[int, ...]) -> Array:
        """Return new labels of this shape, one for all elements that the same Moves read."""
        if prod(self.mg.tensors[name].shape) > MOST_LABELS:
            return self.labels.fresh(1, 1, 1, 1)
        found = read_alike(name, shape, self.mg, self.uses)
        return self.labels.fresh(int(found.max()) + 1)[found]

    # ------------------------------------------------------------ ties

    def _join(self, name: str, axes: Iterable[int]) -> Array:
        """Give the parts of a tensor that differ along ``axes`` alone one label."""
        found = first = self.of[name]
        for axis in axes:
            first = first.take([0], axis)
        if first.size < found.size:
            self.labels.unite(found, first)
            self.of[name] = first
        return first

    def _per_channel(self, name: str) -> Array:
        return self._join(name, (0, 1, 2))

    def _uniform(self, name: str) -> Array:
        return self._join(name, ALL_AXES)

    def _fix(self, names: Iterable[str]) -> None:
        for name in names:
            self.labels.unite(self._uniform(name), np.array(FIXED))

    def _tie(self, *names: str) -> None:
        for name in names[1:]:
            self.labels.unite(self.of[names[0]], self.of[name])

    def _op(self, op: MatOp) -> None:
        if isinstance(op, Move):
            self.of[op.output] = self._moved(op)
        elif isinstance(op, RowMax):
            self.of[op.output] = self._uniform(op.input)
        else:
            assert isinstance(op, Linear)
            self._linear(op)
            for row in op.epilogue.rows:
                self.of[row.tensor] = self.labels.fresh(1, 1, 1, 1)
            if op.epilogue.rows:
                self._fix(op.outputs)

    def _moved(self, op: Move) -> Array:
        parts = [np.broadcast_to(self.of[n], self.mg.tensors[n].shape).ravel() for n in op.parts]
        fill = self.labels.fresh(1) if op.fill == 0.0 else np.array([FIXED])
        return compressed(self.labels.roots(np.concatenate([*parts, fill]))[op.index])

    def _linear(self, op: Linear) -> None:
        """Set the labels of a result, and tie those of operands that cannot be absorbed apart."""
        free = self._sum(op)
        e = op.epilogue
        scales = proportional(e.activation)
        residual = None if e.residual in self.mg.constants else e.residual
        if residual is not None and scales:
            free = self._with_residual(op, residual, free)
        elif residual is not None:
            self._uniform(residual)
        if e.hadamard is None:
            self.of[op.output] = free if scales else self.labels.fresh(1, 1, 1, 1)
            if e.activation is not None and e.activation.name == "clip":
                self._clip(op, residual)
        else:
            self.of[op.output] = self._product(op, e.hadamard, free, residual)

    def _clip(self, op: Linear, residual: str | None) -> None:
        """A clip scales with its ends, all channels alike."""
        if residual is not None:
            self._tie(op.output, residual)

    def _sum(self, op: Linear) -> Array:
        """Return the labels of what the activation takes, without a residual."""
        if isinstance(op, Gemm) and op.rhs is not None:
            self._operands(op, op.rhs)
            return self.labels.fresh(1, 1, 1, 1)
        scales, is_max = proportional(op.epilogue.activation), _is_max(op)
        source = self.of[op.input]
        if scales and _passes_on(op) and varies(source):
            return source
        source = self._per_channel(op.input)
        if isinstance(op, Window) and op.minus is not None:
            self._uniform(op.input)
            self._uniform(op.minus)
            self._tie(op.input, op.minus)
        if is_max and not scales:
            self._fix([op.input])
        if is_max:
            return source
        return self._new_channels(op.output)

    def _new_channels(self, name: str) -> Array:
        """Return one new label for each channel of a result."""
        return self._fresh(name, (3,))

    def _operands(self, op: Gemm, rhs: str) -> None:
        """Tie the operands of a matmul; a constant left one absorbs units of what it sums over."""
        if op.input in self.mg.constants:
            axis = 3 if op.rhs_transposed else 2
            self._join(rhs, [a for a in ALL_AXES if a != axis])
        else:
            self._uniform(rhs)
        self._uniform(op.input)

    def _with_residual(self, op: Linear, residual: str, free: Array) -> Array:
        """Tie the residual to the sum; weights can follow it per channel alone."""
        through = _passes_on(op) and varies(self.of[op.input])
        if isinstance(op, Gemm) and op.rhs is not None:
            self._uniform(residual)
        elif not through:
            self._per_channel(residual)
        found = self.of[residual]
        self.labels.unite(free, found)
        return np.broadcast_to(free, np.broadcast_shapes(free.shape, found.shape))

    def _product(self, op: Linear, factor: str, free: Array, residual: str | None) -> Array:
        """Return the labels of a Hadamard product."""
        scales, u = proportional(op.epilogue.activation), self.of[factor]
        is_product = not _has_weights(op)
        if factor in self.mg.constants:
            if not scales or is_product:
                free = self.labels.fresh(1, 1, 1, 1)
            return self._free_product(op, factor, free) if residual is None or not scales else free
        through = varies(free) or _is_max(op)
        if scales and residual is None and not through and not varies(u) and not is_product:
            self._per_channel(factor)
            return self._new_channels(op.output)
        if residual is not None and scales:
            self._uniform(residual)
            self.labels.unite(free, self.of[residual])
        if scales and (through or residual is not None):
            self.labels.unite(free, free.reshape(-1)[0])
            if through:
                self._uniform(op.input)
        return u

    def _free_product(self, op: Linear, factor: str, free: Array) -> Array:
        """Return new labels of a product with a constant, which absorbs all of them."""
        whole = self.mg.tensors[op.output].shape
        constant = self.mg.tensors[factor].shape
        by_weights = _has_weights(op) and not varies(free)
        if by_weights and constant[:3] == (1, 1, 1) and proportional(op.epilogue.activation):
            return self._new_channels(op.output)
        through = [varies(free) and free.shape[a] > 1 for a in ALL_AXES]
        axes = tuple(a for a in ALL_AXES if constant[a] == whole[a] or through[a])
        return self._fresh(op.output, axes)

    # ------------------------------------------------------------ repeated operations

    def _tie_steps(self, ops: list[Linear]) -> None:
        """Tie the operands and results of operations that share weights: one step of many."""
        for op in ops[1:]:
            for a, b in zip((*ops[0].inputs, ops[0].output), (*op.inputs, op.output), strict=True):
                if self.of[a].shape != self.of[b].shape:
                    for name in (a, b):
                        self._per_channel(name)
                self._tie(a, b)


def read_alike(name: str, shape: tuple[int, ...], mg: MatGraph, uses: Uses) -> Array:
    """Return a number for every element of an array of this shape, whose sizes are the tensor's or
    1: the same for those that the same Moves read."""
    readers = [op for op in uses.readers(name) if isinstance(op, Move)]
    if not readers:
        return np.zeros(shape, np.intp)
    read = np.stack([_read(op, name, mg) for op in readers], -1)
    joined = tuple(axis for axis in range(4) if shape[axis] == 1)
    rows = np.moveaxis(read, joined, range(-len(joined) - 1, -1)).reshape(prod(shape), -1)
    # packed rows have the same order and an eighth of the columns to compare
    _, found = np.unique(np.packbits(rows, axis=1), axis=0, return_inverse=True)
    return np.asarray(found.reshape(shape))


def _read(op: Move, name: str, mg: MatGraph) -> Array:
    """Return which elements of a tensor a Move reads."""
    sizes = [prod(mg.tensors[n].shape) for n in op.parts]
    used = np.zeros(sum(sizes) + 1, bool)
    used[op.index] = True
    at = np.cumsum([0, *sizes])
    found = [used[at[i] : at[i + 1]] for i, n in enumerate(op.parts) if n == name]
    return np.asarray(np.any(found, 0)).reshape(mg.tensors[name].shape)


def _has_weights(op: Linear) -> bool:
    return op.weight is not None


def _passes_on(op: Linear) -> bool:
    """Return whether units of every element can pass an operation: its bias may become an
    addend."""
    return is_elementwise(op) and (op.epilogue.residual is None or not np.any(op.bias))


def _is_max(op: Linear) -> bool:
    return isinstance(op, Window) and op.reduce == "max"


def _main_inputs(op: MatOp) -> set[str]:
    """Return the operands in front of the epilogue."""
    e = op.epilogue
    side = [name for name in (e.residual, e.hadamard) if name is not None]
    main = list(op.inputs)
    return set(main[: len(main) - len(side)])


def _repeated(ops: Iterable[MatOp]) -> list[list[Linear]]:
    """Return operations with equal weights that matter: those of one layer's steps."""
    found: dict[object, list[Linear]] = {}
    for op in ops:
        if isinstance(op, Linear) and op.weight is not None:
            e = op.epilogue
            if isinstance(op, Window) and not op.source:
                continue
            operands = (bool(e.residual), bool(e.hadamard), len(op.inputs))
            source = op.source if isinstance(op, Window) else None
            kind = (type(op), op.weight.shape, len(op.bias), e.activation, operands, source)
            found.setdefault((*kind, _digest(np.asarray(op.weight))), []).append(op)
    return [alike for alike in found.values() if len(alike) > 1]


def _digest(values: Array) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(values).tobytes(), digest_size=16).digest()


def _unchangeable(mg: MatGraph, facts: Facts) -> set[str]:
    """Return tensors that other rules know by their values: prescribed scales, scores, integers."""
    found = {name for name in mg.tensors if name in mg.quant} | set(facts.scores)
    for op in mg.ops:
        if not isinstance(op, Linear):
            continue
        e = op.epilogue
        is_truth = e.activation is not None and e.activation.name == "truth"
        if op.weight_scale is not None or is_truth:
            found |= {op.input, op.output}
        if facts.scores.intersection((*op.inputs, *op.outputs)):
            found |= {name for name in (op.output, e.residual) if name is not None}
    return found


__all__ = ["FIXED", "labels_of", "read_alike"]
