# SPDX-License-Identifier: Apache-2.0
"""Bias correction: where weights are rounded, and nowhere else.

In: a network whose channels have a mean error.  Out: shifts of biases; less error in integers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from blocks import Maker
from golden_passes import check_texts
from graph_text import graph_text
from neuralmatrix.ir.matgraph.ops import Epilogue, Linear, MatGraph
from neuralmatrix.ir.recipe import PerChannel, as_numbers
from neuralmatrix.ir.types import Function
from neuralmatrix.quantization.calibrated_graph import CalibratedGraph
from neuralmatrix.quantization.correct_biases import correct_biases, shifts_of
from neuralmatrix.quantization.fake_quant import sample, with_rounded_weights
from neuralmatrix.quantization.scales import choose_scales
from precision_nets import integer_error, ranges, runs
from quantized import calibrated, scales, with_ranges
from targets import target


def offset_net() -> MatGraph:
    """Return positive inputs of one size: rounded weights leave a constant error per channel."""
    b = Maker()
    b.tensor("x", (1, 1, 50, 60))
    b.window("p", "x", epilogue=Epilogue(activation=Function("sigmoid")))
    b.gemm("h", "p", 40, epilogue=Epilogue(activation=Function("sigmoid")))
    b.gemm("y", "h", 12)
    return b.graph()


def exact_weights() -> MatGraph:
    """Return the network with weights that are int8 values already: nothing is rounded."""
    return with_rounded_weights(offset_net())


def large_net() -> MatGraph:
    """Return four channels whose weights are far larger than one step, on inputs of up to 100."""
    b = Maker()
    b.tensor("x", (1, 1, 50, 6))
    b.window("p", "x", epilogue=Epilogue(activation=Function("sigmoid")))
    b.gemm("y", "p", 4)
    weight = b.ops[-1].weight  # type: ignore[union-attr]
    weight *= 100  # type: ignore[operator]
    return b.graph()


CASES = {"large_weights": large_net, "kept_exact_weights": exact_weights}


def coarse_text(mg: MatGraph) -> str:
    """Return the text with biases and shifts in hundredths: their sums depend on the machine."""
    ops = tuple(replace(op, bias=np.round(op.bias, 2)) for op in mg.ops if isinstance(op, Linear))
    shifts = tuple((name, tuple(round(v, 2) for v in values)) for name, values in mg.recipe.shifts)
    return graph_text(replace(mg, ops=ops, recipe=replace(mg.recipe, shifts=shifts)))


def shifted(known: CalibratedGraph, shifts: PerChannel) -> CalibratedGraph:
    recipe = replace(known.graph.recipe, shifts=shifts)
    return correct_biases(replace(known, graph=replace(known.graph, recipe=recipe)), target())


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    mg = CASES[case]()
    known = calibrated(mg, runs(mg))
    qparams = choose_scales(known, target()).qparams
    shifts = as_numbers(shifts_of(known.graph, qparams, sample(known.graph, runs(mg))))
    found = shifted(known, shifts).graph
    check_texts(request, f"correct_biases/{case}", coarse_text(known.graph), coarse_text(found))


def test_bias_correction_removes_the_mean_error() -> None:
    mg = offset_net()
    bounds = ranges(mg)
    shifts = shifts_of(mg, scales(mg, bounds), sample(mg, runs(mg)))
    assert set(shifts) <= {"h", "y"} and "y" in shifts
    better = shifted(with_ranges(mg, bounds), as_numbers(shifts)).graph
    assert integer_error(better, mg, bounds) < 0.9 * integer_error(mg, mg, bounds)


def test_bias_correction_does_nothing_at_int16_weights_of_full_precision() -> None:
    mg = offset_net()
    exact = with_rounded_weights(mg)  # its weights are int8 values already
    bounds = ranges(exact)
    qparams = scales(exact, bounds, "int16")
    shifts = shifts_of(exact, qparams, sample(exact, runs(exact)))
    assert all(np.abs(shift).max() < 1e-3 for shift in shifts.values())
