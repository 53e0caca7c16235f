# SPDX-License-Identifier: Apache-2.0
"""What calibration chose beside ranges, so that the same integers can be made again.

In: nothing.  Out: ``Recipe``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """What calibration chose beside ranges: tensors raised to int16 (precision mixed), the factors
    their makers' channels are divided by, and shifts of biases; by tensor name, one per channel."""

    raised: tuple[str, ...] = ()
    factors: tuple[tuple[str, tuple[float, ...]], ...] = ()
    shifts: tuple[tuple[str, tuple[float, ...]], ...] = ()
