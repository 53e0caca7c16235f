# SPDX-License-Identifier: Apache-2.0
"""What the first light expects and what it found, as text.

In: a board, outcomes of stages in JSON form.  Out: predictions, versions, the README.txt.
"""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from neuralmatrix._version import __version__
from neuralmatrix.errors import ToolMissing
from neuralmatrix.hardware.board import Board
from neuralmatrix.hardware.board_table import board_row
from neuralmatrix.hardware.instruction_costs import constants
from neuralmatrix.hardware.isa import ISA_VERSION
from neuralmatrix.hardware.registers import KERNELS
from neuralmatrix.measure.provenance import CYCLES
from neuralmatrix.runtime.emulation.compilers import compiler

from .csynth import targets
from .first_light_board import compiled_demo
from .tools import HLS, VIVADO, tool_version

TIMEOUT_S = 20  # of a compiler that is asked for its version
PACKAGES = ("numpy", "onnx", "typer", "rich")
Json = Mapping[str, Any]
_HEAD = ("what", "predicted", "found", "found by")


@dataclass(frozen=True)
class Line:
    """One row of the summary; empty where nothing was predicted or found."""

    what: str
    predicted: str
    found: str
    where: str


# ------------------------------------------------------------------------------ before


def predictions(board: Board, demos: Sequence[str]) -> dict[str, Any]:
    """Return all that we expect of a board, each number with where it comes from."""
    estimates = {name: compiled_demo(name, board.name).program.estimate() for name in demos}
    return {
        "origin": "resources: the table of resources.py; cycles: the cycle model; none measured",
        "board": board_row(board),
        "isa_version": ISA_VERSION,
        "cost_constants": constants(),
        "intervals": {kernel: targets(kernel) for kernel in KERNELS},
        "demos": {
            name: {
                "cycles": one.cycles,
                "frames_per_s": one.frames_per_s,
                "utilization": one.utilization,
                "clock_mhz": one.clock_mhz,
            }
            for name, one in estimates.items()
        },
    }


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _compiler() -> str:
    try:
        command = [*compiler(), "--version"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, ToolMissing, subprocess.TimeoutExpired) as error:
        return str(error)
    return done.stdout.partition("\n")[0]


def versions(commit: str) -> dict[str, Any]:
    """Return the versions of this machine's software and of the vendor's tools."""
    tools = {program.name: tool_version(program).version for program in (*HLS, VIVADO)}
    return {
        "neuralmatrix": __version__,
        "commit": commit,
        "python": sys.version.partition(" ")[0],
        "system": platform.platform(),
        "compiler": _compiler(),
        "packages": {name: _installed(name) for name in PACKAGES},
        "tools": tools,
    }


# ------------------------------------------------------------------------------ summary


def _of(found: Json, stage: str) -> Any:
    """Return what a stage found, an empty dict if it did not end well."""
    return (found.get(stage) or {}).get("found") or {}


def _clock(board: Board, found: Json) -> Iterator[Line]:
    info, implemented = _of(found, "overlay"), _of(found, "implemented")
    clock = f"{info['clock_mhz']:.4g} MHz" if info else ""
    if info.get("missed_clock_mhz"):
        clock += f" (missed at {info['missed_clock_mhz']:g})"
    yield Line("clock", f"{board.clock_mhz:g} MHz", clock, "Vivado, after routing")
    slack = implemented.get("worst_slack_ns")
    yield Line("worst slack", "at least 0", "" if slack is None else f"{slack:g} ns", "Vivado")


def _resources(found: Json) -> Iterator[Line]:
    predicted = _of(found, "predictions").get("board", {}).get("resources", {})
    used = {one["kind"]: one for one in _of(found, "implemented").get("utilization", ())}
    for kind, ours in predicted.items():
        if ours["available"]:
            theirs = used.get(kind)
            text = f"{theirs['used']:g} of {theirs['available']}" if theirs else ""
            yield Line(kind.upper(), f"{ours['used']:g} of {ours['available']}", text, "Vivado")


def _kernels(found: Json) -> Iterator[Line]:
    for row in _of(found, "synthesis").get("rows", ()):
        what = f"{row['kernel']}: {row['what']}, {row['unit']}"
        yield Line(what, f"{row['estimate']:g}", f"{row['csynth']:g}", "estimated by Vitis HLS")


def _demos(found: Json) -> Iterator[Line]:
    for name, ours in _of(found, "predictions").get("demos", {}).items():
        ran = _of(found, f"demo {name}")
        where = CYCLES[ran["origin"]] if ran else ""
        cycles = f"{ran['cycles']:,}" if ran else ""
        yield Line(f"{name}: cycles", f"{ours['cycles']:,}", cycles, where)
        rate = f"{ran['array_per_s']:,.1f}" if ran else ""
        yield Line(f"{name}: runs/s of the array", f"{ours['frames_per_s']:,.1f}", rate, where)
        same = "equal" if ran else ""
        yield Line(f"{name}: outputs, by byte", "equal", same, where)


def _power(found: Json) -> Iterator[Line]:
    watts = _of(found, "implemented").get("power_w")
    shown = "" if watts is None else f"{watts:g} W"
    yield Line("power on the chip", "", shown, "estimated by Vivado, without activity")
    power = _of(found, "power").get("power", {})
    for rail in power.get("rails", ()):
        watts = f"{rail['loaded_w']['mean']:.3g} W loaded, {rail['idle_w']['mean']:.3g} W idle"
        yield Line(f"rail {rail['name']}", "", watts, rail["basis"])
    for rail in power.get("absent", ()):
        yield Line(f"rail {rail['name']}", "", "not read", rail["reason"])


def lines(board: Board, found: Json) -> list[Line]:
    """Return the rows of the summary."""
    return [
        *_clock(board, found),
        *_resources(found),
        *_kernels(found),
        *_demos(found),
        *_power(found),
    ]


def _table(rows: Sequence[Line]) -> Iterator[str]:
    cells = [_HEAD, *((r.what, r.predicted, r.found or "-", r.where) for r in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEAD) - 1)]
    for row in cells:
        fixed = (text.ljust(width) for text, width in zip(row, widths, strict=False))
        yield "  ".join([*fixed, row[-1]]).rstrip()


def _stage(name: str, outcome: Json) -> Iterator[str]:
    yield f"{outcome['state']:8} {name}: {outcome['about']}"
    if outcome["why"]:
        yield from (f"         {line}" for line in outcome["why"].splitlines())


def readme(board: Board, found: Json) -> str:
    """Return the text of README.txt: stages, then predicted and found side by side."""
    stages = [text for name, one in found.items() for text in _stage(name, one)]
    parts = [
        f"First light of {board.title}, neuralmatrix {__version__}",
        "",
        "Please send this file. Logs hold names of folders and users of this machine; look "
        "through them first if these are private. No bitstream is in it.",
        "",
        "Stages (stages/*.json have all of it, logs/ and reports/ the tools' own words):",
        *stages,
        "",
        *_table(lines(board, found)),
        "",
    ]
    return "\n".join(parts)
