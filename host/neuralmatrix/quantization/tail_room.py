# SPDX-License-Identifier: Apache-2.0
"""Room of int8 tensors for what the samples miss.

In: the ends of a tensor in every run.  Out: by how much its range grows; 1 where all runs end
alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ir.points import Interval
from ..ir.types import Array

FEWEST = 8  # runs whose largest say how far others may reach
ONE_IN = 4  # runs is of the tail
MANY = 256  # runs whose largest hardly any new one passes
BEYOND = 2.0  # most mean excesses of the tail beyond its largest
MOST = 1.5


def tail_room(ends: Sequence[Interval]) -> tuple[float, float]:
    """Return the factors of the low and of the high end of the range of all runs.

    The mean excess of the largest runs over the next one says how far new runs go beyond.  Values
    of fixed bounds, such as pixels, have none.
    """
    if len(ends) < FEWEST:
        return 1.0, 1.0
    lows, highs = np.asarray(ends, np.float64).T
    return _growth(-lows), _growth(highs)


def _growth(peaks: Array) -> float:
    tail = np.sort(peaks)[::-1][: len(peaks) // ONE_IN + 1]
    if tail[0] <= 0:
        return 1.0
    excess = float(np.mean(tail[:-1]) - tail[-1])
    # in an exponential tail, the largest of e times as many runs is one mean excess larger
    times = float(np.clip(np.log(MANY / len(peaks)), 0.0, BEYOND))
    return min(MOST, 1.0 + times * excess / float(tail[0]))
