# SPDX-License-Identifier: Apache-2.0
"""Scales, integer weights, requantise constants and the overflow proof.

In: small MatGraphs.  Out: integers that stand for the same reals, or one clear refusal.
"""

from __future__ import annotations

import numpy as np
import pytest
from blocks import bounds
from neuralmatrix.errors import DoesNotFit
from neuralmatrix.ir.matgraph.ops import (
    Epilogue,
    Gemm,
    MatGraph,
    MatOp,
    Move,
    Port,
    RowMax,
    Tensor,
    Window,
)
from neuralmatrix.ir.matgraph.reference import run_float
from neuralmatrix.ir.quantized_values import dequantize_array, quantize_array
from neuralmatrix.ir.types import Array, Function, QParams
from neuralmatrix.quantization.integer_epilogues import INT24, multipliers
from neuralmatrix.quantization.integer_reference import run_integer
from neuralmatrix.quantization.scales import ACC_LIMIT, choose_qparams
from quantized import quantized

RNG = np.random.default_rng(3)


def graph(shape: tuple[int, ...], *ops: MatOp, quant: dict[str, QParams] | None = None) -> MatGraph:
    """A chain of operations on "x"; shapes of the outputs come from evaluating it."""
    tensors = {"x": Tensor("x", shape)}  # type: ignore[arg-type]
    draft = MatGraph((Port("x", shape, "x", ()),), (), ops, tensors, {}, {})
    for op in ops:
        partial = MatGraph(draft.inputs, (), ops[: ops.index(op) + 1], tensors, {}, {})
        values = run_float(partial, {"x": np.zeros(shape, np.float32)})
        made = values[op.output].shape
        tensors[op.output] = Tensor(op.output, made, isinstance(op, RowMax))
    last = tensors[ops[-1].output]
    outputs = (Port("y", last.shape, last.name, ()),)
    return MatGraph(draft.inputs, outputs, ops, tensors, {}, quant or {})


def dense(c: int, m: int, scale: float = 0.2, **fields: object) -> Gemm:
    weight = RNG.standard_normal((1, 1, c, m)) * scale
    return Gemm("y", "x", weight, RNG.standard_normal(m), **fields)  # type: ignore[arg-type]


def feed(*shape: int) -> Array:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("lo, hi", [(-1.0, 3.0), (0.0, 6.0), (-5.0, 0.0), (-0.1, 0.1)])
def test_int8_codes_span_the_range(lo: float, hi: float) -> None:
    qp = choose_qparams(lo, hi, wide=False)
    codes = quantize_array(np.asarray([lo, 0.0, hi]), qp)
    assert codes[0] == -128 and codes[2] in (126, 127)
    assert codes[1] == qp.zero_point  # 0 is exact: padding and ReLU rely on it


def test_int16_is_symmetric_with_head_room() -> None:
    qp = choose_qparams(-2.0, 1.0, wide=True)
    assert qp.zero_point == 0 and qp.wide
    assert quantize_array(np.asarray([-2.0]), qp)[0] == -32000
    assert quantize_array(np.asarray([-9.0]), qp)[0] == -32640


def test_a_tensor_that_is_always_zero_has_a_usable_scale() -> None:
    assert choose_qparams(0.0, 0.0, wide=False).scale == pytest.approx(2 / 255)
    assert choose_qparams(0.0, 0.0, wide=True).scale == pytest.approx(1 / 32000)


@pytest.mark.parametrize("f_shift", [0, 7, 20])
def test_multipliers_are_precise_to_23_bits(f_shift: int) -> None:
    real = np.concatenate([10.0 ** np.linspace(-9, 0.9, 500), -(10.0 ** np.linspace(-6, 0, 50))])
    real = real[np.abs(real) * 2.0**f_shift <= INT24]
    m, s = multipliers(real, f_shift)
    assert np.abs(m).max() <= INT24 and s.max() <= 55
    got = m / 2.0 ** s.astype(float) / 2.0**f_shift
    # below 2^-32 of a step the shift is at its end, and the absolute error is what counts
    np.testing.assert_allclose(got, real, rtol=2.0**-22, atol=2.0**-55)


def test_multiplier_of_almost_a_power_of_two_does_not_overflow() -> None:
    m, s = multipliers(np.asarray([1.0 - 2.0**-30, -1.0 + 2.0**-30]), 0)
    np.testing.assert_allclose(m / 2.0 ** s.astype(float), [1.0, -1.0], rtol=2.0**-22)


@pytest.mark.parametrize("precision, steps", [("int8", 1.5), ("int16", 40.0)])
def test_a_dense_layer_keeps_its_values(precision: str, steps: float) -> None:
    mg, x = graph((1, 1, 50, 40), dense(40, 20)), feed(1, 1, 50, 40)
    q = quantized(mg, bounds(mg, x), precision)
    y = run_float(mg, {"x": x})["y"]
    got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
    # int8 inputs put about one int8 step of noise on a sum of 40 products; int8 weights about 40
    # int16 steps
    step = (y.max() - y.min()) / (255 if precision == "int8" else 65280 / 16)
    assert np.abs(got - y).max() < steps * step


