# SPDX-License-Identifier: Apache-2.0
"""`neuralmatrix run --device pynq`: the same file as in emulation, with correct labels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from neuralmatrix.runtime.emulated_board.board import EmulatedBoard, Faults
from programs import copy_program

pytestmark = [pytest.mark.pynq, pytest.mark.gxx]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copy_program().save(tmp_path / "net.nmx")
    x = np.random.default_rng(0).normal(0, 20, (3, 5, 4, 4)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    return tmp_path


def run(folder: Path, *options: str) -> str:
    """Return standard output; errors are raised."""
    testing = pytest.importorskip("typer.testing")
    from neuralmatrix.cli.main import app

    files = [str(folder / name) for name in ("net.nmx", "x.npz")]
    arguments = ["run", *files, "-o", str(folder / "y.npz"), *options]
    result = testing.CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return str(result.output)


def test_outputs_and_words(board: EmulatedBoard, folder: Path) -> None:
    assert "(emulated)" in run(folder)
    wanted = np.load(folder / "y.npz")["y"]
    (folder / "y.npz").unlink()
    text = run(folder, "--device", "pynq", "--overlay", str(board.overlay), "--timeout", "9")
    assert "(emulated board)" in text and "measured" not in text
    assert np.load(folder / "y.npz")["y"].tobytes() == wanted.tobytes()
    assert board.allocated == 0


def test_json(board: EmulatedBoard, folder: Path) -> None:
    found = json.loads(run(folder, "--device", "pynq", "--overlay", str(board.overlay), "--json"))
    assert found["stats"]["origin"] == found["device"]["origin"] == "emulated board"
    assert "cycles and busy: counted in emulation" in found["stats"]["basis"]
    assert set(found["stats"]["seconds"]) == {"host", "transfer", "array"}


def test_timeout(board: EmulatedBoard, folder: Path) -> None:
    from neuralmatrix.errors import DeviceTimeout

    board.faults = Faults(never_done=True)
    with pytest.raises(DeviceTimeout, match="after 0.3 s"):
        run(folder, "--device", "pynq", "--overlay", str(board.overlay), "--timeout", "0.3")
    assert not (folder / "y.npz").exists() and board.allocated == 0


def test_no_board_is_one_message(folder: Path) -> None:
    """pynq's own warning, which is about another kind of board, is not shown."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "host")}
    environment.pop("NEURALMATRIX_EMULATED_BOARD", None)
    files = [str(folder / name) for name in ("net.nmx", "x.npz")]
    done = subprocess.run(
        [sys.executable, "-m", "neuralmatrix", "run", *files, "-o", str(folder / "y.npz"),
         "--device", "pynq"],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and not done.stdout
    assert (
        done.stderr.startswith("error: device='pynq' needs a board")
        and done.stderr.count("\n") == 1
    )
