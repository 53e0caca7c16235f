# SPDX-License-Identifier: Apache-2.0
"""Room of int8 tensors for what the samples miss.

In: the ends of a tensor in every run, how much room there may be.  Out: by how much its range
grows; 1 where all runs end alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.points import Interval
from ..ir.types import Array

FEWEST = 8  # runs whose largest say how far others may reach
ONE_IN = 4  # runs is of the tail


@dataclass(frozen=True)
class Room:
    """``many``: runs whose largest hardly any new one passes.  ``beyond``: most mean excesses of
    the tail beyond its largest.  ``most``: the largest factor."""

    many: int
    beyond: float
    most: float


USUAL = Room(256, 2.0, 1.5)
# Of networks that look for what is rare: what they find is in the tail of every tensor.
RARE = Room(4096, 4.0, 2.0)


def tail_room(ends: Sequence[Interval], room: Room = USUAL) -> tuple[float, float]:
    """Return the factors of the low and of the high end of the range of all runs.

    The mean excess of the largest runs over the next one says how far new runs go beyond.  Values
    of fixed bounds, such as pixels, have none.
    """
    if len(ends) < FEWEST:
        return 1.0, 1.0
    lows, highs = np.asarray(ends, np.float64).T
    return _growth(-lows, room), _growth(highs, room)


def _growth(peaks: Array, room: Room) -> float:
    tail = np.sort(peaks)[::-1][: len(peaks) // ONE_IN + 1]
    if tail[0] <= 0:
        return 1.0
    excess = float(np.mean(tail[:-1]) - tail[-1])
    # in an exponential tail, the largest of e times as many runs is one mean excess larger
    times = float(np.clip(np.log(room.many / len(peaks)), 0.0, room.beyond))
    return min(room.most, 1.0 + times * excess / float(tail[0]))
