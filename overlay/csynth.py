# SPDX-License-Identifier: Apache-2.0
"""Compares synthesis with our own estimates: ``python -m overlay.csynth BOARD FOLDER``.

In: the reports of all kernels.  Out: every difference with its ratio, as a table and as JSON.
BuildFailed: a kernel misses its clock period or a loop its initiation interval.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from neuralmatrix.errors import BuildFailed, NeuralMatrixError
from neuralmatrix.hardware.board import Board, load_board
from neuralmatrix.hardware.instruction_costs import constants
from neuralmatrix.hardware.registers import KERNELS, registers
from neuralmatrix.hardware.resources import KINDS, resources
from neuralmatrix.paths import hls_dir
from rich.console import Console
from rich.table import Table

from .csynth_xml import Loop, Report, read_report
from .hls_data import report_folder
from .symptoms import ADVICE, symptoms

JSON, LOG = "csynth.json", "hls.log"
# A label, its loop, and the interval that the pragma in it requires.
_PIPELINED = re.compile(
    r"(\w+):\s*\n\s*(?:for|while|do)\b[^\n]*\n(?:\s*//[^\n]*\n)*\s*NM_PIPELINE\((\w+)\)"
)
_INCLUDE = re.compile(r'#include "(nm/\w+\.h)"')
# Loops that move beats of DRAM: the cost model relies on bursts there.
BURSTS = {"fetch": ("READ_BEATS",), "load": ("WORD_BEATS_IN",), "store": ("WORD_BEATS",)}
WIDTH = 120


@dataclass(frozen=True)
class Row:
    """One of our numbers and the tool's."""

    kernel: str  # or "all"
    what: str
    unit: str
    estimate: float
    csynth: float

    @property
    def ratio(self) -> float | None:
        """The tool's number divided by ours; None where ours is 0."""
        return self.csynth / self.estimate if self.estimate else None


@dataclass(frozen=True)
class Comparison:
    """All kernels of a board.  ``failures`` stop a build; ``notes`` are hints."""

    board: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    failures: tuple[str, ...]


# ------------------------------------------------------------------ required intervals


def _sources(kernel: str) -> list[Path]:
    """Return the kernel's file and all that it includes."""
    found = [hls_dir() / "src" / f"{kernel}.cpp"]
    for path in found:
        for name in _INCLUDE.findall(path.read_text(encoding="utf-8")):
            header = hls_dir() / "include" / name
            if header not in found:
                found.append(header)
    return found


def targets(kernel: str) -> dict[str, int]:
    """Map the label of each pipelined loop to the cycles per iteration of its pragma."""
    return {
        label: int(interval)
        for path in _sources(kernel)
        for label, interval in _PIPELINED.findall(path.read_text(encoding="utf-8"))
    }


def _is(loop: Loop, label: str) -> bool:
    """Compare labels; the name of flattened loops joins their labels."""
    return loop.name == label or loop.name.endswith(f"_{label}")


def _named(report: Report, label: str) -> list[Loop]:
    return [loop for loop in report.loops if _is(loop, label)]


# ------------------------------------------------------------------ gates


def _failures(report: Report, wanted: Mapping[str, int]) -> Iterator[str]:
    if report.estimated_ns > report.target_ns:
        yield (
            f"{report.kernel}: clock period: found {report.estimated_ns:g} ns estimated, allowed "
            f"is {report.target_ns:g} ns; {ADVICE['period']}"
        )
    if not any(_named(report, label) for label in wanted):
        yield (
            f"{report.kernel}: found none of its pipelined loops in the report, wanted are "
            f"{', '.join(wanted)}: their initiation intervals are unknown; see the log for what "
            "happened to them, and check whether this version of Vitis HLS writes another report"
        )
    for label, interval in wanted.items():
        for loop in _named(report, label):
            yield from _missed(report.kernel, loop, interval)


def _missed(kernel: str, loop: Loop, interval: int) -> Iterator[str]:
    why = f" ({loop.issue})" if loop.issue else ""
    if loop.ii is None:
        yield (
            f"{kernel}: loop {loop.name}: found no pipeline{why}, wanted is one iteration every "
            f"{interval} cycles; {ADVICE['unpipelined']}"
        )
    elif loop.ii > interval:
        yield (
            f"{kernel}: loop {loop.name}: found an initiation interval of {loop.ii}{why}, wanted "
            f"is {interval}; {ADVICE['interval']}"
        )


# ------------------------------------------------------------------ comparison


def _cycle_rows(report: Report, wanted: Mapping[str, int]) -> Iterator[Row]:
    """Compare the cycle model's constants with the loops that they describe."""
    model = {**wanted, "GATHER": constants()["GATHER_CYCLES"]}
    for label in wanted:
        for loop in _named(report, label):
            if loop.ii is not None:
                yield Row(
                    report.kernel, f"{loop.name}: an iteration", "cycles", model[label], loop.ii
                )
    for loop in _named(report, "STEPS"):
        if loop.depth is not None:
            depth = constants()["COMPUTE_DEPTH"]
            yield Row(report.kernel, "STEPS: depth", "cycles", depth, loop.depth)


def _resource_rows(board: Board, reports: Sequence[Report]) -> Iterator[Row]:
    pieces = [piece for piece in resources(board).pieces if piece.kernel]
    for kind in KINDS:
        ours = sum(getattr(piece, kind) for piece in pieces)
        theirs = sum(report.used[kind] for report in reports)
        yield Row("all", kind, "of the kernels", float(ours), theirs)


