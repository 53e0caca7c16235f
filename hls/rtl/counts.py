# SPDX-License-Identifier: Apache-2.0
"""The counts file: what was found of every unit, with the tools and the hashes it came from.

In: ``Found`` of a run.  Out: JSON, by unit and board; a later run takes over what has the same
Verilog, family and yosys.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from neuralmatrix.hardware.board import load_board

from . import tools
from .catalog import UNITS
from .delays import MARGIN, period_of, ultra_reads
from .flow import Found, Known
from .llvm import RtlError
from .synthesize import CELLS, SCRIPT, mapping
from .unit import BOARDS, StandIn, Unit

COMMITTED = Path(__file__).resolve().parents[2] / "host/neuralmatrix/hardware/counts.json"
COMMAND = "make rtl"
MODEL = (
    "longest_ns is estimated: hls/rtl/delays.py per operator and width; "
    f"a stage may use {round(100 * (1 - MARGIN))} % of the board's period"
)
Entry = dict[str, Any]


def kind_of(unit: Unit | StandIn) -> str:
    if isinstance(unit, StandIn):
        return "stand-in"
    return "loop" if unit.loop else "pipeline"


def entry(found: Found) -> Entry:
    """What the file says of a unit on a board."""
    made = found.translated
    return {
        "family": made.family,
        "mapping": mapping(made.family, found.cells) if found.cells else made.family,
        "period_ns": round(made.period_ns, 3),
        "kind": kind_of(made.unit),
        "latency": made.latency,
        "longest_ns": made.longest_ns,
        **found.cells,
        **found.simulated,
        "sources": found.sources,
        "verilog": made.digest,
    }


def document(results: list[Found], versions: dict[str, str], before: Entry | None) -> Entry:
    """The whole file; units that this run left out keep their entries."""
    units: dict[str, Entry] = {}
    if before:
        units = {name: unit for name, unit in before["units"].items() if name in UNITS}
    for found in results:
        unit = found.translated.unit
        old = units.get(unit.name, {}).get("boards", {})
        boards = {name: each for name, each in old.items() if name in unit.boards}
        boards[found.translated.board.name] = entry(found)
        units[unit.name] = {"title": unit.title, "boards": boards}
    return {
        "command": COMMAND,
        "tools": versions,
        "yosys_script": SCRIPT,
        "model": MODEL,
        "ultra_reads_ns": {name: ultra_reads(load_board(name)) for name in BOARDS},
        "boards": sorted({board for unit in units.values() for board in unit["boards"]}),
        "units": {name: units[name] for name in sorted(units)},
    }


def read(path: Path) -> Entry | None:
    """A counts file, or None where there is none."""
    if not path.exists():
        return None
    found: Entry = json.loads(path.read_text(encoding="utf-8"))
    return found


def check_tools(data: Entry | None) -> None:
    """Refuses to add some units to a file whose other units were made by other tools."""
    mine = {"tools": tools.versions(), "yosys_script": SCRIPT}
    if data is not None and {key: data[key] for key in mine} != mine:
        raise RtlError("other tools made the counts file; run all units and boards anew")


def write(path: Path, data: Entry) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def known(data: Entry | None) -> Known:
    """What an earlier run by the same yosys and Verilator found."""
    if data is None:
        return Known()
    result = Known()
    mine = tools.versions()
    same_model = data["tools"].get("verilator") == mine.get("verilator")
    same_counts = (data["tools"].get("yosys"), data["yosys_script"]) == (mine.get("yosys"), SCRIPT)
    for unit in data["units"].values():
        for each in unit["boards"].values():
            text = each["verilog"]
            if "lut" in each and same_counts:
                result.cells[text, each["family"]] = {k: each[k] for k in ("lut", *CELLS)}
            if each.get("differing") == 0 and same_model:
                vectors = {k: each[k] for k in ("vectors", "differing")}
                result.vectors[text, each["sources"]] = vectors
    return result


# ---------------------------------------------------------------- the table

COLUMNS = ("latency", "longest_ns", "lut", "lut_primitives", "ff", "dsp", "carry", "srl", "lutram")
HEADS = ("unit", "board", "cycles", "ns (estimated)", "LUT", "LUT cells", "FF", "DSP", "carry",
         "SRL", "LUT RAM", "vectors", "differing")  # fmt: skip


def table(data: Entry) -> str:
    """Markdown: one row per unit and board."""
    rows = [" | ".join(HEADS), "|".join(["---"] * len(HEADS))]
    for unit in data["units"].values():
        for board, each in unit["boards"].items():
            numbers = [str(each.get(key, "-")) for key in (*COLUMNS, "vectors", "differing")]
            rows.append(" | ".join([unit["title"], board, *numbers]))
    return "\n".join(f"| {row} |" for row in rows)


def paths(data: Entry) -> str:
    """Markdown: what has to be done within one cycle, beside the board's period; all estimated."""
    rows = [("within one cycle", "board", "ns (estimated)", "period, ns"), ("---",) * 4]
    for unit in data["units"].values():
        rows += [
            (unit["title"], board, str(each["longest_ns"]), str(each["period_ns"]))
            for board, each in unit["boards"].items()
            if each["kind"] == "loop"
        ]
    for board, reads in data["ultra_reads_ns"].items():
        period = str(round(period_of(load_board(board)), 3))
        rows += [(f"UltraRAM read, {name}", board, str(ns), period) for name, ns in reads.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
