# SPDX-License-Identifier: Apache-2.0
"""Views of notebooks: HTML for Jupyter, text elsewhere, all of it escaped."""

from __future__ import annotations

import ast
import json
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from neuralmatrix.demo import notebook_view as view

NOTEBOOKS = sorted((ROOT / "host" / "neuralmatrix" / "demo" / "notebooks").glob("*.ipynb"))


def test_table() -> None:
    shown = view.table(("name", "n"), (("a<b", 1), ("long name", 22)))
    assert repr(shown).splitlines() == ["name       n", "a<b        1", "long name  22"]
    assert "a&lt;b" in shown._repr_html_() and shown._repr_html_().count("<tr>") == 3


def test_bars_are_to_scale() -> None:
    shown = view.bars({"half": 1.0, "whole": 2.0, "none": 0.0}, "ms")
    lengths = [line.count("#") for line in repr(shown).splitlines()]
    assert lengths == [20, 40, 0]
    assert "width:20.00em" in shown.html and "2 ms" in shown.text


def test_bars_of_nothing() -> None:
    assert view.bars({"zero": 0.0}, "ms").text.endswith(" 0 ms") and view.bars({}, "ms").text == ""


def test_pictures() -> None:
    image = np.array([[0.0, 1.0], [-1.0, 2.0]], np.float32)
    shown = view.pictures(image[None], [7])
    assert repr(shown).splitlines() == ["7", "  @@", "  @@"]
    assert shown.html.count("rgb(0,0,0)") == 2 and shown.html.count("rgb(255,255,255)") == 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stripped(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code and all(not c["outputs"] and c["execution_count"] is None for c in code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_notebooks_import_of_the_package_is_there(path: Path) -> None:
    """Without pynq, which the notebooks themselves need."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    trees = [ast.parse("".join(c["source"])) for c in cells if c["cell_type"] == "code"]
    imports = [n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    ours = [n for n in imports if n.module and n.module.split(".")[0] == "neuralmatrix"]
    assert ours
    for node in ours:
        module = import_module(str(node.module))
        for alias in node.names:
            assert hasattr(module, alias.name) or find_spec(f"{node.module}.{alias.name}")
