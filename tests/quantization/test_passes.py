# SPDX-License-Identifier: Apache-2.0
"""The passes of quantisation, through the compiler and the file and back.

In: a small CNN and a small transformer.  Out: recipes that verify can follow; clear refusals.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import build_onnx
import neuralmatrix as nm
import numpy as np
import onnxruntime
import pytest
from graph_text import graph_text
from neuralmatrix.compiler import ByRecipe, Options, back_end, front_end
from neuralmatrix.ir.matgraph.ops import MatGraph
from neuralmatrix.ir.recipe import Recipe
from neuralmatrix.quantization.passes import Numbers
from neuralmatrix.quantization.qgraph import QGraph
from neuralmatrix.quantization.samples import Samples
from neuralmatrix.quantization.settings import Settings, check_settings
from slow import slow_after
from targets import target

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "models"))
import zoo  # noqa: E402
import zoo_transformers as transformers  # noqa: E402

Feeds = dict[str, Any]


def small_cnn() -> tuple[Any, Feeds]:
    images = np.random.default_rng(0).normal(size=(6, 3, 16, 16)).astype(np.float32)
    return zoo.small_cnn(), {"input": images}


def uneven_products() -> tuple[Any, Feeds]:
    """Return a product whose channels differ in size, which the next one's weights undo."""
    rng = np.random.default_rng(3)
    size = 10.0 ** rng.uniform(-1, 0.5, 32)
    w1, w2 = 0.3 * rng.normal(size=(16, 32)) * size, rng.normal(size=(32, 8)) / size[:, None]
    nodes = [
        build_onnx.node("Gemm", ["x", "w1"], ["h"]),
        build_onnx.node("Relu", ["h"], ["r"]),
        build_onnx.node("Gemm", ["r", "w2"], ["y"]),
    ]
    weights = {"w1": w1.astype(np.float32), "w2": w2.astype(np.float32)}
    return build_onnx.model(nodes, {"x": (1, 16)}, ["y"], weights), {
        "x": rng.normal(size=(32, 16)).astype(np.float32)
    }


def small_transformer() -> tuple[Any, Feeds]:
    images = np.random.default_rng(1).normal(size=(6, 1, 8, 8)).astype(np.float32)
    return transformers.vit_digits(), {"input": images}


# Nets whose activations lose as much as their weights, so that int16 helps.
NETS = {"products": uneven_products, "transformer": small_transformer}


@pytest.mark.parametrize("name", NETS)
def test_mixed_raises_what_a_strict_loss_asks_for(name: str, tmp_path: Path) -> None:
    model, feeds = NETS[name]()
    program = nm.compile(model, calibration=[feeds], precision="mixed", max_loss=0.0)
    assert program.recipe.promoted
    assert "promoted to int16" in program.notes[0]
    program.save(tmp_path / "net.nmx")
    again = nm.load(tmp_path / "net.nmx")
    assert again.recipe == program.recipe
    assert nm.verify(model, again, {k: x[:1] for k, x in feeds.items()}).ok


def test_mixed_raises_nothing_where_all_is_allowed() -> None:
    model, feeds = small_cnn()
    program = nm.compile(model, calibration=[feeds], precision="mixed", max_loss=1.0)
    assert program.recipe.promoted == ()


@pytest.mark.slow
def test_mixed_is_nearer_to_float_than_int8() -> None:
    model, feeds = small_transformer()
    session = onnxruntime.InferenceSession(model.SerializeToString())
    wanted = np.concatenate([session.run(None, {"input": x[None]})[0] for x in feeds["input"]])
    errors = []
    for settings in ({"precision": "mixed", "max_loss": 0.0}, {}):
        program = nm.compile(model, calibration=[feeds], **settings)
        (y,) = nm.Session(program).run(feeds).values()
        errors.append(float(np.linalg.norm(y - wanted)))
    assert errors[0] < errors[1]


def test_refinement_of_int8_is_kept_in_the_program() -> None:
    model, feeds = uneven_products()
    program = nm.compile(model, calibration=[feeds], refine=True)
    plain = nm.compile(model, calibration=[feeds], accuracy=False)
    assert replace(plain.recipe, ranges=()) == Recipe()
    assert program.recipe.factors or program.recipe.shifts
    assert nm.verify(model, program, {k: x[:1] for k, x in feeds.items()}).ok


