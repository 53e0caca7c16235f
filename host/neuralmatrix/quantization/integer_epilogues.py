# SPDX-License-Identifier: Apache-2.0
"""From real-valued epilogues to the integers of docs/numerics.md.

In: the real value of one accumulator step per channel, an Epilogue, the scales of its operands.
Out: a QEpilogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from ..errors import BadInput
from ..ir.functions import is_jump, kinks, pole_between
from ..ir.matgraph.ops import Epilogue
from ..ir.points import Interval, Point, Ranges
from ..ir.types import Array, Function, QParams, Rounding
from .integer_row_statistics import IntegerRowStats
from .pwl.near import fit_near, rounded_up
from .pwl.summed import fit_summed
from .pwl.table import PwlTable, aligned_scale
from .qgraph import QEpilogue

FRACTION_BITS = 20  # F where a residual's ratio and the channel multipliers allow it
MAX_SHIFT = 55
MANY = 128  # powers whose errors, added up, are a part of their sum
INT16 = 2**15 - 1
INT24 = 2**23 - 1
# Terms that are 0 for most arguments: a table's error there would add up.
NEVER_BELOW_0 = frozenset({"exp_part"})


NO_ROWS = IntegerRowStats()


@dataclass(frozen=True)
class Stage:
    """The input of the epilogue: ``step`` is the real value of one accumulator unit, ``bias``
    counts such units."""

    name: str
    step: Array  # (C,)
    bias: Array  # (C,)
    epilogue: Epilogue = Epilogue()


@dataclass(frozen=True)
class Plan:
    """Scales inside one epilogue: of x, of y, and the Hadamard shift."""

    x_scale: float
    y_scale: float
    u_shift: int = 0
    table: PwlTable | None = None


@dataclass(frozen=True)
class Gains:
    """Multipliers in front of x: ``m / 2^s`` per channel of the accumulator, ``mt`` of the
    residual, both times 2^f_shift."""

    m: Array  # int32 (C,), 24 bits
    s: Array  # uint8 (C,)
    f_shift: int
    mt: int


def build_epilogue(
    stage: Stage,
    out: QParams,
    spans: Ranges | None = None,
    qparams: Mapping[str, QParams] | None = None,
    rows: IntegerRowStats = NO_ROWS,
    segments: int = 0,
) -> QEpilogue:
    """Return all integers of an epilogue.  ``spans`` holds the points before its activation and its
    Hadamard product, where it has them; its table has at most ``segments`` segments."""
    spans, qparams = spans or {}, qparams or {}
    e = stage.epilogue
    out = replace(out, scale=out.scale / e.factor)  # the scale of what the factor multiplies
    u = qparams[e.hadamard] if e.hadamard else None
    t = qparams[e.residual] if e.residual else None
    plan = _plan(stage, out, t, u, spans, segments)
    gains = _gains(stage, plan, t)
    lo, hi = _clamp(e.activation if plan.table is None else None, out)
    if plan.table is not None and e.hadamard is None:
        lo, hi = plan.table.y_clip[0] + out.zero_point, plan.table.y_clip[1] + out.zero_point
    made = QEpilogue(
        bias=stage.bias.astype(np.int32),
        m=gains.m,
        s=gains.s,
        f_shift=gains.f_shift,
        off=_nudge(out.rounding, gains.f_shift) - gains.mt * (t.zero_point if t else 0),
        mt=gains.mt,
        uz=u.zero_point if u else 0,
        u_shift=plan.u_shift,
        zp=out.zero_point,
        lo=lo,
        hi=hi,
        table=plan.table,
        residual=e.residual,
        hadamard=e.hadamard,
    )
    return _with_statistics(made, rows)


def _nudge(rounding: Rounding, f_shift: int) -> int:
    """Return what makes the array's rounding, halves to even, the prescribed one.

    Values of prescribed scales that are powers of two are multiples of at least two of the
    2^f_shift parts of a step: one part more moves halves alone, and half a step less makes the
    nearest value that below.
    """
    half = (1 << f_shift) >> 1
    return {"even": 0, "up": 1, "down": -1, "floor": 1 - half}[rounding]


def _with_statistics(made: QEpilogue, rows: IntegerRowStats) -> QEpilogue:
    """Return ``made`` with the statistics of its rows; squares need a shift of their own."""
    return replace(
        made,
        u_shift=rows.u_shift or made.u_shift,
        stat=rows.stat,
        stat_m=rows.stat_m,
        stat_shift=rows.stat_shift,
        stat_off=rows.stat_off,
        sq_m=rows.sq_m,
        sq_shift=rows.sq_shift,
    )


def _gains(stage: Stage, plan: Plan, t: QParams | None) -> Gains:
    """Return the multipliers that bring the accumulator and the residual ``t`` to the scale of
    x."""
    ratio = stage.epilogue.residual_gain * t.scale / plan.x_scale if t else 0.0
    ratio = float(np.clip(ratio, -INT24, INT24))
    gain = np.float32(stage.step) / np.float32(plan.x_scale)
    f_shift = _fraction_bits(gain, ratio)
    m, s = multipliers(gain, f_shift)
    return Gains(m, s, f_shift, mt=int(np.rint(ratio * 2**f_shift)))


def multipliers(real: Array, f_shift: int) -> tuple[Array, Array]:
    """Return 24-bit m and shift s with m / 2^s = real * 2^f_shift to 23 bits."""
    target = np.asarray(real, np.float64) * 2.0**f_shift
    fraction, exponent = np.frexp(target)
    s = np.clip(23 - exponent, 0, MAX_SHIFT)
    m = np.rint(target * 2.0**s)
    over = np.abs(m) > INT24  # 0.99999999 rounds up to 2^23
    s = np.where(over & (s > 0), s - 1, s)
    m = np.clip(np.rint(target * 2.0**s), -INT24, INT24)
    return m.astype(np.int32), s.astype(np.uint8)


def _fraction_bits(gain: Array, ratio: float) -> int:
    """Return the largest F up to FRACTION_BITS whose multipliers still fit 24 bits."""
    peak = max(float(np.abs(gain).max(initial=0.0)), abs(ratio), 2.0**-30)
    return int(np.clip(np.floor(np.log2(INT24 / peak)), 0, FRACTION_BITS))


def _plan(
    stage: Stage,
    out: QParams,
    t: QParams | None,
    u: QParams | None,
    spans: Ranges,
    segments: int,
) -> Plan:
    activation = stage.epilogue.activation
    y_scale, u_shift = out.scale, 0
    if u is not None:
        act = spans[Point(stage.name, "pre_product")]
        y_scale, u_shift = _hadamard_scale(out, u, max(-act[0], act[1], 1e-30))
    if activation is None or (activation.name in CLAMPS and _ends_in_clamp(stage)):
        return Plan(y_scale, y_scale, u_shift)
    lo, hi = spans[Point(stage.name, "pre_activation")]
    _check_poles(stage.name, activation, lo, hi)
    least = t.scale if t else 0.0  # one step of x may not be far finer than one of t
    x_scale = _x_scale(activation, (lo, hi), least)
    clip = _caps(activation, out) if u is None else (-INT16, INT16)
    summed = any(row.kind == "sum" for row in stage.epilogue.rows) and len(stage.step) > MANY
    table = _table(activation, x_scale, (lo, hi), y_scale, clip, segments, summed)
    return Plan(x_scale, y_scale, u_shift, table)


def _check_poles(name: str, activation: Function, lo: float, hi: float) -> None:
    """Raise BadInput where a function is infinite within the range of its input."""
    pole = pole_between(activation, lo, hi)
    if pole is not None:
        raise BadInput(
            f"{name}: {activation.name} is infinite at {pole:.5g}, within the range {lo:.4g} to "
            f"{hi:.4g} of its input; allowed is a range between two poles: clip the input, or end "
            "the model in front of it with outputs="
        )


def _caps(activation: Function, out: QParams) -> tuple[int, int]:
    """Return the quantised values, without zero point, that bound the result of a table."""
    lo, hi = out.qmin - out.zero_point, out.qmax - out.zero_point
    return (max(lo, 0) if activation.name in NEVER_BELOW_0 else lo), hi


def _ends_in_clamp(stage: Stage) -> bool:
    """Return whether neither a product nor a square reads the value before the clamp."""
    e = stage.epilogue
    return e.hadamard is None and all(row.kind != "square" for row in e.rows)


def _x_scale(activation: Function, x_range: Interval, least: float) -> float:
    """Return the scale of x; it is negative where x is, because octaves count from the left."""
    lo, hi = x_range
    corners = [corner for corner in kinks(activation) if lo < corner < hi]
    ends = [corner for corner in corners if is_jump(activation, corner)]
    if len(ends) == 2 and len(corners) == 2:
        corners = [ends[1] - ends[0]]  # segments begin at both
    scale = aligned_scale(max(-lo, hi, least) or 1.0, corners)
    if not any(corners):  # else a corner chose the scale
        scale = rounded_up(scale)
    return -scale if lo < 0 and hi <= 0 else scale


@lru_cache(maxsize=4096)  # layers of a network and trials of mixed precision repeat tables
def _table(
    activation: Function,
    x_scale: float,
    x_range: Interval,
    y_scale: float,
    y_clip: tuple[int, int],
    segments: int,
    summed: bool,
) -> PwlTable:
    lo, hi = sorted(end / x_scale for end in x_range)
    span = (int(np.floor(lo)), int(np.ceil(hi)))
    fitted = fit_summed if summed and activation.name == "exp" else fit_near
    return fitted(activation, x_scale, span, y_scale, y_clip, segments)


def _hadamard_scale(out: QParams, u: QParams, peak: float) -> tuple[float, int]:
    """Return a scale of y with which the product needs only a shift: out = 2^n * y * u."""
    n = int(np.floor(np.log2(max(INT16 * out.scale / (u.scale * peak), 1.0))))
    n = int(np.clip(n, 0, 31))
    return out.scale / (u.scale * 2.0**n), n


def _relu(out: QParams, params: tuple[float, ...]) -> tuple[int, int]:
    return max(out.qmin, out.zero_point), out.qmax


def _clip(out: QParams, params: tuple[float, ...]) -> tuple[int, int]:
    ends = np.rint(np.clip(np.asarray(params) / out.scale, -1e6, 1e6)) + out.zero_point
    lo, hi = (int(np.clip(end, out.qmin, out.qmax)) for end in ends)
    return lo, hi


CLAMPS = {"relu": _relu, "clip": _clip}


def _clamp(activation: Function | None, out: QParams) -> tuple[int, int]:
    """Return the lowest and highest quantised output; ReLU and Clip are exact."""
    if activation is None:
        return out.qmin, out.qmax
    return CLAMPS[activation.name](out, activation.params)
