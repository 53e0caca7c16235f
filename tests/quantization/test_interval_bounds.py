# SPDX-License-Identifier: Apache-2.0
"""Ranges from prescribed scales alone: golden texts, and that no input leaves them.

In: small MatGraphs whose input has a prescribed scale.  Out: one interval per value.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from blocks import attention, feed, layer_norm
from golden_passes import interval_bounds
from golden_text import check_golden
from graph_text import graph_text, mapping_text
from neuralmatrix.errors import BadInput
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph, Window
from neuralmatrix.ir.matgraph.reference import run_points
from neuralmatrix.ir.points import Point
from neuralmatrix.ir.types import Function, QParams
from neuralmatrix.quantization.interval_bounds import propagate

GIVEN = {"x": QParams(0.0625, 3)}
CASES = {
    "attention": replace(attention(heads=1, p=4, d=2), quant=GIVEN),
    "normalisation": replace(layer_norm((1, 1, 3, 4)), quant=GIVEN),
    "prescribed_output": replace(
        layer_norm((1, 1, 3, 4), centered=False), quant={**GIVEN, "g": QParams(0.125, -9)}
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    mg = CASES[case]
    found = interval_bounds(mg)
    check_golden(request, f"interval_bounds/{case}.in.txt", graph_text(mg))
    check_golden(request, f"interval_bounds/{case}.out.txt", mapping_text(found))
    for point, value in run_points(mg, {"x": feed(mg)}).items():
        if point in found:
            lo, hi = found[point]
            slack = 1e-5 * max(1.0, abs(lo), abs(hi))  # float32 sums
            assert lo - slack <= value.min() and value.max() <= hi + slack, point


def test_a_function_without_a_finite_range_asks_for_calibration() -> None:
    mg = layer_norm((1, 1, 3, 4))
    pole = Epilogue(activation=Function("log"))
    last = Window("y", "x", np.ones((1, 1, 1)), np.zeros(4), epilogue=pole)
    bad: MatGraph = replace(mg, ops=(last,), quant={"x": QParams(0.0625)})
    with pytest.raises(BadInput, match="log of a value .* pass calibration="):
        interval_bounds(bad)


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


@pytest.mark.parametrize("centered", [True, False])
def test_intervals_of_a_normalisation_keep_the_variance_positive(centered: bool) -> None:
    mg = replace(layer_norm(centered=centered), quant={"x": QParams(0.02, 3)})
    found = propagate(mg)
    assert found[Point("inverse", "pre_activation")][0] == pytest.approx(1e-5)
    for point, value in run_points(mg, {"x": feed(mg)}).items():
        lo, hi = found[point]
        slack = 1e-5 * max(1.0, abs(lo), abs(hi))  # float32 sums
        assert lo - slack <= value.min() and value.max() <= hi + slack, point


@pytest.mark.parametrize("name, flat", [("tanh", 6.5), ("sigmoid", 12.0)])
def test_the_steps_of_a_recurrence_share_tables(name: str, flat: float) -> None:
    mg = replace(layer_norm((1, 1, 3, 4)), quant={"x": QParams(1 / 128)})  # x is -1 .. 127/128
    seen = set()
    for step in range(1, 40):
        one = np.full((1, 1, 1), float(step))
        epilogue = Epilogue(activation=Function(name))
        op = Window("y", "x", one, np.zeros(4), epilogue=epilogue)
        found = propagate(replace(mg, ops=(op,)))
        lo, hi = found[Point("y", "pre_activation")]
        assert -lo == hi and (hi >= step or hi == flat)
        assert found[Point("y")][1] <= 1.0  # what the function gives is as it was
        seen.add(hi)
    assert len(seen) <= 5
