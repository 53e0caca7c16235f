# SPDX-License-Identifier: Apache-2.0
"""Vivado's reports of a finished design.

In: results.txt, utilization.rpt and the .hwh.  Out: numbers for ``overlay.json``; BuildFailed if
a report is incomplete or the hand-off is not of our design.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from math import isfinite, nan
from pathlib import Path

from neuralmatrix.errors import BuildFailed
from neuralmatrix.hardware.block_design_types import Design
from neuralmatrix.hardware.overlay_folder import Utilization

# Rows of report_utilization, of 7 series and of UltraScale+.
ROWS = {
    "lut": ("Slice LUTs", "CLB LUTs"),
    "ff": ("Slice Registers", "CLB Registers"),
    "dsp": ("DSPs",),
    "bram36": ("Block RAM Tile",),
    "uram": ("URAM",),
}
OPTIONAL = ("uram",)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise BuildFailed(f"{path}: not readable ({error.strerror}); did Vivado finish?") from None


def read_results(path: Path) -> dict[str, str]:
    """Read results.txt, which has one name and value a line."""
    return dict(line.split(maxsplit=1) for line in _lines(path) if len(line.split()) > 1)


def worst_slack(path: Path) -> float:
    """Return the slack of the worst path, in ns; never negative."""
    text = read_results(path).get("worst_slack_ns", "")
    try:
        slack = float(text)
    except ValueError:
        raise BuildFailed(f"{path}: worst_slack_ns: found {text!r}, allowed is a number") from None
    if not isfinite(slack):
        raise BuildFailed(f"{path}: worst_slack_ns: found {text!r}, allowed is a number")
    if slack < 0:
        raise BuildFailed(f"{path}: timing is not met: worst slack is {slack:g} ns")
    return slack


def _tables(lines: list[str]) -> Iterator[dict[str, str]]:
    """Return the rows of all tables, each with its table's header."""
    head: list[str] = []
    for line in lines:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if "Used" in cells:
            head = cells
        elif line.lstrip().startswith("|") and len(cells) == len(head):
            yield dict(zip(head, cells, strict=True))


def _number(path: Path, row: dict[str, str], column: str) -> float:
    text = row.get(column, "")
    try:
        number = float(text)
    except ValueError:
        number = nan
    if not isfinite(number):
        raise BuildFailed(f"{path}: {column}: found {text!r}, allowed is a number")
    return number


def read_utilization(path: Path) -> tuple[Utilization, ...]:
    """Read the cells used after routing, by kind."""
    rows: dict[str, dict[str, str]] = {}
    for row in _tables(_lines(path)):
        rows.setdefault(row.get("Site Type", "").rstrip("*"), row)
    found = []
    for kind, names in ROWS.items():
        present = [rows[name] for name in names if name in rows]
        if not present and kind not in OPTIONAL:
            raise BuildFailed(
                f"{path}: no row {' or '.join(names)}; check that it is Vivado's report"
            )
        for row in present[:1]:
            used, available = _number(path, row, "Used"), _number(path, row, "Available")
            found.append(Utilization(kind, used, int(available)))
    return tuple(found)


def read_power(path: Path) -> float:
    """Return the power on the chip, in watts, as Vivado estimates it without activity."""
    for line in _lines(path):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if cells[0].startswith("Total On-Chip Power (W)") and len(cells) > 1:
            return _number(path, {"Total On-Chip Power (W)": cells[1]}, "Total On-Chip Power (W)")
    raise BuildFailed(f"{path}: no row Total On-Chip Power (W); check that it is Vivado's report")


def _hex(text: str | None) -> int | None:
    try:
        return int(text or "", 16)
    except ValueError:
        return None


def check_hwh(path: Path, design: Design) -> None:
    """Check that the hand-off has the registers at the design's addresses."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise BuildFailed(f"{path}: no hardware hand-off: {error}; build again") from None
    bases = {node.get("INSTANCE"): _hex(node.get("BASEVALUE")) for node in root.iter("MEMRANGE")}
    for segment in design.segments:
        found = bases.get(segment.cell)
        if found != segment.offset:
            where = "nowhere" if found is None else f"at 0x{found:08X}"
            raise BuildFailed(
                f"{path}: {segment.cell} lies {where}, the design has it at "
                f"0x{segment.offset:08X}; delete the work folder and build again"
            )
