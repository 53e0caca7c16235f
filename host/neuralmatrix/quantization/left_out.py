# SPDX-License-Identifier: Apache-2.0
"""Values that decide no output: they are left out of the ranges.

In: a TiedGraph, calibration inputs, suspects.  Out: the intervals at which their points saturate.

Far values are written as "never" in front of a maximum, as masks, or they arise in rows that
carry nothing, as 1/std of a constant row.  Whether they decide an output is measured: the network
is evaluated with the saturated point, and its outputs may not change.  Where float32's own
rounding changes an output by more, the output carries no information and counts as unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..ir.matgraph.facts import TiedGraph
from ..ir.matgraph.ops import MatGraph
from ..ir.matgraph.reference import port_outputs, run_points
from ..ir.matgraph.uses import Uses
from ..ir.points import Interval, Point
from ..ir.types import Array
from .samples import Run, stacked, stacks
from .saturation import Saturation
from .suspects import ROOMS, Limits, Suspect, products, summands

Chunks = Callable[[], Iterable[Run]]

# A sum needs room, so that its saturated addend still keeps it away from the other sums.
LEAST_OF_ADDENDS = 1
CLOSE = 2.0**-9  # relative change of an output that counts as none
NOISE = 8.0  # times the effect of rounding the inputs
JITTER = 2.0**-22
MOST_STRANGERS = 4
MOST_ASKED = 24  # trials of limits; suspects that are left then keep their range
MOST_TOGETHER = 16  # runs of the probe that are evaluated together


@dataclass
class _Probe:
    """Runs on which limits are tried, with the outputs of the network and their rounding noise."""

    mg: MatGraph
    known: Limits
    watched: Sequence[Point]
    runs: list[tuple[Run, list[tuple[Array, Array]]]] = field(default_factory=list)
    asked: int = 0  # how often

    def add(self, run: Run) -> None:
        self.runs.append((run, self.wanted(run)))

    def unharmed(self, limits: Limits) -> bool:
        """Return whether no output changes on any run."""
        self.asked += 1
        return all(self.unchanged(run, wanted, limits) for run, wanted in self.runs)

    def wanted(self, run: Run) -> list[tuple[Array, Array]]:
        """Return what may not change, and how far each value may."""
        right, moved = self._shown(run, {}), self._shown(_jittered(self.mg, run), {})
        return [(y, _allowed(y, other)) for y, other in zip(right, moved, strict=True)]

    def unchanged(self, run: Run, wanted: Sequence[tuple[Array, Array]], limits: Limits) -> bool:
        """Return whether the limits leave a run's outputs as they are wanted."""
        found = self._shown(run, {**self.known, **limits})
        return all(
            bool(np.all(np.abs(y - right) <= allowed))
            for y, (right, allowed) in zip(found, wanted, strict=True)
        )

    def _shown(self, run: Run, limits: Limits) -> list[Array]:
        """Return the outputs, the largest values where they are arg-maxima, and the watched
        points, in float64."""
        with np.errstate(all="ignore"):
            points = run_points(self.mg, run, Saturation(limits))
        values = {point.tensor: array for point, array in points.items() if point.at == "output"}
        chosen = {port.tensor for port in self.mg.outputs if port.argmax}
        shown = [*port_outputs(self.mg, values).values()]
        shown += [values[name].max((1, 2, 3)) for name in chosen]
        shown += [points[point] for point in self.watched]
        return [array.astype(np.float64) for array in shown]


def _allowed(y: Array, moved: Array) -> Array:
    size = np.abs(y)
    some = size[size > 0]
    typical = float(np.median(some)) if some.size else 0.0
    noise = np.abs(moved - y)
    noise = np.where(np.isfinite(noise), noise, 0.0)
    noise = noise.max(-1, keepdims=True) if noise.ndim else noise
    return np.asarray(CLOSE * (size + typical / 4) + NOISE * noise)


def _jittered(mg: MatGraph, run: Run) -> Run:
    """Return the inputs with other last bits; integers, as masks are, have none."""
    rng = np.random.default_rng(0)
    tables = {port.name for port in mg.inputs if port.table is not None}
    return {
        name: x
        if name in tables or np.all(x == np.rint(x))
        else np.asarray(x * (1 + JITTER * rng.uniform(-1, 1, np.shape(x))), np.float32)
        for name, x in run.items()
    }


# ---------------------------------------------------------------- the decision


