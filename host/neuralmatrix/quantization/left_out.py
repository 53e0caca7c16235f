# SPDX-License-Identifier: Apache-2.0
"""Values that decide no output: they are left out of the ranges.

In: a TiedGraph, calibration inputs, points some of whose values lie orders of magnitude beyond all
others.  Out: the intervals at which those points saturate.

Such values are written as "never" in front of a maximum, as masks, or they arise in rows that
carry nothing, as 1/std of a constant row.  Whether they decide an output is measured: the network
is evaluated with the saturated point, and its outputs may not change.  Where float32's own
rounding changes an output by more, the output carries no information and counts as unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..ir.matgraph.facts import TiedGraph
from ..ir.matgraph.ops import Gemm, MatGraph, MatOp, Move, RowMax, Window
from ..ir.matgraph.reference import port_outputs, run_points
from ..ir.matgraph.uses import Uses
from ..ir.points import Interval, Point
from ..ir.types import Array
from .histogram import Histogram
from .samples import Run

Limits = Mapping[Point, Interval]
Chunks = Callable[[], Iterable[Run]]

# Room beyond the other values at which a point saturates, in widths of their range.
ROOMS = (0.0, 2.0, 8.0, 32.0)
# A sum needs room, so that its saturated addend still keeps it away from the other sums.
LEAST_OF_ADDENDS = 1
CLOSE = 2.0**-9  # relative change of an output that counts as none
NOISE = 8.0  # times the effect of rounding the inputs
JITTER = 2.0**-22
MOST_STRANGERS = 4


class Saturation:
    """Clips the points of ``limits``; ``cut`` counts the clipped values, ``worst`` is the farthest
    of them, ``outside`` tells where they are in the last array of a point."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.cut: dict[Point, int] = {}
        self.worst: dict[Point, float] = {}
        self.outside: dict[Point, Array] = {}

    def __call__(self, point: Point, values: Array) -> Array:
        ends = self.limits.get(point)
        if ends is None:
            return values
        outside = (values < ends[0]) | (values > ends[1])
        self.outside[point] = outside
        if not outside.any():
            return values
        far = values[outside]
        self.cut[point] = self.cut.get(point, 0) + far.size
        worst = float(far[np.abs(far).argmax()])
        self.worst[point] = max(self.worst.get(point, 0.0), worst, key=abs)
        return np.asarray(np.clip(values, *ends), values.dtype)


@dataclass(frozen=True)
class Suspect:
    """A point with values beyond ``boundary`` on the sides ``low`` and ``high``; ``inner``: the
    range of the others; ``unit``: the width in which room is counted, from ROOMS[least] on."""

    point: Point
    boundary: float
    low: bool
    high: bool
    inner: Interval = (0.0, 0.0)
    unit: float = 0.0
    least: int = 0

    def limits(self, room: int) -> Interval:
        """Return the interval at which the point saturates."""
        (lo, hi), wide = self.inner, ROOMS[room] * self.unit
        return (lo - wide if self.low else -np.inf), (hi + wide if self.high else np.inf)


def suspects_of(
    tied: TiedGraph, histograms: Mapping[Point, Histogram], known: Limits
) -> list[Suspect]:
    """Return the points that have values far beyond all others, in execution order."""
    mg = tied.graph
    tables = frozenset(port.tensor for port in mg.inputs if port.table is not None)
    excluded = tables | _softmax_scores(tied)
    found: dict[Point, Suspect] = {}
    for point, h in histograms.items():
        boundary = h.last_gap
        prescribed = point.tensor in mg.quant and point.at == "output"
        if boundary is None or prescribed or point in known or point.tensor in excluded:
            continue
        found[point] = Suspect(point, boundary, h.lo < -boundary, h.hi > boundary)
    found.update(_addends_of(mg, found, histograms, known, excluded))
    return [found[point] for point in histograms if point in found]


def _addends_of(
    mg: MatGraph,
    found: Mapping[Point, Suspect],
    histograms: Mapping[Point, Histogram],
    known: Limits,
    excluded: frozenset[str],
) -> dict[Point, Suspect]:
    """Return the addends of suspects that are 0 or far away, as masks are."""
    more: dict[Point, Suspect] = {}
    for suspect in found.values():
        for name in _summands(mg, suspect.point):
            point, h = Point(name), histograms.get(Point(name))
            if h is None or point in found or point in known or name in excluded:
                continue
            if name in mg.quant or not max(-h.lo, h.hi) > suspect.boundary:
                continue
            b = suspect.boundary
            more[point] = Suspect(point, b, h.lo < -b, h.hi > b)
    return more


def _summands(mg: MatGraph, point: Point) -> tuple[str, ...]:
    """Return the tensors whose sum, without a further product, is at a point."""
    op = Uses.of(mg).maker(point.tensor)
    if not isinstance(op, Gemm | Window) or op.output != point.tensor:
        return ()
    e = op.epilogue
    if point.at == "output" and (e.hadamard or e.activation):
        return ()
    main = (op.input,) if isinstance(op, Window) and op.reduce == "add" else ()
    return (*main, *((e.residual,) if e.residual else ()))


