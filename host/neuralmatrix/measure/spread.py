# SPDX-License-Identifier: Apache-2.0
"""Statistics of repeated measurements.

In: values.  Out: median, quartiles and extremes; or a mean with its standard error.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """The spread of a repeated measurement."""

    median: float
    lower_quartile: float
    upper_quartile: float
    lowest: float
    highest: float
    count: int


@dataclass(frozen=True)
class Mean:
    """A mean; ``standard_error`` is None for a single value."""

    mean: float
    standard_error: float | None
    count: int


def spread(values: Iterable[float]) -> Spread:
    """Return median, quartiles (linear between values) and extremes of at least one value."""
    array = np.asarray(list(values), float)
    lowest, lower, median, upper, highest = np.percentile(array, (0, 25, 50, 75, 100)).tolist()
    return Spread(median, lower, upper, lowest, highest, len(array))


def mean_of(values: Iterable[float]) -> Mean:
    """Return mean and standard error of at least one value."""
    array = np.asarray(list(values), float)
    count = len(array)
    error = float(array.std(ddof=1) / np.sqrt(count)) if count > 1 else None
    return Mean(float(array.mean()), error, count)
