# SPDX-License-Identifier: Apache-2.0
"""The stage that a compilation is in, on standard error."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from build_onnx import model, node
from neuralmatrix.cli import stage_line
from neuralmatrix.cli.main import app
from neuralmatrix.cli.stage_line import StageLine
from neuralmatrix.compiler import Options, passes
from rich.console import Console
from typer.testing import CliRunner


def screen(terminal: bool) -> tuple[Console, io.StringIO]:
    text = io.StringIO()
    return Console(file=text, force_terminal=terminal, width=80), text


def run(line: StageLine, seconds: float) -> None:
    with line as progress:
        progress("simplify")
        progress("calibrate")
        progress("calibrate: tensor 3 of 40")
        time.sleep(seconds)


def test_a_line_appears_on_a_terminal_once_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_line, "APPEARS", 0.05)
    console, text = screen(terminal=True)
    run(StageLine(False, screen=console), 0.5)
    assert "calibrate: tensor 3 of 40" in text.getvalue()
    assert text.getvalue().endswith("\x1b[2K")  # the line is erased


@pytest.mark.parametrize("terminal, line, appears", [
    (True, True, 60.0), (True, False, 0.01), (False, True, 0.01),
])  # fmt: skip
def test_no_line_where_it_is_short_not_wanted_or_piped(
    terminal: bool, line: bool, appears: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage_line, "APPEARS", appears)
    console, text = screen(terminal)
    run(StageLine(False, line, console), 0.1)
    assert text.getvalue() == ""


def test_verbose_prints_every_stage_with_its_time() -> None:
    console, text = screen(terminal=False)
    run(StageLine(True, screen=console), 0.02)
    lines = [re.fullmatch(r" +(\d+\.\d{3}) s  (.+)", x) for x in text.getvalue().splitlines()]
    assert [found and found[2] for found in lines] == ["simplify", "calibrate", "in all"]
    assert all(found and float(found[1]) >= 0.02 for found in lines[1:])


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Return arguments that compile one product."""
    weight = np.eye(4, dtype=np.float32)
    net = model([node("MatMul", ["x", "w"], ["y"])], {"x": (1, 4)}, ["y"], {"w": weight})
    onnx.save(net, tmp_path / "net.onnx")
    np.savez(tmp_path / "x.npz", x=np.ones((1, 4), np.float32))
    names = [str(tmp_path / name) for name in ("net.onnx", "net.nmx", "x.npz")]
    return ["compile", names[0], "-o", names[1], "--calibration", names[2]]


def test_compile_says_nothing_on_standard_error_when_piped(files: list[str]) -> None:
    result = CliRunner().invoke(app, files)
    assert result.exit_code == 0 and result.stderr == ""


def test_compile_verbose_names_the_passes_and_leaves_standard_output_alone(
    files: list[str],
) -> None:
    result = CliRunner().invoke(app, [*files, "--json", "-v"])
    assert json.loads(result.stdout)["output"] == files[3]
    shown = [line.split()[-1] for line in result.stderr.splitlines()[:-1]]
    compiled = [name for name, _ in passes(Options())]
    assert shown[:14] == compiled[:14] and shown[-1] == "schedule"
