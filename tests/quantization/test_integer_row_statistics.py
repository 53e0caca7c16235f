# SPDX-License-Identifier: Apache-2.0
"""Row statistics in integers: exact, and refused where no multiplier fits.

In: small MatGraphs.  Out: the statistics of the quantised values.
"""

from __future__ import annotations

import numpy as np
import pytest
from blocks import Maker, bounds, feed
from neuralmatrix.errors import DoesNotFit
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph
from neuralmatrix.ir.matgraph.reference import verify_matgraph
from neuralmatrix.ir.quantized_values import dequantize_array
from neuralmatrix.ir.types import Function
from neuralmatrix.quantization.integer_reference import run_integer
from neuralmatrix.quantization.integer_row_statistics import ratio, square_shift
from quantized import named, quantized


def divided(v: int, shift: int) -> int:
    return (v + ((1 << shift) >> 1)) // (1 << shift)


def with_rows(kinds: tuple[str, ...], m: int = 23, activation: str | None = None) -> MatGraph:
    b = Maker()
    b.tensor("x", (2, 3, 2, 9))
    function = Function(activation) if activation else None
    rows = b.rows((2, 3, 2, m), *((kind, kind) for kind in kinds))
    b.gemm("y", "x", m, epilogue=Epilogue(activation=function, rows=rows))
    return b.graph()


@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
@pytest.mark.parametrize("kinds", [("max",), ("sum",), ("mean",), ("square",), ("mean", "square")])
def test_statistics_of_codes(kinds: tuple[str, ...], activation: str | None) -> None:
    mg = with_rows(kinds, activation=activation)
    x = feed(mg)
    q = quantized(verify_matgraph(mg), bounds(mg, x), "int8")
    found, e = run_integer(q, {"x": x}), q.ops[0].epilogue
    assert e is not None
    for index in np.ndindex(2, 3, 2):
        row = [int(v) for v in found["y"][index]]
        total = divided((sum(row) + e.stat_off) * e.stat_m, e.stat_shift)
        squares = sum(divided(v * v, e.u_shift) for v in row)
        wanted = {"max": max(row), "sum": total, "mean": total,
                  "square": divided(squares * e.sq_m, e.sq_shift)}  # fmt: skip
        for kind in kinds:
            assert found[kind][index] == [wanted[kind]]
    y = dequantize_array(found["y"], q.qparams["y"])
    real = {"max": y.max(-1), "sum": y.sum(-1), "mean": y.mean(-1), "square": (y * y).mean(-1)}
    for kind in kinds:
        got, qp = dequantize_array(found[kind], q.qparams[kind])[..., 0], q.qparams[kind]
        # half a step, and 15 bits of multiplier; squares lose up to half a unit per channel before
        assert np.abs(got - real[kind]).max() <= 0.75 * qp.scale + 2e-4 * np.abs(real[kind]).max()


@pytest.mark.parametrize("channels", [1, 2, 3, 16, 17, 768, 1000, 4096, 65535])
def test_sums_of_squares_stay_below_32_bits(channels: int) -> None:
    shift = square_shift(channels)
    worst = channels * divided(32768 * 32768, shift)
    assert worst < 2**31
    assert shift == 0 or channels * (2**30 >> (shift - 1)) >= 2**31


@pytest.mark.parametrize("real", [2.0**-17, 1 / 3, 1 / 768, 0.99999999, 1.0, 252.0, 32767.0])
def test_ratios_keep_15_bits(real: float) -> None:
    m, shift = ratio(real, "n")
    assert 2**14 <= m < 2**15 and 0 <= shift <= 31
    assert m / 2**shift == pytest.approx(real, rel=2.0**-15)


@pytest.mark.parametrize("real", [2.0**-18, 40000.0])
def test_ratios_out_of_reach_are_refused(real: float) -> None:
    with pytest.raises(DoesNotFit, match="norm.1: a row statistic needs the multiplier"):
        ratio(real, "norm.1")


def test_statistics_over_too_many_channels_are_refused() -> None:
    mg = with_rows(("sum",), m=66000)
    limits = named(**{name: (-1.0, 1.0) for name in mg.tensors})
    with pytest.raises(DoesNotFit, match="the sum over 66000 channels"):
        quantized(mg, limits, "int16")


def test_a_tiny_statistic_gets_a_coarser_scale() -> None:
    mg = with_rows(("sum",))
    q = quantized(mg, named(x=(-1, 1), y=(-4, 4), sum=(0.0, 1e-9)), "int8")
    e = q.ops[0].epilogue
    assert e is not None and 2**14 <= e.stat_m < 2**15
