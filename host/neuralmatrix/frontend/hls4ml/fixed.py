# SPDX-License-Identifier: Apache-2.0
"""Fixed-point types as hls4ml and Vitis HLS define them, and casts to them.

In: hls4ml's precision of a tensor.  Out: ``Fixed``, and the integers of a cast array.  Nothing here
needs the hls4ml package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import BadModel
from ...ir.types import Array, Rounding

INT16 = 32639  # the largest int16 value of the array

# What a rounding mode does to values (in steps) between two integers.
ROUND: dict[str, Callable[[Array], Array]] = {
    "TRN": np.floor,
    "TRN_ZERO": np.trunc,
    "RND": lambda v: np.floor(v + 0.5),
    "RND_MIN_INF": lambda v: np.ceil(v - 0.5),
    "RND_INF": lambda v: np.sign(v) * np.floor(np.abs(v) + 0.5),
    "RND_ZERO": lambda v: np.sign(v) * np.ceil(np.abs(v) - 0.5),
    "RND_CONV": np.rint,
}

# The array's rounding with the same results, and whether that holds for positive values alone.
_ON_ARRAY: dict[str, tuple[Rounding, bool]] = {
    "TRN": ("floor", False),
    "RND": ("up", False),
    "RND_MIN_INF": ("down", False),
    "RND_CONV": ("even", False),
    "TRN_ZERO": ("floor", True),
    "RND_INF": ("up", True),
    "RND_ZERO": ("down", True),
}


@dataclass(frozen=True)
class Fixed:
    """ap_fixed<width, integer, rounding, overflow>, or ap_ufixed; integers have width = integer."""

    width: int
    integer: int
    signed: bool = True
    rounding: str = "TRN"
    overflow: str = "WRAP"

    @property
    def fraction(self) -> int:
        """Bits behind the point; negative where a step is more than 1."""
        return self.width - self.integer

    @property
    def step(self) -> float:
        return float(2.0**-self.fraction)

    @property
    def lowest(self) -> int:
        """The smallest value in steps."""
        if not self.signed:
            return 0
        return int(self.overflow == "SAT_SYM") - (1 << (self.width - 1))

    @property
    def highest(self) -> int:
        """The largest value in steps."""
        return (1 << (self.width - self.signed)) - 1

    @property
    def text(self) -> str:
        """The type as hls4ml writes it."""
        name = "fixed" if self.signed else "ufixed"
        return f"{name}<{self.width},{self.integer},{self.rounding},{self.overflow}>"

    def array_rounding(self, positive: bool) -> tuple[Rounding, bool]:
        """Return the array's rounding, and whether its results are equal."""
        rounding, of_positive = _ON_ARRAY[self.rounding]
        return rounding, positive or not of_positive

    def holds(self, low: float, high: float) -> bool:
        """Return whether real values from low to high are within the range."""
        return self.lowest * self.step <= low and high <= self.highest * self.step

    def cast(self, values: Any) -> Array:
        """Return the integers (float64, in steps) of real values."""
        rounded = ROUND[self.rounding](np.asarray(values, np.float64) / self.step)
        if self.overflow == "WRAP":
            return np.asarray((rounded - self.lowest) % 2.0**self.width + self.lowest)
        if self.overflow == "SAT_ZERO":
            inside = (rounded >= self.lowest) & (rounded <= self.highest)
            return np.where(inside, rounded, 0.0)
        return np.asarray(np.clip(rounded, self.lowest, self.highest))


def fixed_of(precision: Any, where: str) -> Fixed:
    """Return the type of an hls4ml precision; BadModel for one that is no fixed-point number."""
    try:
        return Fixed(
            int(precision.width),
            int(precision.integer),
            bool(precision.signed),
            str(precision.rounding_mode or "TRN"),
            str(precision.saturation_mode or "WRAP"),
        )
    except (AttributeError, TypeError):
        raise BadModel(
            f"{where}: the type {precision} is no fixed-point number; allowed are fixed<W,I>, "
            "ufixed<W,I>, int<W> and uint<W>: set the precision of this layer in hls_config"
        ) from None


def cast_weights(fixed: Fixed, values: Any) -> Array:
    """Return the integers (int64) of weights as hls4ml's projects have them: a project holds them
    as text with as many decimals as the type has bits behind the point."""
    flat = np.asarray(values, np.float64).reshape(-1)
    digits = max(0, fixed.fraction)
    printed = np.array([float(f"{value:.{digits}f}") for value in flat])
    return np.asarray(fixed.cast(printed).astype(np.int64).reshape(np.shape(values)))
