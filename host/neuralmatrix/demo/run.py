# SPDX-License-Identifier: Apache-2.0
"""The embedded demos: a small trained network compiled for a board, run on the emulated array.

In: a task of ``demo_tasks``: a CNN, a transformer or a graph network with its data.
Out: float and array accuracy, a per-layer table, cycles, utilisation and host work.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..compiler import compile_model, front_end
from ..files import make_folder, write_arrays, write_whole
from ..hardware.target import Target
from ..ir.matgraph.reference import port_outputs, run_float
from ..ir.types import Array
from ..program.program import Program
from ..program.report import layer_table, program_report, summary_lines
from ..runtime.session import Session
from .tasks import DATA, MODEL, TASKS, Digits, Samples, Task, load_digits, task

__all__ = ["DATA", "MODEL", "TASKS", "DemoResult", "Digits", "load_digits", "run_demo"]


LOG_WIDTH = 120  # columns of output that goes to a file
KEPT = ("net.onnx", "net.nmx", "samples.npz", "inputs.npz")


@dataclass(frozen=True)
class DemoResult:
    """Results of a demo; ``report`` is ``report.program_report`` of its program.

    ``images``: runs of the network; ``answers``: labels compared (a run may have several).
    """

    demo: str
    images: int
    answers: int
    float_accuracy: float
    array_accuracy: float
    same_answers: float
    images_per_host_second: float
    compile_seconds: float
    report: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON form, each number under its provenance label."""
        return {
            "demo": self.demo,
            "images": self.images,
            "answers": self.answers,
            "measured": {
                "float_accuracy": self.float_accuracy,
                "compile_seconds": self.compile_seconds,
                "emulation_images_per_s": self.images_per_host_second,
            },
            "emulated": {
                "array_accuracy": self.array_accuracy,
                "same_answers": self.same_answers,
            },
            "estimated": self.report["network"],
            "report": self.report,
        }


def run_demo(
    board: str = "pynq-z2",
    limit: int | None = None,
    console: Console | None = None,
    as_json: bool = False,
    name: str = "digits",
    keep: Path | None = None,
) -> DemoResult:
    """Compile an embedded network, run its test data on the emulated array, show the results.

    ``name``: a key of TASKS.  ``keep``: a folder for the files that other commands take.

    >>> run_demo(limit=10).images  # doctest: +SKIP
    10
    """
    console, chosen = console or _console(), task(name)
    samples = chosen.load(limit)
    if keep is not None:
        make_folder(keep)
    program, seconds = _compiled(chosen, samples, board)
    if not as_json:
        _show_program(console, chosen, program, seconds)
    if keep is not None:
        _keep(keep, chosen, samples, program)
    array, session = _array_logits(program, samples, console, quiet=as_json)
    real = _float_logits(chosen, samples, Target(program.array, program.timing))
    accuracy = _compare(samples, real, array)
    result = _result(name, program, seconds, session, accuracy)
    if as_json:
        console.file.write(json.dumps(result.to_dict(), indent=2) + "\n")
    else:
        _show_result(console, chosen, result)
        if keep is not None:
            console.print(f"kept in {keep}: {', '.join(KEPT)}", highlight=False, markup=False)
    return result


def _compiled(chosen: Task, samples: Samples, board: str) -> tuple[Program, float]:
    """Return the network's program, and the seconds that compiling it took."""
    began = time.perf_counter()
    program = compile_model(chosen.model, board=board, calibration=[samples.calibration])
    return program, time.perf_counter() - began


def _result(
    name: str, program: Program, seconds: float, session: Session, accuracy: dict[str, Any]
) -> DemoResult:
    """Make the result; ``accuracy`` is that of ``_compare``."""
    assert session.stats is not None
    return DemoResult(
        demo=name,
        images=session.stats.images,
        images_per_host_second=session.stats.images_per_host_second,
        compile_seconds=seconds,
        report=program_report(program),
        **accuracy,
    )


def _keep(folder: Path, chosen: Task, samples: Samples, program: Program) -> None:
    """Write the demo's files under the names that the documentation uses."""
    model, net, calibration, inputs = (folder / name for name in KEPT)
    write_whole(model, lambda file: file.write(chosen.model.read_bytes()))
    program.save(net)
    write_arrays(calibration, samples.calibration)
    write_arrays(inputs, samples.feeds)


def _console() -> Console:
    console = Console()
    known = console.is_terminal or "COLUMNS" in os.environ
    return console if known else Console(width=LOG_WIDTH)


def _float_logits(chosen: Task, samples: Samples, target: Target) -> Array:
    lowered = front_end(chosen.model, target)
    return port_outputs(lowered, run_float(lowered, samples.feeds, keep=False))["logits"]


def _array_logits(
    program: Program, samples: Samples, console: Console, quiet: bool
) -> tuple[Array, Session]:
    """Return logits from the emulated array, and the session with its times."""
    if not quiet:
        console.print("preparing the emulated array (compiled once per array, then cached)")
    session = Session(program)
    with _progress(console, quiet) as bar:
        shown = bar.add_task("emulating", total=None)
        outputs = session.run(
            samples.feeds, lambda done, total: bar.update(shown, completed=done, total=total)
        )
    return outputs["logits"], session


def _progress(console: Console, quiet: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, disable=quiet)


def _compare(samples: Samples, real: Array, array: Array) -> dict[str, Any]:
    """Return the number of answers, and the shares that are right and that equal float."""

    def share(a: Array, b: Array) -> float:
        return float(np.mean(a == b))

    real_answers = real[samples.counted].argmax(1)
    array_answers = array[samples.counted].argmax(1)
    return {
        "answers": len(samples.labels),
        "float_accuracy": share(real_answers, samples.labels),
        "array_accuracy": share(array_answers, samples.labels),
        "same_answers": share(real_answers, array_answers),
    }


# ------------------------------------------------------------------------------ text


def _show_program(console: Console, chosen: Task, program: Program, seconds: float) -> None:
    console.print(
        f"{chosen.title} compiled for {program.board} in {seconds:.2f} s: "
        f"{len(program.layers)} layers, {len(program.instructions)} instructions",
        highlight=False,
    )


def _show_result(console: Console, chosen: Task, result: DemoResult) -> None:
    console.print(layer_table(result.report, console.width))
    console.print(_accuracy_table(chosen, result))
    for line in summary_lines(result.report):
        console.print(line, highlight=False, markup=False)


def _accuracy_table(chosen: Task, result: DemoResult) -> Table:
    table = Table(title=f"{result.answers} {chosen.about}")
    for name in ("what", "value", "where it comes from"):
        table.add_column(name, justify="right" if name == "value" else "left")
    network = result.report["network"]
    rate = f"{result.images_per_host_second:,.0f} runs/s"
    host = ", ".join(result.report["program"]["host_ops"])
    table.add_row("float accuracy", f"{100 * result.float_accuracy:.1f} %", "measured, numpy")
    table.add_row("int8 array accuracy", f"{100 * result.array_accuracy:.1f} %", "emulated")
    table.add_row("same answer as float", f"{100 * result.same_answers:.1f} %", "emulated")
    table.add_row("emulation speed", rate, "measured, this machine")
    table.add_row("latency on the board", f"{1e3 * network['latency_s']:.3f} ms", "estimated")
    table.add_row("rate on the board", f"{network['frames_per_s']:,.0f} runs/s", "estimated")
    table.add_row("cycles", f"{network['cycles']:,}", "estimated")
    table.add_row("array utilisation", f"{100 * network['utilization']:.1f} %", "estimated")
    table.add_row("left to the host", host, "listed in the program")
    return table
