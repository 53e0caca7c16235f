# SPDX-License-Identifier: Apache-2.0
"""Trials of recipes: outputs of many runs equal those of single ones, losses those of the outputs.

In: small networks with one and several outputs.  Out: the same values and figures.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from blocks import Maker, attention
from build_onnx import model, node, onnxruntime_outputs
from neuralmatrix.compiler import ByRecipe, front_end
from neuralmatrix.ir.matgraph.ops import MatGraph
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float
from neuralmatrix.ir.recipe import Recipe, as_triples
from neuralmatrix.quantization.calibrate import observe
from neuralmatrix.quantization.integer_reference import outputs_of, run_integer
from neuralmatrix.quantization.qgraph import QGraph
from neuralmatrix.quantization.samples import MOST_TOGETHER, Run, Samples
from neuralmatrix.quantization.trials import (
    MOST,
    Trials,
    float_outputs,
    integer_outputs,
    multiply_adds,
    trial_runs,
)
from targets import target

COUNT = MOST_TOGETHER + 3  # the last runs are stacked apart from the others


def two_outputs() -> onnx.ModelProto:
    """Return a network of an image and its classes, both read back in another layout."""
    rng = np.random.default_rng(0)
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["image"]),
        node("GlobalAveragePool", ["image"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("MatMul", ["f", "v"], ["scores"]),
    ]
    arrays = {"w": rng.normal(size=(6, 3, 3, 3)) / 4, "v": rng.normal(size=(6, 4))}
    constants = {name: np.asarray(value, np.float32) for name, value in arrays.items()}
    return model(nodes, {"x": (1, 3, 6, 5)}, ["image", "scores"], constants)


def feeds(count: int = COUNT) -> Run:
    return {"x": np.random.default_rng(1).normal(size=(count, 3, 6, 5)).astype(np.float32)}


def known(count: int = COUNT) -> tuple[MatGraph, list[Run], Recipe]:
    """Return the graph, its runs, and the recipe of plain int8."""
    graph = front_end(two_outputs(), target())
    runs = list(Samples([feeds(count)], count).runs(graph))
    ranges = observe(ByRecipe().tied(graph, target()), runs).ranges("minmax")
    return graph, runs, Recipe(ranges=as_triples(ranges))


def integers(graph: MatGraph, recipe: Recipe) -> QGraph:
    return ByRecipe().quantized(replace(graph, recipe=recipe), target())


def trials(graph: MatGraph, runs: list[Run], **measure: str) -> Trials:
    return Trials(graph, target(), ByRecipe(), runs, measure)


def test_float_outputs_are_those_of_single_runs() -> None:
    graph, runs, _ = known()
    found = float_outputs(graph, runs)
    assert {name: y.shape for name, y in found.items()} == {
        "image": (COUNT, 1, 6, 6, 5),
        "scores": (COUNT, 1, 4),
    }
    for i, run in enumerate(runs):
        single = port_outputs(graph, run_float(graph, run))
        wanted = onnxruntime_outputs(two_outputs(), run)
        for name, y in found.items():
            # float32 sums of 27 products in another order
            np.testing.assert_allclose(y[i], single[name], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(y[i], wanted[name], rtol=1e-5, atol=1e-6)


def test_integer_outputs_are_those_of_single_runs() -> None:
    graph, runs, recipe = known()
    quantized = integers(graph, recipe)
    found = integer_outputs(quantized, runs)
    for i, run in enumerate(runs):
        for name, wanted in outputs_of(quantized, run_integer(quantized, run)).items():
            np.testing.assert_array_equal(found[name][i], wanted)


def test_the_loss_is_that_of_the_outputs() -> None:
    graph, runs, recipe = known()
    tried = trials(graph, runs, image="relative", scores="psnr")
    found = integer_outputs(integers(graph, recipe), runs)
    wanted = float_outputs(graph, runs)
    error = {name: found[name] - y for name, y in wanted.items()}
    image = np.linalg.norm(error["image"]) / np.linalg.norm(wanted["image"])
    scores = np.sqrt(np.mean(error["scores"] ** 2)) / np.abs(wanted["scores"]).max()
    assert tried.loss(recipe) == pytest.approx((image + scores) / 2, rel=1e-5)
    assert tried.loss_of(wanted) == 0.0


def test_a_finer_recipe_loses_less() -> None:
    graph, runs, recipe = known()
    tried = trials(graph, runs, image="relative", scores="relative")
    assert tried.loss(replace(recipe, precision="int16")) < 0.9 * tried.loss(recipe)
    narrow = tuple((point, lo / 8, hi / 8) for point, lo, hi in recipe.ranges)
    assert tried.loss(replace(recipe, ranges=narrow)) > 5 * tried.loss(recipe)


def test_a_recipe_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, runs, recipe = known(4)
    tried = trials(graph, runs, image="relative", scores="relative")
    first = tried.loss(recipe)
    monkeypatch.setattr(ByRecipe, "quantized", None)  # nothing is quantised again
    assert tried.loss(replace(recipe)) == first
    with pytest.raises(TypeError):
        tried.loss(replace(recipe, precision="int16"))


def test_a_recipe_leaves_the_graph_of_the_trials_as_it_is() -> None:
    graph, runs, recipe = known(4)
    tried = trials(graph, runs, image="relative", scores="relative")
    first = tried.loss(recipe)
    tried.loss(replace(recipe, precision="int16"))
    assert tried.loss(recipe) == first and tried.graph.recipe == Recipe()


def dense() -> MatGraph:
    b = Maker()
    b.tensor("x", (1, 5, 7, 12))
    b.gemm("y", "x", 9)
    return b.graph()


@pytest.mark.parametrize(
    ("graph", "wanted"),
    [
        (dense(), 5 * 7 * 12 * 9),
        # q, k and v of 2 heads; scores twice (their maxima, their exponentials); the product with v
        (attention(heads=2, p=21, d=20), 2 * 21 * (3 * 20 * 20 + 2 * 21 * 20 + 21 * 20)),
        (front_end(two_outputs(), target()), 6 * 5 * 6 * 27 + 6 * 4),
    ],
)
def test_multiply_adds(graph: MatGraph, wanted: int) -> None:
    assert multiply_adds(graph) == wanted


@pytest.mark.parametrize(
    ("macs", "count"),
    [(1 << 40, MOST), (20 * multiply_adds(dense()), 20), (1, 8)],
)
def test_as_many_trials_as_time_allows(
    monkeypatch: pytest.MonkeyPatch, macs: int, count: int
) -> None:
    monkeypatch.setattr("neuralmatrix.quantization.trials.MACS", macs)
    runs: list[Any] = list(range(200))
    found = trial_runs(dense(), runs)
    assert len(found) == len(set(map(int, found))) == count
    assert min(np.diff(found)) >= 200 // count  # spread over all
    assert trial_runs(dense(), runs[:5]) == runs[:5]
