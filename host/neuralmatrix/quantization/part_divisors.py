# SPDX-License-Identifier: Apache-2.0
"""Divisors that give the parts of scale groups equal ranges, with room for what samples miss.

In: the largest value of every label on samples, the weights that read it.  Out: a divisor for every
label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..ir.matgraph.ops import Gemm, MatGraph
from ..ir.matgraph.uses import Uses
from ..ir.types import Array
from .unit_labels import FIXED, read_alike

SILENT = 1e-9  # parts that much smaller than the largest count as always 0
# An int16 tensor that no product reads has bits to spare: values of a small part may become that
# many times larger.
INT16_ROOM = 16.0
LIMITS = {"sigmoid": 1.0, "hard_sigmoid": 1.0, "tanh": 1.0, "softsign": 1.0}
# Channels that one product makes for the same readers are alike: a channel that is small on the
# samples may become as large as its neighbours, and keeps at least this part of their divisor.
CHANNEL_ROOM = 1 / 8


@dataclass(frozen=True, eq=False)
class Group:
    """Tensors of one scale: the labels in them, and the largest value of each on the samples;
    ``limits``: the largest that some can ever have."""

    names: tuple[str, ...]
    labels: Array
    peaks: Array
    int16: bool = False
    limits: Mapping[int, float] = field(default_factory=dict)

    def room(self, label: int, peak: float) -> float:
        """Return how many times larger the values of a label of that peak may become."""
        return float(min(INT16_ROOM, max(1.0, self.limits.get(label, np.inf) / peak)))

    @property
    def spread(self) -> float:
        """Largest over smallest peak of the parts that are not always 0."""
        alive = list(self.alive.values())
        return max(alive) / min(alive) if alive else 1.0

    @property
    def alive(self) -> dict[int, float]:
        """Peaks of the labels that are not always 0."""
        least = SILENT * float(self.peaks.max(initial=0.0))
        pairs = zip(self.labels, self.peaks, strict=True)
        return {int(label): float(peak) for label, peak in pairs if least < peak < np.inf}


def part_divisors(
    groups: list[Group],
    weights: Mapping[int, float],
    rooms: list[list[int]],
    power: float,
) -> dict[int, float]:
    """Return a divisor for every label of ``groups``, which share some.

    ``weights``: of ``label_weights``; ``rooms``: of ``channel_rooms``.  ``power``: 1 for equal
    ranges, below 1 for equal products of range and weights.
    """
    equal = _equalizing(groups, weights, power)
    return _revived(groups, _with_room(groups, equal, weights, rooms), weights)


def _equalizing(
    groups: list[Group], weights: Mapping[int, float], power: float
) -> dict[int, float]:
    """Return a divisor for every label that is not always 0: with them, the parts of each group
    have equal ranges, or (``power`` below 1) equal products of range and weights."""
    found = {FIXED: 1.0}
    for group in sorted(groups, key=lambda g: -g.spread):
        sizes = {k: _size(p, weights.get(k), power) for k, p in group.alive.items()}
        known = [sizes[k] / found[k] for k in sizes if k in found]
        whole = max(known or sizes.values(), default=1.0)
        found |= {k: size / whole for k, size in sizes.items() if k not in found}
    return found


def _size(peak: float, weight: float | None, power: float) -> float:
    """Return what a divisor is proportional to."""
    return peak if not weight or power == 1.0 else peak**power / weight ** (1 - power)


def label_weights(mg: MatGraph, labels: Mapping[str, Array]) -> dict[int, float]:
    """Return the largest weight that a matrix product multiplies with each label."""
    found: dict[int, float] = {}
    for op in mg.ops:
        if isinstance(op, Gemm) and op.weight is not None:
            size = np.abs(np.asarray(op.weight)).max((0, 1, 3))
            rows = np.broadcast_to(np.tile(size, op.groups), mg.tensors[op.input].shape[3:])
            for label, weight in zip(_by_channel(labels[op.input], len(rows)), rows, strict=True):
                found[label] = max(found.get(label, 0.0), float(weight))
    return found


def _by_channel(labels: Array, channels: int) -> list[int]:
    return [int(label) for label in np.broadcast_to(labels.reshape(-1), (channels,))]


def _revived(
    groups: list[Group], divisors: dict[int, float], weights: Mapping[int, float]
) -> dict[int, float]:
    """Return ``divisors`` with those of labels that are always 0 on the samples: as large as the
    largest of their group, so that later values fit, but never so large that their weights would
    coarsen the others."""
    found = dict(divisors)
    heaviest = max((weights.get(k, 0.0) * d for k, d in divisors.items()), default=0.0)
    for group in groups:
        known = [divisors[k] for k in map(int, group.labels) if k in divisors]
        for label in map(int, group.labels):
            if label not in divisors:
                limit = heaviest / weights[label] if weights.get(label) else np.inf
                largest = min(max(known, default=1.0), limit or np.inf)
                found[label] = max(found.get(label, 0.0), largest)
    return found


def label_limits(mg: MatGraph, labels: Mapping[str, Array]) -> dict[int, float]:
    """Return the largest value of the labels that a bounded function makes."""
    found: dict[int, float] = {}
    for op in mg.ops:
        e = op.epilogue
        if e.activation is not None and e.activation.name in LIMITS and not e.hadamard:
            limit = LIMITS[e.activation.name] * abs(e.factor)
            found.update(dict.fromkeys(map(int, labels[op.output].ravel()), limit))
    return found


def channel_rooms(mg: MatGraph, labels: Mapping[str, Array]) -> list[list[int]]:
    """Return lists of labels of channels that one product makes for the same readers."""
    uses, found = Uses.of(mg), list[list[int]]()
    for op in mg.ops:
        several = isinstance(op, Gemm) and labels[op.output].size > 1
        if several and uses.readers(op.output):
            alike = read_alike(op.output, (1, 1, 1, labels[op.output].size), mg, uses).ravel()
            flat = labels[op.output].ravel()
            found += [sorted({*flat[alike == part].tolist()}) for part in np.unique(alike)]
    return found


def _with_room(
    groups: list[Group],
    divisors: Mapping[int, float],
    weights: Mapping[int, float],
    rooms: list[list[int]],
) -> dict[int, float]:
    """Return ``divisors``, the smallest raised where later values may need it."""
    found = dict(divisors)
    for room in rooms:
        known = [divisors[k] for k in room if k in divisors]
        for label in room:
            if label in divisors and label != FIXED:
                found[label] = max(found[label], CHANNEL_ROOM * max(known))
    narrow = {int(k) for group in groups if not group.int16 for k in group.labels} | {FIXED}
    for group in groups:
        alive = group.alive
        most = max((divisors[k] for k in alive if k in divisors), default=1.0)
        for label in alive.keys() - narrow - weights.keys():
            larger = group.room(label, alive[label]) * divisors[label]
            found[label] = max(found[label], min(larger, most))
    return found


__all__ = ["Group", "channel_rooms", "label_limits", "label_weights", "part_divisors"]
