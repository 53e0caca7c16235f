# SPDX-License-Identifier: Apache-2.0
"""``neuralmatrix segments`` and a network's notes about its tables.

In: functions, ranges, errors.  Out: tables that meet them, JSON, plots, clear refusals.
"""

from __future__ import annotations

import builtins
import json
import sys
from dataclasses import replace
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pytest
from neuralmatrix.cli.main import app
from neuralmatrix.errors import BadInput, ToolMissing
from neuralmatrix.ir.functions import evaluate
from neuralmatrix.ir.types import Function
from neuralmatrix.quantization.pwl.display import plot_lines, write_plot
from neuralmatrix.quantization.pwl.report import Wanted, make_table, table_notes, table_report
from neuralmatrix.quantization.pwl.table import PwlTable, lookup
from typer.testing import CliRunner

GELU = Wanted(Function("gelu"), (-8.0, 8.0), error=1e-3)


@lru_cache
def gelu() -> PwlTable:
    return make_table(GELU)


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["segments", *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("kind", ["uniform", "mapped"])
def test_the_fewest_segments_that_meet_the_error(kind):
    request = replace(GELU, kind=kind)
    table = make_table(request)
    x = np.arange(*table.x_range) * table.in_scale
    y = lookup(table, np.arange(*table.x_range)) * table.out_scale
    assert np.abs(y - evaluate(GELU.function, x)).max() <= 1e-3
    with pytest.raises(BadInput, match="wanted is 0.001; allow a larger error"):
        make_table(replace(request, segments=table.count - 1))


def test_auto_takes_the_kind_with_the_fewest_bytes():
    sizes = {kind: make_table(replace(GELU, kind=kind)).table_bytes for kind in ("uniform", "auto")}
    assert sizes["auto"] <= sizes["uniform"] < 64 * 8


def test_rows_are_the_table():
    """Evaluating the printed lines between the printed ends gives the function."""
    report = table_report(GELU, gelu())
    rows = report["rows"]
    assert len(rows) == report["segments"]
    for row in rows:
        x = np.linspace(row["from"], row["to"], 50)
        y = row["slope"] * x + row["intercept"]
        # half a step of rounding is left out of the real line
        assert np.abs(y - evaluate(GELU.function, x)).max() <= 1e-3 + report["y_per_step"]
    left, right = [r["to"] for r in rows[:-1]], [r["from"] for r in rows[1:]]
    np.testing.assert_allclose(left, right, atol=1.01 * report["x_per_code"])


@pytest.mark.parametrize(
    ("function", "x_range"), [("exp", ("-16", "0")), ("reciprocal", ("-8", "-0.1"))]
)
def test_json(function, x_range):
    report = json.loads(call(function, "--range", *x_range, "--bits", "16", "--json"))
    assert report["meets_bar"] and report["worst_steps"] <= report["bar_steps"] == 16
    ends = [row["from"] for row in report["rows"]]
    assert ends == sorted(ends)
    assert report["table_bytes"] == 8 * (report["segments"] + -(-report["cells"] // 8))
    assert report["basis"].startswith("measured over all 32")


def test_text_shows_segments_error_and_both_ends():
    text = call("tanh", "--range", "-3", "5", "--segments", "9", "--bits", "8")
    assert "tanh over -3 to 5, int8 results" in text and "9 segments" in text
    assert "worst error" in text and "\nbelow " in text and "\nabove " in text
    assert text.count("*") >= 72 and "knots" in text


def test_what_lies_outside_is_said():
    below, above = table_report(
        Wanted(Function("log"), (0.5, 4.0)), make_table(Wanted(Function("log"), (0.5, 4.0)))
    )["outside"]
    assert below["worst_steps"] is None  # no logarithm of a negative number
    assert above["worst_steps"] <= 16 and above["to"] == pytest.approx(4.0, rel=1e-3)


def test_plots(tmp_path):
    table = gelu()
    lines = plot_lines(GELU, table)
    assert lines[-3].count("|") <= table.count and "@ is" in lines[-2]
    pytest.importorskip("plotly")
    write_plot(GELU, table, tmp_path / "gelu.html")
    assert "plotly" in (tmp_path / "gelu.html").read_text(encoding="utf-8")[:5000000]


def test_without_plotly_the_page_is_refused(monkeypatch, tmp_path):
    real = builtins.__import__

    def fake(name, *rest):
        if name.startswith("plotly"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", fake)
    for name in [n for n in sys.modules if n.startswith("plotly")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ToolMissing, match="pip install plotly"):
        write_plot(GELU, gelu(), tmp_path / "gelu.html")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"function": Function("gelo")}, "no function 'gelo'; known are abs,"),
        ({"function": Function("leaky_relu")}, "leaky_relu has 0 parameter(s)"),
        ({"x_range": (3.0, -3.0)}, "the range is 3 to -3; give two finite numbers in rising order"),
        ({"x_range": (0.0, float("inf"))}, "the range is 0 to inf"),
        ({"x_range": (0.0, 1e38)}, "to 1e+38; its larger end must be 1e-30 to 1e+30"),
        ({"bits": 4}, "4 bits; results are int8 or int16"),
        ({"error": -1.0}, "the error is -1; give a positive number"),
        ({"bits": 8}, "one step is 0.032"),
        ({"kind": "cubic"}, "segment kind 'cubic' is unknown"),
        ({"function": Function("log")}, "log is infinite or undefined at x = -8"),
        ({"function": Function("reciprocal")}, "infinite or undefined at x = 0"),
    ],
)
def test_refusals(change, text):
    with pytest.raises(BadInput) as caught:
        make_table(replace(GELU, **change))
    assert text in str(caught.value)


def test_a_network_names_its_tables_that_miss_the_bar():
    good = gelu()
    bad = make_table(Wanted(Function("sin"), (0.0, 20.0)))

    def step(name, table):
        epilogue = SimpleNamespace(table=table)
        return SimpleNamespace(op=SimpleNamespace(source=name, output=name), epilogue=epilogue)

    move = SimpleNamespace(op=None, epilogue=None)
    graph = SimpleNamespace(ops=(step("good", good), move, step("bad", bad), step("none", None)))
    (note,) = table_notes(graph)
    assert note.startswith("bad: its table of 64 segments has errors up to ")
    assert "over 0 to 20" in note
