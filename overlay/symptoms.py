# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in synthesis, where reports and logs show it, and what to do.

In: the log of Vitis HLS, a kernel's ``Report``, the kernels' sources.  Out: ``Symptom``.
Messages are found by their numbers where these are stable, else by their words, because versions
of the tool number and word them differently.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from neuralmatrix.hardware.board import Board
from neuralmatrix.hardware.cpp_headers import INNER_BUFFERS
from neuralmatrix.paths import hls_dir

from .csynth_xml import Report

Kind = Literal["unpipelined", "interval", "burst", "partition", "pragma", "storage", "period"]

ADVICE: dict[Kind, str] = {
    "unpipelined": "give every loop inside it a constant bound with an 'if' in its body, as "
    "FINISH_READ has, so that it can be unrolled, and see the log for what else keeps the tool",
    "interval": "a dependence: if the two accesses never meet, state that with NM_NO_HAZARD or "
    "NM_HAZARD_AFTER, else move the read earlier; a memory's ports: NM_PARTITION or NM_RESHAPE "
    "the array, or access it once a step; a bus: access the port once a turn",
    "burst": "access the port once per iteration, at the address of the iteration before plus one "
    "beat, in a loop of its own; 'All M_AXI Variable Accesses' in csynth.rpt says which condition "
    "fails",
    "partition": "the pragma must name an array that is visible where it stands: give members of "
    "a struct arrays of their own, and give each array one pragma",
    "pragma": "compare its spelling with UG1399 of this version; every pragma is written once, in "
    "hls/include/nm/hls.h",
    "storage": "state the memory with NM_RAM on the array itself, and read it in a cycle of its "
    "own: a memory without an output register cannot be an UltraRAM or a block RAM",
    "period": "build at the fallback clock (FLAGS=--fallback-clock), lower the board's clock_mhz, "
    "or cut the path that the log lists as critical",
}

MARK = "neuralmatrix: synthesizing "  # hls.tcl prints it before each kernel
PATH_LINES = 6  # of a critical path that are shown
MOST = 12  # symptoms of one kind of one kernel
_TOOL = r"\[(?:HLS|v\+\+|SCHED) [\d-]+\] "
# A message, the kind of its symptom, and what is shown of it.
_MESSAGES: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("interval", re.compile(_TOOL + r"The (II Violation in module .*)")),
    ("unpipelined", re.compile(_TOOL + r"(.*(?:[Uu]nable to|[Cc]annot|not) pipeline.*)")),
    ("unpipelined", re.compile(_TOOL + r"(Cannot unroll loop .*)")),
    (
        "partition",
        re.compile(r"\[.*?\] (.*(?i:array_(?:partition|reshape)).*(?i:ignored|failed).*)"),
    ),
    ("partition", re.compile(r"\[.*?\] (Pragma conflict happens on .*)")),
    ("pragma", re.compile(r"\[.*?\] ((?i:unknown|unexpected|invalid).*(?i:pragma|directive).*)")),
    ("pragma", re.compile(r"\[.*?\] (.*(?i:pragma).*(?i:is ignored|unknown|not supported).*)")),
    ("storage", re.compile(r"\[.*?\] (.*(?i:bind_storage).*(?i:ignored|failed|not supported).*)")),
    ("burst", re.compile(r"\[HLS 214-\d+\] ((?i:could not (?:burst|analyze)|stride is incomp).*)")),
    ("period", re.compile(_TOOL + r"(The critical path in module .*)")),
)
_SERIOUS = ("WARNING", "ERROR", "CRITICAL WARNING")
_INFO_TOO: tuple[Kind, ...] = ("burst", "unpipelined")
_APPLIED = re.compile(r"Applying array_(?:partition|reshape) to '([^']+)'")
_ASKED = re.compile(r"^\s*NM_(?:PARTITION|RESHAPE)\(([\w.]+), \d\)", re.MULTILINE)
_RAM = re.compile(r"NM_RAM\(([\w.]+), \w+, (\w+)\)")


@dataclass(frozen=True)
class Symptom:
    """One thing that went wrong; ``kernel`` is "all" where the log does not say which."""

    kernel: str
    kind: Kind
    found: str

    @property
    def text(self) -> str:
        """What was found and what to do."""
        return f"{self.kernel}: {self.found}; {ADVICE[self.kind]}"


# ------------------------------------------------------------------------------ the log


