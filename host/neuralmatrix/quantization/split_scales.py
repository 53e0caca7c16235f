# SPDX-License-Identifier: Apache-2.0
"""Units for the parts of tensors whose ranges differ: one scale would round the small parts away.

In: a MatGraph and samples.  Out: an equal MatGraph in which such parts are stored divided by
numbers of their own.  The host converts them at inputs and outputs, weights and gains absorb them
elsewhere.  They are kept only where the readers' errors on the samples become smaller.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import numpy as np

from ..errors import BadModel
from ..hardware.target import Target
from ..ir.matgraph.facts import Groups, facts_of
from ..ir.matgraph.ops import MatGraph, MatOp, Move, Window
from ..ir.matgraph.predicates import copied_inputs, tied_statistics
from ..ir.matgraph.reference import run_float
from ..ir.types import Array
from .apply_units import with_units
from .fake_quant import sample
from .output_ranges import probabilities
from .part_divisors import Group, channel_rooms, label_limits, label_weights, part_divisors
from .part_errors import PartErrors
from .port_offsets import port_offsets
from .samples import Run, Samples
from .scales import integer_inputs
from .tensor_units import as_units, compressed
from .unit_labels import FIXED, labels_of

APART = 4.0  # parts whose ranges differ less share their scale
WORTH = 0.05  # decades of squared error; units that gain less are not used
POWERS = (1.0, 0.75, 0.5, 0.25, 0.0)  # how much of a range goes into the weights that read it
MOST_IMAGES = 16  # of the measured errors; ranges are those of all samples
MOST_PORT_UNITS = 4096  # numbers that a port's units may hold
EXACT_INTEGERS = 32639  # integers up to it keep a scale of 1


def split_scales(graph: MatGraph, target: Target, *, samples: Samples, precision: str) -> MatGraph:
    """Return ``graph`` with units for parts of its tensors, where that reduces errors.

    ``precision``: of activations.
    """
    runs = list(samples.runs(graph))
    whole = (*_exact_inputs(graph, runs), *probabilities(graph))
    tied = scale_groups(graph)
    facts = facts_of(graph, tied)
    labels = labels_of(graph, facts, len(runs), whole)
    seen = sample(graph, islice(runs, MOST_IMAGES))
    offsets = port_offsets(graph, labels, seen)
    centred = with_units(graph, target, units=as_units({}, offsets))
    if offsets:  # the divisors are those of what the offsets leave
        labels = labels_of(centred, facts, len(runs), whole)
        seen = sample(centred, islice(runs, MOST_IMAGES))
    several = _candidates(centred, tied, labels)
    errors = PartErrors(centred, facts, seen.values, labels, precision)
    divisors = _chosen(_measured(several, errors, [seen.values]), errors, centred, labels)
    if divisors and len(runs) > seen.images:  # worth a look at all samples
        values = (run_float(centred, run) for run in runs)
        divisors = _chosen(_measured(several, errors, values), errors, centred, labels)
    arrays = _arrays(centred, labels, _few_at_ports(centred, labels, divisors))
    try:
        return with_units(graph, target, units=as_units(arrays, offsets))
    except BadModel:  # a fill of 0 beside parts, whose label says nothing about its divisor
        return centred


def _chosen(
    groups: list[Group], errors: PartErrors, mg: MatGraph, labels: Mapping[str, Array]
) -> dict[int, float]:
    """Return the divisors of the labels that are worth any."""
    found: dict[int, float] = {}
    for part in _connected(groups, [g for g in groups if g.spread > APART]):
        found |= _best(part, errors, mg, labels)
    return found


def scale_groups(mg: MatGraph) -> Groups:
    """Return the tensors that share a scale, as ``tie_scales`` will group them."""
    groups = Groups({})
    for op in mg.ops:
        pairs = [(name, op.output) for name in copied_inputs(op)]
        for a, b in (*pairs, *tied_statistics(op)):
            ra, rb = groups.root(a), groups.root(b)
            if ra != rb:
                groups.parent[ra] = rb
    return groups


def _exact_inputs(mg: MatGraph, runs: Sequence[Run]) -> list[str]:
    """Return inputs of integers that one scale of 1 holds exactly."""
    whole = integer_inputs(mg)
    ports = [port for port in mg.inputs if port.tensor in whole]
    return [
        port.tensor
        for port in ports
        if max(float(np.abs(run[port.name]).max(initial=0)) for run in runs) <= EXACT_INTEGERS
    ]


# ---------------------------------------------------------------- ranges


def _candidates(mg: MatGraph, tied: Groups, labels: Mapping[str, Array]) -> list[tuple[str, ...]]:
    """Return the tensors of every scale group that holds several labels and has parts: those of
    ports, joined or cut by Moves, or made of such ones channel by channel."""
    parted = {port.tensor for port in (*mg.inputs, *mg.outputs)}
    for op in mg.ops:
        parted |= {*op.parts, op.output} if isinstance(op, Move) else set()
    roots = {tied.root(name) for name in parted}
    for op in mg.ops:
        if _follows(op, mg) and tied.root(op.inputs[0]) in roots:
            roots.add(tied.root(op.output))
    found = []
    for root, members in tied.members(mg.tensors).items():
        distinct = np.unique(np.concatenate([labels[n].ravel() for n in members]))
        if root in roots and len(distinct) > 1:
            found.append(tuple(members))
    return found


def _follows(op: MatOp, mg: MatGraph) -> bool:
    """Return whether the channels of a result are as far apart as those of what it is made of."""
    plain = isinstance(op, Window) and op.minus is None
    return plain and (op.epilogue.hadamard is None or op.epilogue.hadamard in mg.constants)


def _measured(
    names: list[tuple[str, ...]], errors: PartErrors, samples: Iterable[Mapping[str, Array]]
) -> list[Group]:
    """Return the groups with the largest value of every label; ``samples``: all values of runs."""
    labels, tensors = errors.labels, errors.mg.tensors
    kinds = [np.unique(np.concatenate([labels[n].ravel() for n in group])) for group in names]
    peaks = [np.zeros(len(kind)) for kind in kinds]
    for values in samples:
        for group, kind, peak in zip(names, kinds, peaks, strict=True):
            for name in group:
                largest = label_maxima(values[name], labels[name], tensors[name].shape)
                np.maximum.at(peak, np.searchsorted(kind, labels[name].ravel()), largest)
    wide, limits = [errors.is_int16(g[0]) for g in names], label_limits(errors.mg, labels)
    return [Group(*found, limits) for found in zip(names, kinds, peaks, wide, strict=True)]


def label_maxima(values: Array, labels: Array, shape: tuple[int, ...]) -> Array:
    """Return the largest |value| at every place of an array of labels, flat."""
    size = np.abs(values.reshape(-1, *shape)).max(0)
    joined = tuple(axis for axis in range(4) if labels.shape[axis] == 1)
    return np.asarray(size.max(joined, keepdims=True).ravel(), np.float64)


def _connected(groups: list[Group], apart: list[Group]) -> list[list[Group]]:
    """Return the groups by the labels that they share, the fixed one left out; each list holds one
    of ``apart`` at least."""
    left, found = list(groups), []
    for first in apart:
        if first not in left:
            continue
        part, reached = [], {*map(int, first.labels)} - {FIXED}
        while more := [g for g in left if not reached.isdisjoint(map(int, g.labels))]:
            part += more
            left = [g for g in left if g not in more]
            reached |= {int(label) for g in more for label in g.labels} - {FIXED}
        found.append(part)
    return found


# ---------------------------------------------------------------- divisors


def _best(
    groups: list[Group], errors: PartErrors, mg: MatGraph, labels: Mapping[str, Array]
) -> dict[int, float]:
    """Return the divisors of least error of the labels of ``groups``; none if they gain little."""
    names, weights, rooms = (
        [g.names for g in groups],
        label_weights(mg, labels),
        channel_rooms(mg, labels),
    )
    least, best = errors.of(names, {}) - WORTH, dict[int, float]()
    for power in POWERS:
        divisors = part_divisors(groups, weights, rooms, power)
        error = errors.of(names, divisors)
        if error < least:
            least, best = error, divisors
    return best


# ---------------------------------------------------------------- arrays


def _few_at_ports(
    mg: MatGraph, labels: Mapping[str, Array], divisors: dict[int, float]
) -> dict[int, float]:
    """Return ``divisors``, similar ones made equal until the units of every port are few."""
    apart, found = 1.0, divisors
    ports = [port.tensor for port in (*mg.inputs, *mg.outputs)]
    while any(_array(labels[n], found).size > MOST_PORT_UNITS for n in ports):
        apart *= 2
        found = _merged(divisors, apart)
    return found


def _merged(divisors: Mapping[int, float], apart: float) -> dict[int, float]:
    """Return for each divisor the largest within a factor of ``apart``, from the top down."""
    found, top = {FIXED: 1.0}, np.inf
    for label, divisor in sorted(divisors.items(), key=lambda item: -item[1]):
        top = divisor if divisor * apart < top else top
        found[label] = top
    return {**found, FIXED: 1.0}


def _array(labels: Array, divisors: Mapping[int, float]) -> Array:
    kinds, places = np.unique(labels, return_inverse=True)
    values = np.array([divisors.get(int(kind), 1.0) for kind in kinds])
    return compressed(values[places].reshape(labels.shape))


def _arrays(
    mg: MatGraph, labels: Mapping[str, Array], divisors: Mapping[int, float]
) -> dict[str, Array]:
    """Return the divisors of all tensors that are not made by a Move."""
    moved = {op.output for op in mg.ops if isinstance(op, Move)}
    return {name: _array(labels[name], divisors) for name in mg.tensors if name not in moved}
