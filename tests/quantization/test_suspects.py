# SPDX-License-Identifier: Apache-2.0
"""Which points may hold values that decide nothing.

In: small graphs and values.  Out: suspects with their sides, and what is never one.
"""

from __future__ import annotations

import numpy as np
from blocks import Maker, attention
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph
from neuralmatrix.ir.matgraph.reference import run_points
from neuralmatrix.ir.points import Point
from neuralmatrix.ir.types import Array, Function, QParams
from neuralmatrix.quantization.histogram import Histogram
from neuralmatrix.quantization.suspects import Suspect, products, softmax_scores, suspects_of
from quantized import tied

SHAPE = (1, 1, 8, 64)


def histograms(mg: MatGraph, x: Array) -> dict[Point, Histogram]:
    found: dict[Point, Histogram] = {}
    for point, values in run_points(tied(mg).graph, {"x": x}).items():
        found.setdefault(point, Histogram()).add(values.reshape(-1))
    return found


def masked() -> MatGraph:
    """Return y = max(x + mask) over positions; the mask is a constant."""
    b = Maker()
    b.tensor("x", SHAPE)
    b.tensor("mask", SHAPE)
    b.constants["mask"] = np.where(np.arange(8)[:, None] < 5, 0, np.float32(-1e9)) * np.ones(
        SHAPE, np.float32
    )
    b.window("a", "x", epilogue=Epilogue(residual="mask"))
    b.window("y", "a", epilogue=Epilogue(activation=Function("tanh")))
    return b.graph()


def values() -> Array:
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def test_a_sum_its_mask_and_the_argument_of_a_function() -> None:
    mg = masked()
    found = suspects_of(tied(mg), histograms(mg, values()), {})
    points = {str(s.point): (s.low, s.high) for s in found}
    assert points == {
        "mask": (True, False),
        "a": (True, False),
        "y (pre_activation)": (True, False),
    }
    assert all(10 < s.boundary < 1e9 for s in found)


def test_what_saturates_already_is_no_suspect_again() -> None:
    mg = masked()
    known = {Point("a"): (-3.0, np.inf), Point("mask"): (-9.0, np.inf)}
    found = suspects_of(tied(mg), histograms(mg, values()), known)
    assert [str(s.point) for s in found] == ["y (pre_activation)"]


def test_prescribed_tensors_are_no_suspects() -> None:
    mg = masked()
    object.__setattr__(mg, "quant", {"a": QParams(0.1)})
    found = suspects_of(tied(mg), histograms(masked(), values()), {})
    assert "a" not in {str(s.point) for s in found}


def test_whole_numbers_are_no_suspects() -> None:
    """Of positions, calibration sees few: between the others and a far one lie values to come."""
    mg = masked()
    found = suspects_of(tied(mg), histograms(mg, np.round(values())), {})
    assert "a" not in {str(s.point) for s in found}


def test_scores_and_their_maximum_belong_to_the_softmax() -> None:
    found = softmax_scores(tied(attention(heads=1, p=9, d=2, mask="add")))
    assert any("max" in name for name in found)
    plain = Maker()
    plain.tensor("x", SHAPE)
    plain.window("y", "x", epilogue=Epilogue(rows=plain.rows(SHAPE, ("max", "top"))))
    assert not softmax_scores(tied(plain.graph()))


def test_room_is_counted_on_the_far_side_alone() -> None:
    low = Suspect(Point("a"), 50.0, True, False, (-1.0, 3.0), 4.0)
    assert low.limits(0) == (-1.0, np.inf)
    assert low.limits(1) == (-9.0, np.inf)
    both = Suspect(Point("a"), 50.0, True, True, (-1.0, 3.0), 4.0)
    assert both.limits(1) == (-9.0, 11.0)


def test_products_with_factors_that_depend_on_a_suspect() -> None:
    b = Maker()
    b.tensor("x", SHAPE)
    b.window("f", "x", epilogue=Epilogue(activation=Function("sigmoid")))
    b.window("g", "f", weight=np.full((1, 1, 1), 2.0))
    b.window("y", "x", epilogue=Epilogue(hadamard="g"))
    mg = b.graph()
    assert products(mg, [Suspect(Point("f"), 1.0, False, True)]) == [Point("y")]
    assert products(mg, [Suspect(Point("g"), 1.0, False, True)]) == [Point("y")]
    assert products(mg, [Suspect(Point("y", "pre_product"), 1.0, False, True)]) == [Point("y")]
    assert not products(mg, [Suspect(Point("y"), 1.0, False, True)])
