# SPDX-License-Identifier: Apache-2.0
"""Reports of a program's cost: JSON, and text and HTML made from that JSON.

In: a ``Program``.  Out: one dict that says where each number comes from; tables; an HTML page.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._version import __version__
from ..errors import ToolMissing
from ..files import write_whole
from ..hardware.board import load_board
from ..hardware.isa import ISA_VERSION
from ..hardware.resources import KINDS, resources
from ..ir.host.types import ANY, HostValue
from .accuracy_report import accuracy_html

if TYPE_CHECKING:
    from rich.table import Table

    from .data import ProgramPort
    from .estimate import Estimate
    from .program import Program

CONVERSIONS = ("quantize", "gather", "dequantize", "argmax")  # the host's part of every program
_ESTIMATED = (
    "estimated: cycle model (hls/include/nm/cost.h, the board file's DRAM), not measured; "
    "without the host's work and most of DRAM's latency"
)


def batch_of(program: Program) -> int | None:
    """Return the leading dimension that all inputs and outputs share, or None."""
    ports = (*program.shown_inputs, *program.shown_outputs)
    leading = {(port.shape or ())[:1] for port in ports}
    common = leading.pop() if len(leading) == 1 else ()
    return common[0] if common else None


def unit_of(batch: int | None, shapes: Iterable[Sequence[int]]) -> str:
    """Return the unit of a run: "image" if an input is (1, C, H, W), else "run"."""
    return "image" if batch == 1 and any(len(shape) == 4 for shape in shapes) else "run"


def _sizes(ports: Iterable[ProgramPort | HostValue]) -> dict[str, list[int | None] | None]:
    """Return the shapes by name; None where data decides."""
    return {
        port.name: None
        if port.shape is None
        else [None if size == ANY else size for size in port.shape]
        for port in ports
    }


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
    """Collect all facts about a program that need no run."""
    estimate, used = program.estimate(), resources(load_board(program.board))
    return {
        "board": program.board,
        "array": f"{program.array.rows}x{program.array.cols}",
        "fingerprint": program.array.fingerprint,
        "batch": batch_of(program),
        "versions": {
            "neuralmatrix": __version__,
            "isa": ISA_VERSION,
            "python": platform.python_version(),
        },
        "network": {"basis": _ESTIMATED, **_network(estimate)},
        "accuracy": program.accuracy.to_dict() if program.accuracy else None,
        "layers": [asdict(layer) for layer in estimate.layers],
        "program": {
            "instructions": len(program.instructions),
            "const_bytes": len(program.const),
            "arena_bytes": program.arena_bytes,
            "inputs": _sizes(program.shown_inputs),
            "outputs": _sizes(program.shown_outputs),
            "host_ops": list(program.host_ops),
            "notes": list(program.notes),
        },
        "resources": {
            "basis": "counted by open tools, not by Vivado; LUTs at their high end",
            **{kind: used.used(kind) for kind in KINDS},
            "lut_low": used.low("lut"),
        },
    }


# ------------------------------------------------------------------------------ text

_COLUMNS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("kMAC", lambda row: f"{row['macs'] / 1e3:,.{1 if row['macs'] < 1e4 else 0}f}"),
    ("cycles", lambda row: f"{row['cycles']:,}"),
    ("busy", lambda row: f"{row['array_cycles']:,}"),
    ("util.", lambda row: f"{100 * row['utilization']:.1f} %"),
    ("DRAM KiB", lambda row: f"{row['dram_bytes'] / 1024:,.1f}"),
    ("bound", lambda row: str(row["bound"])),
)


CAPTION = (
    "layer: as in the model; name:part is a step of it. kMAC: of the model's own products. cycles: "
    "what the layer adds to the total. busy: cycles of the COMPUTE unit. util.: MACs / (cycles x "
    "PEs). bound: what was busy longest, the array or the epilogue (both in COMPUTE), the LOAD or "
    "STORE unit, or the DRAM."
)


def _title(report: dict[str, Any]) -> str:
    shapes = report["program"]["inputs"]
    # a leading dimension that all share may also be the nodes of a graph
    size = "batch 1" if report["batch"] == 1 else "one run"
    inputs = ", ".join(f"{name} {_dims(shape)}" for name, shape in shapes.items())
    return f"{report['board']}, {report['array']} array, {size}: {inputs} (estimated)"


def _dims(shape: list[int | None] | None) -> str:
    if shape is None:
        return "of any size"
    return "x".join("?" if size is None else str(size) for size in shape) or "scalar"


def port_lines(report: dict[str, Any]) -> list[str]:
    """Format names and shapes of the inputs and outputs."""
    return [
        f"{kind}: " + ", ".join(f"{name} {_dims(shape)}" for name, shape in ports.items())
        for kind, ports in (
            ("inputs", report["program"]["inputs"]),
            ("outputs", report["program"]["outputs"]),
        )
    ]


def layer_table(report: dict[str, Any], width: int = 120) -> Table:
    """Make one row per layer and a last one for the network.

    In ``width`` columns each takes one line: where names need room, columns that ``--json`` also
    gives are left out, and longer names lose their middle.
    """
    from rich.markup import escape
    from rich.table import Table

    network, layers = report["network"], report["layers"]
    total = {"name": "network", "kind": "", "bound": "", **network,
             "array_cycles": network["busy_cycles"]["compute"]}  # fmt: skip
    cells = {"kind": [str(row["kind"]) for row in (*layers, total)]}
    cells |= {name: [text(row) for row in (*layers, total)] for name, text in _COLUMNS}
    room = _room(cells, width, min(_NAMES, max(len(row["name"]) for row in (*layers, total))))
    table = Table(title=_title(report), caption=_caption(cells), caption_justify="left")
    table.add_column("layer", no_wrap=True)
    for name in cells:
        table.add_column(name, justify="left" if name == "kind" else "right", no_wrap=True)
    for i, row in enumerate((*layers, total)):
        if row is total:
            table.add_section()
        table.add_row(escape(_shortened(row["name"], room)), *(column[i] for column in
                      cells.values()))  # fmt: skip
    return table


def _caption(shown: dict[str, list[str]]) -> str:
    spared = [name for name in _SPARED if name not in shown]
    return CAPTION + (f" Left out for lack of room: {', '.join(spared)}." if spared else "")


_NAMES = 24  # columns of names that other columns make room for
_SPARED = ("DRAM KiB", "kMAC")  # first to be left out


def _room(cells: dict[str, list[str]], width: int, wanted: int) -> int:
    """Return the columns that are left for names; leave out cells until ``wanted`` are."""
    for name in (*_SPARED, None):
        used = sum(3 + max(map(len, (head, *column))) for head, column in cells.items())
        room = width - used - 4
        if room >= wanted or name is None:
            break
        del cells[name]
    return max(room, 5)


def _shortened(name: str, room: int) -> str:
    """Return a name of at most ``room`` characters; its end, which tells steps apart, stays."""
    if len(name) <= room:
        return name
    end = (room - 1) * 2 // 3
    return f"{name[: room - 1 - end]}…{name[len(name) - end :]}"


def _host_line(names: list[str]) -> list[str]:
    """Return what the host computes besides converting inputs and outputs, if anything."""
    more = [name for name in names if name not in CONVERSIONS]
    if not more:
        return []
    return [f"host: {', '.join(more)}, in numpy; their time is not in the estimate"]


def summary_lines(report: dict[str, Any]) -> list[str]:
    """Format latency, rate and basis in words."""
    network = report["network"]
    unit = unit_of(report["batch"], report["program"]["inputs"].values())
    return [
        f"estimated: {network['latency_s'] * 1e3:.3f} ms per {unit}, "
        f"{network['frames_per_s']:,.1f} {unit}s/s, {network['cycles']:,} cycles at "
        f"{network['clock_mhz']:g} MHz, array utilisation {100 * network['utilization']:.1f} %",
        f"basis: {network['basis'].removeprefix('estimated: ')}",
        *_host_line(report["program"]["host_ops"]),
        *(f"note: {note}" for note in report["program"]["notes"]),
    ]


# ------------------------------------------------------------------------------ HTML

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<style>
section {{ font: 14px/1.5 sans-serif; margin: 1em 80px; max-width: 60em }}
table {{ border-collapse: collapse }}
th, td {{ border: 1px solid #ccc; padding: 2px 10px; text-align: left; white-space: pre-wrap }}
</style>
</head>
<body>
{chart}
<section>
{accuracy}</section>
</body>
</html>
"""


