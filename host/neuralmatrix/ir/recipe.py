# SPDX-License-Identifier: Apache-2.0
"""What was chosen on calibration inputs, so that the same integers can be made again.

In: ranges, arrays by tensor name.  Out: ``Recipe``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .points import Point, Ranges
from .types import Array

PerChannel = tuple[tuple[str, tuple[float, ...]], ...]  # by tensor name, one number per channel


@dataclass(frozen=True)
class Recipe:
    """``precision``: of activations.  ``promoted``: tensors promoted to int16 (precision mixed).
    ``factors``: divisors of the channels of tensors.  ``shifts``: addends of the biases of their
    makers.  ``ranges``: (point, lo, hi) of every point; empty for a QDQ model, whose scales
    decide."""

    precision: str = "int8"
    promoted: tuple[str, ...] = ()
    factors: PerChannel = ()
    shifts: PerChannel = ()
    ranges: tuple[tuple[Point, float, float], ...] = ()

    @property
    def ranges_by_point(self) -> Ranges:
        """The ranges as a mapping."""
        return {point: (lo, hi) for point, lo, hi in self.ranges}


def as_triples(ranges: Ranges) -> tuple[tuple[Point, float, float], ...]:
    """Return ranges in the form of ``Recipe.ranges``."""
    return tuple((point, lo, hi) for point, (lo, hi) in ranges.items())


def as_numbers(arrays: Mapping[str, Array]) -> PerChannel:
    """Return arrays in a form that can be compared and saved."""
    return tuple((name, tuple(map(float, values))) for name, values in arrays.items())


def as_arrays(numbers: PerChannel) -> dict[str, Array]:
    """Return the float32 arrays of ``as_numbers``."""
    return {name: np.asarray(values, np.float32) for name, values in numbers}
