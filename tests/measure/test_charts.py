# SPDX-License-Identifier: Apache-2.0
"""The charts' data, and the page that holds them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from measure.test_bench import powered
from neuralmatrix.errors import ToolMissing
from neuralmatrix.measure.charts import bench_figures, compare_figures, write_page
from neuralmatrix.program.program import Program

pytest.importorskip("plotly")


@pytest.fixture
def result(program: Program, tmp_path: Path) -> dict[str, Any]:
    return powered(program, "board", tmp_path)[0]


def test_bench_figures(result: dict[str, Any]) -> None:
    latency, throughput, cycles, power = bench_figures(result)
    parts = {bar.name: bar.x[0] for bar in latency.data if bar.type == "bar"}
    line = next(trace for trace in latency.data if trace.type == "scatter")
    assert list(parts) == ["host", "transfer", "array"] and latency.layout.barmode == "stack"
    assert sum(parts.values()) == pytest.approx(1e3 * result["latency"]["total_s"]["median"])
    assert list(line.x) == sorted(line.x)
    assert list(throughput.data[0].x) == ["1", "2", "4"]
    assert list(throughput.data[0].y) == [
        row["images_per_s"]["median"] for row in result["throughput"]
    ]
    counted, estimated = cycles.data
    assert (counted.name, estimated.name) == ("counted", "estimated")
    assert counted.y[-1] == result["cycles"]["total"]["counted"]
    assert list(estimated.x) == ["load", "compute", "store", "whole run"]
    assert "simulated" in power.layout.title.text


def test_loaded_windows_are_shaded(result: dict[str, Any]) -> None:
    power = bench_figures(result)[-1]
    loaded = [w for w in result["power"]["windows"] if w["kind"] == "loaded"]
    assert len(power.layout.shapes) == len(loaded) == 3
    seconds, watts = power.data[0].x, power.data[0].y
    for shape in power.layout.shapes:
        within = [w for s, w in zip(seconds, watts, strict=True) if shape.x0 + 0.1 < s < shape.x1]
        assert within and min(within) > 7.5


def test_compare_figures() -> None:
    row = {"images_per_s": 100.0, "basis": "estimated", "scope": "", "watts": None,
           "images_per_s_per_w": None, "images_per_s_per_w_basis": "none",
           "source": "estimated"}  # fmt: skip
    measured = {**row, "watts": 5.0, "images_per_s_per_w": 20.0, "scope": "12V",
                "source": "measured"}  # fmt: skip
    rows = [{"device": "A", **row}, {"device": "B", **measured}]
    assert len(compare_figures({"unit": "image", "rows": rows[:1]})) == 1
    rates, watts, both = compare_figures({"unit": "image", "rows": rows})
    assert [(bar.name, bar.x) for bar in rates.data] == [
        ("estimated", ("A",)),
        ("measured", ("B",)),
    ]
    assert list(watts.data[0].x) == ["B"] and list(both.data[0].y) == [20.0]
    assert "no number for A" in both.layout.title.text


def test_page(result: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    write_page(path, "a <bench>", ["1 < 2"], bench_figures(result))
    page = path.read_text()
    assert page.count("Plotly.newPlot") >= 4 and "a &lt;bench&gt;" in page and "1 &lt; 2" in page
    assert "<script src=" not in page  # all of plotly is in it


def test_without_plotly(result: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(ToolMissing, match="pip install plotly"):
        bench_figures(result)