@pytest.mark.parametrize(
    "settings", slow_after(1, [Settings("mixed", max_loss=0), Settings(), Settings("int16")])
)
def test_the_same_integers_again(settings: Settings) -> None:
    """The stored recipe of a program replaces the samples."""
    model, feeds = small_transformer()
    first = Options(settings, calibration=[feeds])
    lowered = front_end(model, target(), first)
    found = back_end(lowered, target(), first)
    program = replace(nm.compile(model, calibration=[feeds], accuracy=False), recipe=found.recipe)
    again = back_end(lowered, target(), Options(saved=program))
    assert graph_text(again) == graph_text(found)
    assert again.recipe == found.recipe


def test_a_generator_of_samples_is_read_once() -> None:
    model, feeds = small_cnn()
    read = []

    def images() -> Iterator[Feeds]:
        for image in feeds["input"]:
            read.append(image)
            yield {"input": image[None]}

    few = nm.compile(model, calibration=images(), max_images=4)
    assert len(read) == 4
    kept = nm.compile(model, calibration=images(), refine=True)
    assert len(read) == 4 + 6
    whole = nm.compile(model, calibration=[feeds], refine=True)
    assert kept.recipe == whole.recipe
    assert few.recipe.ranges != whole.recipe.ranges


def test_mixed_tells_how_far_it_is() -> None:
    model, feeds = small_cnn()
    heard: list[str] = []
    nm.compile(model, calibration=[feeds], precision="mixed", progress=heard.append)
    steps = [line for line in heard if line.startswith("choose_numbers: tensor ")]
    assert steps[0].startswith("choose_numbers: tensor 1 of ")
    assert steps[-1].split(" of ")[1] == steps[-1].split()[2]


# ---------------------------------------------------------------- passes that choose and measure

PLAIN = Settings()


def chosen(
    feeds: Feeds | None, settings: Settings = PLAIN, saved: Recipe | None = None
) -> tuple[Numbers, MatGraph, MatGraph]:
    """Return the passes, the graph of the uneven products, and what is chosen for it."""
    samples = None
    if feeds is not None:
        samples = Samples([feeds], settings.max_images, hold=settings.measured)
    numbers = Numbers(settings, samples, ByRecipe(), saved)
    graph = front_end(uneven_products()[0], target())
    return numbers, graph, numbers.choose(graph, target())


def integers(graph: MatGraph) -> QGraph:
    return ByRecipe().quantized(graph, target())


def test_the_choice_changes_the_recipe_alone() -> None:
    numbers, graph, found = chosen(uneven_products()[1])
    assert replace(found, recipe=graph.recipe) == graph
    assert {point.tensor for point in found.recipe.ranges_by_point} == set(graph.tensors)
    assert numbers.accuracy is None and numbers.notes == ()  # nothing is measured yet


def test_a_saved_recipe_is_followed() -> None:
    saved = Recipe("int16", promoted=("x",))
    _, _, found = chosen(None, saved=saved)
    assert found.recipe is saved


def test_without_samples_the_precision_alone_is_chosen() -> None:
    numbers, _, found = chosen(None, Settings("int16"))
    assert found.recipe == Recipe("int16")
    quantized = integers(chosen(uneven_products()[1])[2])
    assert numbers.measure(quantized, target()) is quantized and numbers.accuracy is None


def test_measuring_returns_the_integers_and_keeps_the_figures() -> None:
    numbers, _, found = chosen(uneven_products()[1])
    quantized = integers(found)
    assert numbers.measure(quantized, target()) is quantized
    assert numbers.accuracy is not None
    assert (numbers.accuracy.samples, numbers.accuracy.calibrated_on) == (8, 24)
    assert numbers.accuracy.method.split(", ")[0] in ("mse", "minmax", "percentile")
    assert [out.name for out in numbers.accuracy.outputs] == ["y"]


def test_nothing_is_held_back_unless_it_is_measured() -> None:
    feeds = uneven_products()[1]
    numbers, _, found = chosen(feeds, Settings(measured=False))
    numbers.measure(integers(found), target())
    assert numbers.accuracy is None
    # all inputs set the ranges, the eight that are otherwise held back too
    assert (
        found.recipe.ranges_by_point
        != chosen(feeds, Settings(method="mse", refine=False))[2].recipe.ranges_by_point
    )


