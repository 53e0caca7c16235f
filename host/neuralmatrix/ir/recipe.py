# SPDX-License-Identifier: Apache-2.0
"""What was chosen on calibration inputs, so that the same integers can be made again.

In: ranges, arrays by tensor name.  Out: ``Recipe``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .points import Point, Ranges
from .types import Array, Units

TensorUnits = tuple[tuple[str, Units], ...]  # by tensor name
PerChannel = tuple[tuple[str, tuple[float, ...]], ...]  # by tensor name, one number per channel


WEIGHTS_PER_BYTE = 4


@dataclass(frozen=True)
class Rounding:
    """Weights that are not rounded to the nearest integer: those of the operations that make
    ``names``.

    ``weights``: how many; ``shift``: addend of the bias of every channel, which cancels the mean
    error.  ``steps``: -1, 0 or 1 of every weight in memory order, ``packed`` (a program file keeps
    them as a member of its own).
    """

    names: tuple[str, ...]
    weights: int
    shift: tuple[float, ...]
    steps: Array | None = field(default=None, compare=False, repr=False)

    @property
    def bytes(self) -> int:
        """The length of ``steps``."""
        return -(-self.weights // WEIGHTS_PER_BYTE)


@dataclass(frozen=True)
class Recipe:
    """``precision``: of activations.  ``promoted``: tensors promoted to int16 (precision mixed).
    ``factors``: divisors of the channels of tensors.  ``shifts``: addends of the biases of their
    makers.  ``widened``: outputs of the operations whose weights have two int8 digits.
    ``roundings``: of weights.  ``units``: of tensors whose parts have units of their own; results
    of Moves have those of what they copy.  ``levels``: divisors of the channels of magnitudes in
    front of a logarithm.  ``splits``: the magnitude below which they have a scale of their own.
    ``exact``: outputs whose stored values are sums of products of prescribed integers.
    ``ranges``: (point, lo, hi) of every point; empty for a
    QDQ model, whose scales decide."""

    precision: str = "int8"
    promoted: tuple[str, ...] = ()
    factors: PerChannel = ()
    shifts: PerChannel = ()
    widened: tuple[str, ...] = ()
    roundings: tuple[Rounding, ...] = ()
    units: TensorUnits = ()
    levels: PerChannel = ()
    splits: PerChannel = ()
    exact: tuple[str, ...] = ()
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


def packed(steps: Array) -> Array:
    """Return steps of -1, 0 or 1 in bytes of four, the first in the lowest bits."""
    flat = np.asarray(steps, np.int8).reshape(-1) + 1
    padding = np.zeros(-len(flat) % WEIGHTS_PER_BYTE, np.int8)
    four = np.concatenate([flat, padding]).reshape(-1, WEIGHTS_PER_BYTE).astype(np.uint8)
    shifts = np.arange(0, 8, 2, dtype=np.uint8)
    return np.asarray(np.bitwise_or.reduce(four << shifts, axis=1), np.uint8)


def unpacked(steps: Array, weights: int) -> Array:
    """Return the int8 steps that ``packed`` packed."""
    shifts = np.arange(0, 8, 2, dtype=np.uint8)
    four = (np.asarray(steps, np.uint8)[:, None] >> shifts) & 3
    return np.asarray(four.reshape(-1)[:weights].astype(np.int8) - 1)
