# SPDX-License-Identifier: Apache-2.0
"""The table of layers: one line for each in any terminal."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from neuralmatrix.program.program import Program
from neuralmatrix.program.report import layer_table, program_report
from rich.console import Console

NAME = "encoder.layers.0.self_attention.output_projection"


def shown(program: Program, ending: str, width: int) -> list[str]:
    """Return the lines of the table of a program whose layers have long names."""
    layers = tuple(replace(layer, source=f"{NAME}.{ending}") for layer in program.layers)
    report = program_report(replace(program, layers=layers))
    for row in report["layers"]:
        row["name"] = f"{NAME}.{ending}"
    text = io.StringIO()
    Console(file=text, width=width).print(layer_table(report, width))
    return text.getvalue().splitlines()


@pytest.mark.parametrize("width", (60, 80, 100, 160))
def test_a_layer_takes_one_line(program: Program, width: int) -> None:
    lines = shown(program, "inverse", width)
    assert max(map(len, lines)) <= width
    rows = [line for line in lines if line.startswith("│")]
    assert len(rows) == len(program.layers) + 1
    assert all("inverse" in row for row in rows[:-1]), "the end, which names the step, stays"


def test_what_is_left_out_is_said(program: Program) -> None:
    narrow, wide = (" ".join(shown(program, "scores", width)) for width in (60, 160))
    assert "Left out for lack of room: DRAM KiB" in " ".join(narrow.split())
    assert "Left out" not in wide and NAME in wide and "DRAM KiB" in wide
