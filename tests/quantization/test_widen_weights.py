# SPDX-License-Identifier: Apache-2.0
"""Weights of two digits: equal in real numbers, a hundred times nearer in integers.

In: random layers.  Out: digits, errors in integers, refusals.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from blocks import ONE, Maker
from golden_passes import Exact, check_texts, exact, same_values
from graph_text import graph_text
from neuralmatrix.errors import BadModel
from neuralmatrix.ir.matgraph.ops import Epilogue, Gemm, MatGraph, MatOp, Window
from neuralmatrix.ir.matgraph.verify import verify_matgraph
from neuralmatrix.ir.points import Point
from neuralmatrix.ir.types import Function
from neuralmatrix.quantization.adjust_ranges import LOW_ROOM, spanned
from neuralmatrix.quantization.integer_weights import int_weight
from neuralmatrix.quantization.widen_weights import high_digit, may_widen, widen_weights
from precision_nets import integer_error, ranges
from quantized import observed, tied
from targets import target


def widened(mg: MatGraph, *names: str) -> MatGraph:
    return verify_matgraph(widen_weights(mg, target(), names=names))


def residual_net() -> MatGraph:
    b = Exact()
    b.tensor("x", (1, 1, 6, 5))
    b.gemm("a", "x", 4, epilogue=Epilogue(activation=Function("relu")))
    end = Epilogue("a", 0.5, Function("relu"), "a", b.rows((1, 1, 6, 4), ("max", "top")))
    b.gemm("y", "a", 4, bias=exact(9, 4), epilogue=end)
    return b.graph()


@pytest.mark.parametrize(("case", "names"), [("residual", ("y",)), ("kept_without_names", ())])
def test_golden(request: pytest.FixtureRequest, case: str, names: tuple[str, ...]) -> None:
    mg = residual_net()
    found = widened(mg, *names)
    check_texts(request, f"widen_weights/{case}", graph_text(mg), graph_text(found))
    same_values(mg, found)


def layers(seed: int) -> list[Any]:
    """Return layers with channels of very different size, and one of zeros."""
    rng = np.random.default_rng(seed)
    size = np.append(10.0 ** rng.uniform(-8, 2, 11), 0.0)
    weights = [rng.standard_normal((*taps, 12)) * size for taps in ((3, 3, 5), (1, 1, 40), (5, 1))]
    gemms = [Gemm("y", "x", w.astype(np.float32), size) for w in weights[:2]]
    return [*gemms, Window("y", "x", weights[2].astype(np.float32), size)]


@pytest.mark.parametrize("seed", range(5))
def test_the_high_digit_has_the_integers_of_the_weights(seed: int) -> None:
    for op in layers(seed):
        again = replace(op, weight=high_digit(op))
        np.testing.assert_array_equal(int_weight(again).values, int_weight(op).values)
        np.testing.assert_array_equal(high_digit(again), high_digit(op))


@pytest.mark.parametrize("seed", range(5))
def test_two_digits_are_a_hundred_times_nearer(seed: int) -> None:
    for op in layers(seed):
        high = high_digit(op).astype(np.float64)
        low = int_weight(replace(op, weight=np.asarray(op.weight - high, np.float32)))
        left = np.abs(op.weight - high - low.values * low.scale)
        step = int_weight(op).scale
        assert (np.abs(op.weight - high) <= 0.5001 * step).all()
        # half a step of half a step / 127; what float32 holds of the digits adds a little
        assert (left <= 0.5 * step / 250 + 2.0**-20 * step).all()


def lost(graph: MatGraph, mg: MatGraph) -> float:
    """Return the error of the integers with an int16 input, on ranges that unseen inputs keep."""
    wider = {point: (1.3 * lo, 1.3 * hi) for point, (lo, hi) in ranges(graph, "minmax").items()}
    return integer_error(graph, mg, wider, promoted=("x",))


def limited_net(seed: int = 0) -> MatGraph:
    """Return a product whose int8 weights lose far more than its int16 tensors."""
    b = Maker(seed)
    b.tensor("x", (1, 1, 40, 24))
    b.gemm("y", "x", 12, bias=b.rng.standard_normal(12))
    return b.graph()


def test_the_integers_lose_less() -> None:
    mg = limited_net()
    assert lost(widened(mg, "y"), mg) < lost(mg, mg) / 30  # int16 rounds x and y


def test_the_product_of_the_low_digit_is_int16() -> None:
    fine = widened(residual_net(), "y", "a")
    facts = tied(fine).facts
    assert {"a:fine", "y:fine"} <= facts.int16 and "a" not in facts.int16
    assert fine.recipe.widened == ("y", "a")


def test_a_low_digit_alone_has_room_beyond_its_calibrated_range() -> None:
    fine = tied(widened(residual_net(), "y", "a"))
    seen = observed(widened(residual_net(), "y", "a"), {"x": exact(3, 1, 1, 6, 5)})
    found = spanned(fine.graph, fine.facts, seen)
    for name, room in (("a:fine", LOW_ROOM), ("y:fine", 1.0)):  # y:fine holds the residual too
        assert found[Point(name)] == tuple(end * room for end in seen[Point(name)])


def test_windows_have_two_digits() -> None:
    b = Maker()
    b.tensor("x", (1, 8, 8, 6))
    b.window("y", "x", weight=b.rng.standard_normal((3, 3, 6)), pads=(1, 1, 1, 1))
    mg = b.graph()
    fine = widened(mg, "y")
    assert [type(op) for op in fine.ops] == [Window, Window]
    same_values(mg, fine)
    assert lost(fine, mg) < lost(mg, mg) / 30


@pytest.mark.parametrize(
    "op",
    [
        Gemm("y", "x", None, np.zeros(4), rhs="z"),
        Gemm("y", "x", exact(1, 1, 1, 5, 4), np.zeros(4), weight_scale=np.ones(4, np.float32)),
        Window("y", "x", ONE, np.zeros(5)),
        Window("y", "x", exact(1, 1, 1, 5), np.zeros(5)),
        Window("y", "x", exact(1, 3, 3, 5), np.zeros(5), reduce="max"),
    ],
)
def test_weights_that_int8_does_not_round(op: MatOp) -> None:
    assert not may_widen(op)


def test_names_without_weights_are_refused() -> None:
    for names in (("x",), ("other",), ("top",), ("y", "y")):
        with pytest.raises(BadModel, match=f"no weights of '{names[0]}' can be widened"):
            widened(residual_net(), *names)
