# SPDX-License-Identifier: Apache-2.0
"""The documentation: its code runs, its links lead somewhere, its commands exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import neuralmatrix as nm
import numpy as np
import pytest
from conftest import ROOT
from neuralmatrix import errors, registers
from neuralmatrix.cli import app
from neuralmatrix.config import load_board
from neuralmatrix.design import design_of
from rich.console import Console
from typer.testing import CliRunner

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
FOLDERS = ("", "host/neuralmatrix", "host/neuralmatrix/*", "hls", "hls/*", "overlay",
           "overlay/boards", "docs", "models")  # fmt: skip
GENERATED = {"boards.md", "isa.md"}
MADE = {"overlay.json", "overlay/build", "overlay/build/BOARD", "build/overlay/BOARD"}
MADE |= {"global_pl_state_.json", "net.onnx"}  # pynq's, the demo's


def blocks(page: Path, language: str) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def exists(name: str) -> bool:
    return any(any(ROOT.glob(f"{folder}/{name}".lstrip("/"))) for folder in FOLDERS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    assert all((page.parent / target).exists() for target in targets), targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    named = re.findall(r"`([\w./-]+(?:\.(?:py|h|cpp|json|md|onnx)|/))`", text)
    named = [name.rstrip("/") for name in named if "NAME" not in name]
    assert not sorted({name for name in named if name not in MADE and not exists(name)})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_lines_of_pages_that_people_write_are_short(page: Path) -> None:
    if page.name in GENERATED:
        pytest.skip("made by make generated")
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith("|")] == []


def test_pipeline_names_every_module() -> None:
    """The folders and the main modules of the way from a model to numbers."""
    text = (ROOT / "docs" / "pipeline.md").read_text(encoding="utf-8")
    for folder in ("importers", "lower", "schedule", "device"):
        assert f"`{folder}/" in text
    for name in ("simplify", "calibrate", "quantize", "program", "proof", "estimate", "session"):
        assert f"`{name}.py`" in text


@pytest.mark.gxx
def test_pipeline_runs(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnx")
    scope: dict[str, Any] = {}
    for block in blocks(ROOT / "docs" / "pipeline.md", "python"):
        exec(compile(block, "pipeline.md", "exec"), scope)
    assert "cycles" in capsys.readouterr().out


def keep_demo(folder: Path) -> None:
    """The files of ``demo --keep``, with two test images."""
    pytest.importorskip("onnx")
    from neuralmatrix.demo import run_demo

    run_demo(console=Console(quiet=True), limit=2, keep=folder)


@pytest.mark.gxx
def test_readme_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep_demo(tmp_path)
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    for block in blocks(ROOT / "README.md", "python"):
        if "import torch" not in block:
            exec(compile(block, "README.md", "exec"), scope)
    assert "all tensors bit-equal" in capsys.readouterr().out
    assert {name: y.shape for name, y in scope["outputs"].items()} == {"logits": (2, 10)}


@pytest.mark.slow
@pytest.mark.gxx
def test_readme_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of 'Use it' that name files of the kept demo, top to bottom."""
    for package in ("onnxruntime", "plotly"):
        pytest.importorskip(package)
    keep_demo(tmp_path)
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Use it")[2].partition("**torch.**")[0]
    commands = re.findall(r"^    neuralmatrix (.+)$", section, re.MULTILINE)
    assert len(commands) == 9
    shown = ""
    for command in commands:
        arguments = command.split()
        # windows of power take minutes where the processor tells its watts
        quick = ["--no-power"] if arguments[0] == "compare" else []
        result = CliRunner().invoke(app, [*arguments, *quick], catch_exceptions=False)
        assert result.exit_code == 0, (command, result.output)
        shown += " ".join(result.stdout.split())
    assert "on the first 4 of the calibration inputs, 0.02 allowed (met)" in shown
    assert {"mixed.nmx", "outputs.npz", "report.html"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.slow
@pytest.mark.gxx
def test_readme_torch_example_runs() -> None:
    for package in ("torch", "onnxscript", "onnx"):
        pytest.importorskip(package)
    scope: dict[str, Any] = {"np": np, "nm": nm}
    for block in blocks(ROOT / "README.md", "python"):
        if "import torch" in block:
            exec(compile(block, "README.md", "exec"), scope)
    assert {name: y.shape for name, y in scope["outputs"].items()} == {"output": (2, 16, 64)}


def test_operators_are_those_of_the_importers() -> None:
    pytest.importorskip("onnx")
    from neuralmatrix.importers.onnx_control import CONTROL
    from neuralmatrix.importers.onnx_ops import HANDLERS, MICROSOFT

    text = (ROOT / "docs" / "operators.md").read_text(encoding="utf-8")
    _, *parts = re.split(r"^## .*$", text, flags=re.MULTILINE)
    ours, theirs = (re.findall(r"`(\w+)`", part) for part in parts[:2])
    assert sorted(ours) == sorted({*HANDLERS, *CONTROL})
    assert sorted(theirs) == sorted(MICROSOFT)


def test_readme_commands_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    names = set(re.findall(r"^    (?:.*&& )?neuralmatrix (\w+)", text, re.MULTILINE))
    assert {"compile", "run", "verify", "report", "bench", "boards", "demo", "list"} <= names
    for name in sorted(names):
        result = CliRunner().invoke(app, [name, "--help"])
        assert result.exit_code == 0, name


def test_commands_of_all_pages_exist() -> None:
    names: set[str] = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        names |= set(re.findall(r"(?:^    .*|`)neuralmatrix ([a-z]\w+)", text, re.MULTILINE))
    assert {"deploy", "doctor", "bench", "compare"} <= names
    for name in sorted(names):
        result = CliRunner().invoke(app, [name, "--help"])
        assert result.exit_code == 0, name


def test_overlay_page_has_the_registers() -> None:
    text = (ROOT / "docs" / "overlay.md").read_text(encoding="utf-8")
    rows = []
    for kernel, arguments in registers.KERNELS.items():
        offsets = {word.name: word.offset for word in registers.registers(kernel)}
        for a in arguments:
            offset = offsets.get(a.name, offsets.get(f"{a.name}_1"))
            who = "kernel" if a.output else "host"
            rows.append(f"| {kernel} | `{a.name}` | {a.bits} | 0x{offset:02x} | {who} |")
    assert [row for row in rows if row not in text] == []
    assert len(re.findall(r"^\| (?:fetch|load|compute|store) \|", text, re.MULTILINE)) == len(rows)


def test_overlay_page_has_the_addresses() -> None:
    text = (ROOT / "docs" / "overlay.md").read_text(encoding="utf-8")
    designs = [design_of(load_board(name)) for name in ("pynq-z2", "kv260")]
    for zynq, mpsoc in zip(*(design.segments for design in designs), strict=True):
        cells = f"| `{zynq.cell}` | 0x{zynq.offset:08x} | 0x{mpsoc.offset:08x} |"
        assert cells in text and zynq.cell == mpsoc.cell
        assert f"{zynq.range_bytes // 1024} KB" in text
    for i, cell in enumerate(designs[0].interrupts):
        assert re.search(rf"^\| `{cell}` .*\| input {i} \|$", text, re.MULTILINE)


def test_on_a_board_explains_every_error_of_the_driver() -> None:
    text = (ROOT / "docs" / "on-a-board.md").read_text(encoding="utf-8")
    elsewhere = {
        "BadModel",
        "BuildFailed",
        "NeuralMatrixError",
        "UnsupportedModel",
        "UnsupportedNode",
    }
    names = set(errors.__all__) - elsewhere
    assert [name for name in sorted(names) if f"| `{name}` |" not in text] == []


def test_makefile_targets() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("check", "test", "bench", "emulate", "hls", "overlay", "clean"):
        assert re.search(rf"^{target}:", text, re.MULTILINE)
    scripts = re.findall(r"for name in ([^;]+); do", text)[0].replace("\\\n", " ").split()
    assert scripts and all((ROOT / "bench" / f"{name}.py").exists() for name in scripts)
