# SPDX-License-Identifier: Apache-2.0
"""Bias correction: where weights are rounded, and nowhere else.

In: a network whose channels have a mean error.  Out: shifts of biases; less error in integers.
"""

from __future__ import annotations

import numpy as np
from blocks import Maker
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph
from neuralmatrix.ir.recipe import as_numbers
from neuralmatrix.ir.types import Function
from neuralmatrix.quantization.correct_biases import shifts_of, with_shifts
from neuralmatrix.quantization.fake_quant import sample, with_rounded_weights
from precision_nets import integer_error, ranges, runs
from quantized import scales, tied
from targets import target


def offset_net() -> MatGraph:
    """Return positive inputs of one size: rounded weights leave a constant error per channel."""
    b = Maker()
    b.tensor("x", (1, 1, 50, 60))
    b.window("p", "x", epilogue=Epilogue(activation=Function("sigmoid")))
    b.gemm("h", "p", 40, epilogue=Epilogue(activation=Function("sigmoid")))
    b.gemm("y", "h", 12)
    return b.graph()


def test_bias_correction_removes_the_mean_error() -> None:
    mg = offset_net()
    bounds = ranges(mg)
    shifts = shifts_of(mg, scales(mg, bounds), sample(mg, runs(mg)))
    assert set(shifts) <= {"h", "y"} and "y" in shifts
    better = with_shifts(tied(mg), target(), shifts=as_numbers(shifts)).graph
    assert integer_error(better, mg, bounds) < 0.9 * integer_error(mg, mg, bounds)


def test_bias_correction_does_nothing_at_int16_weights_of_full_precision() -> None:
    mg = offset_net()
    exact = with_rounded_weights(mg)  # its weights are int8 values already
    bounds = ranges(exact)
    qparams = scales(exact, bounds, "int16")
    shifts = shifts_of(exact, qparams, sample(exact, runs(exact)))
    assert all(np.abs(shift).max() < 1e-3 for shift in shifts.values())
