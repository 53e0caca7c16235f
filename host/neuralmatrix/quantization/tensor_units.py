# SPDX-License-Identifier: Apache-2.0
"""Units of the parts of tensors, and how Moves pass them on.

In: a MatGraph and the units of some of its tensors.  Out: the units of all of them.  BadModel:
they do not fit the graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod

import numpy as np

from ..errors import BadModel
from ..ir.matgraph.ops import MatGraph, Move
from ..ir.recipe import TensorUnits
from ..ir.types import Array, Units

ROUNDING = 1e-9  # relative, of float64 products and quotients of divisors
ONE = np.ones((1, 1, 1, 1))
ZERO = np.zeros((1, 1, 1, 1))


def units_of(graph: MatGraph, units: TensorUnits) -> dict[str, Units]:
    """Return the units of all tensors that have any: those that ``units`` names and Moves of them.

    Real values of a tensor of the rewritten graph are ``real_values(stored, units_of(...)[name])``.
    """
    known = GraphUnits(graph, units)
    found = {name: known.of(name) for name in graph.tensors}
    return {name: made for name, made in found.items() if made is not None}


def compressed(array: Array) -> Array:
    """Return the array with size 1 along every axis on which it does not change, but for the
    rounding of quotients."""
    for axis in range(array.ndim):
        first = array.take([0], axis)
        if array.shape[axis] > 1 and np.all(np.abs(array - first) <= ROUNDING * np.abs(first)):
            array = first
    return array


def varies(divisor: Array) -> bool:
    """Return whether an array (N,H,W,C) changes from position to position."""
    return divisor.shape[:3] != (1, 1, 1)


def made_units(divisor: Array, offset: Array) -> Units | None:
    """Return the units of these numbers, None if they are all 1 and 0."""
    if np.all(divisor == 1) and not np.any(offset):
        return None
    n, h, w, c = np.broadcast_shapes(divisor.shape, offset.shape)
    flat = np.broadcast_to(divisor, (n, h, w, c)).ravel()
    shifts = np.broadcast_to(offset, (n, h, w, c)).ravel() if np.any(offset) else ()
    return Units((n, h, w, c), tuple(map(float, flat)), tuple(map(float, shifts)))


def as_units(
    arrays: Mapping[str, Array], offsets: Mapping[str, Array] | None = None
) -> TensorUnits:
    """Return divisors and offsets by tensor name in a form that can be compared and saved."""
    shifts = offsets or {}
    found = {
        name: made_units(compressed(arrays.get(name, ONE)), compressed(shifts.get(name, ZERO)))
        for name in sorted({*arrays, *shifts})
    }
    return tuple((name, units) for name, units in found.items() if units is not None)


class GraphUnits:
    """The divisor and the offset of every tensor of a graph, (N,H,W,C) arrays to be broadcast."""

    def __init__(self, mg: MatGraph, units: TensorUnits) -> None:
        self._tensors = mg.tensors
        self._divisors: dict[str, Array] = {}
        self._offsets: dict[str, Array] = {}
        moved = {op.output for op in mg.ops if isinstance(op, Move)}
        for name, given in units:
            if name in moved:
                raise BadModel(f"the units of tensor {name!r} follow from its parts; name those")
            self._take(name, given)
        for op in mg.ops:
            if isinstance(op, Move):
                self._follow(op)

    def divisor(self, name: str) -> Array:
        """Return the divisor of a tensor, to be broadcast."""
        return self._divisors.get(name, ONE)

    def offset(self, name: str) -> Array:
        """Return the offset of a tensor, to be broadcast."""
        return self._offsets.get(name, ZERO)

    def touches(self, names: Iterable[str]) -> bool:
        """Return whether any of these tensors has units."""
        return any(name in self._divisors or name in self._offsets for name in names)

    def of(self, name: str) -> Units | None:
        """Return the units of a tensor, None if it has none of its own."""
        return made_units(self.divisor(name), self.offset(name))

    def _take(self, name: str, given: Units) -> None:
        shape = self._tensors[name].shape if name in self._tensors else ()
        fits = len(shape) == 4 and all(a in (1, b) for a, b in zip(given.shape, shape, strict=True))
        counts = len(given.divisor), len(given.offset) or prod(given.shape)
        if not fits or counts != (prod(given.shape),) * 2:
            raise BadModel(f"the units of tensor {name!r} do not fit its shape {shape}")
        if not (np.isfinite(given.divisor).all() and min(given.divisor) > 0):
            raise BadModel(f"a divisor of tensor {name!r} is not above 0; allowed are finite ones")
        self._divisors[name] = compressed(np.asarray(given.divisor).reshape(given.shape))
        if given.offset:
            self._offsets[name] = compressed(np.asarray(given.offset).reshape(given.shape))

    def _follow(self, move: Move) -> None:
        """Set the units of a Move's result from those of its parts."""
        for known, default in ((self._divisors, 1.0), (self._offsets, 0.0)):
            if known.keys().isdisjoint(move.parts):
                continue
            plain = np.full((1, 1, 1, 1), default)
            shapes = [self._tensors[n].shape for n in move.parts]
            flat = [
                np.broadcast_to(known.get(name, plain), shape).ravel()
                for name, shape in zip(move.parts, shapes, strict=True)
            ]
            known[move.output] = compressed(np.concatenate([*flat, [default]])[move.index])


__all__ = ["ONE", "GraphUnits", "as_units", "compressed", "made_units", "units_of", "varies"]
