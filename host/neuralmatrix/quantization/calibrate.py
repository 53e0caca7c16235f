# SPDX-License-Identifier: Apache-2.0
"""Sample the range of every tensor on calibration images.

In: a MatGraph and feeds.  Out: ``Calibration``, one (lo, hi) per tensor, zero always inside.
One pass, so feeds may be a generator; memory is one chunk of images and one histogram per tensor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from math import prod
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ..errors import BadInput
from ..ir.matgraph import reference
from ..ir.matgraph.ops import MatGraph, Port
from ..transforms.matgraph.tie_scales import tie_scales
from .adjust_ranges import MASK_ROOM, MASKED
from .bit_widths import score_tensors, wide_tensors

Array = npt.NDArray[Any]
Feed = Mapping[str, Array]
Method = Literal["mse", "minmax", "percentile"]

BINS = 4096
PERCENTILE = 99.99
# Histograms look at no more values of one tensor per chunk than this; minimum and maximum see all.
SAMPLES = 1 << 16
CLIPS = 64  # clip positions tried on either side
ROUNDS = 2
CHUNK_FLOATS = 1 << 24
MOST_TOGETHER = 16
# A tensor whose values all stay below this counts as 0: products of such scales leave float32.
NEGLIGIBLE = 1e-30


@dataclass(frozen=True)
class Range:
    """Real bounds; lo <= 0 <= hi, except for the ':pre' and ':act' forms, which are as they are."""

    lo: float
    hi: float


@dataclass(frozen=True)
class Calibration:
    """``ranges``: tensor name, with the reference's ':pre' and ':act' forms, to Range.

    ``extremes`` are the unclipped bounds, for tensors that turn out to be int16.
    """

    ranges: Mapping[str, Range]
    extremes: Mapping[str, Range]
    images: int


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
    def centers(self) -> Array:
        """Middle of every bin."""
        return (np.arange(BINS) + 0.5) * (2 * self.limit / BINS) - self.limit


def _odd_stride(size: int) -> int:
    """An odd step, so that the sample does not settle on a few of the channels."""
    return (size // SAMPLES) | 1 if size > SAMPLES else 1


def calibrate(
    mg: MatGraph,
    feeds: Iterable[Feed] | None,
    method: Method = "mse",
    max_images: int = 256,
    percentile: float = PERCENTILE,
) -> Calibration:
    """Ranges of all tensors of ``mg`` over at most ``max_images`` images of ``feeds``.

    ``feeds`` yields {input name: array}; an array is one run's input, or several stacked along the
    first axis.  ``minmax`` keeps every value, ``percentile`` that part of either side, and ``mse``
    clips where rounding and clipping together lose least at 8 bits.  Tensors that are int16 in any
    case, and values in front of activations and products, are never clipped.  What a mask pushed
    far below all attention scores does not count.
    """
    if method not in get_args(Method):
        raise BadInput(f"calibration method {method!r}; allowed are {', '.join(get_args(Method))}")
    histograms = _tables(mg)
    scores = score_tensors(mg)
    images = 0
    for chunk in _chunks(runs_of(mg, feeds, max_images), _chunk_images(mg)):
        for name, values in _evaluate(mg, chunk).items():
            seen = values.reshape(-1)
            if name.removesuffix(":pre") in scores:
                seen = _unmasked(seen)
            if seen.size:
                histograms.setdefault(name, _Histogram()).add(seen)
        images += len(chunk)
    if not images:
        raise BadInput(
            "the calibration set is empty; give at least one {input name: array}, "
            "16 to 256 typical inputs are best"
        )
    extremes = {name: _extremes(name, h) for name, h in histograms.items()}
    kept = _unclipped(mg) if method != "minmax" else set(histograms)
    clipped = {
        name: _CLIP[method](h, extremes[name], percentile)
        for name, h in histograms.items()
        if name in mg.tensors and name not in kept and h.limit
    }
    return Calibration({**extremes, **clipped}, extremes, images)


def _tables(mg: MatGraph) -> dict[str, _Histogram]:
    """All rows of look-up tables count: the inputs to come may name any."""
    found: dict[str, _Histogram] = {}
    for port in mg.inputs:
        if port.table is not None:
            found.setdefault(port.tensor, _Histogram()).add(np.ravel(port.table))
    return found


def _unmasked(scores: Array) -> Array:
    """Values above MASKED; where there are lower ones, also one that a mask can saturate at."""
    inside = scores[scores > MASKED]
    if inside.size in (0, scores.size):
        return inside
    return np.append(inside, inside.min() - np.float32(MASK_ROOM))


def _unclipped(mg: MatGraph) -> set[str]:
    """Outputs, and what has 16 bits at any precision."""
    tied, groups = tie_scales(mg)
    wide = wide_tensors(tied, groups, "int8")
    shown = {port.tensor for port in mg.outputs}
    return shown | {name for name in mg.tensors if groups.root(name) in wide}


def _evaluate(mg: MatGraph, chunk: list[dict[str, Array]]) -> dict[str, Array]:
    """All tensors of several runs.  BadInput: one of them leaves float32."""
    together = chunk[0]
    if len(chunk) > 1:
        together = {name: np.concatenate([run[name] for run in chunk]) for name in chunk[0]}
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        values = reference.run_float(mg, together)
    for name, array in values.items():
        if not (np.isfinite(array.min()) and np.isfinite(array.max())):
            raise BadInput(
                f"tensor {name!r} becomes NaN or infinite on the calibration inputs; allowed are "
                f"values within float32; check the inputs' scale{_masks(mg)} and the model"
            )
    return values


def _masks(mg: MatGraph) -> str:
    return ", attention masks (0 and 1, some of each row 1)" if score_tensors(mg) else ""


# ---------------------------------------------------------------- feeds


def _chunk_images(mg: MatGraph) -> int:
    """How many images evaluated side by side keep all their tensors within CHUNK_FLOATS."""
    if not all(port.shape for port in mg.inputs):
        return 1  # a scalar has no axis to stack along
    floats = sum(prod(tensor.shape) for tensor in mg.tensors.values())
    return max(1, min(MOST_TOGETHER, CHUNK_FLOATS // max(floats, 1)))


def _chunks(runs: Iterator[dict[str, Array]], size: int) -> Iterator[list[dict[str, Array]]]:
    while chunk := list(islice(runs, size)):
        yield chunk


def runs_of(mg: MatGraph, feeds: Iterable[Feed] | None, most: int) -> Iterator[dict[str, Array]]:
    """Checked single runs in the source shapes, at most ``most`` of them."""
    if feeds is None:
        raise BadInput(
            "no calibration data given; pass an iterable of {input name: array} as calibration"
        )
    if isinstance(feeds, Mapping):
        feeds = [feeds]
    if not isinstance(feeds, Iterable):
        raise BadInput(
            f"the calibration data is a {type(feeds).__name__}; allowed is an iterable of "
            "{input name: array}"
        )
    left = most
    for number, feed in enumerate(feeds):
        for run in _split(mg, feed, f"calibration feed {number}"):
            if left <= 0:
                return
            left -= 1
            yield run


def _split(mg: MatGraph, feed: Feed, where: str) -> Iterator[dict[str, Array]]:
    """The runs stacked in one feed."""
    if not isinstance(feed, Mapping):
        raise BadInput(f"{where} is a {type(feed).__name__}; allowed is {{input name: array}}")
    wanted = {port.name for port in mg.inputs}
    if set(feed) != wanted:
        raise BadInput(
            f"{where} has inputs {sorted(map(str, feed))}; "
            f"the model's inputs are {sorted(wanted)}, give exactly these, or bind what never "
            "changes with constants= (--constant)"
        )
    arrays = {port.name: _checked(port, feed[port.name], where) for port in mg.inputs}
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) != 1:
        raise BadInput(f"{where} stacks {sorted(lengths)} runs; give all inputs the same number")
    for i in range(lengths.pop()):
        yield {name: array[i] for name, array in arrays.items()}


def _checked(port: Port, value: Array, where: str) -> Array:
    """``value`` as (runs, *port.shape)."""
    what = f"{where}: input {port.name!r}"
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise BadInput(f"{what} is no array ({error}); pass a numpy array") from None
    if array.dtype.kind not in "fiub":
        raise BadInput(f"{what} has dtype {array.dtype}; allowed are real numbers")
    largest = np.finfo(np.float32).max
    if not np.all(np.abs(array) <= largest):  # NaN is not
        raise BadInput(
            f"{what} holds NaN, infinity or a value beyond float32; allowed are finite numbers, "
            "clean the data"
        )
    if port.table is not None and array.dtype.kind == "f" and (array % 1).any():
        raise BadInput(
            f"{what} holds fractions; allowed are whole numbers, the rows of its table; tokenise "
            "with the model's own vocabulary"
        )
    return _stacked(port, array, what)


def _stacked(port: Port, array: Array, what: str) -> Array:
    shape = tuple(port.shape)
    if array.shape[1:] == shape[1:] and shape and array.shape[0] and array.shape[0] % shape[0] == 0:
        return array.reshape(-1, *shape)
    if array.shape == shape:
        return array[None]
    raise BadInput(
        f"{what} has shape {array.shape}; allowed is {shape}, or a multiple of it "
        "stacked along the first axis"
    )


# ---------------------------------------------------------------- choosing a range


def _extremes(name: str, histogram: _Histogram) -> Range:
    if max(-histogram.lo, histogram.hi) < NEGLIGIBLE:
        return Range(0.0, 0.0)
    if name.endswith((":pre", ":act")):
        return Range(histogram.lo, histogram.hi)
    return Range(min(histogram.lo, 0.0), max(histogram.hi, 0.0))


def _percentile(histogram: _Histogram, full: Range, percent: float) -> Range:
    """Bounds with (100 - percent) % of the nonzero values outside, half of it on either side."""
    total = np.cumsum(histogram.counts)
    outside = (1 - percent / 100) / 2 * total[-1]
    centers, half_bin = histogram.centers, histogram.limit / BINS
    lo = centers[np.searchsorted(total, outside, side="right")] - half_bin
    hi = centers[np.searchsorted(total, total[-1] - outside)] + half_bin
    return Range(float(np.clip(lo, full.lo, 0.0)), float(np.clip(hi, 0.0, full.hi)))


def _least_error(histogram: _Histogram, full: Range, percent: float) -> Range:
    """Bounds with the least mean squared error of int8 codes, one side after the other."""
    used = histogram.counts > 0
    x, n = histogram.centers[used], histogram.counts[used].astype(np.float64)
    grid = np.linspace(1.0, 0.05, CLIPS)[:, None]
    lo, hi = full.lo, full.hi
    for _ in range(ROUNDS):
        if full.hi > 0:
            hi = float(full.hi * grid[_squared_errors(x, n, lo, full.hi * grid).argmin(), 0])
        if full.lo < 0:
            lo = float(full.lo * grid[_squared_errors(x, n, full.lo * grid, hi).argmin(), 0])
    return Range(lo, hi)


def _squared_errors(x: Array, n: Array, lo: Any, hi: Any) -> Array:
    """Error of n values at each x, for a column of ranges."""
    step = (hi - lo) / 255
    zero = np.rint(-lo / step)
    codes = np.clip(np.rint(x / step), -zero, 255 - zero)
    return np.asarray((codes * step - x) ** 2 @ n)


_CLIP = {"percentile": _percentile, "mse": _least_error}
