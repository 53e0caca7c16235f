# SPDX-License-Identifier: Apache-2.0
"""Offsets of inputs and outputs whose values lie far from 0: years, pressures, temperatures.

In: a MatGraph, labels of the parts of its tensors, values on samples.  Out: the middle of the
range of every such part.  The host subtracts it in front of an input, or adds it behind an output;
biases absorb it.  A range that had to reach from 0 would spend most of its steps on nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..ir.matgraph.ops import Gemm, Linear, MatGraph, MatOp, Move, Window
from ..ir.matgraph.predicates import is_pointwise
from ..ir.matgraph.uses import Uses
from ..ir.types import Array
from .fake_quant import Sample
from .tensor_units import varies
from .unit_labels import FEWEST_VALUES, FIXED

FAR = 2.0  # a range from 0 is that many times wider than the range around the middle


def port_offsets(mg: MatGraph, labels: Mapping[str, Array], seen: Sample) -> dict[str, Array]:
    """Return the offsets of tensors of ports, one per label, where any is far from 0."""
    uses, found = Uses.of(mg), dict[str, Array]()
    plain = (port.tensor for port in mg.inputs if port.table is None)
    inputs = {name for name in plain if _takes_offset(name, uses, labels)}
    made = {op.output for op in mg.ops if _leaves_offset(op, uses)}
    outputs = {name for name in made if not varies(labels[name])}
    for name in sorted(inputs | outputs):
        places = _places(name, mg, uses, labels)
        middle = _middles(seen.values[name].reshape(-1, *mg.tensors[name].shape), places)
        if np.any(middle) and not np.any(labels[name] == FIXED):
            found[name] = middle
    return found


def _places(name: str, mg: MatGraph, uses: Uses, labels: Mapping[str, Array]) -> Array:
    """Return numbers of the parts that may have different offsets: channels, which biases can
    take, or labels, which Moves pass on."""
    readers = uses.readers(name)
    if not readers or any(isinstance(op, Move) for op in readers):
        return labels[name]
    return np.arange(mg.tensors[name].shape[3]).reshape(1, 1, 1, -1)


def _middles(values: Array, labels: Array) -> Array:
    """Return the middle of the range of every label, 0 where that is of little use."""
    joined = (0, *(axis + 1 for axis in range(4) if labels.shape[axis] == 1))
    lo, hi = (np.asarray(f(values, joined, keepdims=True)[0], np.float64) for f in (np.min, np.max))
    _, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    places = places.ravel()
    least, most = np.full(len(counts), np.inf), np.full(len(counts), -np.inf)
    np.minimum.at(least, places, lo.ravel())
    np.maximum.at(most, places, hi.ravel())
    enough = values.size // labels.size * counts >= FEWEST_VALUES
    far = np.maximum(np.abs(least), np.abs(most)) > FAR * (most - least)
    known = enough & far & (least * most > 0) & np.isfinite(least) & np.isfinite(most)
    middle = np.where(known, least / 2 + most / 2, 0.0)
    return np.asarray(middle.astype(np.float32)[places].reshape(labels.shape), np.float64)


def _takes_offset(
    name: str, uses: Uses, labels: Mapping[str, Array], is_input: bool = True
) -> bool:
    """Return whether the biases of all readers can absorb an offset, also of copies by Moves."""
    alone = is_input and not any(isinstance(op, Move) for op in uses.readers(name))
    for op in uses.readers(name):
        if isinstance(op, Move):
            taken = _takes_offset(op.output, uses, labels, is_input=False)
        else:
            taken = _is_added(op, name) and (alone or not varies(labels[name]))
        if not taken:
            return False
    return True


def _is_added(op: MatOp, name: str) -> bool:
    """Return whether an operation multiplies a tensor by weights alone, without padding."""
    if not isinstance(op, Linear) or op.weight is None or op.inputs.count(name) > 1:
        return False
    if op.weight_scale is not None:
        return False
    plain = isinstance(op, Gemm) or (
        isinstance(op, Window) and op.reduce == "add" and op.minus is None and is_pointwise(op)
    )
    return op.input == name and plain and not any(op.pads)


def _leaves_offset(op: MatOp, uses: Uses) -> bool:
    """Return whether the bias of a result may be added by the host: nothing else reads it."""
    if not isinstance(op, Linear) or (isinstance(op, Window) and op.reduce == "max"):
        return False
    e = op.epilogue
    plain = not (e.activation or e.hadamard or e.rows) and op.weight_scale is None
    return plain and _is_only_shown(op.output, uses)


def _is_only_shown(name: str, uses: Uses) -> bool:
    return all(
        isinstance(op, Move) and _is_only_shown(op.output, uses) for op in uses.readers(name)
    )


__all__ = ["port_offsets"]