def test_numbers_tell_their_steps_and_notes() -> None:
    heard: list[str] = []
    feeds = uneven_products()[1]
    settings = Settings("mixed", max_loss=0.0, refine=False)
    samples = Samples([feeds], 64, hold=True)
    numbers = Numbers(settings, samples, ByRecipe(), step=heard.append)
    numbers.choose(front_end(uneven_products()[0], target()), target())
    assert "tensor 1 of 2" in heard and "tensors that int16 needs" in heard
    assert "int8 tensors promoted to int16" in numbers.notes[0]


def two_products() -> tuple[Any, Feeds]:
    """Return "plain", a product of the inputs, and "fine", one of features that a channel hides
    which is 50 times larger."""
    rng = np.random.default_rng(4)
    size = np.append(np.full(15, 0.02), 1.0)
    v = rng.normal(size=(16, 8)) / size[:, None]
    v[15] = 0
    arrays = {"w": rng.normal(size=(16, 16)), "size": size, "u": rng.normal(size=(16, 8)), "v": v}
    nodes = [
        build_onnx.node("MatMul", ["x", "w"], ["a"]),
        build_onnx.node("MatMul", ["x", "u"], ["plain"]),
        build_onnx.node("Mul", ["a", "size"], ["b"]),
        build_onnx.node("MatMul", ["b", "v"], ["fine"]),
    ]
    constants = {name: np.asarray(value, np.float32) for name, value in arrays.items()}
    model = build_onnx.model(nodes, {"x": (1, 16)}, ["plain", "fine"], constants)
    return model, {"x": rng.normal(size=(32, 16)).astype(np.float32)}


@pytest.mark.parametrize(
    ("measure", "promoted", "criterion"),
    [
        ("relative", 1, "relative error of the outputs"),
        # the error of "fine" over its peak, a third of that over its norm, is within the loss
        ({"fine": "psnr"}, 0, "loss of the outputs, each by its own measure,"),
        ({"plain": "psnr"}, 1, "loss of the outputs, each by its own measure,"),
    ],
)
def test_mixed_judges_each_output_by_its_own_measure(
    measure: Any, promoted: int, criterion: str
) -> None:
    model, feeds = two_products()
    settings = Settings("mixed", max_loss=0.06, measure=measure, refine=False)
    numbers = Numbers(settings, Samples([feeds], 64, hold=True), ByRecipe())
    found = numbers.choose(front_end(model, target()), target())
    assert len(found.recipe.promoted) == promoted
    assert f"promoted to int16: {criterion} 0." in numbers.notes[0]


@pytest.mark.parametrize("precision", ["int8", "mixed"])
def test_no_samples_are_refused(precision: str) -> None:
    with pytest.raises(nm.BadInput, match="the calibration set is empty"):
        nm.compile(small_cnn()[0], calibration=[], precision=precision)


@pytest.mark.parametrize(
    ("settings", "calibrated", "message"),
    [
        (Settings("int4"), True, "precision 'int4'; allowed are int8, int16, mixed"),
        (Settings(measure="mean"), True, "measure 'mean'; allowed are relative, top1, psnr"),
        (Settings(measure={"y": "mean"}), True, "measure 'mean'; allowed are relative, top1, psnr"),
        (Settings(method="best"), True, "method 'best'; allowed are auto, mse, minmax, percentile"),
        (Settings(search_seconds=-1), True, "search_seconds -1; allowed are seconds from 0"),
        (Settings("mixed", max_loss=1.5), True, "max_loss 1.5; allowed is 0 to 1"),
        (Settings("mixed", max_loss=float("nan")), True, "max_loss nan"),
        (Settings("int8", max_loss=0.1), True, "max_loss 0.1 with precision int8"),
        (Settings("mixed"), False, "none are given"),
        (Settings("int8", refine=True), False, "none are given"),
    ],
)
def test_settings_that_make_no_sense(settings: Settings, calibrated: bool, message: str) -> None:
    with pytest.raises(nm.BadInput, match=message):
        check_settings(settings, calibrated)
