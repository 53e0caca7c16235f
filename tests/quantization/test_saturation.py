# SPDX-License-Identifier: Apache-2.0
"""Points that saturate: what is clipped, counted and told.

In: limits and arrays.  Out: clipped arrays, counts, notes.
"""

from __future__ import annotations

import numpy as np
from blocks import Maker
from neuralmatrix.ir.matgraph.ops import MatGraph
from neuralmatrix.ir.matgraph.reference import run_points
from neuralmatrix.ir.points import Point
from neuralmatrix.quantization.saturation import Saturation, notes_of
from neuralmatrix.quantization.suspects import Suspect

LIMITS = {Point("x"): (-np.inf, 2.0)}


def doubled() -> MatGraph:
    b = Maker()
    b.tensor("x", (1, 1, 2, 2))
    b.window("y", "x", weight=np.full((1, 1, 1), 2.0))
    return b.graph()


def feed(*values: float) -> dict[str, np.ndarray]:
    return {"x": np.reshape(np.float32(values), doubled().inputs[0].shape)}


def test_later_values_follow_from_the_saturated_ones() -> None:
    applied = Saturation(LIMITS)
    points = run_points(doubled(), feed(1, -9, 5, 70), applied)
    assert points[Point("x")].reshape(-1).tolist() == [1, -9, 2, 2]
    assert points[Point("y")].reshape(-1).tolist() == [2, -18, 4, 4]
    run_points(doubled(), feed(1, 3, 0, 0), applied)
    assert applied.cut == {Point("x"): 3}
    assert applied.worst == {Point("x"): 70.0}
    assert applied.outside[Point("x")].reshape(-1).tolist() == [False, True, False, False]


def test_notes_say_what_where_and_how_many() -> None:
    applied = Saturation(LIMITS)
    run_points(doubled(), feed(1, 2, 5, 7000), applied)
    applied.leave_out(Point("y"), np.array([-1e4, -2e4]))
    left, masked, kept = notes_of(doubled(), applied, [Suspect(Point("y"), 50.0, False, True)])
    assert left == (
        "range of 'x': 2 values up to 7e+03 are left out, no output depends on them; they saturate "
        "at 2"
    )
    assert masked == (
        "range of 'y': 2 values up to -2e+04 are masked scores; they saturate 20 below the lowest "
        "other one"
    )
    assert kept == (
        "range of 'y': set by values beyond 50, far beyond all others; outputs depend on them"
    )
