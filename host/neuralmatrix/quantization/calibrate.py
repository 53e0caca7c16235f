# SPDX-License-Identifier: Apache-2.0
"""Calibration: the range of every tensor on calibration inputs.

In: a TiedGraph and samples.  Out: ``Observed``: one (lo, hi) per ``Point`` and method; the range of
a tensor always includes zero.  The samples are read once; memory is one chunk of images and one
histogram per point.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import BadInput
from ..hardware.target import Target
from ..ir.matgraph import reference
from ..ir.matgraph.facts import Facts, TiedGraph
from ..ir.matgraph.ops import MatGraph
from ..ir.points import Interval, Point, Ranges
from ..ir.types import Array
from .adjust_ranges import MASK_ROOM, MASKED
from .calibrated_graph import CalibratedGraph
from .interval_bounds import interval_bounds
from .samples import Run, chunks

BINS = 4096
PERCENTILE = 99.99
# Histograms count at most this many values of a tensor per chunk; minimum and maximum cover all.
SAMPLES = 1 << 16
CLIPS = 64  # clip positions tried on either side
ROUNDS = 2
# A tensor whose values all stay below this counts as 0: products of such scales underflow float32.
NEGLIGIBLE = 1e-30


@dataclass
class _Histogram:
    """Counts over [-limit, limit), ``limit`` a power of two that doubles when values leave it."""

    lo: float = np.inf
    hi: float = -np.inf
    limit: float = 0.0
    counts: Array = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, values: Array) -> None:
        """Widen lo and hi by all values, count a sample of those that are not exactly 0."""
        self.lo = min(self.lo, float(values.min()))
        self.hi = max(self.hi, float(values.max()))
        sample = values[:: _odd_stride(values.size)]
        sample = sample[sample != 0]
        if sample.size:
            self._reach(float(np.abs(sample).max()))
            index = ((sample + self.limit) * (BINS / 2 / self.limit)).astype(np.int64)
            self.counts += np.bincount(np.clip(index, 0, BINS - 1), minlength=BINS)

    def _reach(self, largest: float) -> None:
        wanted = 2.0 ** np.ceil(np.log2(largest))
        if self.limit == 0.0:
            self.limit = wanted
        while self.limit < wanted:
            self.limit *= 2
            merged = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.pad(merged, BINS // 4)

    @property
    def ends(self) -> Interval:
        """The range of all values."""
        return (0.0, 0.0) if max(-self.lo, self.hi) < NEGLIGIBLE else (self.lo, self.hi)

    @property
    def whole(self) -> Interval:
        """The range of all values and of 0."""
        lo, hi = self.ends
        return min(lo, 0.0), max(hi, 0.0)

    @property
    def centers(self) -> Array:
        """The middle of every bin."""
        return (np.arange(BINS) + 0.5) * (2 * self.limit / BINS) - self.limit


def _odd_stride(size: int) -> int:
    """Return an odd step, so that the sample covers all channels."""
    return (size // SAMPLES) | 1 if size > SAMPLES else 1


@dataclass(frozen=True)
class Observed:
    """Statistics of every point over the calibration inputs."""

    tied: TiedGraph
    histograms: Mapping[Point, _Histogram]
    channels: Mapping[str, tuple[Array, Array]]  # lowest and highest value of each, by tensor

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
        return {**self.extremes, **_clipped(self.tied, self.histograms, method)}


def observe(tied: TiedGraph, runs: Iterable[Run]) -> Observed:
    """Return statistics of all points over single runs.  Masked-out scores are ignored."""
    mg, facts = tied.graph, tied.facts
    histograms = _tables(mg)
    channels: dict[str, tuple[Array, Array]] = {}
    for chunk in chunks(mg, runs):
        values = _evaluate(tied, chunk)
        _count(values, facts, histograms)
        _widen(channels, values)
    return Observed(tied, histograms, channels)


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


def _count(
    values: Mapping[Point, Array], facts: Facts, histograms: dict[Point, _Histogram]
) -> None:
    """Add the values of one chunk to the histograms."""
    for point, array in values.items():
        seen = array.reshape(-1)
        if point.tensor in facts.scores and point.at != "pre_product":
            seen = _unmasked(seen)
        if seen.size:
            histograms.setdefault(point, _Histogram()).add(seen)


def _widen(channels: dict[str, tuple[Array, Array]], values: Mapping[Point, Array]) -> None:
    """Widen the ranges of the channels of every tensor by the values of one chunk."""
    for point, array in values.items():
        if point.at == "output":
            rows = array.reshape(-1, array.shape[3])
            lo, hi = rows.min(0), rows.max(0)
            before = channels.get(point.tensor, (lo, hi))
            channels[point.tensor] = np.minimum(lo, before[0]), np.maximum(hi, before[1])


def _clipped(
    tied: TiedGraph, histograms: Mapping[Point, _Histogram], method: str
) -> dict[Point, Interval]:
    """Return clipped ranges of all points but outputs and tensors that are int16 at any
    precision."""
    root, kept = tied.facts.scale_groups.root, {port.tensor for port in tied.graph.outputs}
    return {
        point: CLIP[method](histogram)
        for point, histogram in histograms.items()
        if point.at == "output" and point.tensor not in kept and histogram.limit
        and root(point.tensor) not in tied.facts.int16
    }  # fmt: skip


def _tables(mg: MatGraph) -> dict[Point, _Histogram]:
    """Return histograms over all rows of gather tables: later inputs may select any row."""
    found: dict[Point, _Histogram] = {}
    for port in mg.inputs:
        if port.table is not None:
            found.setdefault(Point(port.tensor), _Histogram()).add(np.ravel(port.table))
    return found


def _unmasked(scores: Array) -> Array:
    """Return the values above MASKED; if there are lower ones, also the value at which they
    saturate."""
    inside = scores[scores > MASKED]
    if inside.size in (0, scores.size):
        return inside
    return np.append(inside, inside.min() - np.float32(MASK_ROOM))


def _evaluate(tied: TiedGraph, feeds: Run) -> dict[Point, Array]:
    """Return the values of all points.  BadInput: one of them overflows float32."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        values = reference.run_points(tied.graph, feeds)
    for point, array in values.items():
        if not (np.isfinite(array.min()) and np.isfinite(array.max())):
            masks = ", attention masks (0 and 1, some of each row 1)" if tied.facts.scores else ""
            raise BadInput(
                f"tensor '{point}' becomes NaN or infinite on the calibration inputs; allowed are "
                f"values within float32; check the inputs' scale{masks} and the model"
            )
    return values


# ---------------------------------------------------------------- choosing a range


def _percentile(histogram: _Histogram) -> Interval:
    """Return bounds with (100 - PERCENTILE) % of the nonzero values outside, half on either
    side."""
    total = np.cumsum(histogram.counts)
    outside = (1 - PERCENTILE / 100) / 2 * total[-1]
    centers, half_bin = histogram.centers, histogram.limit / BINS
    lo = centers[np.searchsorted(total, outside, side="right")] - half_bin
    hi = centers[np.searchsorted(total, total[-1] - outside)] + half_bin
    low, high = histogram.whole
    return float(np.clip(lo, low, 0.0)), float(np.clip(hi, 0.0, high))


def _least_error(histogram: _Histogram) -> Interval:
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


def _all_values(histogram: _Histogram) -> Interval:
    return histogram.whole


CLIP = {"mse": _least_error, "minmax": _all_values, "percentile": _percentile}