def _notes(report: Report, wanted: Mapping[str, int]) -> Iterator[str]:
    room = report.target_ns - report.uncertainty_ns
    if room < report.estimated_ns <= report.target_ns:
        yield (
            f"{report.kernel}: {report.estimated_ns:g} ns leave less than the tool's margin of "
            f"{report.uncertainty_ns:g} ns for routing"
        )
    for label in wanted:
        if not _named(report, label):
            yield f"{report.kernel}: loop {label} is not in the report: unrolled, or removed"
    yield from _register_notes(report)
    for label in BURSTS.get(report.kernel, ()) if report.bursts is not None else ():
        if not any(burst.loop.endswith(label) for burst in report.bursts or ()):
            yield (
                f"{report.kernel}: no burst in loop {label}, where the cycle model assumes one; "
                f"{ADVICE['burst']}"
            )
    for pragma in report.rejected_pragmas:
        yield f"{report.kernel}: a pragma was ignored: {pragma}; {ADVICE['pragma']}"


def _register_notes(report: Report) -> Iterator[str]:
    """Compare offsets: drivers take them from the .hwh, the emulated board from registers.py."""
    for register in registers(report.kernel) if report.registers else ():
        found = report.registers.get(register.name)
        if found != register.offset:
            place = "nowhere" if found is None else f"at 0x{found:02x}"
            yield (
                f"{report.kernel}: register {register.name} lies {place}, registers.py says "
                f"0x{register.offset:02x}"
            )


def _fit_notes(board: Board, reports: Sequence[Report]) -> Iterator[str]:
    for kind in KINDS:
        used, room = sum(report.used[kind] for report in reports), getattr(board.part, kind)
        if used > room:
            yield (
                f"all: {used:g} {kind} estimated by the tool, the part has {room}; its estimates "
                "before placement run high"
            )


def compare(board: Board, reports: Sequence[Report], log: str = "") -> Comparison:
    """Compare all kernels' synthesis with the resource estimate and the cycle model.

    ``log``: what Vitis HLS printed; its warnings become notes that say what to do.
    """
    wanted = {report.kernel: targets(report.kernel) for report in reports}
    whole = {report.kernel for report in reports} == set(KERNELS)
    rows = [row for report in reports for row in _cycle_rows(report, wanted[report.kernel])]
    rows += _resource_rows(board, reports) if whole else ()
    notes = [note for report in reports for note in _notes(report, wanted[report.kernel])]
    failures = [text for report in reports for text in _failures(report, wanted[report.kernel])]
    notes += _fit_notes(board, reports)
    notes += [symptom.text for symptom in symptoms(board, reports, log)]
    return Comparison(board.name, tuple(rows), tuple(notes), tuple(failures))


# ------------------------------------------------------------------ output


def to_json(reports: Sequence[Report], found: Comparison) -> str:
    """Convert reports and comparison to one JSON object."""
    rows = [{**asdict(row), "ratio": row.ratio} for row in found.rows]
    data = {
        "origin": "estimated by Vitis HLS",
        "reports": [asdict(report) for report in reports],
        "comparison": {**asdict(found), "rows": rows},
    }
    return json.dumps(data, indent=2) + "\n"


def _kernel_table(reports: Sequence[Report]) -> Table:
    versions = ", ".join(sorted({report.version for report in reports}))
    table = Table(title=f"Vitis HLS {versions}: estimates of synthesis, before placement")
    for name in ("kernel", "period ns", "of ns", *KINDS):
        table.add_column(name, justify="left" if name == "kernel" else "right")
    for report in reports:
        numbers = (report.estimated_ns, report.target_ns, *(report.used[kind] for kind in KINDS))
        table.add_row(report.kernel, *(f"{number:g}" for number in numbers))
    return table


def _row_table(found: Comparison) -> Table:
    table = Table(title=f"{found.board}: our estimate and synthesis")
    for name in ("kernel", "what", "unit", "estimate", "csynth", "ratio"):
        table.add_column(name, justify="left" if name in ("kernel", "what", "unit") else "right")
    for row in found.rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        table.add_row(row.kernel, row.what, row.unit, f"{row.estimate:g}", f"{row.csynth:g}", ratio)
    return table


def to_text(reports: Sequence[Report], found: Comparison) -> str:
    """Format reports and comparison as tables."""
    console = Console(file=io.StringIO(), width=WIDTH)
    console.print(_kernel_table(reports))
    console.print(_row_table(found))
    for note in found.notes:
        console.print(f"note: {note}", markup=False, highlight=False, soft_wrap=True)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return str(text)


def _read(log: Path) -> str:
    """Return a log's text; empty if there is none."""
    try:
        return log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def report(board: Board, work: Path, log: Path | None = None) -> str:
    """Read the reports that hls.tcl left in ``work``, write JSON next to them, return the tables.

    ``log``: of Vitis HLS, next to the folder unless another is named.
    BuildFailed: a gate is not passed; the message has the tables and these gates.
    """
    reports = [read_report(report_folder(work, kernel), kernel) for kernel in KERNELS]
    found = compare(board, reports, _read(log or work.with_name(LOG)))
    (work / JSON).write_text(to_json(reports, found), encoding="utf-8")
    text = to_text(reports, found)
    if found.failures:
        lines = "\n".join(f"  {failure}" for failure in found.failures)
        raise BuildFailed(f"{text}\nsynthesis misses the requirements of {board.name}:\n{lines}")
    return text


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 2:
        print("usage: python -m overlay.csynth BOARD FOLDER", file=sys.stderr)
        return 2
    try:
        print(report(load_board(arguments[0]), Path(arguments[1])))
    except NeuralMatrixError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
