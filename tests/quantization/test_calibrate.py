# SPDX-License-Identifier: Apache-2.0
"""Calibration ranges on a small MatGraph whose values are known.

In: seeded images.
Out: exact extremes, sensible clipping, independence of chunking, clear refusals.
"""

from __future__ import annotations

import numpy as np
import pytest
from blocks import Maker, attention, layer_norm
from build_onnx import model, node
from golden_passes import exact
from golden_text import check_golden
from graph_text import graph_text, mapping_text
from neuralmatrix.compiler import ByRecipe, front_end
from neuralmatrix.errors import BadInput
from neuralmatrix.hardware.board import load_board
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph, Port, Tensor, Window
from neuralmatrix.ir.matgraph.reference import run_points
from neuralmatrix.ir.points import Point
from neuralmatrix.ir.quantized_values import dequantize_array, quantize_array
from neuralmatrix.ir.types import Function, ViewStep
from neuralmatrix.quantization import samples
from neuralmatrix.quantization.calibrate import observe
from neuralmatrix.quantization.scales import choose_qparams
from quantized import calibrated, statistics, tied

SHAPE = (1, 4, 5, 3)
BIAS = np.array([0.5, -0.25, 0.0])
PRE = Point("relu", "pre_activation")


def one_by_one(output, source, factor, bias, activation):
    epilogue = Epilogue(activation=Function(activation) if activation else None)
    weight = np.full((1, 1, 1), factor, np.float32)
    return Window(output, source, weight, np.asarray(bias, np.float32), epilogue=epilogue)


def graph():
    """Return input -> relu(2x + bias) -> y = relu - 1, in NCHW at the ports."""
    to_nhwc = (ViewStep("transpose", (0, 2, 3, 1)),)
    to_nchw = (ViewStep("transpose", (0, 3, 1, 2)),)
    port_shape = (1, 3, 4, 5)
    return MatGraph(
        (Port("input", port_shape, "x", to_nhwc),),
        (Port("output", port_shape, "y", to_nchw),),
        (
            one_by_one("relu", "x", 2.0, BIAS, "relu"),
            one_by_one("y", "relu", 1.0, -np.ones(3), None),
        ),
        {name: Tensor(name, SHAPE) for name in ("x", "relu", "y")},
        {},
    )


def images(count, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 3, 4, 5)).astype(np.float32)


def test_minmax_is_exact_for_every_tensor():
    x = images(20)
    found = calibrated(graph(), [{"input": x}], "minmax")
    pre = 2 * x + BIAS.astype(np.float32)[:, None, None]
    relu = np.maximum(pre, 0)
    seen = statistics(graph(), [{"input": x}])
    assert found.ranges == {**seen.extremes, Point("y"): seen.roomy[Point("y")]}
    held = {Point("x"): x, PRE: pre, Point("relu"): relu, Point("y"): relu - 1}
    assert set(found.ranges) == set(held)
    for point, values in held.items():
        wanted = (min(values.min(), 0), max(values.max(), 0))
        assert seen.extremes[point] == pytest.approx(wanted)


@pytest.mark.parametrize("method", ["mse", "minmax", "percentile"])
def test_zero_stays_inside_and_relu_starts_at_zero(method):
    found = calibrated(graph(), [{"input": images(40)}], method).ranges
    assert found[Point("relu")][0] == 0.0
    for name in ("x", "relu", "y"):
        lo, hi = found[Point(name)]
        assert lo <= 0.0 <= hi
    assert found[PRE][0] < 0.0 < found[PRE][1]


def test_values_before_an_activation_keep_bounds_that_exclude_zero():
    x = np.abs(images(10)) + 3
    found = calibrated(graph(), [{"input": x}]).ranges
    assert found[PRE][0] == pytest.approx((2 * x + BIAS[:, None, None]).min(), rel=1e-6)
    assert found[Point("x")][0] == 0.0


def test_one_outlier_is_clipped_except_by_minmax_and_at_outputs():
    x = images(400)
    x[7, 1, 2, 3] = 60.0
    highs = {
        method: calibrated(graph(), [{"input": x}], method, 400).ranges
        for method in ("minmax", "percentile", "mse")
    }
    assert highs["minmax"][Point("x")][1] == 60.0
    assert 3.0 < highs["percentile"][Point("x")][1] < 6.0
    assert highs["mse"][Point("x")][1] < 60.0
    for ranges in highs.values():
        # an output that is 0 to 5 but for one value has hardly a bit to spare: the least room
        assert ranges[Point("y")][1] == pytest.approx(1.02 * (2 * 60 - 0.25 - 1))


def squared_error(x, found):
    q = choose_qparams(*found, int16=False)
    return float(np.square(dequantize_array(quantize_array(x, q), q) - x).mean())


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("power", [1, 3, 5])
def test_mse_beats_the_other_methods_on_its_own_measure(power, seed):
    x = images(400, seed) ** power
    errors = {}
    for method in ("mse", "minmax", "percentile"):
        found = calibrated(graph(), [{"input": x}], method, 400)
        errors[method] = squared_error(x, found.ranges[Point("x")])
    # The histogram's bins and the grid of clip positions cost a few percent at most.
    assert errors["mse"] <= 1.05 * min(errors.values())


