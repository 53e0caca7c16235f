# SPDX-License-Identifier: Apache-2.0
"""The integers of row statistics (docs/numerics.md, "Row statistic").

In: the statistics of an operation's rows, the scales of its tensors.  Out: multipliers and
shifts that keep 15 significant bits, proven not to overflow 32 bits; otherwise DoesNotFit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..errors import DoesNotFit
from ..hardware.isa import Stat
from ..ir.matgraph.ops import Gemm, RowStat, Window
from ..ir.types import QParams

LARGEST_VALUE = 32768  # of an int16 result, either sign
MOST_SHIFT = 31
# A statistic's scale is at least this part of one unit of its sum: the multiplier has 15 bits.
FINEST = 2.0**-14


@dataclass(frozen=True)
class IntegerRowStats:
    """The statistic's fields of an EPILOGUE instruction; ``u_shift`` is the shift of squares."""

    stat: Stat = Stat.NONE
    stat_m: int = 0
    stat_shift: int = 0
    stat_off: int = 0
    sq_m: int = 0
    sq_shift: int = 0
    u_shift: int = 0


def integer_row_stats(
    op: Gemm | Window, channels: int, out: QParams, qparams: Mapping[str, QParams]
) -> IntegerRowStats:
    """Return all integers of the statistics of ``op``, whose rows have ``channels`` results."""
    rows = {row.kind: row for row in op.epilogue.rows}
    if not rows:
        return IntegerRowStats()
    if "max" in rows:
        return IntegerRowStats(Stat.MAX)
    where = op.source or repr(op.output)
    _prove_sum(channels, out, where)
    total = rows.get("sum") or rows.get("mean")
    m, shift = (0, 0) if total is None else _total(total, channels, out, qparams, where)
    off = -channels * out.zero_point
    if "square" not in rows:
        return IntegerRowStats(Stat.SUM, m, shift, off)
    u_shift = square_shift(channels)
    unit = square_unit(channels, out)
    sq_m, sq_shift = ratio(unit / qparams[rows["square"].tensor].scale, where)
    return IntegerRowStats(Stat.MOMENTS, m, shift, off, sq_m, sq_shift, u_shift)


def _total(
    row: RowStat, channels: int, out: QParams, qparams: Mapping[str, QParams], where: str
) -> tuple[int, int]:
    unit = out.scale / channels if row.kind == "mean" else out.scale
    return ratio(unit / qparams[row.tensor].scale, where)


def _prove_sum(channels: int, out: QParams, where: str) -> None:
    peak = max(abs(out.qmin - out.zero_point), abs(out.qmax - out.zero_point), LARGEST_VALUE)
    if channels * peak >= 2**31:
        raise DoesNotFit(
            f"{where}: the sum over {channels} channels of int16 values does not fit 32 bits; "
            f"allowed are {2**31 // peak - 1}; normalise over fewer channels"
        )


def square_shift(channels: int) -> int:
    """Return the least right shift of int16 squares with which their sum stays below 2^31."""
    shift = 0
    while channels * (2**30 >> shift) >= 2**31:
        shift += 1
    return shift


def square_unit(channels: int, out: QParams) -> float:
    """Return the real mean square of one unit of the sum of shifted squares."""
    return out.scale**2 * 2.0 ** square_shift(channels) / channels


def least_scale(row: RowStat, channels: int, out: QParams) -> float:
    """Return the finest scale that a statistic can have."""
    unit = square_unit(channels, out) if row.kind == "square" else out.scale
    return unit * FINEST


def ratio(real: float, where: str) -> tuple[int, int]:
    """Return m of 15 bits and a shift with m / 2^shift = real."""
    fraction, exponent = np.frexp(real)
    m, shift = int(np.rint(fraction * 2**15)), 15 - int(exponent)
    if m == 2**15:
        m, shift = m // 2, shift - 1
    if not 0 <= shift <= MOST_SHIFT:
        raise DoesNotFit(
            f"{where}: a row statistic needs the multiplier {real:g}; allowed are 2^-17 to 2^15; "
            "calibrate with inputs whose rows have more similar ranges"
        )
    return m, shift


__all__ = [
    "IntegerRowStats",
    "integer_row_stats",
    "least_scale",
    "ratio",
    "square_shift",
    "square_unit",
]
