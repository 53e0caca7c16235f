# SPDX-License-Identifier: Apache-2.0
"""The epilogues of the integer reference, on blocks of rows of accumulators.

In: a QEpilogue, accumulators and operands as integers in floats.  Out: results as docs/numerics.md
defines them, bit for bit.
A shift right is a product with 2^-n and a floor, exact in float64 while the integers stay below
2^53; where they may not, the sum is made in int64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..hardware.isa import Stat
from ..ir.types import Array
from .pwl.index import INT16_HI, INT16_LO
from .pwl.table import PwlTable, lookup
from .qgraph import QEpilogue

SUM_LO, SUM_HI = -32640, 32639  # a sum or mean is int16
EXACT = 2.0**52
PEAK = 2.0**15  # the largest |operand|
MANY = 1 << 15  # looked-up values from which on a list of all results pays

Lookup = Callable[[Array], Array]


@dataclass(frozen=True)
class Rows:
    """One block: results ``q``, and ``y`` before zero point and clamp; float64 (rows, C)."""

    q: Array
    y: Array


@dataclass(frozen=True)
class Finish:
    """The epilogue of one operation; ``residual`` and ``hadamard`` hold all rows, of C or 1 values.

    ``reach``: no |accumulator| is larger.  ``table`` looks up all y of an array of x.
    """

    e: QEpilogue
    reach: float
    residual: Array | None = None
    hadamard: Array | None = None
    table: Lookup | None = None

    @cached_property
    def _bias(self) -> Array:
        return self.e.bias.astype(np.float64)

    @cached_property
    def _gain(self) -> Array:
        return np.asarray(self.e.m * 2.0 ** -self.e.s.astype(np.float64))

    @cached_property
    def _largest_gain(self) -> float:
        return float(np.abs(self._gain).max(initial=0.0))

    @cached_property
    def _always_exact(self) -> bool:
        return self._is_exact(self.reach + float(np.abs(self._bias).max(initial=0.0)))

    def _is_exact(self, largest: float) -> bool:
        """Return whether float64 holds every step for |acc + bias| up to ``largest``."""
        e = self.e
        total = largest * self._largest_gain + abs(e.off) + PEAK * abs(e.mt)
        return largest < 2.0**29 and total < EXACT

    def rows(self, part: slice, acc: Array) -> Rows:
        """Return the results of the accumulators of the rows ``part``."""
        e = self.e
        a = np.add(acc, self._bias)
        exact = self._always_exact or self._is_exact(float(np.abs(a).max(initial=0.0)))
        y = self._in_float(a, part) if exact else self._in_int64(a, part)
        if self.table is None and self.hadamard is None and e.stat != Stat.MOMENTS:
            return Rows(self._clamped(y), y)  # the clamp, which is narrower, saturates too
        np.clip(y, INT16_LO, INT16_HI, out=y)
        if self.table is not None:
            y = self.table(y)
        if self.hadamard is not None:
            u = np.subtract(self.hadamard[part], e.uz, dtype=np.float64)
            y = _shifted(y * u, e.u_shift)
        return Rows(self._clamped(y + 0.0 if e.stat == Stat.MOMENTS else y), y)

    def _in_float(self, a: Array, part: slice) -> Array:
        """Return x before it saturates, in the memory of ``a`` = acc + bias."""
        e = self.e
        a *= self._gain
        np.floor(a, out=a)
        if self.residual is not None:
            t = np.multiply(self.residual[part], float(e.mt), dtype=np.float64)
            t += e.off
            a += t
        elif e.off:
            a += e.off
        if e.f_shift:
            a *= 2.0**-e.f_shift
            np.rint(a, out=a)
        return a

    def _in_int64(self, a: Array, part: slice) -> Array:
        e = self.e
        v = ((a.astype(np.int64) * e.m.astype(np.int64)) >> e.s.astype(np.int64)) + e.off
        if self.residual is not None:
            v = v + self.residual[part].astype(np.int64) * e.mt
        x = np.clip(_round_half_even(v, e.f_shift), INT16_LO, INT16_HI)
        return np.asarray(x, np.float64)

    def _clamped(self, y: Array) -> Array:
        """Return the results, in the memory of ``y``."""
        if self.e.zp:
            y += self.e.zp
        return np.asarray(np.clip(y, self.e.lo, self.e.hi, out=y))

    def statistics(self, rows: Rows) -> dict[str, Array]:
        """Return row statistics (rows, 1) by kind (docs/numerics.md, "Row statistics")."""
        e, q = self.e, rows.q
        if e.stat == Stat.MAX:
            return {"max": q.max(-1, keepdims=True)}
        total = (q.sum(-1, keepdims=True) + e.stat_off) * e.stat_m
        row = np.clip(_shifted(total, e.stat_shift), SUM_LO, SUM_HI)
        found = {"sum": row, "mean": row}
        if e.stat == Stat.MOMENTS:
            squares = _shifted(np.square(rows.y), e.u_shift).sum(-1, keepdims=True)
            found["square"] = np.clip(_shifted(squares * e.sq_m, e.sq_shift), 0, SUM_HI)
        return found


def _shifted(v: Array, n: int) -> Array:
    """Return v / 2^n, halves rounded up, in the memory of ``v``."""
    if n:
        v += 2.0 ** (n - 1)
        v *= 2.0**-n
        np.floor(v, out=v)
    return v


def _round_half_even(v: Array, n: int) -> Array:
    if n == 0:
        return v
    below = (1 << (n - 1)) - 1  # a half rounds up only from an odd integer
    return np.asarray((v + below + ((v >> n) & 1)) >> n)


def looked_up(table: PwlTable) -> Lookup:
    """Return the evaluation of a table for a few values."""
    return lambda x: lookup(table, x.astype(np.int64)).astype(np.float64)


def listed(table: PwlTable) -> Lookup:
    """Return the evaluation of a table for many values: all int16 x are looked up before."""
    every = lookup(table, np.arange(INT16_LO, INT16_HI + 1)).astype(np.float32)

    def found(x: Array) -> Array:
        return np.asarray(every[(x - INT16_LO).astype(np.int32)], np.float64)

    return found
