# SPDX-License-Identifier: Apache-2.0
"""Scales, integer weights, requantise constants and the overflow proof.

In: small MatGraphs.  Out: integers of the same reals, or one clear refusal.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from chains import RNG, bounds, chain, dense, feed
from golden_passes import Exact, chosen_scales, exact, quantized
from golden_text import check_golden
from graph_text import graph_text, mapping_text
from neuralmatrix.errors import DoesNotFit
from neuralmatrix.ir.matgraph.ops import Epilogue, Gemm, MatGraph, Move, Window
from neuralmatrix.ir.matgraph.reference import run_float
from neuralmatrix.ir.quantized_values import dequantize_array
from neuralmatrix.ir.types import Function, QParams
from neuralmatrix.quantization.integer_reference import run_integer
from neuralmatrix.quantization.scales import ACC_LIMIT


@pytest.mark.parametrize("precision, steps", [("int8", 1.5), ("int16", 40.0)])
def test_a_dense_layer_keeps_its_values(precision: str, steps: float) -> None:
    mg, x = chain((1, 1, 50, 40), dense(40, 20)), feed(1, 1, 50, 40)
    q = quantized(mg, bounds(mg, x), precision)
    y = run_float(mg, {"x": x})["y"]
    got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
    # int8 inputs put about one int8 step of noise on a sum of 40 products; int8 weights about 40
    # int16 steps
    step = (y.max() - y.min()) / (255 if precision == "int8" else 65280 / 16)
    assert np.abs(got - y).max() < steps * step


def test_int16_inputs_are_narrowed_where_the_sum_could_overflow() -> None:
    op = Gemm("y", "x", np.ones((1, 1, 4000, 3)), np.zeros(3))
    mg, x = chain((1, 1, 2, 4000), op), feed(1, 1, 2, 4000)
    q = quantized(mg, bounds(mg, x), "int16")
    qp = q.qparams["x"]
    assert 0 < qp.limit < 32639
    weight = q.ops[0].weight
    assert weight is not None
    assert int(np.abs(weight).reshape(-1, 3).sum(0).max()) * qp.limit <= ACC_LIMIT


def test_prescribed_int16_that_could_overflow_is_refused() -> None:
    op = Gemm("y", "x", np.ones((1, 1, 4000, 3)), np.zeros(3))
    mg = chain((1, 1, 2, 4000), op, quant={"x": QParams(0.001, 0, True)})
    with pytest.raises(DoesNotFit, match="'x' is prescribed as int16.*32-bit accumulators"):
        quantized(mg, bounds(mg, feed(1, 1, 2, 4000)), "int8")


def test_a_pruned_channel_with_a_bias_keeps_the_bias() -> None:
    weight = RNG.standard_normal((1, 1, 8, 4)) * np.asarray([1.0, 0.0, 1e-12, 1.0])
    op = Gemm("y", "x", weight, np.asarray([0.5, 2.0, -3.0, 0.0]))
    mg, x = chain((1, 1, 9, 8), op), feed(1, 1, 9, 8)
    q = quantized(mg, bounds(mg, x), "int8")
    got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
    # half an int16 step of the output (network outputs are int16)
    np.testing.assert_allclose(got[..., 1:3], np.broadcast_to([2.0, -3.0], (1, 1, 9, 2)), atol=1e-3)


@pytest.mark.parametrize("activation", ["relu", "clip"])
def test_clamps_need_no_table_and_are_exact(activation: str) -> None:
    function = Function(activation, (-0.3, 0.9) if activation == "clip" else ())
    op = dense(8, 8, epilogue=Epilogue(activation=function))
    mg, x = chain((1, 1, 30, 8), op), feed(1, 1, 30, 8)
    q = quantized(mg, bounds(mg, x), "int8")
    assert q.ops[0].epilogue is not None and q.ops[0].epilogue.table is None
    got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
    low, high = (0.0, np.inf) if activation == "relu" else (-0.3, 0.9)
    assert got.min() >= low - 1e-4 and got.max() <= high + 1e-4


def test_element_wise_factors_share_one_weight() -> None:
    op = Window("y", "x", RNG.standard_normal((1, 1, 6)), np.zeros(6))
    mg, x = chain((1, 2, 5, 6), op), feed(1, 2, 5, 6)
    q = quantized(mg, bounds(mg, x), "int16")
    assert q.ops[0].weight is not None and q.ops[0].weight.shape == (1, 1, 1)
    got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
    y = run_float(mg, {"x": x})["y"]
    assert np.abs(got - y).max() < 3 * q.qparams["y"].scale  # two roundings to int16


def test_a_factor_of_zero_among_others() -> None:
    op = Window(
        "y", "x", np.asarray([1.0, 0.0, -2.0]).reshape(1, 1, 3), np.asarray([0.0, 3.0, 0.0])
    )
    mg, x = chain((1, 1, 20, 3), op), feed(1, 1, 20, 3)
    q = quantized(mg, bounds(mg, x), "int8")
    got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
    np.testing.assert_allclose(got[..., 1], 3.0, atol=1e-3)  # an int16 step


# ---------------------------------------------------------------- golden texts


def residual_block() -> MatGraph:
    """Return two products, a ReLU between them and a sum behind them."""
    b = Exact()
    b.tensor("x", (1, 1, 6, 4))
    b.gemm("h", "x", 8, bias=exact(7, 8), epilogue=Epilogue(activation=Function("relu")))
    b.gemm("y", "h", 4, epilogue=Epilogue("x", 0.5))
    return b.graph()


def row_maximum() -> MatGraph:
    """Return a product minus the maximum of its rows, and a rearrangement of that."""
    b = Exact()
    b.tensor("x", (1, 1, 3, 4))
    b.gemm("g", "x", 4, epilogue=Epilogue(rows=b.rows((1, 1, 3, 4), ("max", "max"))))
    b.window("d", "g", epilogue=Epilogue("max", -1.0))
    index = np.ascontiguousarray(np.arange(12).reshape(1, 1, 3, 4)[:, :, ::-1])
    b.ops.append(Move("y", ("d",), index))
    b.tensor("y", (1, 1, 3, 4))
    return b.graph()


def prescribed() -> MatGraph:
    return replace(residual_block(), quant={"x": QParams(0.0625, 3), "h": QParams(1 / 64, -128)})


GOLDEN = {
    "residual_int8": (residual_block(), "int8"),
    "residual_int16": (residual_block(), "int16"),
    "row_maximum": (row_maximum(), "int8"),
    "prescribed": (prescribed(), "int8"),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    """The golden texts show scales of all tensors, then the integers of the graph."""
    mg, precision = GOLDEN[case]
    x = exact(5, *mg.inputs[0].shape)
    found = quantized(mg, bounds(mg, x), precision)
    for name in ("choose_scales", "quantize"):
        check_golden(request, f"{name}/{case}.in.txt", graph_text(mg))
    scales = chosen_scales(mg, bounds(mg, x), precision)
    check_golden(request, f"choose_scales/{case}.out.txt", mapping_text(scales))
    check_golden(request, f"quantize/{case}.out.txt", graph_text(found))
    assert found.qparams == scales
    y = run_float(mg, {"x": x})["y"]
    got = dequantize_array(run_integer(found, {"x": x})["y"], found.qparams["y"])
    # int8 weights and tensors: about 1 % of the largest value
    assert np.abs(got - y).max() < 0.02 * np.abs(y).max()
