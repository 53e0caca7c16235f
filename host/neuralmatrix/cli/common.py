# SPDX-License-Identifier: Apache-2.0
"""What the commands share: arguments, the console, JSON on standard output, progress.

In: nothing.  Out: annotated types for typer, and helpers that print.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from ..runtime.emulation.notice import be_silent

if TYPE_CHECKING:
    from ..ir.accuracy import Accuracy


def _json_alone(as_json: bool) -> bool:
    """Keep notices off standard error where a program reads the output."""
    be_silent(as_json)
    return as_json


Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object instead of text.", callback=_json_alone),
]
ProgramPath = Annotated[Path, typer.Argument(help="A program made by 'neuralmatrix compile'.")]
ModelPath = Annotated[Path, typer.Argument(help="An ONNX model.")]
Threads = Annotated[
    int | None, typer.Option(help="Inputs that run in parallel (default: one per core).")
]
Device = Annotated[str, typer.Option(help="Device: 'emulation', or 'pynq' on a board.")]
Overlay = Annotated[
    Path | None, typer.Option(help="With pynq only: folder of the overlay to load.")
]
Constants = Annotated[
    list[str] | None,
    typer.Option(
        help="Make an input a constant: adjacency=a.npy, e.g. the graph of a graph network."
    ),
]
WIDTH = 120  # columns of output that goes to a file


def console() -> Console:
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    # names like "a:b:c" must not turn into emoji
    return Console(width=None if known else WIDTH, emoji=False)


def show_notes(notes: Iterable[str]) -> None:
    """Print what a user should know of a run on standard error, one line each."""
    for text in notes:
        sys.stderr.write(f"note: {text}\n")


def show_accuracy(screen: Console, found: Accuracy | None) -> None:
    """Print what a program loses, as its compilation measured it."""
    from ..program.accuracy_report import accuracy_lines, accuracy_table

    if found is not None and found.measured:
        screen.print(found.heading, highlight=False, markup=False)
        screen.print(accuracy_table(found))
    for line in accuracy_lines(found, screen.width):
        screen.print(line, highlight=False, markup=False)


def emit(data: Any) -> None:
    """Print one JSON object on standard output."""
    sys.stdout.write(json.dumps(data, indent=2, allow_nan=False) + "\n")


@contextmanager
def progress(quiet: bool, what: str = "inputs") -> Iterator[Callable[[int, int], None]]:
    """Show a bar from the first input on, so that rejected feeds print only their message."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    bar = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), disable=quiet)
    task = bar.add_task(what, total=None)

    def step(done: int, total: int) -> None:
        bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield step
    finally:
        if bar.live.is_started:
            bar.stop()


@contextmanager
def waiting(what: str, quiet: bool) -> Iterator[None]:
    """Show on a terminal, while it runs, how long work of unknown length has taken."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    screen = Console(stderr=True)
    hidden = quiet or not screen.is_terminal
    with Progress(*columns, console=screen, transient=True, disable=hidden) as bar:
        bar.add_task(what, total=None)
        yield
