# SPDX-License-Identifier: Apache-2.0
"""A piecewise-linear table for people: in words, as rows, as a text plot, as an HTML page.

In: the table and its report.  Out: lines, a rich table, a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ToolMissing
from ...files import write_whole
from ...ir.functions import evaluate
from ...ir.types import Array
from .lines import starts_of
from .report import Wanted, errors_by_code, table_report
from .table import PwlTable, lookup

if TYPE_CHECKING:
    from rich.table import Table

PLOT_ROWS, PLOT_COLUMNS, POINTS = 14, 72, 2000


def summary_lines(report: dict[str, Any]) -> list[str]:
    """Return error, size and the results outside the range, in words."""
    cells = f" and a map of {report['cells']} cells" if report["cells"] else ""
    lines = [
        f"{report['function']} over {report['range'][0]:g} to {report['range'][1]:g}, "
        f"int{report['bits']} results: {report['index']}, {report['segments']} segments{cells}, "
        f"{report['table_bytes']} bytes",
        f"worst error {report['worst_error']:.3g} ({report['worst_steps']:.2f} steps of "
        f"{report['y_per_step']:.3g}), mean {report['mean_error']:.3g} "
        f"({report['mean_steps']:.2f} steps); {report['basis']}",
    ]
    for name, side in zip(("below", "above"), report["outside"], strict=True):
        worst = side["worst_steps"]
        error = "the function is undefined there" if worst is None else f"error {worst:.2f} steps"
        start, end = f"{side['from']:.4g}", f"{side['to']:.4g}"
        extends = f"the outermost line extends to x = {end} ({error}); beyond, "
        lines.append(
            f"{name} {start}, {extends if start != end else ''}x saturates, and the result stays "
            f"{side['result_at_the_end_and_beyond']:.4g}"
        )
    return lines


_COLUMNS = ("from", "to", "slope", "intercept", "k", "b", "sh", "worst_steps")


def segment_rows(report: dict[str, Any]) -> Table:
    """Return one row per segment, in the order of x."""
    from rich.table import Table

    table = Table(caption="y = (x*k + b) >> sh, quantised; slope and intercept in real units")
    for name in ("segment", *_COLUMNS):
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for row in report["rows"]:
        cells = [row[name] for name in _COLUMNS]
        text = [str(v) if isinstance(v, int) else f"{v:.5g}" for v in cells]
        table.add_row(str(row["segment"]), *text)
    return table


def plot_lines(wanted: Wanted, seg: PwlTable) -> list[str]:
    """Return a text plot of the table's curve, its knots below, and the error along x."""
    x, error, owner = errors_by_code(wanted.function, seg)
    order = slice(None) if seg.in_scale > 0 else slice(None, None, -1)
    y = (np.clip(lookup(seg, x), *seg.y_clip) * seg.out_scale)[order]
    column = np.arange(len(x)) * PLOT_COLUMNS // len(x)
    first = starts_of(column)
    knots = np.zeros(len(x), bool)
    knots[starts_of(owner[order])] = True
    marks = "".join("|" if any_ else " " for any_ in np.logical_or.reduceat(knots, first))
    shown = np.maximum.reduceat(error[order], first)
    blocks = " .:-=+*#%@"
    level = np.minimum((shown / max(shown.max(), 1e-12) * 9).astype(int), 9)
    ends = f"{wanted.x_range[0]:g}", f"{wanted.x_range[1]:g}"
    return [
        *_curve(y[first]),
        f"{'knots':>10} {marks}",
        f"{'error':>10} {''.join(blocks[i] for i in level)}  @ is {shown.max():.3g} steps",
        f"{'':>10} {ends[0]}{ends[1]:>{max(len(first) - len(ends[0]), 1)}}",
    ]


def _curve(y: Array) -> list[str]:
    lo, hi = float(y.min()), float(y.max())
    row = np.rint((hi - y) / max(hi - lo, 1e-30) * (PLOT_ROWS - 1)).astype(int)
    grid = np.full((PLOT_ROWS, len(y)), " ")
    grid[row, np.arange(len(y))] = "*"
    values = np.linspace(hi, lo, PLOT_ROWS)
    return [f"{value:>10.4g} {''.join(line)}" for value, line in zip(values, grid, strict=True)]


# ------------------------------------------------------------------------------ HTML


def write_plot(wanted: Wanted, seg: PwlTable, path: Path) -> None:
    """Write a page with the function, the table, its knots and its error.

    ToolMissing: plotly is not installed.
    """
    try:
        import plotly.graph_objects as go
        from plotly.subplots import make_subplots
    except ImportError:
        raise ToolMissing(
            "plotly is not installed, and the HTML plot needs it; pip install plotly"
        ) from None
    x, error, owner = errors_by_code(wanted.function, seg)
    knots = x[starts_of(owner)]
    show = np.unique(np.concatenate((np.linspace(0, len(x) - 1, POINTS).astype(int),
                                     knots - x[0])))  # fmt: skip
    real = x * seg.in_scale
    titles = ("function and table", "error in output steps")
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, subplot_titles=titles)
    table = np.clip(lookup(seg, x), *seg.y_clip) * seg.out_scale
    exact = evaluate(wanted.function, real[show])
    figure.add_trace(go.Scatter(x=real[show], y=exact, name=wanted.function.name), row=1, col=1)
    figure.add_trace(go.Scatter(x=real[show], y=table[show], name="table"), row=1, col=1)
    marks = go.Scatter(x=knots * seg.in_scale, y=table[knots - x[0]], name="knots", mode="markers")
    figure.add_trace(marks, row=1, col=1)
    figure.add_trace(go.Scatter(x=real[show], y=error[show], name="error"), row=2, col=1)
    figure.update_layout(title="<br>".join(summary_lines(table_report(wanted, seg))[:2]))
    page = figure.to_html(include_plotlyjs=True).encode()
    write_whole(path, lambda file: file.write(page))
