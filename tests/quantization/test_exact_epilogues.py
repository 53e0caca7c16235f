# SPDX-License-Identifier: Apache-2.0
"""Epilogues in floats against docs/numerics.md in int64, over all values of their fields.

In: random accumulators and fields.  Out: equal integers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from neuralmatrix.hardware.isa import Stat
from neuralmatrix.ir.types import Array
from neuralmatrix.quantization.exact_epilogues import Finish, listed, looked_up
from neuralmatrix.quantization.pwl.table import fit
from neuralmatrix.quantization.qgraph import QEpilogue
from plain_integers import plain_epilogue

ROWS, CHANNELS = 5, 7
INT24 = 2**23 - 1
TABLE = fit(np.tanh, 1e-4, (-32000, 32000), 1 / 127, (-128, 127), 32)


def ints(rng: np.random.Generator, reach: int, *shape: int) -> Array:
    """Integers of all sizes up to +-reach."""
    sizes = np.exp2(rng.uniform(0, np.log2(reach), shape))
    return np.asarray(np.rint(sizes * rng.choice([-1, 1], shape)).astype(np.int64))


@st.composite
def epilogues(draw: st.DrawFn) -> tuple[QEpilogue, dict[str, Array], Array]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    residual, hadamard = draw(st.booleans()), draw(st.booleans())
    bits = draw(st.sampled_from([8, 16, 24, 30, 31]))
    e = QEpilogue(
        bias=ints(rng, 2 ** (bits - 1), CHANNELS).astype(np.int32),
        m=ints(rng, INT24, CHANNELS).astype(np.int32),
        s=rng.integers(0, draw(st.sampled_from([1, 30, 56])), CHANNELS).astype(np.uint8),
        f_shift=draw(st.integers(0, 20)),
        off=int(ints(rng, 2**31 - 1)) if residual else 0,
        mt=int(ints(rng, INT24)) if residual else 0,
        uz=draw(st.integers(-128, 127)),
        u_shift=draw(st.integers(0, 31)),
        zp=draw(st.integers(-128, 127)),
        lo=-128,
        hi=127,
        table=TABLE if draw(st.booleans()) else None,
        residual="t" if residual else None,
        hadamard="u" if hadamard else None,
    )
    acc = ints(rng, 2 ** (bits - 1) - 1, ROWS, 1, 1, CHANNELS)
    wide = draw(st.booleans())
    operands = {n: ints(rng, 32639, ROWS, 1, 1, CHANNELS if wide else 1) for n in ("t", "u")}
    return e, operands, acc


def finish(e: QEpilogue, operands: dict[str, Array], reach: float, listing: bool) -> Finish:
    flat = {n: v.reshape(ROWS, -1).astype(np.float32) for n, v in operands.items()}
    table = None if e.table is None else (listed if listing else looked_up)(e.table)
    return Finish(e, reach, flat.get(e.residual or ""), flat.get(e.hadamard or ""), table)


@given(epilogues(), st.booleans())
def test_results_equal_the_plain_form(
    case: tuple[QEpilogue, dict[str, Array], Array], listing: bool
) -> None:
    e, operands, acc = case
    exact = finish(e, operands, float(np.abs(acc).max()), listing)
    rows = acc.reshape(ROWS, CHANNELS).astype(np.float64)
    found = np.concatenate([exact.rows(part, rows[part]).q for part in (slice(0, 2), slice(2, 5))])
    wanted = plain_epilogue(acc, e, operands).reshape(ROWS, CHANNELS)
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("value", [0.5, 1.5, 2.5, -0.5, -1.5, 32767.5, -40000.0])
def test_halves_round_to_even(value: float) -> None:
    e = QEpilogue(
        bias=np.zeros(1, np.int32), m=np.ones(1, np.int32), s=np.zeros(1, np.uint8), f_shift=1,
        off=0, mt=0, uz=0, u_shift=0, zp=0, lo=-32640, hi=32639,
    )  # fmt: skip
    found = Finish(e, 2.0**20).rows(slice(0, 1), np.array([[value * 2]], np.float32)).q
    assert found.item() == np.clip(np.rint(value), -32640, 32639)


def test_statistics_do_not_change_results() -> None:
    rng = np.random.default_rng(0)
    acc = rng.integers(-1000, 1000, (ROWS, CHANNELS)).astype(np.float32)
    e = QEpilogue(
        bias=np.zeros(CHANNELS, np.int32), m=np.full(CHANNELS, 2**20, np.int32),
        s=np.full(CHANNELS, 20, np.uint8), f_shift=0, off=0, mt=0, uz=0, u_shift=0, zp=3, lo=-100,
        hi=100, stat=Stat.MOMENTS, stat_m=2**14, stat_shift=14, sq_m=2**14, sq_shift=21,
    )  # fmt: skip
    rows = Finish(e, 1000.0).rows(slice(0, ROWS), acc)
    np.testing.assert_array_equal(rows.q, np.clip(acc + 3, -100, 100))
    np.testing.assert_array_equal(rows.y, acc)  # squares are of values before the clamp
    found = Finish(e, 1000.0).statistics(rows)
    np.testing.assert_array_equal(found["mean"], rows.q.sum(-1, keepdims=True))
    squares = np.square(acc).sum(-1, keepdims=True) * 2**14
    np.testing.assert_array_equal(found["square"], np.floor((squares + 2**20) / 2**21))
    plain = replace(e, stat=Stat.MAX)
    rows = Finish(plain, 1000.0).rows(slice(0, ROWS), acc)
    found = Finish(plain, 1000.0).statistics(rows)
    np.testing.assert_array_equal(found["max"], rows.q.max(-1, keepdims=True))
