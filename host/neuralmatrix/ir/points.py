# SPDX-License-Identifier: Apache-2.0
"""Points of a MatGraph: places whose value range calibration measures.

In: the name of a tensor.  Out: ``Point``, the key of ranges; ``Ranges``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

At = Literal["output", "pre_activation", "pre_product"]


@dataclass(frozen=True)
class Point:
    """A place at the operation that makes ``tensor``.

    "output" is the tensor itself, "pre_activation" the argument of the activation and
    "pre_product" what the Hadamard operand multiplies.
    """

    tensor: str
    at: At = "output"

    def __str__(self) -> str:
        return self.tensor if self.at == "output" else f"{self.tensor} ({self.at})"


Interval = tuple[float, float]  # lo, hi
Ranges = Mapping[Point, Interval]
