# SPDX-License-Identifier: Apache-2.0
"""The notebooks, each executed whole on an emulated board; their own assertions must hold."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

pytestmark = [pytest.mark.pynq, pytest.mark.gxx]

NOTEBOOKS = ROOT / "host" / "neuralmatrix" / "demo" / "notebooks"
CELL_SECONDS = 300  # the first emulating cell compiles the kernels
SAID = {
    "1_quick_start": ("emulated board", "every bit equal to emulation"),
    "2_your_own_network": ("emulated board", "every bit equal to emulation"),
    "3_transformer_on_pynq_z2": ("emulated board", "every bit equal to emulation"),
    "4_measuring_power": ("emulated board", "no number, because"),
}


def texts(notebook: Any) -> str:
    """Return all that the cells printed or showed, as text."""
    parts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            parts.append(output.get("text", ""))
            parts.append(output.get("data", {}).get("text/plain", ""))
    return "\n".join(parts)


def execute(path: Path, folder: Path) -> Any:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    shutil.copy(path, folder)
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    resources = {"metadata": {"path": str(folder)}}
    client = nbclient.NotebookClient(notebook, timeout=CELL_SECONDS, resources=resources)
    client.execute()
    return notebook


def test_all_notebooks_are_here() -> None:
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == sorted(SAID)


@pytest.mark.parametrize("name", sorted(SAID))
def test_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURALMATRIX_EMULATED_BOARD", "pynq-z2")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "host"))
    said = texts(execute(NOTEBOOKS / f"{name}.ipynb", tmp_path))
    assert all(text in said for text in SAID[name]), said
    assert "measured on the board" not in said
