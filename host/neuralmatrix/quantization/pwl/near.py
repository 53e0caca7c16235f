# SPDX-License-Identifier: Apache-2.0
"""Tables of problems that differ little: the index is found once for all of them.

In: a Function, quantised range and scales.  Out: ``PwlTable``, with lines of the exact scales.

Trials of calibrations change scales and ranges by little, and the search for an index takes far
longer than its lines.  So the index is that of a problem with a range and caps rounded outwards.
"""

from __future__ import annotations

from functools import lru_cache, partial

import numpy as np

from ...hardware.isa import SegKind
from ...ir.functions import evaluate, kinks
from ...ir.types import Array, Function
from ..compile_cache import remembered
from .index import INT16_HI, INT16_LO, Index
from .table import PwlTable, best_lines, fit, pose, spread, table_of

X_PLACES = 16  # rounded ranges of an octave
Y_PLACES = 8  # rounded caps of an octave
COARSE = 64  # an end of fewer steps stays
SAMPLES = 257  # points that find out whether a cap matters


def rounded_up(value: float, places: int = X_PLACES) -> float:
    """Return the least of ``places`` values of an octave that is at least a positive ``value``."""
    return float(2.0 ** (np.ceil(np.log2(value) * places - 1e-9) / places))


def fit_near(
    function: Function,
    x_scale: float,
    x_range: tuple[int, int],
    y_scale: float,
    y_clip: tuple[int, int],
    max_segments: int,
) -> PwlTable:
    """Return a table like ``fit``, whose index is shared by all ranges and scales nearby.

    A table that would miss its bar has an index of its own, if that is better.
    """
    real, corners = partial(evaluate, function), kinks(function)
    problem = pose(real, x_scale, x_range, y_scale, y_clip, corners)
    wide = _wide(function, x_scale, x_range, y_scale, y_clip)
    near = _near(function, x_scale, *wide, max_segments) if wide else None
    found = None
    if near is not None and near[2] == len(problem.kinks):  # else one has a jump of its own
        found = table_of(problem, near[0], x_scale, y_scale, near[1] / y_scale)
        if found.worst_error <= found.bar:
            return found
    own = fit(real, x_scale, x_range, y_scale, y_clip, max_segments, kinks=corners)
    return own if found is None or own.worst_error < found.worst_error else found


@lru_cache(maxsize=4096)
def _near(
    function: Function,
    x_scale: float,
    x_range: tuple[int, int],
    y_scale: float,
    y_clip: tuple[int, int],
    max_segments: int,
) -> tuple[Index, Array, int]:
    """Return the best index, slopes of all its segments in real y, and the number of kinks."""
    return remembered("index", _fitted, function, x_scale, x_range, y_scale, y_clip, max_segments,
                      classes={"Index": Index, "SegKind": SegKind})  # fmt: skip


def _fitted(
    function: Function,
    x_scale: float,
    x_range: tuple[int, int],
    y_scale: float,
    y_clip: tuple[int, int],
    max_segments: int,
) -> tuple[Index, Array, int]:
    real = partial(evaluate, function)
    problem = pose(real, x_scale, x_range, y_scale, y_clip, kinks(function))
    index, lines = best_lines(problem, max_segments, "auto")
    slopes = lines.k[spread(index, problem)] / 2.0 ** lines.sh[spread(index, problem)]
    return index, np.asarray(slopes * y_scale), len(problem.kinks)


Wide = tuple[tuple[int, int], float, tuple[int, int]]


def _wide(function: Function, x_scale: float, x_range: tuple[int, int], y_scale: float,
          y_clip: tuple[int, int]) -> Wide | None:  # fmt: skip
    """Return range, scale and caps that hold these and those nearby; None if the function is
    undefined there."""
    lo, hi = _outwards(*x_range, X_PLACES)
    lo = lo if abs(x_range[0]) >= COARSE else x_range[0]  # a step more may reach a pole
    hi = hi if abs(x_range[1]) >= COARSE else x_range[1]
    span = max(int(np.floor(lo)), INT16_LO), min(int(np.ceil(hi)), INT16_HI)
    with np.errstate(all="ignore"):
        y = evaluate(function, np.linspace(*span, SAMPLES) * x_scale)
    if np.isnan(y).any():
        return None
    low, high = _outwards(y_clip[0] * y_scale, y_clip[1] * y_scale, Y_PLACES)
    low, high = max(low, float(y.min())), min(high, float(y.max()))
    if not low < high:
        return None
    # finer steps than the exact ones, unless they would exceed int16
    finest = max(-low, high) / (INT16_HI - 2)
    step = max(1 / rounded_up(1 / y_scale, 2), rounded_up(finest, 2))
    return span, step, (int(np.floor(low / step)) - 1, int(np.ceil(high / step)) + 1)


def _outwards(low: float, high: float, places: int) -> tuple[float, float]:
    """Return an interval that holds this one, of few values; no end changes its sign."""
    return -_upwards(-low, places), _upwards(high, places)


def _upwards(value: float, places: int) -> float:
    if value == 0:
        return 0.0
    return rounded_up(value, places) if value > 0 else -1 / rounded_up(-1 / value, places)
