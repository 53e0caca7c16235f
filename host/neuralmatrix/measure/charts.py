# SPDX-License-Identifier: Apache-2.0
"""Measured results as one page of charts.

In: the dictionaries of ``bench`` and ``compare``.  Out: plotly figures, an HTML file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import ToolMissing
from ..files import write_whole
from ..hardware.isa import UNITS
from .bench import PARTS
from .text_tables import rate

Result = Mapping[str, Any]
_SHADE = "rgba(230, 120, 40, 0.15)"  # of loaded windows
_HEIGHT = 420
_MARGIN = {"t": 90, "l": 80, "r": 40}


def _plotly() -> Any:
    try:
        import plotly.graph_objects as go
    except ImportError:
        raise ToolMissing(
            "plotly is not installed, and the page of charts needs it; pip install plotly"
        ) from None
    return go


def _figure(title: str, basis: str, traces: Sequence[Any], **layout: Any) -> Any:
    heading = {"text": f"{title}<br><sub>{basis}</sub>", "font": {"size": 16}}
    figure = _plotly().Figure(list(traces))
    figure.update_layout(title=heading, height=_HEIGHT, margin=_MARGIN, **layout)
    return figure


# ------------------------------------------------------------------------------ bench


def latency_figure(result: Result) -> Any:
    """Chart host, transfer and array of one image, stacked, with the total's quartiles."""
    go, latency = _plotly(), result["latency"]
    name, total = f"one {result['unit']}", latency["total_s"]
    bars = [
        go.Bar(y=[name], x=[1e3 * latency[f"{part}_s"]["median"]], name=part, orientation="h")
        for part in PARTS
    ]
    quartiles = [1e3 * total[key] for key in ("lower_quartile", "median", "upper_quartile")]
    line = go.Scatter(x=quartiles, y=[name] * 3, mode="lines+markers", name="total, quartiles")
    return _figure(
        "Latency", f"{latency['basis']}; {latency['parts_basis']}", [*bars, line],
        barmode="stack", xaxis_title="ms (medians)",
    )  # fmt: skip


def throughput_figure(result: Result) -> Any:
    """Chart images per second against the batch size, with lowest and highest."""
    go, rows = _plotly(), result["throughput"]
    numbers = [row["images_per_s"] for row in rows]
    error = {
        "type": "data",
        "symmetric": False,
        "array": [n["highest"] - n["median"] for n in numbers],
        "arrayminus": [n["median"] - n["lowest"] for n in numbers],
    }
    line = go.Scatter(
        x=[str(row["batch"]) for row in rows], y=[n["median"] for n in numbers], error_y=error,
        mode="lines+markers", name=result["origin"],
    )  # fmt: skip
    return _figure(
        "Throughput", rows[0]["basis"], [line], xaxis_title="batch",
        yaxis_title=f"{result['unit']}s/s", yaxis_rangemode="tozero", xaxis_type="category",
    )  # fmt: skip


def cycles_figure(result: Result) -> Any:
    """Chart the busy cycles of each unit, counted and estimated."""
    go, cycles = _plotly(), result["cycles"]
    pairs = {**cycles["busy"], "whole run": cycles["total"]}
    names = [*UNITS, "whole run"]
    bars = [
        go.Bar(x=names, y=[pairs[name][kind] for name in names], name=kind)
        for kind in ("counted", "estimated")
    ]
    basis = f"{cycles['basis']}; {cycles['estimate_basis']}"
    return _figure("Cycles of one run", basis, bars, barmode="group", yaxis_title="cycles")


def power_figure(result: Result, index: int) -> Any:
    """Chart one trace of power; loaded windows are shaded."""
    go, power = _plotly(), result["power"]
    trace, windows = power["traces"][index], power["windows"]
    zero = windows[0]["began"]
    line = go.Scatter(
        x=[t - zero for t in trace["times"]], y=trace["watts"], mode="lines", name=trace["name"]
    )
    basis = next(
        (rail["basis"] for rail in power["rails"] if rail["name"] == trace["name"]),
        "no result; see the reasons in the text",
    )
    figure = _figure(
        f"Power of {trace['name']} ({trace['scope']}), {trace['sensor']}",
        f"{basis}; shaded: loaded windows",
        [line],
        xaxis_title="s",
        yaxis_title="W",
        yaxis_rangemode="tozero",
    )
    for window in windows:
        if window["kind"] == "loaded":
            figure.add_vrect(
                x0=window["began"] - zero, x1=window["ended"] - zero, fillcolor=_SHADE,
                line_width=0, layer="below",
            )  # fmt: skip
    return figure


def bench_figures(result: Result) -> list[Any]:
    """Make all charts of a bench."""
    charts: list[Callable[[Result], Any]] = [latency_figure, throughput_figure, cycles_figure]
    traces = range(len(result["power"]["traces"]))
    return [*(chart(result) for chart in charts), *(power_figure(result, i) for i in traces)]


# ------------------------------------------------------------------------------ compare


def _bars(result: Result, key: str, title: str, unit: str, basis_key: str) -> Any:
    """Chart one bar per device that has the number, coloured by the origin of its times."""
    rows = [row for row in result["rows"] if row[key] is not None]
    missing = [row["device"] for row in result["rows"] if row[key] is None]
    sources = sorted({row["source"] for row in rows})
    bars = [
        _plotly().Bar(
            x=[row["device"] for row in mine], y=[row[key] for row in mine], name=source,
            text=[rate(row[key]) for row in mine], showlegend=True,
        )
        for source in sources
        for mine in [[row for row in rows if row["source"] == source]]
    ]  # fmt: skip
    basis = [f"{row['device']}: {row[basis_key]}" for row in rows]
    basis += [f"no number for {', '.join(missing)}"] if missing else []
    figure = _figure(title, "<br>".join(basis), bars, yaxis_title=unit, xaxis_type="category")
    figure.update_layout(margin={**_MARGIN, "t": _MARGIN["t"] + 18 * len(basis)})
    return figure


_COMPARED = (
    ("images_per_s", "Throughput", "{unit}s/s", "basis"),
    ("watts", "Power while loaded", "W", "scope"),
    ("images_per_s_per_w", "Throughput per watt", "{unit}s/s/W", "images_per_s_per_w_basis"),
)


def compare_figures(result: Result) -> list[Any]:
    """Chart images per second, watts, and images per joule, if any device has them."""
    return [
        _bars(result, key, title, unit.format(unit=result["unit"]), basis_key)
        for key, title, unit, basis_key in _COMPARED
        if any(row[key] is not None for row in result["rows"])
    ]


# ------------------------------------------------------------------------------ the page


def write_page(path: Path, title: str, lines: Sequence[str], figures: Sequence[Any]) -> None:
    """Write the text and the charts as a page that needs no network."""
    from html import escape

    parts = [
        figure.to_html(full_html=False, include_plotlyjs=i == 0) for i, figure in enumerate(figures)
    ]
    text = escape("\n".join(lines))
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        "</title></head><body style='font-family: sans-serif; max-width: 1000px; margin: auto'>"
        f"<h1>{escape(title)}</h1>{''.join(parts)}"
        f"<pre style='white-space: pre-wrap'>{text}</pre></body></html>"
    )
    write_whole(path, lambda file: file.write(page.encode()))
