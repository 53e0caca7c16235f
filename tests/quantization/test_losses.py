# SPDX-License-Identifier: Apache-2.0
"""How outputs are judged: kinds, parts of different scale, changed answers.

In: outputs made in numpy, whose losses are known.  Out: the same figures.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from blocks import Maker
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph, Move
from neuralmatrix.ir.types import Array, Function, ViewStep
from neuralmatrix.quantization.losses import (
    Judge,
    accuracy_of,
    judge,
    likely_error,
    outputs_loss,
    relative_error,
    varying_error,
)

RNG = np.random.default_rng(0)


def ending_in(activation: str | None, shape: tuple[int, ...]) -> MatGraph:
    """Return a network whose output has a shape: images as NCHW, others with channels last."""
    b = Maker()
    channels = shape[1] if len(shape) == 4 else shape[-1]
    rows = int(np.prod(shape)) // channels
    b.tensor("x", (1, 1, rows, 4))
    function = Function(activation) if activation else None
    b.gemm("y", "x", channels, epilogue=Epilogue(activation=function))
    mg = b.graph()
    steps = (ViewStep("reshape", shape),)
    if len(shape) == 4:
        n, c, h, w = shape
        steps = (ViewStep("reshape", (n, h, w, c)), ViewStep("transpose", (0, 3, 1, 2)))
    return replace(mg, outputs=(replace(mg.outputs[0], shape=shape, steps=steps),))


def judged(wanted: Array, activation: str | None = None) -> Judge:
    mg = ending_in(activation, wanted.shape[1:])
    return judge(mg.outputs[0], wanted, mg)


def normal(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def softmax(x: Array, axis: int) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(e / e.sum(axis, keepdims=True), np.float32)


def scores(*shape: int) -> Array:
    """Return scores as a cross entropy trains them: their mean is nearly constant."""
    rows = 6 * normal(*shape)
    return rows - 0.8 * rows.mean(-1, keepdims=True)


@pytest.mark.parametrize(
    ("wanted", "activation", "kind"),
    [
        (scores(16, 1, 10), None, "class scores"),
        (scores(16, 1, 12, 5), None, "class scores"),  # of every step of a sequence
        (6 * normal(64, 1, 10), None, "values"),  # values in large units, independent
        (20 * normal(64, 1, 1) + normal(64, 1, 4), None, "values"),  # that rise and fall together
        (0.3 * normal(16, 1, 4), None, "values"),  # a softmax is not sure of them
        (softmax(normal(16, 1, 7, 10), 3), "exp", "class scores"),
        (softmax(normal(16, 1, 7, 4), 2), "exp", "class scores"),
        (1 / (1 + np.exp(-normal(16, 1, 10))), "sigmoid", "probabilities"),
        (normal(16, 1, 3, 8, 8), None, "pictures"),
        (normal(16, 1, 20, 64), None, "vectors"),
        (normal(16, 1, 20, 8, 8), None, "values"),
        (normal(16, 1, 400, 6), None, "values"),  # boxes beside scores
        (normal(16, 1, 1), None, "values"),
        (np.abs(normal(16, 1, 3)) + [[[9.0, 0.0, 0.0]]], None, "values"),  # one always wins
    ],
)
def test_the_kind_of_an_output(wanted: Array, activation: str | None, kind: str) -> None:
    assert judged(wanted, activation).kind == kind


def test_classes_may_lie_along_any_axis() -> None:
    wanted = softmax(normal(16, 1, 7, 4), 2)
    found = accuracy_of(judged(wanted, "exp"), wanted, wanted)
    assert found.rows == 16 * 4 and found.top1 == 1.0 and found.changed == 0.0


def test_boxes_and_scores_are_two_parts() -> None:
    boxes, scores = 300 * normal(8, 1, 4, 50), 0.01 * normal(8, 1, 20, 50)
    wanted = np.concatenate([boxes, scores], 2)
    lost = np.concatenate([boxes, np.zeros_like(scores)], 2)
    found = accuracy_of(judged(wanted), lost, wanted)
    assert found.relative_error < 1e-3  # the whole hides what the part shows
    assert {p.where: p.relative_error for p in found.parts} == {
        "axis 1: 4..23": pytest.approx(1.0),
        "axis 1: 0..3": 0.0,
    }
    assert found.worst == pytest.approx(1.0) and "by part: axis 1: 4..23 100 %" in found.to_text()


def test_parts_along_the_first_axis_and_dead_channels() -> None:
    h, c = normal(8, 1, 1, 16), 30 * normal(8, 1, 1, 16)
    c[..., 3] = 0
    h[..., 3] = 0
    parts = judged(np.concatenate([h, c], 1)).parts
    assert [text for text, *_ in parts] == ["axis 0: 0", "axis 0: 1"]


@pytest.mark.parametrize("factor", [1.0, 6.0])
def test_even_outputs_have_no_parts(factor: float) -> None:
    wanted = normal(8, 1, 20, 50)
    wanted[:, :, :4] *= factor
    assert judged(wanted).parts == ()


def test_probabilities_are_not_cut_into_parts() -> None:
    wanted = softmax(20 * normal(16, 1, 40), 2)
    assert judged(wanted, "exp").parts == ()


def test_the_smoother_estimate_is_near_the_share_of_many_rows() -> None:
    """Half of the error's noise is one estimate of a flip in a hundred: 200 rows say too little."""
    wanted = scores(40000, 1, 10) / 2
    error = 0.1 * normal(40000, 1, 10)
    whole = accuracy_of(judged(wanted), wanted + error, wanted)
    assert whole.top1 is not None and whole.changed is not None
    truth = 1 - whole.top1
    few = accuracy_of(judged(wanted[:200]), (wanted + error)[:200], wanted[:200])
    assert whole.changed == pytest.approx(truth, rel=0.1)
    # 200 rows with factors up to 4 in both directions: some 12 events of a rate of 0.03
    assert few.changed == pytest.approx(truth, rel=0.6)


