# SPDX-License-Identifier: Apache-2.0
"""Histogram of the values of one point, which grows with them.

In: arrays of values.  Out: ``Histogram``: counts, the exact range, and the gaps that divide a few
values from all others by orders of magnitude.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..ir.points import Interval
from ..ir.types import Array

BINS = 4096
# Histograms count at most this many values of a tensor per chunk; minimum and maximum cover all.
SAMPLES = 1 << 16
# A tensor whose values all stay below this counts as 0: products of such scales underflow float32.
NEGLIGIBLE = 1e-30
LARGE = 1e30  # ranges from here on are counted in float64
FEW = 256  # fewer values may leave a gap by chance, so that it has to be FAR_OF_FEW
FAR_OF_FEW = 32.0
FAR = 4.0  # a gap: no values between some magnitude and this many times it


@dataclass
class Histogram:
    """Counts over [-limit, limit), ``limit`` a power of two that doubles when values leave it."""

    lo: float = np.inf
    hi: float = -np.inf
    limit: float = 0.0
    counts: Array = field(default_factory=lambda: np.zeros(BINS, np.int64))
    whole_numbers: bool = True

    def add(self, values: Array) -> None:
        """Widen lo and hi by all values, count a sample of those that are not exactly 0."""
        self.lo = min(self.lo, float(values.min()))
        self.hi = max(self.hi, float(values.max()))
        sample = values[:: _odd_stride(values.size)]
        sample = sample[sample != 0]
        sample = sample.astype(np.float64) if self.hi - self.lo > LARGE else sample
        self.whole_numbers = self.whole_numbers and bool(np.all(sample == np.rint(sample)))
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
    def rms(self) -> float:
        """The root mean square of the values that are not exactly 0."""
        total = max(int(self.counts.sum()), 1)
        return float(np.sqrt(self.counts @ np.square(self.centers) / total))

    @property
    def centers(self) -> Array:
        """The middle of every bin."""
        return (np.arange(BINS) + 0.5) * (2 * self.limit / BINS) - self.limit

    @property
    def last_gap(self) -> float | None:
        """A magnitude inside the last gap: FAR times smaller values lie below, and none between."""
        half = BINS // 2
        top = max(-self.lo, self.hi)
        if self.limit == 0.0 or top < NEGLIGIBLE:
            return None
        used = np.flatnonzero(self.counts[half:] + self.counts[half - 1 :: -1])
        used = np.append(used, int(top * half / self.limit))
        far = FAR if self.counts.sum() >= FEW else FAR_OF_FEW
        gaps = np.flatnonzero(used[1:] >= far * (used[:-1] + 1))
        if not gaps.size:
            return None
        below, above = used[gaps[-1]] + 1, used[gaps[-1] + 1]
        return float(np.sqrt(float(below) * float(above)) * self.limit / half)

    def share_below(self, magnitude: float) -> float:
        """Return the share of the counted values below a magnitude."""
        below = self.counts[np.abs(self.centers) < magnitude].sum()
        return float(below / max(1, self.counts.sum()))


def _odd_stride(size: int) -> int:
    """Return an odd step, so that the sample covers all channels."""
    return (size // SAMPLES) | 1 if size > SAMPLES else 1
