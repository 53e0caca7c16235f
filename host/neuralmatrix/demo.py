# SPDX-License-Identifier: Apache-2.0
"""The embedded demo: a small digits CNN compiled for a board and run on the emulated array.

In: ``demo_data``: a trained network, 500 test images, 128 calibration images (see
models/digits.py).
Out: float and array accuracy side by side, a per-layer table, latency and frames/s.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .compiler import Stages, compile_model, front_end
from .errors import BadInput
from .program import Program
from .reference import port_outputs, run_float
from .report import layer_table, program_report, summary_lines
from .session import Session

Array = npt.NDArray[Any]

DATA = Path(__file__).resolve().parent / "demo_data"
MODEL = DATA / "digits_cnn.onnx"
LARGEST_PIXEL = 16
LOG_WIDTH = 120  # where output goes to a file


@dataclass(frozen=True)
class Digits:
    """Network inputs (N, 1, 8, 8) in 0..1, labels (N,), and inputs to calibrate with."""

    x: Array
    y: Array
    calibration: Array


@dataclass(frozen=True)
class DemoResult:
    """What the demo found; ``report`` is ``report.program_report`` of its program."""

    images: int
    float_accuracy: float
    array_accuracy: float
    same_answers: float
    images_per_host_second: float
    compile_seconds: float
    report: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """For JSON, each number under the word for where it comes from."""
        return {
            "images": self.images,
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


def load_digits(limit: int | None = None) -> Digits:
    """The demo's images, at most ``limit`` of the test split."""
    if limit is not None and limit < 1:
        raise BadInput(f"limit {limit}: allowed is at least 1 image; leave it out to run all")
    with np.load(DATA / "digits.npz", allow_pickle=False) as archive:
        return Digits(
            _as_input(archive["test_x"][:limit]),
            archive["test_y"][:limit],
            _as_input(archive["calibration_x"]),
        )


def _as_input(images: Array) -> Array:
    return np.asarray(images[:, None] / LARGEST_PIXEL, np.float32)


def run_demo(
    board: str = "pynq-z2",
    limit: int | None = None,
    console: Console | None = None,
    as_json: bool = False,
) -> DemoResult:
    """Compile the digits CNN, run its test images on the emulated array, show what came out.

    >>> run_demo(limit=10).images  # doctest: +SKIP
    10
    """
    console = console or _console()
    digits = load_digits(limit)
    began = time.perf_counter()
    program = compile_model(MODEL, board=board, calibration=[{"input": digits.calibration}])
    compile_seconds = time.perf_counter() - began
    if not as_json:
        _show_program(console, program, digits, compile_seconds)
    array, speed = _array_logits(program, digits.x, console, quiet=as_json)
    result = _compare(digits, _float_logits(digits.x), array, speed, compile_seconds, program)
    if as_json:
        console.file.write(json.dumps(result.to_dict(), indent=2) + "\n")
    else:
        _show_result(console, result)
    return result


def _console() -> Console:
    console = Console()
    known = console.is_terminal or "COLUMNS" in os.environ
    return console if known else Console(width=LOG_WIDTH)


def _float_logits(x: Array) -> Array:
    lowered = front_end(MODEL, {}, Stages())
    return port_outputs(lowered, run_float(lowered, {"input": x}, keep=False))["logits"]


def _array_logits(program: Program, x: Array, console: Console, quiet: bool) -> tuple[Array, float]:
    """Logits from the emulated array, and images per second of this machine."""
    if not quiet:
        console.print("preparing the emulated array (compiled once per array, then kept)")
    session = Session(program)
    with _progress(console, quiet) as bar:
        task = bar.add_task("emulating", total=len(x))
        outputs = session.run({"input": x}, lambda done, _: bar.update(task, completed=done))
    assert session.stats is not None
    return outputs["logits"], session.stats.images_per_host_second


def _progress(console: Console, quiet: bool) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, disable=quiet)


def _compare(
    digits: Digits, real: Array, array: Array, speed: float, seconds: float, program: Program
) -> DemoResult:
    def share(a: Array, b: Array) -> float:
        return float(np.mean(a == b))

    real_answers, array_answers = real.argmax(1), array.argmax(1)
    return DemoResult(
        images=len(digits.y),
        float_accuracy=share(real_answers, digits.y),
        array_accuracy=share(array_answers, digits.y),
        same_answers=share(real_answers, array_answers),
        images_per_host_second=speed,
        compile_seconds=seconds,
        report=program_report(program),
    )


# ------------------------------------------------------------------------------ text


def _show_program(console: Console, program: Program, digits: Digits, seconds: float) -> None:
    console.print(
        f"digits CNN compiled for {program.board} in {seconds:.2f} s: "
        f"{len(program.layers)} layers, {len(program.instructions)} instructions, "
        f"calibrated on {len(digits.calibration)} images",
        highlight=False,
    )


def _show_result(console: Console, result: DemoResult) -> None:
    console.print(layer_table(result.report))
    console.print(_accuracy_table(result))
    for line in summary_lines(result.report):
        console.print(line, highlight=False, markup=False)


def _accuracy_table(result: DemoResult) -> Table:
    table = Table(title=f"{result.images} test images of handwritten digits")
    for name in ("what", "value", "where it comes from"):
        table.add_column(name, justify="right" if name == "value" else "left")
    network = result.report["network"]
    rate = f"{result.images_per_host_second:,.0f} images/s"
    table.add_row("float accuracy", f"{100 * result.float_accuracy:.1f} %", "measured, numpy")
    table.add_row("int8 array accuracy", f"{100 * result.array_accuracy:.1f} %", "emulated")
    table.add_row("same answer as float", f"{100 * result.same_answers:.1f} %", "emulated")
    table.add_row("emulation speed", rate, "measured, this machine")
    table.add_row("latency on the board", f"{1e3 * network['latency_s']:.3f} ms", "estimated")
    table.add_row("rate on the board", f"{network['frames_per_s']:,.0f} frames/s", "estimated")
    return table
