# SPDX-License-Identifier: Apache-2.0
"""The commands evaluate and sweep: what they print, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from judged import CLASSES, FEEDS, LABELS, OTHERS, PROGRAM, RIGHT, SAMPLES, two_layers
from neuralmatrix.cli.main import app
from typer.testing import CliRunner, Result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    PROGRAM.save(tmp_path / "net.nmx")
    np.savez(tmp_path / "data.npz", **FEEDS, labels=LABELS)
    (tmp_path / "net.onnx").write_bytes(two_layers())
    np.savez(tmp_path / "samples.npz", **SAMPLES)
    np.savez(tmp_path / "test.npz", **OTHERS, labels=CLASSES)
    return tmp_path


def invoke(folder: Path, text: str) -> Result:
    """Run a command whose words in braces are files of the folder."""
    names = {path.stem + path.suffix.replace(".", "_"): path for path in folder.iterdir()}
    return CliRunner().invoke(app, text.format(**names).split(), env={"COLUMNS": "80"})


@pytest.mark.gxx
def test_evaluate(folder: Path) -> None:
    found = invoke(folder, "evaluate {net_nmx} {data_npz} --threads 1")
    share = f"{100 * RIGHT / LABELS.size:.4g} % right"
    assert f"top1 of y: {share}, 12 images" in " ".join(found.stdout.split())
    found = invoke(folder, "evaluate {net_nmx} {data_npz} --metric top5 --chunk 5 --json")
    assert json.loads(found.stdout)["images"] == 12


@pytest.mark.gxx
def test_sweep_goes_on_and_says_the_same(folder: Path) -> None:
    command = "sweep {net_onnx} --calibration {samples_npz} --data {test_npz} --threads 1"
    rest = f"--boards pynq-z2,kv260 --precisions int8,int16 -o {folder}/sweep.json"
    first = invoke(folder, f"{command} {rest}")
    assert first.exit_code == 0 and first.stdout.count("pynq-z2") == 2
    assert "% right" in first.stdout and "estimated" in first.stdout
    again = invoke(folder, f"{command} {rest}")
    assert again.stdout == first.stdout
    rows = json.loads(invoke(folder, f"{command} {rest} --json").stdout)["rows"]
    assert [row["point"]["precision"] for row in rows] == ["int8", "int16"] * 2
    assert all(row["frames_per_s"] > 0 and row["score"] > 80 for row in rows)


@pytest.mark.parametrize(
    "command, words",
    [
        ("evaluate {net_nmx} {data_npz} --labels y", "found 'x', 'labels' and no 'y'"),
        ("evaluate {net_nmx} {data_npz} --metric best", "found 'best', allowed are top1"),
        ("evaluate {net_nmx} {data_npz} --workers 2 --farm a@b", "found --workers and --farm"),
        ("evaluate {net_nmx} {data_npz} --farm a@b,a@b", "each once"),
        ("evaluate {net_onnx} {data_npz}", "allowed is a program"),
        ("sweep {net_onnx} --boards pynq-z9", "pynq-z9"),
        ("sweep {net_onnx} --precisions int4", "found 'int4'"),
        ("sweep {net_onnx} --losses a", "--losses: found 'a'"),
        ("sweep {net_onnx} --farm a@b", "give --data"),
    ],
)
def test_what_is_refused(folder: Path, command: str, words: str) -> None:
    found = invoke(folder, command)
    assert found.exit_code == 1 and words in str(found.exception), found.output