def test_one_pass_over_a_generator_in_any_grouping_gives_the_same(monkeypatch):
    x = images(23)
    whole = calibrated(graph(), [{"input": x}])
    single = calibrated(graph(), ({"input": image[None]} for image in x))
    monkeypatch.setattr(samples, "MOST_TOGETHER", 5)
    chunked = calibrated(graph(), [{"input": x[:9]}, {"input": x[9:]}])
    assert whole.ranges == single.ranges == chunked.ranges


def test_ranges_that_grow_keep_the_counts():
    x = np.sort(images(64).reshape(-1) ** 3).reshape(64, 3, 4, 5)
    order = np.argsort(np.abs(x).max((1, 2, 3)))
    growing = calibrated(graph(), ({"input": x[i : i + 1]} for i in order))
    falling = calibrated(graph(), ({"input": x[i : i + 1]} for i in order[::-1]))
    for point in growing.ranges:
        assert growing.ranges[point] == pytest.approx(falling.ranges[point], rel=0.05)


def test_no_more_than_max_images_are_read():
    read = []

    def endless():
        while True:
            read.append({"input": images(3, len(read))})
            yield read[-1]

    found = calibrated(graph(), endless(), "minmax", 10)
    assert len(read) == 4
    x = np.concatenate([feed["input"] for feed in read])[:10]
    assert found.ranges[Point("x")] == (x.min(), x.max())


def test_all_zero_images():
    found = calibrated(graph(), [{"input": np.zeros((2, 3, 4, 5))}])
    assert found.ranges[Point("x")] == (0.0, 0.0)
    assert found.ranges[Point("relu")] == (0.0, 0.5)


def with_value(value):
    x = images(2)
    x[1, 0, 0, 0] = value
    return x


@pytest.mark.parametrize(
    ("feeds", "text"),
    [
        (None, "no calibration data given; pass an iterable of {input name: array}"),
        ([], "the calibration set is empty; give at least one"),
        ([{"image": images(1)}], "inputs ['image']; the model's inputs are ['input']"),
        ([{}], "inputs []; the model's inputs are ['input']"),
        ([images(1)], "feed 0 is a ndarray; allowed is {input name: array}"),
        ([{"input": images(1)[:, :2]}], "has shape (1, 2, 4, 5); allowed is (1, 3, 4, 5)"),
        ([{"input": images(1)[:0]}], "has shape (0, 3, 4, 5); allowed is (1, 3, 4, 5)"),
        ([{"input": with_value(np.nan)}], "holds NaN, infinity or a value beyond float32"),
        ([{"input": with_value(np.inf)}], "holds NaN, infinity or a value beyond float32"),
        ([{"input": np.full((1, 3, 4, 5), "a")}], "has dtype <U1; allowed are real numbers"),
    ],
)
def test_bad_feeds_are_refused(feeds, text):
    with pytest.raises(BadInput) as caught:
        calibrated(graph(), feeds)
    assert text in str(caught.value)


def test_a_single_feed_may_stand_for_a_list():
    x = images(4)
    assert calibrated(graph(), {"input": x}).ranges == calibrated(graph(), [{"input": x}]).ranges


# ---------------------------------------------------------------- golden texts


def long_tails() -> MatGraph:
    """Return a factor in front of a product that reads it in int8."""
    b = Maker()
    b.tensor("x", (1, 1, 2048, 8))
    b.window("h", "x", weight=np.full((1, 1, 1), 0.5))
    b.gemm("y", "h", 4)
    return b.graph()


GOLDEN = {
    "attention": attention(heads=1, p=4, d=2),
    "masked_attention": attention(heads=1, p=9, d=2, mask="add"),
    "normalisation": layer_norm((1, 1, 3, 4)),
    "long_tails": long_tails(),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    """Every tensor has a range, and so have the values before activations and factors."""
    mg = GOLDEN[case]
    runs = [{"x": exact(seed, *mg.inputs[0].shape)} for seed in range(3)]
    if case == "long_tails":  # few values are large, so that clipping reduces the error
        x = np.random.default_rng(4).standard_normal(mg.inputs[0].shape) ** 3
        runs = [{"x": x.astype(np.float32)}]
    found = calibrated(mg, runs).ranges
    check_golden(request, f"calibrate/{case}.in.txt", graph_text(mg))
    check_golden(request, f"calibrate/{case}.out.txt", mapping_text(found))
    assert found.keys() == run_points(tied(mg).graph, runs[0]).keys()
    assert all(lo <= 0 <= hi for point, (lo, hi) in found.items() if point.at == "output")


def test_a_sum_whose_copy_is_normalised_has_room() -> None:
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Add", ["x", "a"], ["s"]),
             node("Concat", ["s", "x"], ["t"], axis=1),
             node("LayerNormalization", ["t", "g", "b"], ["y"], axis=-1)]  # fmt: skip
    constants = {"w": np.eye(16, dtype=np.float32), "g": np.ones(16, np.float32),
                 "b": np.zeros(16, np.float32)}  # fmt: skip
    target = load_board("pynq-z2").target
    lowered = front_end(model(nodes, {"x": (1, 6, 16)}, ["y"], constants), target)
    graph = ByRecipe().tied(lowered, target)
    x = np.random.default_rng(0).normal(size=(1, 6, 16)).astype(np.float32)
    assert "s" not in graph.facts.int16 and graph.facts.scale_groups.root("s") in graph.facts.int16
    low, high = observe(graph, [{"x": x}] * 4).ranges("minmax")[Point("s")]
    assert low == pytest.approx(4 * x.min(), rel=1e-6)  # twice what 2 x reaches
    assert high == pytest.approx(4 * x.max(), rel=1e-6)
