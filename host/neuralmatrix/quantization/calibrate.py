# SPDX-License-Identifier: Apache-2.0
"""Calibration: the range of every tensor on calibration inputs.

In: a TiedGraph and samples.  Out: ``Observed``: one (lo, hi) per ``Point`` and method; the range of
a tensor always includes zero.  Memory is the samples, the values of one chunk of images and one
histogram per point.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np

from ..errors import BadInput
from ..hardware.target import Target
from ..ir.matgraph import reference
from ..ir.matgraph.facts import TiedGraph
from ..ir.matgraph.ops import Gemm, MatGraph, Window
from ..ir.points import Interval, Point, Ranges
from ..ir.types import Array
from .adjust_ranges import MASK_ROOM, MASKED
from .calibrated_graph import CalibratedGraph
from .histogram import BINS, Histogram
from .interval_bounds import interval_bounds
from .left_out import saturations
from .output_ranges import has_rare_answers
from .samples import Run, chunks
from .saturation import Saturation, notes_of
from .suspects import Limits, Suspect, softmax_scores, suspects_of
from .tail_room import RARE, USUAL, Room, tail_room

Channels = dict[str, tuple[Array, Array]]  # lowest and highest value of each channel, by tensor
Ends = dict[str, list[Interval]]  # lowest and highest value of each run, by tensor

PERCENTILE = 99.99
CLIPS = 64  # clip positions tried on either side
ROUNDS = 2
ROOM = (1.02, 2.0)  # of int16 tensors beyond the calibrated range, least and most
SPARE = 12.0  # times the root mean square of a tensor, that int16 holds without loss
MOST_LEVELS = 3  # values beyond all others may hide others of that kind
FAR_BEYOND = 1024.0  # times the other values: what outputs depend on gets a note from there on


@dataclass(frozen=True)
class Observed:
    """Statistics of every point over the calibration inputs; ``notes`` on what they leave out."""

    tied: TiedGraph
    histograms: Mapping[Point, Histogram]
    channels: Channels
    ends: Ends
    notes: tuple[str, ...] = ()

    @property
    def extremes(self) -> dict[Point, Interval]:
        """The range of all values of every point."""
        found = self.histograms.items()
        return {p: h.whole if p.at == "output" else h.ends for p, h in found}

    def ranges(self, method: str) -> dict[Point, Interval]:
        """Return the ranges of all points by a method.

        ``minmax`` keeps every value, ``percentile`` that part of either side, and ``mse`` clips
        where the rounding and clipping error at 8 bits is least.  Outputs, tensors that are int16
        in any case, and values in front of activations and products, are never clipped.
        """
        shown = {port.tensor for port in self.tied.graph.outputs}
        outputs = {p: ends for p, ends in self.roomy.items() if p.tensor in shown}
        found = {**self.extremes, **_clipped(self.tied, self.histograms, method), **outputs}
        return {**found, **{p: self._with_room(p) for p in self._sums if p in found}}

    @property
    def _sums(self) -> Iterator[Point]:
        """The sums that are int16 at any precision and of which no statistic is computed: those
        that are have room of their own."""
        groups, wide = self.tied.facts.scale_groups, self.tied.facts.int16
        for op in self.tied.graph.ops:
            if isinstance(op, Gemm | Window) and op.epilogue.residual and not op.epilogue.rows:
                per_row = self.tied.graph.tensors[op.output].shape[3] == 1
                if groups.root(op.output) in wide and not per_row and not op.epilogue.activation:
                    yield Point(op.output)

    def ranges_with_tails(self, method: str) -> dict[Point, Interval]:
        """Return ``ranges``, those of int8 tensors with room for what other inputs add to their
        tails."""
        clipped = _clipped(self.tied, self.histograms, method)
        return {
            **self.ranges(method),
            **{p: self._with_tail(p, ends) for p, ends in clipped.items()},
        }

    @cached_property
    def _tails(self) -> Room:
        """How much room tails get."""
        return RARE if has_rare_answers(self.tied.graph, self.histograms) else USUAL

    def _with_tail(self, point: Point, ends: Interval) -> Interval:
        low, high = tail_room(self.ends.get(point.tensor, ()), self._tails)
        return ends[0] * low, ends[1] * high

    @property
    def roomy(self) -> dict[Point, Interval]:
        """The ranges of tensors for int16, with room for inputs that go beyond the samples.

        Tensors that are int16 at any precision, other than outputs, have room of their own.
        """
        facts, shown = self.tied.facts, {port.tensor for port in self.tied.graph.outputs}
        return {
            point: self._with_room(point)
            for point in self.histograms
            if point.at == "output"
            and (point.tensor in shown or facts.scale_groups.root(point.tensor) not in facts.int16)
        }

    def _with_room(self, point: Point) -> Interval:
        histogram = self.histograms[point]
        low, high = histogram.whole
        return low * _room(histogram), high * _room(histogram)


def observe(tied: TiedGraph, runs: Iterable[Run]) -> Observed:
    """Return statistics of all points over single runs.

    Masked-out scores and values that decide no output are left out; the notes name them.
    """
    kept = tuple(runs)
    channels: Channels = {}
    ends: Ends = {}
    histograms, applied, rejected = _decisive(tied, kept, channels, ends)
    return Observed(tied, histograms, channels, ends, notes_of(tied.graph, applied, rejected))


def set_ranges(tied: TiedGraph, target: Target) -> CalibratedGraph:
    """Return the graph with the ranges of its recipe, or, of a QDQ model without calibration, with
    those that follow from its scales."""
    ranges = tied.graph.recipe.ranges_by_point
    if not ranges:
        return interval_bounds(tied, target)
    return CalibratedGraph(tied.graph, tied.facts, ranges)


def with_ranges(
    tied: TiedGraph, *, precision: str, ranges: Ranges, promoted: tuple[str, ...] = ()
) -> CalibratedGraph:
    """Return ``tied`` with known ranges and a known choice of promoted tensors."""
    recipe = replace(tied.graph.recipe, precision=precision, promoted=promoted)
    return CalibratedGraph(replace(tied.graph, recipe=recipe), tied.facts, ranges)


def _decisive(
    tied: TiedGraph, runs: Sequence[Run], channels: Channels, ends: Ends
) -> tuple[dict[Point, Histogram], Saturation, list[Suspect]]:
    """Return the histograms of the values that may decide an output, what saturates, and points
    whose far values the outputs depend on; fill in ``channels`` and ``ends``."""
    again = partial(chunks, tied.graph, runs)
    limits: dict[Point, Interval] = {}
    for _ in range(MOST_LEVELS):
        histograms, applied = _histograms(tied, again(), limits, channels, ends)
        suspects = suspects_of(tied, histograms, limits)
        more = suspects and saturations(tied, again, suspects, limits)
        if not more:
            break
        limits.update(more)
    else:
        histograms, applied = _histograms(tied, again(), limits, channels, ends)
        suspects = []
    far = [s for s in suspects if _is_far(histograms[s.point], s.boundary)]
    return histograms, applied, far


def _is_far(histogram: Histogram, boundary: float) -> bool:
    """Return whether a few values lie so far beyond most that these lose most of their bits."""
    top = max(map(abs, histogram.ends))
    beyond = (top / boundary) ** 2  # the boundary is the geometric mean of both
    return beyond > FAR_BEYOND and histogram.share_below(boundary) > 0.5


def _histograms(
    tied: TiedGraph, stacked: Iterator[Run], limits: Limits, channels: Channels, ends: Ends
) -> tuple[dict[Point, Histogram], Saturation]:
    """Return the histograms of all points, those of ``limits`` saturated, and what was cut."""
    histograms, applied = _tables(tied.graph), Saturation(limits)
    scores = softmax_scores(tied) & tied.facts.scores
    channels.clear()
    ends.clear()
    for chunk in stacked:
        values = _evaluate(tied, chunk, applied)
        _count(values, scores, histograms, applied)
        _widen(channels, values)
        _extend(ends, values, tied.graph)
    return histograms, applied


def _count(
    values: Mapping[Point, Array],
    scores: frozenset[str],
    histograms: dict[Point, Histogram],
    applied: Saturation,
) -> None:
    """Add the values of one chunk to the histograms, without arguments of saturated results."""
    for point, array in values.items():
        seen = array.reshape(-1)
        if point.at == "pre_activation":
            cut = applied.outside.get(_activated_point(point, values))
            seen = seen if cut is None or cut.all() else seen[~cut.reshape(-1)]
        if point.tensor in scores and point.at != "pre_product":
            if point.at == "output":
                applied.leave_out(point, seen[seen <= MASKED])
            seen = _unmasked(seen)
        if seen.size:
            histograms.setdefault(point, Histogram()).add(seen)


def _activated_point(pre: Point, values: Mapping[Point, Array]) -> Point:
    """Return the point behind the activation."""
    act = Point(pre.tensor, "pre_product")
    return act if act in values else Point(pre.tensor)


def _widen(channels: Channels, values: Mapping[Point, Array]) -> None:
    """Widen the ranges of the channels of every tensor by the values of one chunk."""
    for point, array in values.items():
        if point.at == "output":
            rows = array.reshape(-1, array.shape[3])
            lo, hi = rows.min(0), rows.max(0)
            before = channels.get(point.tensor, (lo, hi))
            channels[point.tensor] = np.minimum(lo, before[0]), np.maximum(hi, before[1])


def _extend(ends: Ends, values: Mapping[Point, Array], mg: MatGraph) -> None:
    """Add the ends of the runs of one chunk."""
    for point, array in values.items():
        if point.at == "output":
            name = point.tensor
            runs = array.reshape(len(array) // mg.tensors[name].shape[0], -1)
            pairs = zip(runs.min(1).tolist(), runs.max(1).tolist(), strict=True)
            ends.setdefault(name, []).extend(pairs)


def _clipped(
    tied: TiedGraph, histograms: Mapping[Point, Histogram], method: str
) -> dict[Point, Interval]:
    """Return clipped ranges of all points but outputs and tensors that are int16 at any
    precision."""
    root, kept = tied.facts.scale_groups.root, {port.tensor for port in tied.graph.outputs}
    return {
        point: CLIP[method](histogram)
        for point, histogram in histograms.items()
        if point.at == "output" and point.tensor not in kept and histogram.limit
        and point.tensor not in tied.graph.constants
        and root(point.tensor) not in tied.facts.int16
    }  # fmt: skip


def _tables(mg: MatGraph) -> dict[Point, Histogram]:
    """Return histograms over all rows of gather tables: later inputs may select any row."""
    found: dict[Point, Histogram] = {}
    for port in mg.inputs:
        if port.table is not None:
            found.setdefault(Point(port.tensor), Histogram()).add(np.ravel(port.table))
    return found


def _unmasked(scores: Array) -> Array:
    """Return the values above MASKED; if there are lower ones, also the value at which they
    saturate."""
    inside = scores[scores > MASKED]
    if inside.size in (0, scores.size):
        return inside
    return np.append(inside, inside.min() - np.float32(MASK_ROOM))


def _evaluate(tied: TiedGraph, feeds: Run, applied: Saturation) -> dict[Point, Array]:
    """Return the values of all points.  BadInput: one of them overflows float32."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        values = reference.run_points(tied.graph, feeds, applied)
    for point, array in values.items():
        if not (np.isfinite(array.min()) and np.isfinite(array.max())):
            masks = ", attention masks (0 and 1, some of each row 1)" if tied.facts.scores else ""
            raise BadInput(
                f"tensor '{point}' becomes NaN or infinite on the calibration inputs; allowed are "
                f"values within float32; check the inputs' scale{masks} and the model"
            )
    return values