def sections(log: str) -> dict[str, list[str]]:
    """Cut a log by kernel; "all" has what precedes the first."""
    found: dict[str, list[str]] = {"all": []}
    kernel = "all"
    for line in log.splitlines():
        if line.startswith(MARK):
            kernel = line.removeprefix(MARK).strip()
        found.setdefault(kernel, []).append(line)
    return found


def _kind(line: str) -> tuple[Kind, str] | None:
    serious = line.startswith(_SERIOUS)
    for kind, message in _MESSAGES if serious or line.startswith("INFO") else ():
        match = message.search(line)
        if match and (serious or kind in _INFO_TOO):
            return kind, match.group(1)
    return None


def _path(lines: Sequence[str], start: int) -> str:
    """Return the operations of a critical path, which follow its message on indented lines."""
    steps = []
    for line in lines[start + 1 : start + 1 + PATH_LINES]:
        if not line[:1].isspace() or not line.strip():
            break
        steps.append(" ".join(line.split()))
    return ", ".join(steps)


def _of_section(kernel: str, lines: Sequence[str]) -> Iterator[Symptom]:
    for number, line in enumerate(lines):
        found = _kind(line)
        if found is not None:
            kind, text = found
            path = _path(lines, number) if kind == "period" else ""
            yield Symptom(kernel, kind, " ".join([text.rstrip("."), path]).strip())


def in_log(log: str) -> list[Symptom]:
    """Return the symptoms that the log of Vitis HLS names, each once."""
    found: list[Symptom] = []
    for kernel, lines in sections(log).items():
        for symptom in _of_section(kernel, lines):
            same = [s for s in found if (s.kernel, s.kind) == (kernel, symptom.kind)]
            if symptom not in same and len(same) < MOST:
                found.append(symptom)
    return found


def _ends_with(found: str, name: str) -> bool:
    """Compare an array with the log's name of it: "x", "state.x" or the mangled "_ZZ3topvE1x"."""
    return re.search(rf"(?:^|[^A-Za-z_]){name}$", found) is not None


def not_applied(kernel: str, log: str) -> list[Symptom]:
    """Return the partitions and reshapes of a kernel's own file that the log does not confirm.

    A log without any confirmation, of a version that prints none, shows nothing.
    """
    lines = "\n".join(sections(log).get(kernel, ()))
    done = _APPLIED.findall(lines)
    source = (hls_dir() / "src" / f"{kernel}.cpp").read_text(encoding="utf-8")
    return [
        Symptom(kernel, "partition", f"the log confirms no partition of array {name}")
        for name in dict.fromkeys(_ASKED.findall(source))
        if done and not any(_ends_with(each, name.rpartition(".")[2]) for each in done)
    ]


# ------------------------------------------------------------------------------ the report


def bursts_that_failed(report: Report) -> Iterator[Symptom]:
    """Return the accesses to DRAM that the report calls failed bursts, with its reason."""
    for access in report.accesses:
        if access.status.lower() == "fail":
            where = f" in loop {access.loop}" if access.loop not in ("", "-") else ""
            why = f": {access.problem}" if access.problem not in ("", "-") else ""
            yield Symptom(
                report.kernel, "burst", f"{access.direction} of {access.variable}{where}{why}"
            )


def memories_asked_for(board: Board, kernel: str) -> dict[str, str]:
    """Map the arrays of a kernel that name a memory to "bram" or "uram"."""
    source = (hls_dir() / "src" / f"{kernel}.cpp").read_text(encoding="utf-8")
    named = {
        macro: "uram" if buffer in board.uram_buffers else "bram"
        for buffer, macro in INNER_BUFFERS.items()
    }
    return {name: named.get(memory, memory) for name, memory in _RAM.findall(source)}


def wrong_memories(board: Board, report: Report) -> Iterator[Symptom]:
    """Return the arrays that lie in another memory than the source names."""
    for name, wanted in memories_asked_for(board, report.kernel).items():
        last = name.rpartition(".")[2]
        for memory in report.memories:
            if re.search(rf"(?:^|[._]){last}(?:$|_U$)", memory.variable):
                if memory.impl.lower() not in (wanted, "auto"):
                    yield Symptom(
                        report.kernel, "storage",
                        f"array {name} lies in {memory.impl}, wanted is {wanted}",
                    )  # fmt: skip


def symptoms(board: Board, reports: Sequence[Report], log: str) -> list[Symptom]:
    """Return all symptoms of a board's kernels besides those that are gates."""
    found = in_log(log)
    for report in reports:
        found += not_applied(report.kernel, log)
        found += [*bursts_that_failed(report), *wrong_memories(board, report)]
    return found