def write_html(program: Program, path: Path) -> None:
    """Write a page: units' time lines, layers' cycles, accuracy.  ToolMissing: no plotly."""
    try:
        import plotly.graph_objects as go
        from plotly.subplots import make_subplots
    except ImportError:
        raise ToolMissing(
            "plotly is not installed, and the HTML report needs it; pip install plotly"
        ) from None
    report, timeline = program_report(program), program.estimate().timeline
    names = [row["name"] for row in report["layers"]]
    titles = ("when each unit is busy", "cycles each layer adds")
    figure = make_subplots(rows=2, cols=1, subplot_titles=titles, vertical_spacing=0.15)
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
    figure.update_xaxes(title_text="cycles (estimated)", row=1, col=1)
    figure.update_yaxes(title_text="cycles (estimated)", row=2, col=1)
    heading = "<br>".join((_title(report), *summary_lines(report)[:2]))
    figure.update_layout(
        title={"text": heading, "font": {"size": 14}},
        height=900,
        margin={"t": 130},
        barmode="overlay",  # otherwise each unit's bars leave room for the others' bars
        showlegend=False,
    )
    chart = figure.to_html(include_plotlyjs=True, full_html=False)
    page = _PAGE.format(chart=chart, accuracy=accuracy_html(program.accuracy)).encode()
    write_whole(path, lambda file: file.write(page))
