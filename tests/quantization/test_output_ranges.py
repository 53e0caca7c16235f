# SPDX-License-Identifier: Apache-2.0
"""Outputs whose answers are rare: probabilities that samples never show above a half.

In: small networks of a sigmoid, samples of one side.  Out: ranges, answers of compiled programs.
"""

from __future__ import annotations

from dataclasses import replace

import neuralmatrix as nm
import numpy as np
import pytest
from blocks import Maker
from build_onnx import model, node
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph, Move
from neuralmatrix.ir.points import Point
from neuralmatrix.ir.types import Function, Units
from neuralmatrix.quantization.histogram import Histogram
from neuralmatrix.quantization.output_ranges import SATURATED, bounded_outputs, has_rare_answers

SMALL = {Point("s"): (0.0, 0.1), Point("s", "pre_activation"): (-12.0, -2.0)}


def net(activation: Function | None, factor: float = 1.0, moved: bool = False) -> MatGraph:
    b = Maker()
    b.tensor("x", (1, 1, 1, 4))
    b.gemm("s", "x", 1, epilogue=Epilogue(activation=activation, factor=factor))
    b.tensor("y", (1, 1, 1, 1))
    b.ops.append(Move("y", ("s",), np.zeros((1, 1, 1, 1), int)))
    mg = b.graph()
    return mg if moved else replace(mg, outputs=(replace(mg.outputs[0], tensor="s"),))


def seen(*values: float) -> dict[Point, Histogram]:
    histogram = Histogram()
    histogram.add(np.array(values))
    return {Point("s"): histogram}


@pytest.mark.parametrize("moved", [False, True])
def test_a_probability_reaches_one_whatever_samples_show(moved: bool) -> None:
    found = bounded_outputs(net(Function("sigmoid"), 4.0, moved), SMALL)
    assert found == {Point("s"): (0.0, 4.0),
                     Point("s", "pre_activation"): (-12.0, SATURATED)}  # fmt: skip


def test_a_hard_sigmoid_ends_where_its_argument_says() -> None:
    found = bounded_outputs(net(Function("hard_sigmoid", (0.2, 0.5))), SMALL)
    assert found[Point("s", "pre_activation")] == (-12.0, pytest.approx(2.5))


def test_only_probabilities_are_known_beforehand() -> None:
    for activation in (None, Function("relu"), Function("tanh")):
        assert bounded_outputs(net(activation), SMALL) == {}


@pytest.mark.parametrize(
    ("activation", "values", "rare"),
    [
        ("sigmoid", [0.01] * 60 + [0.9] * 3, True),
        ("sigmoid", [0.01] * 60 + [0.9] * 40, False),
        ("sigmoid", [0.01] * 6 + [0.9] * 3, False),  # few, but not rare
        (None, [-3.0] * 60, True),  # as a logit
        (None, [-3.0] * 30 + [2.0] * 30, False),
        ("relu", [1e-3] * 60, False),
    ],
)
def test_answers_are_rare(activation: str | None, values: list[float], rare: bool) -> None:
    function = Function(activation) if activation else None
    assert has_rare_answers(net(function), seen(*values)) == rare


def test_the_sign_of_a_value_with_an_offset_is_that_of_the_real_one() -> None:
    mg = net(None)
    offset = Units((1, 1, 1, 1), (2.0,), (300.0,))
    port = replace(mg.outputs[0], units=offset)
    assert not has_rare_answers(replace(mg, outputs=(port,)), seen(*[-1.0] * 60))


@pytest.mark.gxx
@pytest.mark.parametrize("precision", ["int8", "int16"])
def test_what_calibration_never_showed_is_found(precision: str) -> None:
    """sigmoid(20 (a + b) - 30): calibration shows a and b large, but never both."""
    constants = {"w": np.full((2, 1), 20, np.float32), "b": np.array([-30], np.float32)}
    nodes = [node("Gemm", ["x", "w", "b"], ["g"]), node("Sigmoid", ["g"], ["y"])]
    made = model(nodes, {"x": [1, 2]}, ["y"], constants)
    x = np.random.default_rng(0).uniform(0, 1, (400, 2)).astype(np.float32)
    common, both = x[x.sum(1) < 1.2], x[x.sum(1) > 1.6]
    program = nm.compile(made, calibration=[{"x": common[:64]}], precision=precision)
    found = nm.Session(program).run({"x": np.concatenate([both[:20], common[64:84]])})["y"].ravel()
    assert np.all(found[:20] > 0.5) and np.all(found[20:] < 0.5)
