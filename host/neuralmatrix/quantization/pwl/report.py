# SPDX-License-Identifier: Apache-2.0
"""One piecewise-linear table for people: fitted to a range and an error, reported as JSON.

In: a function, a range, the bound on the table's error and size.  Out: ``PwlTable`` and a dict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import BadInput
from ...ir.functions import FUNCTIONS, evaluate, kinks
from ...ir.types import Array, Function
from .index import INT16_HI, INT16_LO, segment_index
from .lines import starts_of
from .table import PwlTable, aligned_scale, fit, lookup

if TYPE_CHECKING:
    from ..qgraph import QGraph

MOST = 64  # segments that the lanes of every board hold
TINY, HUGE = 1e-30, 1e30  # float32 holds the scales of values between these


@dataclass(frozen=True)
class Wanted:
    """The function and range of a table, and the bounds on it.  ``error`` is in real units,
    rounding of the result included."""

    function: Function
    x_range: tuple[float, float]
    bits: int = 16
    kind: str = "auto"
    segments: int = MOST
    error: float | None = None


def make_table(wanted: Wanted) -> PwlTable:
    """Return the best table, or the smallest that meets ``wanted.error``.

    BadInput: unknown function, a range outside its domain, an error out of reach.
    """
    _check(wanted)
    lo, hi = wanted.x_range
    inside = [corner for corner in kinks(wanted.function) if lo < corner < hi]
    x_scale = aligned_scale(max(-lo, hi), inside) * (-1 if lo < 0 and hi <= 0 else 1)
    ends = sorted((lo / x_scale, hi / x_scale))
    x_range = (int(np.ceil(ends[0] - 1e-6)), int(np.floor(ends[1] + 1e-6)))
    y_scale, clip = _output(wanted, np.arange(x_range[0], x_range[1] + 1) * x_scale)

    function = partial(evaluate, wanted.function)
    fit_to = partial(fit, function, x_scale, x_range, y_scale, clip, kinks=inside)
    best = fit_to(wanted.segments, kind=wanted.kind)
    if wanted.error is None:
        return best
    if best.worst_error * y_scale > wanted.error:
        raise BadInput(
            f"{wanted.function.name} with at most {wanted.segments} segments has the error "
            f"{best.worst_error * y_scale:.3g} at {wanted.bits} bits (one step is {y_scale:.3g}), "
            f"wanted is {wanted.error:.3g}; allow a larger error, more bits or segments, or narrow "
            "the range"
        )
    for kind in ("uniform", "log", "mapped") if wanted.kind == "auto" else (wanted.kind,):
        best = _smallest(partial(fit_to, kind=kind), best, wanted.error / y_scale)
    return best


def _check(wanted: Wanted) -> None:
    name, params = wanted.function.name, wanted.function.params
    if name not in FUNCTIONS:
        raise BadInput(f"no function {name!r}; known are {', '.join(sorted(FUNCTIONS))}")
    lo, hi = wanted.x_range
    if not (np.isfinite([lo, hi]).all() and lo < hi):
        raise BadInput(f"the range is {lo:g} to {hi:g}; give two finite numbers in rising order")
    if not TINY <= max(-lo, hi) <= HUGE:
        raise BadInput(
            f"the range is {lo:g} to {hi:g}; its larger end must be {TINY:g} to {HUGE:g} in size"
        )
    if wanted.bits not in (8, 16):
        raise BadInput(f"{wanted.bits} bits; results are int8 or int16, give 8 or 16")
    if wanted.error is not None and not wanted.error > 0:
        raise BadInput(f"the error is {wanted.error:g}; give a positive number")
    try:
        evaluate(wanted.function, [lo])
    except TypeError as error:
        raise BadInput(f"{name} has {len(params)} parameter(s): {error}; use --param") from None


def _output(wanted: Wanted, x: Array) -> tuple[float, tuple[int, int]]:
    """Return scale and caps of the result, as the quantiser chooses them."""
    y = evaluate(wanted.function, x)
    if not np.isfinite(y).all():
        at = x[~np.isfinite(y)][0]
        raise BadInput(
            f"{wanted.function.name} is infinite or undefined at x = {at:g}; "
            "give a range without that point"
        )
    lo, hi = min(float(y.min()), 0.0), max(float(y.max()), 0.0)
    if wanted.bits == 16:
        return max(-lo, hi, 1e-30) / 32000, (-32640, 32639)
    y_scale = max(hi - lo, 1e-30) / 255
    zero_point = -128 - round(lo / y_scale)
    return y_scale, (-128 - zero_point, 127 - zero_point)


def _smallest(of_at_most: Callable[[int], PwlTable], best: PwlTable, steps: float) -> PwlTable:
    """Return the smallest table within ``steps`` by bisection over the segments, else ``best``."""
    low, high = 1, min(best.table_bytes // 8, MOST) + 1
    while high - low > 1:
        middle = (low + high) // 2
        table = of_at_most(middle)
        if table.worst_error > steps:
            low = middle
            continue
        high = min(middle, table.count)
        best = min(best, table, key=lambda t: (t.table_bytes, t.worst_error))
    return best


# ------------------------------------------------------------------------------ JSON


def table_report(wanted: Wanted, seg: PwlTable) -> dict[str, Any]:
    """Return the report of a table: errors, size, segments, and the results outside its range."""
    return {
        "function": wanted.function.name,
        "params": list(wanted.function.params),
        "range": list(wanted.x_range),
        "bits": wanted.bits,
        "index": seg.kind.name.lower(),
        "x0": seg.x0,
        "shift": seg.shift,
        "segments": seg.count,
        "cells": 0 if seg.cells is None else len(seg.cells),
        "table_bytes": seg.table_bytes,
        "x_per_code": seg.in_scale,
        "y_per_step": seg.out_scale,
        **_error_facts(seg),
        "outside": _outside(wanted.function, seg),
        "rows": _rows(wanted.function, seg),
    }


def _error_facts(seg: PwlTable) -> dict[str, Any]:
    """Return errors in output steps and in real units, and the allowed error."""
    inputs = seg.x_range[1] - seg.x_range[0] + 1
    return {
        "worst_steps": seg.worst_error,
        "mean_steps": seg.mean_error,
        "worst_error": seg.worst_error * seg.out_scale,
        "mean_error": seg.mean_error * seg.out_scale,
        "bar_steps": seg.bar,
        "meets_bar": seg.worst_error <= seg.bar,
        "basis": f"measured over all {inputs} input values of the range, rounding included",
    }


def _rows(function: Function, seg: PwlTable) -> list[dict[str, Any]]:
    """Return one row per segment that the range reaches, in the order of x."""
    x, error, owner = errors_by_code(function, seg)
    starts = starts_of(owner)
    ends = np.append(starts[1:], len(x)) - 1
    worst = np.maximum.reduceat(error, starts)
    rows = [
        {
            "segment": int(owner[first]),
            "from": float(x[first] * seg.in_scale),
            "to": float(x[last] * seg.in_scale),
            **_line(seg, int(owner[first])),
            "worst_steps": float(w),
        }
        for first, last, w in zip(starts, ends, worst, strict=True)
    ]
    if seg.in_scale > 0:
        return rows
    return [{**row, "from": row["to"], "to": row["from"]} for row in reversed(rows)]


def _line(seg: PwlTable, i: int) -> dict[str, Any]:
    k, b, sh = int(seg.k[i]), int(seg.b[i]), int(seg.sh[i])
    slope = k / 2**sh * seg.out_scale / seg.in_scale
    half = 2.0 ** (sh - 1) if sh else 0.0
    return {"k": k, "b": b, "sh": sh, "slope": slope,
            "intercept": (b - half) / 2**sh * seg.out_scale}  # fmt: skip


def errors_by_code(function: Function, seg: PwlTable) -> tuple[Array, Array, Array]:
    """Return the quantised x of the range, the error of each in output steps, and its segment."""
    x = np.arange(seg.x_range[0], seg.x_range[1] + 1)
    wanted = np.clip(evaluate(function, x * seg.in_scale) / seg.out_scale, *seg.y_clip)
    got = np.clip(lookup(seg, x), *seg.y_clip)
    return x, np.abs(got - wanted), segment_index(seg.index, x)


def _outside(function: Function, seg: PwlTable) -> list[dict[str, Any]]:
    """Return the results left and right of the range: the last line extends to where x
    saturates."""
    sides = ((seg.x_range[0], INT16_LO), (seg.x_range[1], INT16_HI))
    found = []
    for edge, last in sides if seg.in_scale > 0 else sides[::-1]:
        x = np.arange(min(edge, last), max(edge, last) + 1)
        with np.errstate(over="ignore"):
            want = evaluate(function, x * seg.in_scale) / seg.out_scale
        want = np.clip(want, *seg.y_clip)
        error = np.abs(np.clip(lookup(seg, x), *seg.y_clip) - want)
        y = int(np.clip(lookup(seg, np.array([last]))[0], *seg.y_clip))
        found.append(
            {
                "from": edge * seg.in_scale,
                "to": last * seg.in_scale,
                "result_at_the_end_and_beyond": y * seg.out_scale,
                "worst_steps": float(error.max()) if np.isfinite(error).all() else None,
            }
        )
    return found


def table_notes(graph: QGraph) -> tuple[str, ...]:
    """Return one line for every table of a network whose error exceeds the allowed one."""
    found = []
    for qop in graph.ops:
        table = qop.epilogue.table if qop.epilogue else None
        if table is None or table.worst_error <= table.bar:
            continue
        ends = sorted(end * table.in_scale for end in table.x_range)
        found.append(
            f"{qop.op.source or qop.op.output}: its table of {table.count} segments has errors "
            f"up to {table.worst_error:.1f} output steps (at most {table.bar:g} is expected) over "
            f"{ends[0]:.4g} to {ends[1]:.4g}; narrow the input's range"
        )
    return tuple(found)