def test_decisions_count_both_sides_of_a_half() -> None:
    wanted = np.array([0.1, 0.4, 0.6, 0.9], np.float32).reshape(4, 1, 1)
    found = np.array([0.1, 0.55, 0.6, 0.9], np.float32).reshape(4, 1, 1)
    made = accuracy_of(judged(wanted, "sigmoid"), found, wanted)
    assert made.top1 == 0.75 and made.rows == 4


def test_parts_that_one_function_makes_are_of_its_kind() -> None:
    b = Maker()
    b.tensor("x", (1, 1, 1, 4))
    for name in ("a", "c"):
        b.gemm(name, "x", 2, epilogue=Epilogue(activation=Function("sigmoid")))
    b.tensor("y", (1, 1, 2, 2))
    b.ops.append(Move("y", ("a", "c"), np.arange(4).reshape(1, 1, 2, 2)))
    mg, wanted = b.graph(), RNG.random((16, 1, 1, 2, 2)).astype(np.float32)
    assert judge(mg.outputs[0], wanted, mg).kind == "probabilities"
    relu = replace(mg.ops[0], epilogue=Epilogue(activation=Function("relu")))
    mixed = replace(mg, ops=(relu, *mg.ops[1:]))
    assert judge(mixed.outputs[0], wanted, mixed).kind == "values"


def test_a_constant_part_and_a_large_channel_hide_no_error() -> None:
    wanted = np.concatenate([300 + 2 * normal(400, 1, 1), 500 * normal(400, 1, 1)], 2)
    error = np.concatenate([0.2 * normal(400, 1, 1), np.zeros((400, 1, 1))], 2)
    made = judged(wanted)
    assert varying_error(made, wanted + error, wanted) == pytest.approx(0.1 / 2**0.5, rel=0.2)
    assert accuracy_of(made, wanted + error, wanted).relative_error < 1e-3


def test_channels_that_never_vary_have_no_error_of_their_own() -> None:
    wanted = np.full((8, 1, 2), 3.0, np.float32)
    assert varying_error(judged(wanted), wanted + 0.1, wanted) == 0.0


def test_psnr_counts_the_peak() -> None:
    wanted = np.full((2, 1, 3, 4, 4), 2.0, np.float32)
    made = accuracy_of(judged(wanted), wanted + 0.02, wanted)
    assert made.psnr_db == pytest.approx(40.0, abs=1e-3)


def test_the_loss_is_the_mean_of_each_output_by_its_measure() -> None:
    a, b = normal(16, 1, 10), normal(16, 1, 10)
    judges = {"a": judged(a), "b": judged(b)}
    found = {"a": 1.1 * a, "b": -b}
    loss = outputs_loss(judges, found, {"a": a, "b": b}, {"a": "relative", "b": "top1"})
    other = np.mean(b.argmax(-1) != (-b).argmax(-1))
    assert loss == pytest.approx((0.1 + other) / 2, rel=1e-5)


def test_the_error_that_other_inputs_are_likely_to_have() -> None:
    wanted = np.ones((4, 10))
    even, uneven = np.full((4, 1), 0.01), 0.01 * np.array([[0.2], [0.2], [0.2], [1.96]])
    assert likely_error(wanted + even, wanted) == pytest.approx(0.01)
    assert likely_error(wanted + uneven, wanted) > 1.5 * relative_error(wanted + uneven, wanted)
    many = np.tile(uneven, (16, 1))
    assert likely_error(np.ones((64, 10)) + many, np.ones((64, 10))) < 0.013
    assert likely_error(wanted[:1] + 0.01, wanted[:1]) == pytest.approx(0.01)
    assert likely_error(wanted, wanted) == 0
