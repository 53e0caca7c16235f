# SPDX-License-Identifier: Apache-2.0
"""Products of two tensors, row statistics, attention and normalisation in integers.

In: small MatGraphs.  Out: integers that follow the floats, exact statistics, proofs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from blocks import Maker, attention, bounds, feed, layer_norm
from neuralmatrix.errors import DoesNotFit
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph, Port
from neuralmatrix.ir.matgraph.reference import run_float, run_points, verify_matgraph
from neuralmatrix.ir.points import Point
from neuralmatrix.ir.quantized_values import dequantize_array
from neuralmatrix.ir.types import Array, Function, QParams
from neuralmatrix.quantization.integer_reference import run_integer
from neuralmatrix.quantization.integer_row_statistics import ratio, square_shift
from neuralmatrix.quantization.interval_bounds import propagate
from neuralmatrix.quantization.scales import ACC_LIMIT
from quantized import calibrated, named, prescribed, quantized


def relative_error(mg: MatGraph, precision: str, x: Array | None = None) -> float:
    """Of the integer result on one of two calibrated inputs."""
    x = feed(mg, seed=2) if x is None else x
    found = calibrated(mg, [{"x": feed(mg)}, {"x": x}])
    q = quantized(mg, found.ranges, precision)
    y = run_float(mg, {"x": x})["y"]
    got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
    return float(np.linalg.norm(got - y) / np.linalg.norm(y))


# q, k, v and weights have int8's relative noise of about 1 % each, the exponent doubles that of
# the scores; in int16 the int8 weights alone remain
@pytest.mark.parametrize("precision, most", [("int8", 0.025), ("int16", 0.01)])
@pytest.mark.parametrize("mask", ["", "add", "keep"])
@pytest.mark.parametrize("sharpness", [0.1, 1.0, 3.0])
def test_attention(mask: str, precision: str, most: float, sharpness: float) -> None:
    mg = attention(mask=mask, sharpness=sharpness)
    assert relative_error(mg, precision) < most * max(1.0, sharpness / 2)


def test_masked_keys_have_no_weight() -> None:
    mg = attention(mask="keep", sharpness=4.0)
    x = feed(mg)
    q = quantized(mg, bounds(mg, x), "int8")
    other = x.copy()
    other[:, :, -6:] += 3.0  # the masked positions, as keys and as queries
    one, two = (run_integer(q, {"x": v})["y"][:, :, :-6] for v in (x, other))
    np.testing.assert_array_equal(one, two)


# the int8 weights of the Gemm cancel in the normalisation only as far as all rows scale alike
@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("precision, most", [("int8", 0.012), ("int16", 0.006)])
def test_normalisation(centred: bool, direct: bool, precision: str, most: float) -> None:
    assert relative_error(layer_norm(centred=centred, direct=direct), precision) < most


def test_rows_far_from_zero_and_of_different_size_are_normalised() -> None:
    mg = layer_norm(shape=(1, 1, 30, 24))
    x = feed(mg) * np.geomspace(0.05, 2.0, 30).reshape(1, 1, 30, 1).astype(np.float32)
    q = quantized(mg, bounds(mg, x), "int16")
    y = run_float(mg, {"x": x})["y"]
    got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
    # the rows of least variance keep 8 bits of it
    assert np.abs(got - y).max() < 0.05


# ---------------------------------------------------------------- exact statistics


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


# ---------------------------------------------------------------- forms of tensors


def test_exponentials_that_are_multiplied_are_int8_and_symmetric() -> None:
    mg = attention()
    ranges = bounds(mg, feed(mg))
    low, high = (quantized(mg, ranges, precision).qparams for precision in ("int8", "int16"))
    for name in ("q", "k", "v", "e"):
        assert (low[name].wide, low[name].zero_point) == (False, 0)
        assert high[name].wide
    assert low["e"].scale == pytest.approx(1 / 127)
    assert low["s"].wide and low["max"] == low["s"]
    assert low["sum"].wide and low["inverse"].wide


@pytest.mark.parametrize("raised", [(), ("q",), ("k",), ("q", "k"), ("e",), ("v",), ("e", "v")])
@pytest.mark.parametrize("p", [21, 700])
def test_every_mix_of_digits_is_proven(raised: tuple[str, ...], p: int) -> None:
    mg = attention(heads=1, p=p, d=16)
    q = quantized(mg, bounds(mg, feed(mg)), "int8", raised)
    for a, b, k in (("q", "k", 16), ("e", "v", p)):
        x, w = q.qparams[a], q.qparams[b]
        assert (x.wide, w.wide) == (a in raised, b in raised)
        assert k * max(-x.qmin, x.qmax) * max(-w.qmin, w.qmax) <= ACC_LIMIT
    y = run_float(mg, {"x": feed(mg)})["y"]
    got = dequantize_array(run_integer(q, {"x": feed(mg)})["y"], q.qparams["y"])
    # int8 noise of the sides that are not raised
    assert np.linalg.norm(got - y) < 0.05 * np.linalg.norm(y)


def test_raising_tensors_reduces_the_error() -> None:
    mg = attention(sharpness=3.0)
    x = feed(mg)
    y, ranges = run_float(mg, {"x": x})["y"], bounds(mg, x)
    errors = []
    for raised in ((), ("q", "k"), ("x", "q", "k", "v", "e")):
        q = quantized(mg, ranges, "int8", raised)
        got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
        errors.append(float(np.linalg.norm(got - y)))
    assert errors[0] > errors[1] > errors[2]


def test_a_mean_shares_the_scale_it_is_subtracted_at() -> None:
    mg = layer_norm()
    q = quantized(mg, bounds(mg, feed(mg)), "int8").qparams
    assert q["g"].wide and q["mean"] == q["g"]
    assert q["square"].wide and q["square"] != q["g"]


def test_what_is_added_up_before_a_normalisation_is_int16() -> None:
    b = Maker()
    b.tensor("x", (1, 1, 9, 12))
    b.gemm("a", "x", 12)
    b.gemm("branch", "x", 12)
    b.window("total", "a", epilogue=Epilogue("branch"))
    b.window("copy", "total", epilogue=Epilogue(rows=b.rows((1, 1, 9, 12), ("square", "square"))))
    b.gemm("read", "branch", 12)
    b.window("y", "total", epilogue=Epilogue("read", hadamard="square"))
    q = quantized(b.graph(), bounds(b.graph(), feed(b.graph())), "int8").qparams
    assert q["a"].wide and q["total"].wide
    assert not q["x"].wide and not q["branch"].wide  # matrix products read them


def test_prescribed_zero_points_get_a_symmetric_copy() -> None:
    mg = attention()
    given = {"x": QParams(0.03), "q": QParams(0.03, 5), "k": QParams(0.03, -7), "v": QParams(0.02)}
    mg = replace(mg, quant=given)
    q = prescribed(mg)
    product = q.ops[[op.op.output for op in q.ops].index("s")].op
    assert (product.input, product.rhs) == ("q:symmetric", "k:symmetric")  # type: ignore[union-attr]
    assert q.qparams["q:symmetric"].zero_point == 0 and q.qparams["q:symmetric"].wide
    assert q.qparams["v"] == given["v"]
    x = feed(mg)
    y = run_float(mg, {"x": x})["y"]
    got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
    # the prescribed int8 codes are in y too; scales from intervals leave the sum and its inverse
    # some 8 bits
    assert np.linalg.norm(got - y) < 0.05 * np.linalg.norm(y)


def test_a_mean_of_prescribed_int8_codes_is_taken_of_an_int16_copy() -> None:
    mg = replace(layer_norm(), quant={"x": QParams(0.03, 3), "g": QParams(0.05, -9)})
    q = quantized(mg, bounds(mg, feed(mg)))
    assert [op.op.output for op in q.ops][:2] == ["g", "g:centred"]
    assert q.qparams["g"] == QParams(0.05, -9) and q.qparams["g:centred"].wide
    assert q.ops[-1].op.input == "g:centred"  # type: ignore[union-attr]
    x = feed(mg)
    y = run_float(mg, {"x": x})["y"]
    got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
    assert np.linalg.norm(got - y) < 0.02 * np.linalg.norm(y)  # int8 weights of the Gemm


@pytest.mark.parametrize("depth, copied", [(20, True), (32, False)])
def test_padding_lanes_of_the_right_side_are_zero(depth: int, copied: bool) -> None:
    b = Maker()
    b.tensor("x", (1, 1, 5, 8))
    b.gemm("q", "x", depth)
    b.gemm("k", "x", depth, epilogue=Epilogue(activation=Function("sigmoid")))
    b.product("y", "q", "k", 5, rhs_transposed=True)
    q = quantized(b.graph(), bounds(b.graph(), feed(b.graph())))
    assert ("k:padded" in q.qparams) == copied


def test_a_bias_of_a_product_is_a_constant_operand() -> None:
    b = Maker()
    b.tensor("x", (1, 1, 6, 20))
    b.gemm("k", "x", 20)
    b.product("y", "x", "k", 6, rhs_transposed=True, gain=1e-6, bias=np.arange(6.0))
    mg = b.graph()
    x = feed(mg)
    q = quantized(mg, bounds(mg, x), "int16")
    got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
    # two int16 roundings
    np.testing.assert_allclose(got, run_float(mg, {"x": x})["y"], atol=2 * q.qparams["y"].scale)


def test_a_constant_left_side_is_int8_where_that_holds_it() -> None:
    b = Maker()
    b.tensor("x", (1, 1, 30, 4))
    even = (b.rng.random((1, 1, 9, 30)) > 0.8) * 0.25
    uneven = even * np.geomspace(1e-3, 1.0, 9).reshape(1, 1, 9, 1)
    for name, value in (("even", even), ("uneven", uneven)):
        b.constant(name, value)
        b.product(f"{name}.y", name, "x", 4)
    b.window("y", "even.y", epilogue=Epilogue("uneven.y"))
    mg = b.graph()
    x = feed(mg)
    q = quantized(mg, bounds(mg, x), "int8")
    assert not q.qparams["even"].wide and q.qparams["uneven"].wide
    assert relative_error(mg, "int8", x) < 0.01  # int8 rounding of x


# ---------------------------------------------------------------- ranges


@pytest.mark.parametrize("mask", ["", "add", "keep"])
def test_intervals_hold_whatever_comes(mask: str) -> None:
    mg = replace(attention(mask=mask), quant={"x": QParams(0.02, 3)})
    found = propagate(mg)
    for seed in range(3):
        for point, value in run_points(mg, {"x": feed(mg, seed, 1.0)}).items():
            overflows = mask == "keep" and point.tensor == "e" and point.at != "output"
            if point in found and not overflows:
                lo, hi = found[point]
                slack = 1e-5 * max(1.0, abs(lo), abs(hi))  # float32 sums
                assert lo - slack <= value.min() and value.max() <= hi + slack, point


@pytest.mark.parametrize("centred", [True, False])
def test_intervals_of_a_normalisation_keep_the_variance_positive(centred: bool) -> None:
    mg = replace(layer_norm(centred=centred), quant={"x": QParams(0.02, 3)})
    found = propagate(mg)
    assert found[Point("inverse", "pre_activation")][0] == pytest.approx(1e-5)
    for point, value in run_points(mg, {"x": feed(mg)}).items():
        lo, hi = found[point]
        slack = 1e-5 * max(1.0, abs(lo), abs(hi))  # float32 sums
        assert lo - slack <= value.min() and value.max() <= hi + slack, point


def test_masked_scores_do_not_widen_the_range() -> None:
    mg = attention(mask="add", p=12)
    found = calibrated(mg, [{"x": feed(mg)}])
    scores = run_float(mg, {"x": feed(mg)})["s"]
    lowest = scores[scores > -5000].min()
    assert found.ranges[Point("s")][0] == pytest.approx(lowest - 20.0)
    q = quantized(mg, found.ranges).qparams
    assert q["added"].scale * 32640 < 60 and q["s"].scale * 32640 < 40


def test_a_look_up_table_counts_whole() -> None:
    table = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    table[17] *= 20
    b = Maker()
    b.tensor("x", (1, 1, 3, 6))
    b.gemm("y", "x", 4)
    mg = b.graph()
    mg = verify_matgraph(replace(mg, inputs=(Port("ids", (1, 1, 3), "x", (), table=table),)))
    ids = np.array([[[3, 0, 49]]])
    found = calibrated(mg, [{"ids": ids}])
    assert found.ranges[Point("x")][1] == max(table.max(), 0)
    q = quantized(mg, found.ranges)
    got = dequantize_array(run_integer(q, {"ids": ids})["x"], q.qparams["x"])
    np.testing.assert_allclose(got[0], table[ids[0]], atol=q.qparams["x"].scale)
    assert run_float(mg, {"ids": ids})["y"].shape == (1, 1, 3, 4)
