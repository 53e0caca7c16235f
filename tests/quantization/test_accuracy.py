# SPDX-License-Identifier: Apache-2.0
"""The accuracy that a compile measures: true on new inputs, with the cause where it is bad.

In: small networks, good and bad, judged by onnxruntime on inputs that the compiler never saw.
Out: figures near those; warnings where, and only where, they are bad.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import neuralmatrix as nm
import numpy as np
import pytest
from build_onnx import model, node, onnxruntime_outputs
from neuralmatrix.ir.accuracy import Accuracy
from neuralmatrix.jsonform import from_json, to_json
from neuralmatrix.quantization.samples import held_back

Feeds = dict[str, np.ndarray]
RNG = np.random.default_rng(0)


def f32(x: Any) -> np.ndarray:
    return np.asarray(x, np.float32)


def perceptron(weight: float = 1.0) -> Any:
    nodes = [
        node("Gemm", ["x", "w1"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "w2"], ["y"]),
    ]
    rng = np.random.default_rng(5)
    w2 = rng.normal(size=(48, 6))
    w2[:1] *= weight
    w2 -= 0.9 * w2.mean(1, keepdims=True)  # as of trained scores
    constants = {"w1": f32(rng.normal(size=(24, 48)) * 0.3), "w2": f32(w2)}
    return model(nodes, {"x": (1, 24)}, ["y"], constants)


def images(count: int, seed: int = 0) -> Feeds:
    return {"x": f32(np.random.default_rng(seed).normal(size=(count, 24)))}


def compiled(proto: Any, feeds: Feeds, **settings: Any) -> nm.Program:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nm.AccuracyWarning)
        return nm.compile(proto, calibration=[feeds], **settings)


def right(proto: Any, feeds: Feeds) -> np.ndarray:
    return np.concatenate([onnxruntime_outputs(proto, {"x": x[None]})["y"] for x in feeds["x"]])


@pytest.mark.parametrize("precision", ["int8", "int16", "mixed"])
def test_the_figures_hold_on_new_inputs(precision: str) -> None:
    proto, new = perceptron(), images(200, 99)
    program = compiled(proto, images(128), precision=precision)
    found, wanted = nm.Session(program).run(new)["y"], right(proto, new)
    (said,) = program.accuracy.outputs
    assert (program.accuracy.samples, program.accuracy.calibrated_on) == (32, 96)
    loss = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
    # of 200 new inputs some leave the range of 96, which costs int8 more than noise
    assert said.relative_error < loss * 1.35 and loss < (0.05 if precision != "int16" else 0.01)
    assert said.kind == "class scores" and said.rows == 32
    same = np.mean(found.argmax(-1) == wanted.argmax(-1))
    assert said.top1 == pytest.approx(same, abs=0.07)
    assert program.accuracy.warnings == ()


def test_the_program_that_is_saved_was_measured(tmp_path: Path) -> None:
    """The held-back inputs, found again, give the figures that the file states."""
    proto, feeds = perceptron(), images(64)
    program = compiled(proto, feeds)
    program.save(tmp_path / "net.nmx")
    again = nm.load(tmp_path / "net.nmx")
    assert again.accuracy == program.accuracy
    found, wanted = nm.Session(again).run(feeds)["y"], right(proto, feeds)
    back = sorted(held_back(64))
    loss = np.linalg.norm((found - wanted)[back]) / np.linalg.norm(wanted[back])
    assert again.accuracy.outputs[0].relative_error == pytest.approx(loss, rel=1e-3)


def test_held_back_inputs_set_nothing() -> None:
    """Other values in their place leave the program as it is."""
    proto, feeds = perceptron(), images(32)
    other = {"x": feeds["x"].copy()}
    other["x"][sorted(held_back(32))] *= 7
    one, two = compiled(proto, feeds), compiled(proto, other)
    np.testing.assert_array_equal(one.const, two.const)
    assert one.recipe == two.recipe and one.accuracy != two.accuracy


def test_what_is_bad_is_warned_of_with_its_cause() -> None:
    proto = columns_of_many_scales()
    with pytest.warns(nm.AccuracyWarning, match="output y is inaccurate: .*cause: ") as caught:
        program = nm.compile(proto, calibration=[images(64)], refine=False)
    assert len(caught) == 1
    assert program.accuracy.warnings and "y is inaccurate" in program.accuracy.warnings[0]


def columns_of_many_scales() -> Any:
    """Return features of very different size whose small ones decide."""
    rng = np.random.default_rng(1)
    size = np.geomspace(1e-3, 1, 48)
    nodes = [
        node("Gemm", ["x", "w1"], ["h"]),
        node("Tanh", ["h"], ["t"]),
        node("Mul", ["t", "size"], ["r"]),
        node("Mul", ["r", "r"], ["q"]),
        node("Sqrt", ["q"], ["s"]),
        node("Gemm", ["s", "w2"], ["y"]),
    ]
    constants = {
        "w1": f32(rng.normal(size=(24, 48)) * 0.3),
        "size": f32(size),
        "w2": f32(rng.normal(size=(48, 6)) / size[:, None] ** 2),
    }
    return model(nodes, {"x": (1, 24)}, ["y"], constants)


def test_thin_calibration_is_a_cause() -> None:
    rng = np.random.default_rng(2)
    feeds = {"x": f32(rng.normal(size=(8, 24)) * 10.0 ** rng.uniform(-1.5, 0.5, (8, 1)))}
    program = compiled(perceptron(), feeds)
    text = " ".join(program.accuracy.warnings)
    assert not text or "thin calibration on 6 inputs" in text


@pytest.mark.parametrize(("count", "given"), [(1, "input was"), (7, "inputs were")])
def test_too_few_are_not_measured_and_it_is_said(count: int, given: str) -> None:
    program = compiled(perceptron(), images(count))
    assert not program.accuracy.measured and program.accuracy.outputs == ()
    assert f"{count} calibration {given} given; with 8 or more" in program.accuracy.missing
    assert program.notes[-1].startswith("accuracy not measured: ")


def test_nothing_is_measured_unasked() -> None:
    program = compiled(perceptron(), images(32), accuracy=False)
    assert program.accuracy is None and program.notes == ()


def test_saturation_is_counted_by_tensor() -> None:
    feeds = images(64)
    feeds["x"][sorted(held_back(64))] *= 4
    program = compiled(perceptron(), feeds)
    shares = {one.tensor: one.share for one in program.accuracy.saturated}
    assert shares["x"] > 0.05
    assert any("range" in line for line in program.accuracy.warnings)


def test_the_layer_that_loses_most_comes_first() -> None:
    program = compiled(columns_of_many_scales(), images(64), refine=False)
    layers = program.accuracy.layers
    assert [layer.relative_error for layer in layers] == sorted(
        (layer.relative_error for layer in layers), reverse=True
    )
    assert layers[0].relative_error > 10 * layers[-1].relative_error


def test_required_accuracy_that_is_missed_is_an_error() -> None:
    with pytest.raises(nm.AccuracyMissed, match="required is 0.01%"):
        nm.compile(perceptron(), calibration=[images(32)], require="0.01%")
    nm.compile(perceptron(), calibration=[images(32)], require=["50%", "top1:50%"])


def test_the_form_in_json_and_in_files() -> None:
    found = compiled(perceptron(), images(32)).accuracy
    assert from_json(Accuracy, to_json(found), "accuracy") == found
    made = found.to_dict()
    assert made["samples"] == 8 and made["outputs"][0]["name"] == "y"
    assert made["outputs"][0]["snr_db"] == pytest.approx(found.outputs[0].snr_db)
    assert "held back" in made["basis"]
    lines = found.to_lines()
    assert lines[0] == "accuracy: emulated, on 8 inputs held back from calibration on 24"
    assert lines[1].startswith("  output y (class scores): relative error ")