def _softmax_scores(tied: TiedGraph) -> frozenset[str]:
    """Return scores whose maximum is subtracted, addends of theirs that hold masks, and their
    powers: these ranges follow from the exponential.  Subtracting another number than the maximum
    would change no real output, but overflow a power in integers."""
    uses = Uses.of(tied.graph)
    found: set[str] = set()
    for op in tied.graph.ops:
        names = [op.output] if isinstance(op, RowMax) else []
        names += [row.tensor for row in op.epilogue.rows if row.kind == "max"]
        names += [op.output] if isinstance(op, Window) and op.reduce == "max" else []
        powers = [name for maximum in names for name in _powers_of(maximum, uses)]
        if powers:
            found |= {*names, *powers, op.output, *(op.inputs if not op.epilogue.rows else ())}
    for op in tied.graph.ops:
        if op.output in found & tied.facts.scores and isinstance(op, Gemm | Window):
            found |= {name for name in op.inputs if name != getattr(op, "rhs", None)}
    return frozenset(found)


def _powers_of(name: str, uses: Uses) -> list[str]:
    """Return the results of operations that subtract a maximum, or a copy of it, in front of an
    exponential."""
    found: list[str] = []
    for op in uses.readers(name):
        if isinstance(op, Move):
            found += _powers_of(op.output, uses)
        elif op.epilogue.residual == name and op.epilogue.residual_gain < 0:
            after = [op, *uses.readers(op.output)]
            found += [op.output] if any(map(_is_exponential, after)) else []
    return found


def _is_exponential(op: MatOp) -> bool:
    activation = op.epilogue.activation
    return activation is not None and activation.name == "exp"


# ---------------------------------------------------------------- what the outputs say


@dataclass
class _Probe:
    """Runs on which limits are tried, with the outputs of the network and their rounding noise."""

    mg: MatGraph
    known: Limits
    watched: Sequence[Point]
    runs: list[tuple[Run, list[tuple[Array, Array]]]] = field(default_factory=list)

    def add(self, run: Run) -> None:
        self.runs.append((run, self.wanted(run)))

    def unharmed(self, limits: Limits) -> bool:
        """Return whether no output changes on any run."""
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


def _products(mg: MatGraph, suspects: Iterable[Suspect]) -> list[Point]:
    """Return the products with factors that depend on suspects: a later normalisation would hide a
    wrong factor of a row from the outputs, and integers would still lose the row."""
    found = {Point(s.point.tensor): None for s in suspects if s.point.at == "pre_product"}
    reached = {s.point.tensor for s in suspects}
    for op in mg.ops:
        if op.epilogue.hadamard in reached:
            found[Point(op.output)] = None
        if not reached.isdisjoint(op.inputs):
            reached.update(op.outputs)
    return list(found)


# ---------------------------------------------------------------- the decision


def saturations(
    tied: TiedGraph, chunks: Chunks, suspects: Sequence[Suspect], known: Limits
) -> dict[Point, Interval]:
    """Return the limits that leave the outputs on all calibration inputs as they are."""
    mg = tied.graph
    measured, first = _measured(mg, chunks, suspects, known)
    probe = _Probe(mg, known, _products(mg, suspects))
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
        here = set()
        for s in suspects:
            x = points[s.point]
            near = x[np.abs(x) <= s.boundary]
            ends = inner[s.point]
            ends[:] = min(ends[0], near.min(initial=0.0)), max(ends[1], near.max(initial=0.0))
            here |= {s.point} if near.size < x.size else set()
        if here & waiting:
            first.append(run)
            waiting -= here
    found = [replace(s, inner=(inner[s.point][0], inner[s.point][1])) for s in suspects]
    return _with_units(mg, found), first


def _with_units(mg: MatGraph, suspects: Sequence[Suspect]) -> list[Suspect]:
    """Return the suspects with the width of what they are added to, at least of their own."""
    widths = {s.point: s.inner[1] - s.inner[0] for s in suspects}
    units, added = dict(widths), set()
    for s in reversed(suspects):
        for name in _summands(mg, s.point):
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
    if not group:
        return
    limits = {s.point: s.limits(room) for s in group}
    if probe.unharmed({**found, **limits}):
        found.update(limits)
    elif len(group) > 1:
        middle = len(group) // 2
        _admit(probe, group[:middle], room, found)
        _admit(probe, group[middle:], room, found)


def notes_of(mg: MatGraph, applied: Saturation, rejected: Iterable[Suspect]) -> tuple[str, ...]:
    """Return a line for every point with values that are left out, or that reach the outputs."""
    uses = Uses.of(mg)
    lines = []
    for point, count in applied.cut.items():
        op = uses.maker(point.tensor)
        where = f" ({op.source})" if op is not None and op.source else ""
        lines.append(
            f"range of {str(point)!r}{where}: {count:,} values up to {applied.worst[point]:.3g} "
            "are left out, no output depends on them; they saturate at "
            + " and ".join(f"{end:.3g}" for end in applied.limits[point] if np.isfinite(end))
        )
    return (*lines, *(_kept_line(s) for s in rejected))


def _kept_line(s: Suspect) -> str:
    return (
        f"range of {str(s.point)!r}: set by values beyond {s.boundary:.3g}, far beyond all others; "
        "outputs depend on them"
    )
