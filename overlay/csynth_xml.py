# SPDX-License-Identifier: Apache-2.0
"""Estimates of Vitis HLS for a kernel, read from its reports.

In: ``solution/syn/report``.  Out: ``Report``: period, loops, resources, registers, bursts.
Versions of the tool differ in where loops are listed: ``csynth.xml`` has all modules in one file,
``NAME_csynth.xml`` one module each, and a pipelined loop is a module of its own.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from neuralmatrix.errors import BuildFailed

WHOLE = "csynth.xml"
PART = "_csynth.xml"
# The report's names of the kinds in resources.py; a block RAM of 36 Kb is two of 18.
RESOURCES = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "bram36": "BRAM_18K", "uram": "URAM"}
_LOOPS = "SummaryOfLoopLatency"
_OF_A_LOOP = {"TripCount", "Latency", "PipelineII", "IterationLatency"}


@dataclass(frozen=True)
class Span:
    """A number between two bounds; both are None if it is unknown."""

    least: int | None
    most: int | None


@dataclass(frozen=True)
class Loop:
    """One loop that remains in hardware; ``ii`` is None where it is not pipelined."""

    name: str
    ii: int | None
    depth: int | None  # stages of its pipeline
    trips: Span
    latency: Span  # cycles, all iterations
    issue: str  # the tool's own warning and reason, or empty


@dataclass(frozen=True)
class Burst:
    """Accesses to DRAM that the tool joined to bursts."""

    direction: str
    loop: str
    length: str
    width: str


@dataclass(frozen=True)
class Access:
    """One access to DRAM, and whether it became a burst: ``status`` is "Inferred" or "Fail"."""

    variable: str
    direction: str
    loop: str
    status: str
    problem: str


@dataclass(frozen=True)
class Memory:
    """An array that became a memory; ``impl`` is "bram", "uram", "lutram" or "auto"."""

    variable: str
    impl: str


@dataclass(frozen=True)
class Report:
    """One kernel's synthesis; all numbers are the tool's estimates before placement."""

    kernel: str
    version: str
    part: str
    target_ns: float
    uncertainty_ns: float
    estimated_ns: float
    latency: Span
    loops: tuple[Loop, ...]
    used: dict[str, float]
    available: dict[str, float]
    registers: dict[str, int]  # name -> offset; empty where the version lists none
    bursts: tuple[Burst, ...] | None  # None where the version lists none
    rejected_pragmas: tuple[str, ...]
    accesses: tuple[Access, ...] = ()
    memories: tuple[Memory, ...] = ()


def read_report(folder: Path, kernel: str) -> Report:
    """Read the report of one kernel."""
    parts = [folder / WHOLE, folder / f"{kernel}{PART}"]
    found = [path for path in parts if path.is_file()]
    if not found:
        raise BuildFailed(
            f"no report of kernel {kernel}: found neither {WHOLE} nor {kernel}{PART} in {folder}; "
            "run 'make hls BOARD=...' and see hls.log"
        )
    root = _root(found[0])
    top = _text(root, "UserAssignments/TopModelName")
    if top != kernel:
        raise BuildFailed(f"{found[0]} is a report of {top}, wanted is {kernel}; run it again")
    try:
        return _report(root, kernel, tuple(_loops(root, folder, kernel)))
    except (ArithmeticError, LookupError, ValueError) as error:
        raise BuildFailed(
            f"{found[0]}: damaged, or not of the layout that Vitis HLS 2022.2 to 2025.2 writes: "
            f"{type(error).__name__}: {error}; delete the work folder and build again"
        ) from None


def _root(path: Path) -> xml.Element:
    try:
        return xml.parse(path).getroot()
    except (OSError, xml.ParseError) as error:
        raise BuildFailed(
            f"{path}: not readable as XML: {error}; delete the work folder and build again"
        ) from None


def _text(node: xml.Element, path: str, otherwise: str | None = None) -> str:
    found = node.findtext(path, otherwise)
    if found is None:
        raise BuildFailed(
            f"the synthesis report has no {path}: it is not from Vitis HLS 2022.2 to 2025.2"
        )
    return found.strip()


def _number(text: str) -> float:
    """Parse a number.  ValueError: no number, or NaN, which would pass every gate."""
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"found {text!r}, allowed is a finite number")
    return value


def _span(node: xml.Element | None) -> Span:
    """Parse 12, ``<range><min>1</min><max>64</max></range>``, ``1 ~ 64``, ``undef`` or ``?``."""
    text = "" if node is None else " ".join(node.itertext())
    numbers = [int(n) for n in re.findall(r"\d+", text)]
    return Span(min(numbers), max(numbers)) if numbers else Span(None, None)


def _area(node: xml.Element) -> dict[str, float]:
    halves = {"bram36": 2}
    return {
        kind: _number(_text(node, name, "0")) / halves.get(kind, 1)
        for kind, name in RESOURCES.items()
    }


def _report(root: xml.Element, kernel: str, loops: tuple[Loop, ...]) -> Report:
    timing = "PerformanceEstimates/SummaryOfTimingAnalysis"
    used = root.find("AreaEstimates/Resources")
    available = root.find("AreaEstimates/AvailableResources")
    if used is None or available is None:
        raise BuildFailed(f"the synthesis report of {kernel} lists no resources; run it again")
    overall = "PerformanceEstimates/SummaryOfOverallLatency"
    best, worst = (_span(root.find(f"{overall}/{end}-caseLatency")) for end in ("Best", "Worst"))
    return Report(
        kernel=kernel,
        version=_text(root, "ReportVersion/Version"),
        part=_text(root, "UserAssignments/Part"),
        target_ns=_number(_text(root, "UserAssignments/TargetClockPeriod")),
        uncertainty_ns=_number(_text(root, "UserAssignments/ClockUncertainty", "0")),
        estimated_ns=_number(_text(root, f"{timing}/EstimatedClockPeriod")),
        latency=Span(best.least, worst.most),
        loops=loops,
        used=_area(used),
        available=_area(available),
        registers=_registers(root),
        bursts=_bursts(root),
        rejected_pragmas=tuple(_rejected(root)),
        accesses=_accesses(root),
        memories=_memories(root),
    )


# ------------------------------------------------------------------ loops


def _loops(root: xml.Element, folder: Path, kernel: str) -> Iterator[Loop]:
    modules = root.findall("ModuleInformation/Module")
    if not modules:
        parts = sorted(folder.glob(f"{kernel}_*{PART}"))
        modules = [root, *map(_root, parts)]
    for module in modules:
        summary = module.find(f"PerformanceEstimates/{_LOOPS}")
        issues = _issues(module)
        if summary is not None:
            yield from _nest(summary, issues)


def _nest(node: xml.Element, issues: dict[str, str]) -> Iterator[Loop]:
    """Return the loops directly within ``node``, each followed by its inner loops."""
    for child in node:
        if _OF_A_LOOP & {part.tag for part in child}:
            yield _loop(child, issues)
            yield from _nest(child, issues)


def _loop(node: xml.Element, issues: dict[str, str]) -> Loop:
    name = _text(node, "Name", node.tag)
    return Loop(
        name=name,
        ii=_span(node.find("PipelineII")).most,
        depth=_span(node.find("PipelineDepth")).most,
        trips=_span(node.find("TripCount")),
        latency=_span(node.find("Latency")),
        issue=issues.get(name, ""),
    )


def _issues(module: xml.Element) -> dict[str, str]:
    """Map loops to the tool's problems, such as "II Violation (Memory Dependency)"."""
    found = {}
    for summary in module.iter("SummaryOfLoopViolations"):
        for node in summary:
            issue, reason = _text(node, "IssueType", "-"), _text(node, "ViolationType", "-")
            if issue not in ("-", ""):
                detail = f" ({reason})" if reason not in ("-", "") else ""
                found[_text(node, "Name", node.tag)] = issue + detail
    return found


