# SPDX-License-Identifier: Apache-2.0
"""The commands bench and compare: options in, JSON, text and pages out, errors in one message."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measure.test_bench import powered
from neuralmatrix.cli.main import app, main
from neuralmatrix.cli.measure import bench, compare
from neuralmatrix.measure.bench import Options
from neuralmatrix.measure.compare_host import HostOptions
from neuralmatrix.measure.power_run import PowerOptions
from neuralmatrix.measure.power_windows import Plan
from neuralmatrix.program.program import Program
from power_world import ina2xx
from typer.testing import CliRunner

QUICK = ("--batches", "1,2", "--repeats", "2")


def call(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    # lines of text wrap at the terminal's width
    return result.stdout if "--json" in arguments else " ".join(result.stdout.split())


def refusal(capsys: pytest.CaptureFixture[str], monkeypatch: Any, *arguments: object) -> str:
    monkeypatch.setattr(sys, "argv", ["neuralmatrix", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("command", (bench, compare))
def test_defaults_are_those_of_the_functions(command: Callable[..., None]) -> None:
    found = {name: option.default for name, option in signature(command).parameters.items()}
    plan = Plan(found["seconds"], found["pairs"], found["seed"])
    batches = tuple(map(int, found["batches"].split(",")))
    assert plan == Plan() == PowerOptions().plan == HostOptions().plan
    assert batches == Options().batches == HostOptions().batches
    assert found["repeats"] == Options().repeats == HostOptions().repeats


@pytest.mark.gxx
def test_bench_with_power_of_an_emulated_run(saved: Path) -> None:
    text = call("bench", saved, *QUICK, "--power")
    assert "nothing ran on a PYNQ-Z2: this machine's sensors do not measure it" in text


@pytest.mark.gxx
def test_bench_reads_another_sysfs(program: Program, tmp_path: Path) -> None:
    """The sensor's files never change."""
    net, root = tmp_path / "net.nmx", tmp_path / "sys"
    replace(program, board="zcu104").save(net)
    ina2xx(root, 0, "5-0040", update_interval=20)
    windows = ("--seconds", "0.2", "--pairs", "3")
    data = json.loads(call("bench", net, *QUICK, "--sysfs", root, *windows, "--json"))
    reasons = {one["name"]: one["reason"] for one in data["power"]["absent"]}
    assert "the sensor does not update" in reasons["12V"]
    assert len(data["power"]["windows"]) == 6 and data["power"]["traces"][0]["times"]


def test_bench_from_a_saved_result(program: Program, saved: Path, tmp_path: Path) -> None:
    missing = tmp_path / "later.csv"
    result, _ = powered(program, "board", None, sensors=False, meter=missing)
    (tmp_path / "bench.json").write_text(json.dumps(result))
    windows = result["power"]["windows"]
    began, ended = windows[0]["began_wall"] - 1, windows[-1]["ended_wall"] + 1
    rng, times = np.random.default_rng(0), np.arange(began, ended, 0.05)
    rows = (f"{time!r},{2 + 0.01 * rng.normal()}" for time in times.tolist())
    missing.write_text("\n".join(("epoch,watts", *rows)))
    joined = call("bench", saved, "--from", tmp_path / "bench.json", "--meter", missing)
    assert "power of meter (board supply, at the meter)" in joined
    assert "measured: external meter at the board" in joined


@pytest.mark.parametrize(
    ("change", "problem"),
    (
        ({"format": "other"}, "found format 'other', allowed is"),
        ({"power": {"windows": []}}, "the saved result has no windows"),
        ({"power": 5}, "the saved result has no readable windows"),
        ({"device": None}, "parts are missing or changed"),
        ({"latency": []}, "parts are missing or changed"),
        ({"macs": float("nan")}, "found no JSON (NaN is not a number)"),
    ),
)
def test_a_saved_result_that_was_changed(
    program: Program, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: Any, change: dict[str, Any], problem: str,
) -> None:  # fmt: skip
    log, path = tmp_path / "log.csv", tmp_path / "bench.json"
    log.write_text("epoch,watts\n1769860800,3\n")
    result, _ = powered(program, "board", None, sensors=False, meter=log)
    path.write_text(json.dumps({**result, **change}))
    arguments = ("bench", saved, "--from", path, "--meter", log)
    assert problem in refusal(capsys, monkeypatch, *arguments)


@pytest.mark.gxx
def test_pages(saved: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    call("bench", saved, *QUICK, "--html", tmp_path / "bench.html")
    assert "Throughput" in (tmp_path / "bench.html").read_text()


@pytest.mark.gxx
def test_compare(saved: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from measure.test_compare import identity

    model, inputs = identity(tmp_path / "m.onnx"), tmp_path / "in.npz"
    np.savez(inputs, x=np.arange(160.0).reshape(2, 5, 4, 4) % 100 - 50)
    arguments = ("compare", model, saved, inputs, *QUICK, "--no-power")
    data = json.loads(call(*arguments, "--json"))
    assert [row["source"] for row in data["rows"]][:2] == ["estimated", "measured"]
    assert data["agreement"]["outputs"]["y"]["largest_difference"] == 0
    emulated = json.loads(call(*arguments, "--device", "emulation", "--json"))
    assert emulated["rows"][0]["source"] == "emulated"
    assert emulated["bench"]["origin"] == "emulation"
    text = call(*arguments, "--html", tmp_path / "compare.html")
    assert "estimated" in text and "not requested (--no-power)" in text
    assert "Throughput" in (tmp_path / "compare.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    (
        (("--batches", "1,0"), "--batches: found '1,0', allowed are numbers from 1 to 999999"),
        (("--batches", "x"), "--batches: found 'x'"),
        (("--batches", ""), "--batches: found ''"),
        (("--batches", "9" * 20), "--batches: found '9999"),
        (("--batches", "9" * 5000), "--batches: found '9999"),
        (("--from", "none.json"), "--from: found no --meter"),
        (("--from", "none.json", "--meter", "log.csv"), "found no JSON"),
        (("--device", "cuda"), "device: found 'cuda'"),
        (("--html", "no/such/folder/x.html"), "cannot write"),
    ),
)
def test_refusals(
    saved: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any,
    arguments: tuple[str, ...], problem: str,
) -> None:  # fmt: skip
    assert problem in refusal(capsys, monkeypatch, "bench", saved, *arguments)
