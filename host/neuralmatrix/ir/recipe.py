# SPDX-License-Identifier: Apache-2.0
"""What calibration chose in addition to ranges, so that the same integers can be made again.

In: arrays by tensor name.  Out: ``Recipe``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .types import Array

PerChannel = tuple[tuple[str, tuple[float, ...]], ...]  # by tensor name, one number per channel


@dataclass(frozen=True)
class Recipe:
    """``promoted``: tensors promoted to int16 (precision mixed).  ``factors``: divisors of the
    channels of tensors.  ``shifts``: addends of the biases of their makers.  ``levels``: divisors
    of the channels of magnitudes in front of a logarithm.  ``splits``: the magnitude below which
    they have a scale of their own."""

    promoted: tuple[str, ...] = ()
    factors: PerChannel = ()
    shifts: PerChannel = ()
    levels: PerChannel = ()
    splits: PerChannel = ()


def as_numbers(arrays: Mapping[str, Array]) -> PerChannel:
    """Return arrays in a form that can be compared and saved."""
    return tuple((name, tuple(map(float, values))) for name, values in arrays.items())


def as_arrays(numbers: PerChannel) -> dict[str, Array]:
    """Return the float32 arrays of ``as_numbers``."""
    return {name: np.asarray(values, np.float32) for name, values in numbers}
