# SPDX-License-Identifier: Apache-2.0
"""The command that compiles: its options about accuracy, what it shows, and what it refuses.

In: a small classifier and its samples as files.  Out: text in 80 columns, JSON, one clear error.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import neuralmatrix as nm
import numpy as np
import pytest
from build_onnx import model, node
from neuralmatrix.cli.main import app, main
from typer.testing import CliRunner


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, which is the current one, with net.onnx and samples.npz."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(16, 32)) * 0.3, "v": rng.normal(size=(32, 6))}
    weights["v"] -= 0.9 * weights["v"].mean(1, keepdims=True)  # as of trained scores
    nodes = [
        node("Gemm", ["x", "w"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "v"], ["scores"]),
        node("Sigmoid", ["h"], ["gates"]),
    ]
    constants = {name: np.float32(value) for name, value in weights.items()}
    proto = model(nodes, {"x": (1, 16)}, ["scores", "gates"], constants)
    (tmp_path / "net.onnx").write_bytes(proto.SerializeToString())
    np.savez(tmp_path / "samples.npz", x=np.float32(rng.normal(size=(32, 16))))
    np.savez(tmp_path / "few.npz", x=np.float32(rng.normal(size=(4, 16))))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def compiled(*options: str, samples: str = "samples.npz") -> str:
    """Return what a compile that succeeds prints."""
    made = ["compile", "net.onnx", "-o", "net.nmx", "--calibration", samples, *options]
    result = CliRunner().invoke(app, made, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(capsys: pytest.CaptureFixture[str], *options: str, samples: str = "samples.npz") -> str:
    """Return the message of a compile that ends with 1 and writes nothing."""
    made = ["compile", "net.onnx", "-o", "net.nmx", "--calibration", samples, *options]
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", ["neuralmatrix", *made])
        main()
    found = capsys.readouterr()
    assert stop.value.code == 1 and found.out == "" and not Path("net.nmx").exists()
    assert found.err.startswith("error: ") and found.err.count("\n") == 1
    return found.err


def test_the_accuracy_fits_80_columns(net: Path) -> None:
    text = compiled()
    assert max(map(len, text.splitlines())) <= 80
    assert "\naccuracy: emulated, on 8 inputs held back from calibration on 24\n" in text
    found = nm.load("net.nmx").accuracy
    for out in found.outputs:
        cells = [out.name, out.kind, f"{100 * out.relative_error:.3g}", f"{out.snr_db:.1f}"]
        answers = f"{100 * out.top1:.4g} % of {out.rows:,}"
        (row,) = re.findall(rf"^│ {out.name} .*", text, re.MULTILINE)
        assert [cell.strip() for cell in row.strip("│").split("│")] == [*cells, answers]
    assert [out.kind for out in found.outputs] == ["class scores", "probabilities"]
    assert "\nlayers that lose most, each by itself: " in text


def test_report_shows_what_compile_showed(net: Path) -> None:
    block = compiled().partition("\naccuracy: ")[2]
    shown = CliRunner().invoke(app, ["report", "net.nmx"]).stdout
    assert block and shown.endswith(block)
    page = CliRunner().invoke(app, ["report", "net.nmx", "--json"]).stdout
    assert json.loads(page)["accuracy"] == nm.load("net.nmx").accuracy.to_dict()


def test_json_has_the_accuracy(net: Path) -> None:
    found = json.loads(compiled("--json"))["accuracy"]
    assert found == json.loads(json.dumps(nm.load("net.nmx").accuracy.to_dict()))
    assert (found["samples"], found["calibrated_on"]) == (8, 24)
    assert [out["name"] for out in found["outputs"]] == ["scores", "gates"]


@pytest.mark.parametrize("command", ("compile", "report"))
def test_what_was_not_measured_is_said_once(net: Path, command: str) -> None:
    text = " ".join(compiled(samples="few.npz").split())
    if command == "report":
        text = " ".join(CliRunner().invoke(app, ["report", "net.nmx"]).stdout.split())
    assert text.count("4 calibration inputs were given; with 8 or more") == 1


def test_nothing_is_measured_on_request(net: Path) -> None:
    assert "accuracy: not measured: this program was compiled without" in compiled("--no-measure")
    assert nm.load("net.nmx").accuracy is None
    assert json.loads(compiled("--no-measure", "--json"))["accuracy"] is None


@pytest.mark.parametrize("method", ("mse", "minmax", "percentile"))
def test_a_method_of_ranges_can_be_chosen(net: Path, method: str) -> None:
    assert json.loads(compiled("--calibration-method", method, "--json"))["accuracy"][
        "method"
    ].startswith(method)


def test_a_search_that_ends_early_says_so(net: Path) -> None:
    text = " ".join(compiled("--search-seconds", "0").split())
    assert re.search(r"note: the search ended after 0 s; \d+ changes were not tried", text)


def test_a_measure_for_each_output(net: Path) -> None:
    options = ("--measure", "scores=top1", "--measure", "gates=psnr", "--max-loss", "0.5")
    text = " ".join(compiled("--precision", "mixed", *options).split())
    assert "loss of the outputs, each by its own measure" in text


def test_requirements_that_are_met(net: Path) -> None:
    assert "net.nmx: " in compiled("--require", "20%", "--require", "10dB", "--require", "top1:50%")
    assert Path("net.nmx").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    (
        (
            ("--require", "0.001%"),
            "scores: relative error .* %, required is 0.001%; gates: .* saved; ",
        ),
        (("--require", "90dB"), "scores: .* dB, required is 90dB"),
        (("--require", "psnr:90dB", "--precision", "int16"), "saved; try precision mixed, which"),
        (("--require", "good"), "require: found 'good'; allowed are a relative error \"1%\""),
        (("--require", "top1:101%"), "require: found 'top1:101%'; allowed are"),
        (("--require", "1%", "--no-measure"), "for a compile that measures nothing"),
        (("--calibration-method", "best"), "'best'; allowed are auto, mse, minmax, percentile"),
        (("--measure", "mean"), "measure 'mean'; allowed are relative, top1, psnr"),
        (("--measure", "no=top1"), "found output 'no'; allowed are scores, gates"),
        (("--measure", "top1", "--measure", "psnr"), "found 'top1' among 2; allowed is one for"),
        (("--measure", "top1", "--no-measure"), "measure 'top1' without a search; give"),
        (("--search-seconds", "-1"), "search_seconds -1.0; allowed are seconds from 0"),
        (("--search-seconds", "nan"), "search_seconds nan; allowed are seconds from 0"),
        (("--search-seconds", "9", "--no-measure"), "search_seconds 9.0 without a search"),
    ),
)
def test_what_cannot_be_is_one_error(
    net: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], text: str
) -> None:
    assert re.search(text, refused(capsys, *options))


def test_a_requirement_needs_something_to_measure(
    net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = refused(capsys, "--require", "50%", samples="few.npz")
    assert "required is 50%, and nothing was measured: 4 calibration inputs were given" in found


def test_progress_names_the_trials(net: Path) -> None:
    steps: list[str] = []
    samples: Any = dict(np.load("samples.npz"))
    nm.compile("net.onnx", calibration=[samples], progress=steps.append)
    assert "choose_numbers" in steps and "measure_accuracy" in steps
    assert any(re.match(r"choose_numbers: \w+, loss so far ", step) for step in steps)


def test_outputs_end_the_model(net: Path) -> None:
    assert "outputs: h 1x32, gates 1x32" in compiled("--outputs", "h", "--outputs", "gates")
    assert "outputs: r 1x32, scores 1x6" in compiled("--outputs", "r,scores")


def test_an_output_that_the_model_lacks(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "found 'gate', allowed are values of the model, as 'gates'" in refused(
        capsys, "--outputs", "gate"
    )


def test_what_the_host_does_is_shown(net: Path) -> None:
    nodes = [node("Gemm", ["x", "w"], ["h"]), node("TopK", ["h", "k"], ["best", "index"])]
    weight = np.random.default_rng(0).normal(size=(16, 32)).astype(np.float32)
    proto = model(nodes, {"x": (1, 16)}, ["index"], {"w": weight, "k": np.array([3])},
                  types={"index": 7})  # fmt: skip
    (net / "net.onnx").write_bytes(proto.SerializeToString())
    shown = " ".join(compiled().split())
    assert "host: TopK, in numpy; their time is not in the estimate" in shown
    assert "outputs: index 1x3" in shown and "an integer that the host computes" in shown
    found = json.loads(compiled("--json"))
    assert found["program"]["host_ops"] == ["quantize", "dequantize", "TopK"]
    assert found["program"]["outputs"] == {"index": [1, 3]}
    (answers,) = [out for out in found["accuracy"]["outputs"] if out["kind"] == "answers"]
    assert answers["name"] == "index" and 0.5 < answers["top1"] <= 1


def test_overrides_choose_a_layers_numbers(net: Path) -> None:
    compiled()
    plain = nm.load("net.nmx")
    compiled("--override", "h=int16", "--override", "scores=int16,wide")
    given = nm.load("net.nmx")
    overrides = {"h": "int16", "scores": {"activations": "int16", "weights": "wide"}}
    samples = [dict(np.load("samples.npz"))]
    other = nm.compile("net.onnx", calibration=samples, overrides=overrides)
    assert given.recipe.promoted and given.recipe.widened and not plain.recipe.widened
    assert given.recipe == other.recipe


@pytest.mark.parametrize("text", ("h", "=int16", "h=int12", "nothing.*=int16"))
def test_overrides_that_cannot_be(net: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert "override" in refused(capsys, "--override", text)
