# SPDX-License-Identifier: Apache-2.0
"""The search: never worse than the best plain method, on the loss of the integers.

In: small networks whose best choice is known.  Out: that choice, and the figures that led to it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import neuralmatrix as nm
import numpy as np
import onnx.compose
import pytest
from build_onnx import model, node, onnxruntime_outputs
from neuralmatrix.compiler import ByRecipe, front_end
from neuralmatrix.ir.matgraph.ops import MatGraph
from neuralmatrix.ir.points import Point
from neuralmatrix.quantization.calibrate import CLIP, observe
from neuralmatrix.quantization.samples import Samples
from neuralmatrix.quantization.search import EVEN_ROOM, Choice, search
from neuralmatrix.quantization.settings import Settings
from neuralmatrix.quantization.tail_room import tail_room
from neuralmatrix.quantization.trials import FEWEST, MOST, Trials, trial_runs
from targets import target

Feeds = dict[str, np.ndarray]


def f32(x: Any) -> np.ndarray:
    return np.asarray(x, np.float32)


def peaks(size: int = 96) -> tuple[Any, Feeds]:
    """Return a maximum that takes what methods that clip may clip: one of 8 size**2 values."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=(8, 2, 1, 1)) * 0.3
    w[:, 1], w[0] = 0, [[[0.0]], [[1.0]]]
    nodes = [
        node("Conv", ["x", "w"], ["a"]),
        node("Relu", ["a"], ["r"]),
        node("GlobalMaxPool", ["r"], ["p"]),
        node("Flatten", ["p"], ["f"]),
        node("MatMul", ["f", "v"], ["y"]),
    ]
    constants = {"w": f32(w), "v": f32(rng.normal(size=(8, 4)) * 0.2)}
    x = rng.normal(size=(16, 2, size, size))
    x[:, 1] = 0
    for image in x:
        image[1, rng.integers(size), rng.integers(size)] = rng.uniform(15, 30)
    return model(nodes, {"x": (1, 2, size, size)}, ["y"], constants), {"x": f32(x)}


