# SPDX-License-Identifier: Apache-2.0
"""The accuracy as text and HTML: one row per output and part, lines of 80 columns."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from neuralmatrix.ir.accuracy import (
    Accuracy,
    LayerLoss,
    OutputAccuracy,
    PartAccuracy,
    Saturation,
)
from neuralmatrix.program.accuracy_report import (
    UNKNOWN,
    accuracy_html,
    accuracy_lines,
    accuracy_rows,
    accuracy_table,
)
from neuralmatrix.program.program import Program
from neuralmatrix.program.report import write_html
from rich.console import Console

PARTS = (PartAccuracy("axis 1: 0..3", 0.01), PartAccuracy("axis 1: 4..11, 14", 0.1))
BOXES = OutputAccuracy("boxes", "vectors", 0.02, 51.5, parts=PARTS)
SCORES = OutputAccuracy("a/very/long/name/of/an/output<b>[red]", "class scores", 0.001, 60.0,
                        top1=0.98765, changed=0.01, rows=65536)  # fmt: skip
FOUND = Accuracy(
    16,
    48,
    (BOXES, SCORES),
    tuple(LayerLoss(f"layer.{i}.output", f"layer.{i}", 0.02, 30.0) for i in range(8)),
    (Saturation("hidden", 0.012), Saturation("seldom", 2e-5)),
    ("output boxes is inaccurate: relative error 10 %", "cause: int8 weights; try mixed"),
)


def test_rows() -> None:
    names, rows = accuracy_rows(FOUND)
    assert names == ("output, part", "kind", "error %", "SNR dB", "PSNR dB", "same answers")
    assert rows[0] == ("boxes", "vectors", "2", "34.0", "51.5", "")
    assert rows[2] == ("  axis 1: 4..11, 14", "part", "10", "20.0", "", "")
    assert rows[3][1:] == ("class scores", "0.1", "60.0", "", "98.77 % of 65,536")


def test_columns_without_a_value_are_left_out() -> None:
    assert "same answers" not in accuracy_rows(replace(FOUND, outputs=(BOXES,)))[0]
    assert "PSNR dB" not in accuracy_rows(replace(FOUND, outputs=(SCORES,)))[0]


def test_the_table_fits_80_columns_and_shows_names_as_they_are() -> None:
    text = io.StringIO()
    Console(file=text, width=80).print(accuracy_table(FOUND))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    first = "".join(line.strip("│").split("│")[0].strip() for line in lines if line[0] == "│")
    assert first.endswith(SCORES.name)
    assert sum("98.77 % of 65,536" in line for line in lines) == 1


@pytest.mark.parametrize("width", (60, 80, 120))
def test_lines_keep_numbers_and_units_together(width: int) -> None:
    lines = accuracy_lines(FOUND, width)
    assert max(map(len, lines)) <= width
    assert not any(line.strip().startswith(("%", "dB")) for line in lines)
    text = "\n".join(lines)
    assert "\nwarning: output boxes is" in text and "\ncause: int8 weights; try mixed" in text
    assert "hidden 1.2 %" in text and "seldom" not in text
    assert "layer.4 2 %" in text and "layer.5" not in text


def test_only_kinds_that_are_there_are_explained() -> None:
    assert "the largest element is that" in " ".join(accuracy_lines(FOUND, 120))
    assert "0.5" not in " ".join(accuracy_lines(FOUND, 120))
    assert "same answers" not in " ".join(accuracy_lines(replace(FOUND, outputs=(BOXES,)), 120))


def test_nothing_measured() -> None:
    few = Accuracy(0, 3, missing="3 calibration inputs were given")
    assert accuracy_lines(few, 80) == []  # a note of the program says so
    assert "not measured: 3 calibration inputs" in accuracy_html(few)
    assert accuracy_lines(None, 200) == [UNKNOWN] and "--no-measure" in accuracy_html(None)


def test_html(program: Program, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    write_html(replace(program, accuracy=FOUND), tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "cycles each layer adds" in page and "<td>98.77 % of 65,536</td>" in page
    assert "output&lt;b&gt;[red]" in page and "output<b>" not in page
    assert "<p>warning: output boxes is inaccurate: relative error 10 %</p>" in page
    write_html(program, tmp_path / "none.html")
    assert "accuracy: not measured" in (tmp_path / "none.html").read_text(encoding="utf-8")
