# SPDX-License-Identifier: Apache-2.0
"""Adjusted ranges: without masked scores, with whole gather tables.

In: small MatGraphs, calibrated.  Out: scales.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from blocks import Maker, attention, feed
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph, Port
from neuralmatrix.ir.matgraph.reference import run_float, verify_matgraph
from neuralmatrix.ir.points import Point
from neuralmatrix.ir.quantized_values import dequantize_array
from neuralmatrix.ir.types import Function
from neuralmatrix.quantization.integer_reference import run_integer
from neuralmatrix.quantization.scales import choose_scales
from quantized import calibrated, quantized, with_ranges
from targets import target


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


def logarithms(scale: float) -> tuple[MatGraph, dict[str, np.ndarray]]:
    """Return log(|x W|^2 + 1), and an input of which some products are 0."""
    b = Maker()
    b.tensor("x", (1, 1, 4, 6))
    b.gemm("a", "x", 4, epilogue=Epilogue(activation=Function("abs")))
    b.window("l", "a", epilogue=Epilogue(activation=Function("log_floor")))
    two = np.full((1, 1, 1), 2.0, np.float32)
    b.window("y", "l", weight=two, epilogue=Epilogue(activation=Function("log_sum")))
    mg = verify_matgraph(b.graph())
    x = feed(mg) * np.float32(scale)
    x[..., 0, :] = 0
    return mg, {"x": x}


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_logarithms_reach_down_to_half_a_step_of_their_argument(scale: float) -> None:
    mg, feeds = logarithms(scale)
    found = calibrated(mg, [feeds])
    spans = choose_scales(with_ranges(mg, found.ranges), target()).spans
    loudest = np.log(run_float(mg, feeds)["a"].max())
    assert found.ranges[Point("l")][0] < -60  # of the products that are 0
    assert spans[Point("l")] == pytest.approx((loudest - np.log(2.0**16), loudest), abs=1e-6)
    low, high = spans[Point("y", "pre_activation")]
    assert low == -12.0 and high == pytest.approx(max(2 * loudest, 0), abs=1e-5)


def test_parts_of_a_sum_end_where_they_are_0() -> None:
    b = Maker()
    b.tensor("x", (1, 1, 4, 6))
    b.window("y", "x", epilogue=Epilogue(activation=Function("exp_part", (5.5, 2.0**-8))))
    mg = verify_matgraph(b.graph())
    found = calibrated(mg, [{"x": -30 * np.abs(feed(mg))}])
    spans = choose_scales(with_ranges(mg, found.ranges), target()).spans
    assert spans[Point("y", "pre_activation")] == pytest.approx((-5.5 - 1.25 - np.log(2.0**8), 0))
    assert spans[Point("y")] == (0.0, 1.0)