def saturations(
    tied: TiedGraph, chunks: Chunks, suspects: Sequence[Suspect], known: Limits
) -> dict[Point, Interval]:
    """Return the limits that leave the outputs on all calibration inputs as they are."""
    mg = tied.graph
    measured, first = _measured(mg, chunks, suspects, known)
    probe = _Probe(mg, known, products(mg, suspects))
    for run in first:
        probe.add(run)
    while True:
        found = _decided(probe, measured)
        strangers = _strangers(probe, chunks, found) if found else []
        if not strangers:
            return found
        for run in strangers:
            probe.add(run)


def _strangers(probe: _Probe, chunks: Chunks, limits: Limits) -> list[Run]:
    """Return the first few chunks whose outputs the limits change."""
    found = []
    for run in chunks():
        if not probe.unchanged(run, probe.wanted(run), limits):
            found.append(run)
            if len(found) == MOST_STRANGERS:
                break
    return found


def _measured(
    mg: MatGraph, chunks: Chunks, suspects: Sequence[Suspect], known: Limits
) -> tuple[list[Suspect], list[Run]]:
    """Return the suspects with the range of their other values, and a run with far values of
    each."""
    inner: dict[Point, list[float]] = {s.point: [0.0, 0.0] for s in suspects}
    waiting, first = {s.point for s in suspects}, []
    for run in chunks():
        with np.errstate(all="ignore"):
            points = run_points(mg, run, Saturation(known))
        images = _images(mg, run)
        for s in suspects:
            x = points[s.point]
            far = np.abs(x) > s.boundary
            near, ends = x[~far], inner[s.point]
            ends[:] = min(ends[0], near.min(initial=0.0)), max(ends[1], near.max(initial=0.0))
            if s.point in waiting and far.any():
                waiting.remove(s.point)
                first.append(_image(run, int(far.reshape(len(x), -1).any(1).argmax()), x, images))
    found = [replace(s, inner=(inner[s.point][0], inner[s.point][1])) for s in suspects]
    return _with_units(mg, found), _without_repetition(mg, first)


def _images(mg: MatGraph, run: Run) -> int:
    """Return how many runs are stacked in one."""
    return max((len(run[p.name]) // p.shape[0] for p in mg.inputs if p.shape), default=1)


def _image(run: Run, row: int, x: Array, images: int) -> Run:
    """Return the stacked run of which ``row`` of the tensor ``x`` is a part."""
    image = row * images // len(x)
    each = {name: len(feed) // images for name, feed in run.items()} if images > 1 else {}
    return {n: f[image * each[n] : (image + 1) * each[n]] if each else f for n, f in run.items()}


def _without_repetition(mg: MatGraph, runs: Sequence[Run]) -> list[Run]:
    """Return different runs, stacked where they can be."""
    different: list[Run] = []
    for run in runs:
        if not any(all(np.array_equal(run[n], other[n]) for n in run) for other in different):
            different.append(run)
    if not stacks(mg):
        return different
    groups = (different[i : i + MOST_TOGETHER] for i in range(0, len(different), MOST_TOGETHER))
    return [stacked(group) for group in groups]


def _with_units(mg: MatGraph, suspects: Sequence[Suspect]) -> list[Suspect]:
    """Return the suspects with the width of what they are added to, at least of their own."""
    widths = {s.point: s.inner[1] - s.inner[0] for s in suspects}
    units, added, uses = dict(widths), set(), Uses.of(mg)
    for s in reversed(suspects):
        for name in summands(uses, s.point):
            if Point(name) in units:
                units[Point(name)] = max(units[Point(name)], units[s.point])
                added.add(Point(name))
    return [
        replace(s, unit=units[s.point], least=LEAST_OF_ADDENDS if s.point in added else 0)
        for s in suspects
    ]


def _decided(probe: _Probe, suspects: Sequence[Suspect]) -> dict[Point, Interval]:
    """Return the narrowest limits that leave the outputs of the probe as they are."""
    found: dict[Point, Interval] = {}
    widest = len(ROOMS) - 1
    _admit(probe, list(suspects), widest, found)
    admitted = [s for s in suspects if s.point in found]
    for room in range(widest):
        tried = [s for s in admitted if s.least <= room]
        _admit(probe, tried, room, found)
        done = {s.point for s in tried if found[s.point] == s.limits(room)}
        admitted = [s for s in admitted if s.point not in done]
    return found


def _admit(
    probe: _Probe, group: Sequence[Suspect], room: int, found: dict[Point, Interval]
) -> None:
    """Enter the limits of those of ``group`` that change no output, found by halving."""
    if not group or probe.asked >= MOST_ASKED:
        return
    limits = {s.point: s.limits(room) for s in group}
    if probe.unharmed({**found, **limits}):
        found.update(limits)
    elif len(group) > 1:
        middle = len(group) // 2
        _admit(probe, group[:middle], room, found)
        _admit(probe, group[middle:], room, found)
