# SPDX-License-Identifier: Apache-2.0
"""Points some of whose values lie orders of magnitude beyond all others.

In: a TiedGraph and the histograms of its points.  Out: ``Suspect``: what far values may be left out
of a range, if no output depends on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ..ir.matgraph.facts import TiedGraph
from ..ir.matgraph.ops import Gemm, MatGraph, MatOp, Move, RowMax, Window
from ..ir.matgraph.uses import Uses
from ..ir.points import Interval, Point
from .histogram import Histogram

# Room beyond the other values at which a point saturates, in widths of their range.
ROOMS = (0.0, 2.0, 8.0, 32.0)

Limits = Mapping[Point, Interval]


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
    excluded = tables | softmax_scores(tied)
    found: dict[Point, Suspect] = {}
    for point, h in histograms.items():
        boundary = h.last_gap
        prescribed = point.tensor in mg.quant and point.at == "output"
        if boundary is None or prescribed or point in known or point.tensor in excluded:
            continue
        if h.whole_numbers:  # positions and lengths: calibration sees few of them
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
    uses = Uses.of(mg)
    for suspect in found.values():
        for name in summands(uses, suspect.point):
            point, h = Point(name), histograms.get(Point(name))
            if h is None or point in found or point in known or name in excluded:
                continue
            if name in mg.quant or not max(-h.lo, h.hi) > suspect.boundary:
                continue
            b = suspect.boundary
            more[point] = Suspect(point, b, h.lo < -b, h.hi > b)
    return more


def summands(uses: Uses, point: Point) -> tuple[str, ...]:
    """Return the tensors whose sum, without a further product, is at a point."""
    op = uses.maker(point.tensor)
    if not isinstance(op, Gemm | Window) or op.output != point.tensor:
        return ()
    e = op.epilogue
    if point.at == "output" and (e.hadamard or e.activation):
        return ()
    main = (op.input,) if isinstance(op, Window) and op.reduce == "add" else ()
    return (*main, *((e.residual,) if e.residual else ()))


def softmax_scores(tied: TiedGraph) -> frozenset[str]:
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


def products(mg: MatGraph, suspects: Iterable[Suspect]) -> list[Point]:
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
