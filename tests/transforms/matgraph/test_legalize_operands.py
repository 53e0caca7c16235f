# SPDX-License-Identifier: Apache-2.0
"""Legalisation: identity windows in front of operations that need an operand in another form.

In: small graphs.  Out: golden texts before and after the pass; the same values.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from blocks import Maker, attention, bounds, feed, layer_norm
from golden_passes import Exact, check_pass, exact
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph
from neuralmatrix.ir.matgraph.reference import run_float
from neuralmatrix.ir.quantized_values import dequantize_array
from neuralmatrix.ir.types import Function, QParams
from neuralmatrix.quantization.integer_reference import run_integer
from neuralmatrix.transforms.matgraph.legalize_operands import legalize_operands
from quantized import prescribed, quantized
from targets import target


def scores(
    depth: int, function: str = "", bias: bool = False, quant: dict[str, QParams] | None = None
) -> MatGraph:
    """Return q k^T of four rows, k behind an activation."""
    b = Exact()
    b.tensor("x", (1, 1, 4, 8))
    b.gemm("q", "x", depth)
    b.gemm("k", "x", depth, epilogue=Epilogue(activation=Function(function) if function else None))
    terms = exact(9, 4) if bias else np.zeros(4, np.float32)
    b.product("y", "q", "k", 4, rhs_transposed=True, bias=terms)
    return b.graph(quant)


def moments(quant: dict[str, QParams] | None = None) -> MatGraph:
    """Return a product whose mean is subtracted from it."""
    b = Exact()
    b.tensor("x", (1, 1, 3, 8))
    rows = b.rows((1, 1, 3, 8), ("mean", "mean"), ("square", "square"))
    b.gemm("g", "x", 8, epilogue=Epilogue(rows=rows))
    b.window("y", "g", minus="mean", epilogue=Epilogue(hadamard="square"))
    return b.graph(quant)


CASES = {
    "shifted_zero_points": scores(8, quant={"q": QParams(0.03, 5), "k": QParams(0.03, -7)}),
    "padding_lanes": scores(20, "sigmoid"),
    "bias_of_a_product": scores(8, bias=True),
    "mean_of_prescribed_int8": moments({"x": QParams(0.03, 3), "g": QParams(0.05, -9)}),
    "kept_relu_fills_zeros": scores(20, "relu"),
    "kept_whole_words": scores(32, "sigmoid"),
    "kept_moments": moments(),
}


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    check_pass(request, "legalize_operands", case, CASES[case])


def test_prescribed_zero_points_get_a_symmetric_copy() -> None:
    mg = attention()
    given = {"x": QParams(0.03), "q": QParams(0.03, 5), "k": QParams(0.03, -7), "v": QParams(0.02)}
    mg = replace(mg, quant=given)
    q = prescribed(mg)
    product = q.ops[[op.op.output for op in q.ops].index("s")].op
    assert (product.input, product.rhs) == ("q:symmetric", "k:symmetric")  # type: ignore[union-attr]
    assert q.qparams["q:symmetric"].zero_point == 0 and q.qparams["q:symmetric"].int16
    assert q.qparams["v"] == given["v"]
    x = feed(mg)
    y = run_float(mg, {"x": x})["y"]
    got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
    # y is rounded to the prescribed int8 scale too; scales from intervals leave the sum and its
    # inverse some 8 bits
    assert np.linalg.norm(got - y) < 0.05 * np.linalg.norm(y)


def test_a_mean_of_prescribed_int8_codes_is_taken_of_an_int16_copy() -> None:
    mg = replace(layer_norm(), quant={"x": QParams(0.03, 3), "g": QParams(0.05, -9)})
    q = quantized(mg, bounds(mg, feed(mg)))
    assert [op.op.output for op in q.ops][:2] == ["g", "g:centred"]
    assert q.qparams["g"] == QParams(0.05, -9) and q.qparams["g:centred"].int16
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


@pytest.mark.parametrize("lanes, depth, copied", [
    (16, 20, True), (16, 48, False), (32, 48, True), (32, 64, False), (64, 32, True),
])  # fmt: skip
def test_padding_lanes_are_those_of_the_target(lanes: int, depth: int, copied: bool) -> None:
    array = replace(target().array, rows=lanes, cols=lanes)
    legal = legalize_operands(scores(depth, "sigmoid"), replace(target(), array=array))
    assert ("k:padded" in legal.tensors) == copied