def test_int16_inputs_are_narrowed_where_the_sum_could_overflow() -> None:
    op = Gemm("y", "x", np.ones((1, 1, 4000, 3)), np.zeros(3))
    mg, x = graph((1, 1, 2, 4000), op), feed(1, 1, 2, 4000)
    q = quantized(mg, bounds(mg, x), "int16")
    qp = q.qparams["x"]
    assert 0 < qp.limit < 32639
    weight = q.ops[0].weight
    assert weight is not None
    assert int(np.abs(weight).reshape(-1, 3).sum(0).max()) * qp.limit <= ACC_LIMIT


def test_prescribed_int16_that_could_overflow_is_refused() -> None:
    op = Gemm("y", "x", np.ones((1, 1, 4000, 3)), np.zeros(3))
    mg = graph((1, 1, 2, 4000), op, quant={"x": QParams(0.001, 0, True)})
    with pytest.raises(DoesNotFit, match="'x' is prescribed as int16.*32-bit accumulators"):
        quantized(mg, bounds(mg, feed(1, 1, 2, 4000)), "int8")


def test_a_pruned_channel_with_a_bias_keeps_the_bias() -> None:
    weight = RNG.standard_normal((1, 1, 8, 4)) * np.asarray([1.0, 0.0, 1e-12, 1.0])
    op = Gemm("y", "x", weight, np.asarray([0.5, 2.0, -3.0, 0.0]))
    mg, x = graph((1, 1, 9, 8), op), feed(1, 1, 9, 8)
    q = quantized(mg, bounds(mg, x), "int8")
    got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
    # half an int16 step of the output (network outputs are int16)
    np.testing.assert_allclose(got[..., 1:3], np.broadcast_to([2.0, -3.0], (1, 1, 9, 2)), atol=1e-3)


@pytest.mark.parametrize("activation", ["relu", "clip"])
def test_clamps_need_no_table_and_are_exact(activation: str) -> None:
    function = Function(activation, (-0.3, 0.9) if activation == "clip" else ())
    op = dense(8, 8, epilogue=Epilogue(activation=function))
    mg, x = graph((1, 1, 30, 8), op), feed(1, 1, 30, 8)
    q = quantized(mg, bounds(mg, x), "int8")
    assert q.ops[0].epilogue is not None and q.ops[0].epilogue.table is None
    got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
    low, high = (0.0, np.inf) if activation == "relu" else (-0.3, 0.9)
    assert got.min() >= low - 1e-4 and got.max() <= high + 1e-4


def test_element_wise_factors_share_one_weight() -> None:
    op = Window("y", "x", RNG.standard_normal((1, 1, 6)), np.zeros(6))
    mg, x = graph((1, 2, 5, 6), op), feed(1, 2, 5, 6)
    q = quantized(mg, bounds(mg, x), "int16")
    assert q.ops[0].weight is not None and q.ops[0].weight.shape == (1, 1, 1)
    got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
    y = run_float(mg, {"x": x})["y"]
    assert np.abs(got - y).max() < 3 * q.qparams["y"].scale  # two roundings to int16


def test_a_factor_of_zero_among_others() -> None:
    op = Window(
        "y", "x", np.asarray([1.0, 0.0, -2.0]).reshape(1, 1, 3), np.asarray([0.0, 3.0, 0.0])
    )
    mg, x = graph((1, 1, 20, 3), op), feed(1, 1, 20, 3)
    q = quantized(mg, bounds(mg, x), "int8")
    got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
    np.testing.assert_allclose(got[..., 1], 3.0, atol=1e-3)  # an int16 step


def test_copies_share_their_scale() -> None:
    index = np.arange(24).reshape(1, 2, 3, 4)[:, ::-1]
    mg = graph((1, 2, 3, 4), Move("y", ("x",), np.ascontiguousarray(index)))
    q = quantized(mg, bounds(mg, feed(1, 2, 3, 4)), "int8")
    assert q.qparams["x"] == q.qparams["y"]


def test_a_copy_between_prescribed_scales_requantises() -> None:
    index = np.arange(24).reshape(1, 2, 3, 4)[:, ::-1]
    given = {"x": QParams(0.1, 3), "y": QParams(0.05, -7)}
    mg = graph((1, 2, 3, 4), Move("y", ("x",), np.ascontiguousarray(index)), quant=given)
    x = feed(1, 2, 3, 4)
    q = quantized(mg, bounds(mg, x), "int8")
    assert [type(op.op).__name__ for op in q.ops] == ["Window", "Move"]
    assert (q.qparams["x"], q.qparams["y"]) == (given["x"], given["y"])
    got = run_integer(q, {"x": x})["y"]
    held = dequantize_array(quantize_array(x, given["x"]), given["x"])
    want = quantize_array(held[:, ::-1], given["y"])
    np.testing.assert_array_equal(got, want)
