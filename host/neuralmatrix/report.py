# SPDX-License-Identifier: Apache-2.0
"""What a program costs, for people: JSON first, text and HTML made from that JSON.

In: a ``Program``.  Out: one dict that says where each number comes from; tables; an HTML page.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .config import load_board
from .errors import ToolMissing
from .isa import ISA_VERSION
from .resources import KINDS, resources

if TYPE_CHECKING:
    from rich.table import Table

    from .estimate import Estimate
    from .program import Program

_ESTIMATED = "estimated: cycle model with the constants of hls/include/nm/cost.h, not measured"


def _network(estimate: Estimate) -> dict[str, Any]:
    return {
        "cycles": estimate.cycles,
        "clock_mhz": estimate.clock_mhz,
        "latency_s": estimate.latency_s,
        "frames_per_s": estimate.frames_per_s,
        "macs": estimate.macs,
        "utilization": estimate.utilization,
        "dram_bytes": estimate.dram_bytes,
        "busy_cycles": dict(estimate.busy),
    }


def program_report(program: Program) -> dict[str, Any]:
    """Everything known about a program without running it."""
    estimate, used = program.estimate(), resources(load_board(program.board))
    return {
        "board": program.board,
        "array": f"{program.array.rows}x{program.array.cols}",
        "fingerprint": program.array.fingerprint,
        "batch": 1,
        "versions": {
            "neuralmatrix": __version__,
            "isa": ISA_VERSION,
            "python": platform.python_version(),
        },
        "network": {"basis": _ESTIMATED, **_network(estimate)},
        "layers": [asdict(layer) for layer in estimate.layers],
        "program": {
            "instructions": len(program.instructions),
            "const_bytes": len(program.const),
            "arena_bytes": program.arena_bytes,
            "inputs": {port.name: list(port.shape) for port in program.inputs},
            "outputs": {port.name: list(port.shape) for port in program.outputs},
            "host_ops": list(program.host_ops),
            "notes": list(program.notes),
        },
        "resources": {
            "basis": "estimated from buffer shapes and per-piece figures, not synthesised",
            **{kind: used.used(kind) for kind in KINDS},
        },
    }


# ------------------------------------------------------------------------------ text

_COLUMNS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("kMAC", lambda row: f"{row['macs'] / 1e3:,.0f}"),
    ("cycles", lambda row: f"{row['cycles']:,}"),
    ("busy", lambda row: f"{row['array_cycles']:,}"),
    ("util.", lambda row: f"{100 * row['utilization']:.1f} %"),
    ("DRAM KiB", lambda row: f"{row['dram_bytes'] / 1024:,.1f}"),
    ("bound", lambda row: str(row["bound"])),
)


def layer_table(report: dict[str, Any]) -> Table:
    """One row per layer and a last one for the network."""
    from rich.markup import escape
    from rich.table import Table

    network = report["network"]
    table = Table(title=f"{report['board']}, {report['array']} array, batch 1 (estimated)")
    table.add_column("layer", overflow="fold")
    table.add_column("kind")
    for name, _ in _COLUMNS:
        table.add_column(name, justify="right")
    for row in report["layers"]:
        table.add_row(escape(row["name"]), row["kind"], *(text(row) for _, text in _COLUMNS))
    total = {**network, "array_cycles": network["busy_cycles"]["compute"], "bound": ""}
    table.add_section()
    table.add_row("network", "", *(text(total) for _, text in _COLUMNS))
    return table


def summary_lines(report: dict[str, Any]) -> list[str]:
    """Latency, rate and basis in words."""
    network = report["network"]
    return [
        f"{network['latency_s'] * 1e3:.3f} ms an image, {network['frames_per_s']:.1f} images/s at "
        f"{network['clock_mhz']:g} MHz, array utilisation {100 * network['utilization']:.1f} %",
        f"basis: {network['basis']}",
        *(f"note: {note}" for note in report["program"]["notes"]),
    ]


# ------------------------------------------------------------------------------ HTML


def write_html(program: Program, path: Path) -> None:
    """A page with each unit's time line and the cycles of each layer.  ToolMissing: no plotly."""
    try:
        import plotly.graph_objects as go
        from plotly.subplots import make_subplots
    except ImportError:
        raise ToolMissing(
            "plotly is not installed; install the extra: pip install neuralmatrix[report]"
        ) from None
    report, timeline = program_report(program), program.estimate().timeline
    names = [row["name"] for row in report["layers"]]
    titles = ("when each unit is busy", "cycles each layer adds")
    figure = make_subplots(rows=2, cols=1, subplot_titles=titles)
    for unit, label in enumerate(("load", "compute", "store")):
        mine = timeline.unit == unit
        hover = [names[i] if i >= 0 else "" for i in program.insn_layer[mine]]
        bar = go.Bar(
            base=timeline.start[mine],
            x=(timeline.end - timeline.start)[mine],
            y=[label] * int(mine.sum()),
            orientation="h",
            hovertext=hover,
            name=label,
        )
        figure.add_trace(bar, row=1, col=1)
    cycles = [row["cycles"] for row in report["layers"]]
    figure.add_trace(go.Bar(x=names, y=cycles, name="cycles"), row=2, col=1)
    figure.update_layout(title="<br>".join(summary_lines(report)[:2]), height=900)
    path.write_text(figure.to_html(include_plotlyjs=True), encoding="utf-8")