def tails() -> tuple[Any, Feeds]:
    """Return a feature with rare large values that mean little: to clip them is better."""
    rng = np.random.default_rng(1)
    nodes = [
        node("Conv", ["x", "w"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("Conv", ["r", "v"], ["y"]),
    ]
    v = rng.normal(size=(8, 16, 1, 1)) * 0.3
    v[:, 3] = 1e-4
    x = rng.normal(size=(16, 8, 32, 32))
    x[:, 5] = np.where(rng.random((16, 32, 32)) < 0.0005, 300, 0)
    w = rng.normal(size=(16, 8, 1, 1)) * 0.3
    w[:, 5], w[3] = 0, 0
    w[3, 5] = 1
    constants = {"w": f32(w), "v": f32(v)}
    return model(nodes, {"x": (1, 8, 32, 32)}, ["y"], constants), {"x": f32(x)}


NETS = {"peaks": peaks, "tails": tails}


def alike() -> tuple[Any, Feeds]:
    """Return a product of features of one size, none of which needs a divisor of its own."""
    rng = np.random.default_rng(2)
    net = model([node("MatMul", ["x", "w"], ["y"])], {"x": (1, 8)}, ["y"],
                {"w": f32(rng.normal(size=(8, 4)))})  # fmt: skip
    return net, {"x": f32(rng.normal(size=(64, 8)))}


def lowered(name: str) -> tuple[MatGraph, list[Feeds]]:
    proto, feeds = {**NETS, "alike": alike}[name]()
    graph = front_end(proto, target())
    return graph, list(Samples([feeds], 256).runs(graph))


def searched(graph: MatGraph, runs: list[Feeds], **settings: Any) -> Choice:
    chosen = Settings(**settings)
    return search(graph, target(), runs=runs, settings=chosen, finish=ByRecipe())


@pytest.mark.parametrize("name", NETS)
def test_the_result_is_not_worse_than_any_plain_method(name: str) -> None:
    graph, runs = lowered(name)
    trials = Trials(graph, target(), ByRecipe(), trial_runs(graph, runs), {"y": "relative"})
    plain = {m: trials.loss(searched(graph, runs, method=m, refine=False).recipe) for m in CLIP}
    found = searched(graph, runs)
    # a change is kept from 2 % on, so that up to 2 % may separate it from the second best
    assert trials.loss(found.recipe) <= min(plain.values()) / 0.98
    assert max(plain.values()) > 1.5 * min(plain.values())  # it mattered


def test_peaks_are_kept_by_default() -> None:
    proto, feeds = peaks()
    right = _one_by_one(proto, feeds)
    errors = {}
    for method in ("auto", "minmax", "mse"):
        program = nm.compile(proto, calibration=[feeds], method=method, refine=False)
        errors[method] = np.linalg.norm(nm.Session(program).run(feeds)["y"] - right)
    assert errors["auto"] <= 1.05 * errors["minmax"] < 0.8 * errors["mse"]


def _one_by_one(proto: Any, feeds: Feeds) -> np.ndarray:
    return np.concatenate([onnxruntime_outputs(proto, {"x": x[None]})["y"] for x in feeds["x"]])


def test_single_tensors_may_take_another_method() -> None:
    """Two networks side by side: one wants its peaks kept, the other its tails clipped."""
    nets = [peaks(), tails()]  # peaks so rare that percentile, which the tails want, clips them
    graphs = [onnx.compose.add_prefix(proto, f"{i}").graph for i, (proto, _) in enumerate(nets)]
    both = nets[0][0]
    del both.graph.node[:], both.graph.initializer[:], both.graph.input[:], both.graph.output[:]
    for graph in graphs:
        for field in ("node", "initializer", "input", "output"):
            getattr(both.graph, field).extend(getattr(graph, field))
    mg = front_end(both, target())
    feeds = {f"{i}x": feeds["x"] for i, (_, feeds) in enumerate(nets)}
    runs = list(Samples([feeds], 256).runs(mg))
    found = searched(mg, runs, refine=False)
    assert "for some tensors" in found.method
    measure = {"0y": "relative", "1y": "relative"}
    trials = Trials(mg, target(), ByRecipe(), trial_runs(mg, runs), measure)
    plain = [trials.loss(searched(mg, runs, method=m, refine=False).recipe) for m in CLIP]
    assert trials.loss(found.recipe) < 0.9 * min(plain)


def test_factors_divide_the_ranges_that_they_belong_to() -> None:
    rng = np.random.default_rng(3)
    size = 10.0 ** rng.uniform(-1, 0.5, 32)
    w1, w2 = 0.3 * rng.normal(size=(16, 32)) * size, rng.normal(size=(32, 8)) / size[:, None]
    nodes = [
        node("Gemm", ["x", "w1"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "w2"], ["y"]),
    ]
    proto = model(nodes, {"x": (1, 16)}, ["y"], {"w1": f32(w1), "w2": f32(w2)})
    graph = front_end(proto, target())
    runs = list(Samples([{"x": f32(rng.normal(size=(64, 16)))}], 64).runs(graph))
    found = searched(graph, runs, method="minmax")
    (name, factors), *rest = found.recipe.factors
    assert not rest and len(factors) == 32
    divided = observe(
        ByRecipe().tied(replace(graph, recipe=found.recipe), target()), runs
    ).extremes[Point(name)]
    whole = observe(ByRecipe().tied(graph, target()), runs)
    rooms = tail_room(whole.ends[name])
    wider = [EVEN_ROOM * end * room for end, room in zip(divided, rooms, strict=True)]
    assert found.recipe.ranges_by_point[Point(name)] == pytest.approx(wider, rel=1e-4)


def test_few_inputs_refine_nothing_unasked() -> None:
    graph, runs = lowered("tails")
    assert "factors" not in searched(graph, runs[:7]).method
    assert searched(graph, runs[:7]).recipe.shifts == ()


def test_no_time_leaves_the_first_method_and_says_so() -> None:
    graph, runs = lowered("tails")
    found = searched(graph, runs, search_seconds=0)
    assert found.method == "mse" and found.recipe.factors == ()
    assert "the search ended after 0 s" in found.notes[-1]
    assert "--search-seconds" in found.notes[-1]


def test_without_measuring_nothing_is_tried() -> None:
    graph, runs = lowered("tails")
    found = searched(graph, runs, measured=False)
    assert found.method == "mse"
    assert found.recipe == searched(graph, runs, method="mse", refine=False).recipe


@pytest.mark.parametrize("precision", ["int8", "int16"])
def test_a_single_method_is_not_tried(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, runs = lowered("alike")
    settings = {"precision": precision, "method": "mse", "refine": False}
    unsearched = searched(graph, runs, measured=False, **settings)
    monkeypatch.setattr(Trials, "loss", lambda *_: pytest.fail("a trial"))
    assert searched(graph, runs, **settings).recipe == unsearched.recipe


def test_large_networks_try_fewer_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, runs = lowered("peaks")
    assert len(trial_runs(graph, runs * 16)) == MOST
    monkeypatch.setattr("neuralmatrix.quantization.trials.MACS", 1)
    assert len(trial_runs(graph, runs * 16)) == FEWEST


def test_the_measure_of_an_output_that_does_not_exist() -> None:
    graph, runs = lowered("tails")
    with pytest.raises(nm.BadInput, match="measure: found output 'z'; allowed are y"):
        searched(graph, runs, measure={"z": "top1"})
