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
from neuralmatrix.compiler import Options, back_end, front_end
from neuralmatrix.ir.recipe import Recipe
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