# ---------------------------------------------------------------- choosing a range


def _room(histogram: Histogram) -> float:
    """Return the room of an int16 tensor: up to one of its 15 bits, less where most of its values
    are so far below the largest that they need all of them."""
    peak, rms = max(map(abs, histogram.ends)), histogram.rms
    return float(np.clip(SPARE * rms / peak, *ROOM)) if peak > 0 else 1.0


def _percentile(histogram: Histogram) -> Interval:
    """Return bounds with (100 - PERCENTILE) % of the nonzero values outside, half on either
    side."""
    total = np.cumsum(histogram.counts)
    outside = (1 - PERCENTILE / 100) / 2 * total[-1]
    centers, half_bin = histogram.centers, histogram.limit / BINS
    lo = centers[np.searchsorted(total, outside, side="right")] - half_bin
    hi = centers[np.searchsorted(total, total[-1] - outside)] + half_bin
    low, high = histogram.whole
    return float(np.clip(lo, low, 0.0)), float(np.clip(hi, 0.0, high))


def _least_error(histogram: Histogram) -> Interval:
    """Return bounds with the least mean squared int8 error, one side after the other."""
    used = histogram.counts > 0
    x, n = histogram.centers[used], histogram.counts[used].astype(np.float64)
    grid = np.linspace(1.0, 0.05, CLIPS)[:, None]
    (low, high), (lo, hi) = histogram.whole, histogram.whole
    for _ in range(ROUNDS):
        if high > 0:
            hi = float(high * grid[_squared_errors(x, n, lo, high * grid).argmin(), 0])
        if low < 0:
            lo = float(low * grid[_squared_errors(x, n, low * grid, hi).argmin(), 0])
    return lo, hi


def _squared_errors(x: Array, n: Array, lo: Any, hi: Any) -> Array:
    """Return the squared error of n values at each x, for a column of ranges."""
    step = (hi - lo) / 255
    zero = np.rint(-lo / step)
    steps = np.clip(np.rint(x / step), -zero, 255 - zero)
    return np.asarray((steps * step - x) ** 2 @ n)


def _all_values(histogram: Histogram) -> Interval:
    return histogram.whole


CLIP = {"mse": _least_error, "minmax": _all_values, "percentile": _percentile}
