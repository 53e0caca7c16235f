# SPDX-License-Identifier: Apache-2.0
"""Tables of powers of which many are added up, as by a softmax over many classes.

In: a Function, quantised range and scales.  Out: ``PwlTable``.

Where all errors of a table are equal, those of the smallest powers, which most terms are, add up to
a part of the sum.  Here the error that a power may have falls with its root.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial

import numpy as np

from ...ir.functions import evaluate, kinks
from ...ir.types import Function
from .knots import covering_knots
from .table import GOOD_ENOUGH, PwlTable, pose, table_of

LEAST = 2.0**-6  # of the largest error: that of powers below a step


@lru_cache(maxsize=256)
def fit_summed(
    function: Function,
    x_scale: float,
    x_range: tuple[int, int],
    y_scale: float,
    y_clip: tuple[int, int],
    max_segments: int,
) -> PwlTable:
    """Return a table like ``fit``, whose errors fall with the root of the result."""
    given = pose(partial(evaluate, function), x_scale, x_range, y_scale, y_clip, kinks(function))
    share = np.maximum(given.capped, 0) / max(float(given.capped.max()), 1.0)
    problem = replace(given, tolerance=np.maximum(np.sqrt(share), LEAST))
    knots = covering_knots(problem, max_segments, GOOD_ENOUGH)
    return table_of(problem, knots.index, x_scale, y_scale, knots.slopes)


__all__ = ["fit_summed"]
