# SPDX-License-Identifier: Apache-2.0
"""The code of docs/on-a-board.md, run top to bottom on an emulated board."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from docs.test_pages import blocks
from neuralmatrix.demo.programs import shipped_path
from neuralmatrix.demo.tasks import load_digits
from neuralmatrix.hardware.board import load_board

pytestmark = [pytest.mark.pynq, pytest.mark.gxx]

RUN_SECONDS = 300  # includes compiling the kernels


def test_on_a_board_runs(tmp_path: Path) -> None:
    code = "\n".join(blocks(ROOT / "docs" / "on-a-board.md", "python"))
    program = shipped_path("digits", load_board("pynq-z2"))
    (tmp_path / "net.nmx").write_bytes(program.read_bytes())
    np.savez(tmp_path / "inputs.npz", input=load_digits(3).x)
    environment = {
        **os.environ,
        "NEURALMATRIX_EMULATED_BOARD": "pynq-z2",
        "PYTHONPATH": str(ROOT / "host"),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True,
        text=True, timeout=RUN_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second, third = done.stdout.strip().splitlines()[-3:]
    assert "'origin': 'emulated board'" in first and "'board': 'pynq-z2'" in first
    assert second.endswith("cycles, emulated board")
    assert "did not finish" in third or "not done" in third, third
