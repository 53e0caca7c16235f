# SPDX-License-Identifier: Apache-2.0
"""Functions that jump: both sides of one jump and of two, and values that lie exactly at one.

In: shrinks, thresholds and choices by comparisons.  Out: tables that are as exact as those of
functions without jumps, and the right side for values at a threshold.
"""

from __future__ import annotations

import neuralmatrix as nm
import numpy as np
import pytest
from build_onnx import model, node
from neuralmatrix.ir.functions import is_jump, kinks
from neuralmatrix.ir.types import Function, QParams
from neuralmatrix.quantization.integer_epilogues import _x_scale
from neuralmatrix.quantization.on_jumps import on_jump
from neuralmatrix.quantization.pwl.near import fit_near

INT16 = (-32768, 32767)
OUTSIDE = "where(max(greater(x,{}),greater({},x)),x,0)"
INSIDE = "where(max(greater(x,{}),greater({},x)),0,x)"


@pytest.mark.parametrize(
    "function",
    [
        Function("shrink", (0.5, 0.0)), Function("shrink", (0.7, 0.2)),
        Function("thresholded_relu", (0.7,)), Function(OUTSIDE.format(0.5, -0.5)),
        Function(OUTSIDE.format(0.7, -0.3)), Function(INSIDE.format(0.5, -0.5)),
        Function(INSIDE.format(1.1, 0.4)), Function("where(greater(x,1.5),x,-2)"),
    ],
    ids=str,
)  # fmt: skip
def test_tables_jump_where_the_function_does(function: Function) -> None:
    """One value at a jump may be the other side's; all others are as near as a line comes."""
    scale = _x_scale(function, (-3.2, 3.3), 0.0)
    span = (int(np.floor(-3.2 / scale)), int(np.ceil(3.3 / scale)))
    table = fit_near(function, scale, span, 3.3 / 32000, INT16, 32)
    assert table.worst_error <= 8


def test_corners_that_jump() -> None:
    shrink, smooth = Function("shrink", (0.5, 0.0)), Function("shrink", (0.5, 0.5))
    assert [is_jump(shrink, corner) for corner in kinks(shrink)] == [True, True]
    assert [is_jump(smooth, corner) for corner in kinks(smooth)] == [False, False]


@pytest.mark.parametrize("precision", ["int8", "int16"])
@pytest.mark.parametrize("form", ["operator", "where"])
def test_a_value_at_a_threshold_stays_on_its_side(form: str, precision: str) -> None:
    constants = {"t": np.float32(2), "zero": np.float32(0)}
    choice = [node("Greater", ["x", "t"], ["g"]), node("Where", ["g", "x", "zero"], ["y"])]
    nodes = [node("ThresholdedRelu", ["x"], ["y"], alpha=2.0)] if form == "operator" else choice
    net = model(nodes, {"x": (1, 5)}, ["y"], constants if form == "where" else {})
    x = np.array([[-1.5, 0, 1.2, 2.0, 2.2]], np.float32)
    program = nm.compile(net, calibration=[{"x": x}], precision=precision)
    found = nm.Session(program).run({"x": x})["y"]
    assert np.allclose(found, [[0, 0, 0, 0, 2.2]], atol=0.02) and np.all(found[0, :4] == 0)


def test_a_threshold_near_0_keeps_the_range() -> None:
    wide = QParams(0.1)
    assert on_jump(wide, 0.5) == wide
    assert on_jump(wide, 5.03).scale == pytest.approx(5.03 / 50)