# ------------------------------------------------------------------ tables


def _table(root: xml.Element, item: str) -> list[dict[str, str]] | None:
    """Return the rows of one of the report's tables by the names of its columns."""
    for node in root.iter("item"):
        if node.get("name") == item and node.find("table/keys") is not None:
            keys = _text(node, "table/keys").split(", ")
            rows = node.findall("table/column")
            return [
                dict(zip(keys, [row.get("name", ""), *(row.text or "").split(", ")], strict=False))
                for row in rows
            ]
    return None


def _registers(root: xml.Element) -> dict[str, int]:
    rows = _table(root, "S_AXILITE Registers") or []
    return {row["Register"].strip(): int(row["Offset"], 16) for row in rows}


def _bursts(root: xml.Element) -> tuple[Burst, ...] | None:
    rows = _table(root, "Inferred Burst Summary")
    if rows is None:
        return None
    keys = ("Direction", "Loop", "Length", "Width")
    return tuple(Burst(*(row.get(key, "").strip() for key in keys)) for row in rows)


def _accesses(root: xml.Element) -> tuple[Access, ...]:
    rows = _table(root, "All M_AXI Variable Accesses") or []
    keys = ("Variable", "Direction", "Loop", "Burst Status", "Problem")
    return tuple(Access(*(row.get(key, "").strip() for key in keys)) for row in rows)


def _memories(root: xml.Element) -> tuple[Memory, ...]:
    nodes = (node for node in root.iter("BindNode") if node.get("BINDTYPE") == "storage")
    return tuple(Memory(node.get("VARIABLE", ""), node.get("IMPL", "")) for node in nodes)


def _rejected(root: xml.Element) -> Iterator[str]:
    for node in root.findall("PragmaReport/Pragma"):
        if node.get("status", "valid") != "valid":
            place = f"{node.get('parentFunction', '')} {node.get('location', '')}".strip()
            yield f"{node.get('type', '')} {node.get('options', '')} ({place})"
