# SPDX-License-Identifier: Apache-2.0
"""What the commands share: arguments, the console, JSON on standard output, progress.

In: nothing.  Out: annotated types for typer, and helpers that print.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

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

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
ProgramPath = Annotated[Path, typer.Argument(help="A program made by 'neuralmatrix compile'.")]
ModelPath = Annotated[Path, typer.Argument(help="An ONNX model.")]
Threads = Annotated[
    int | None, typer.Option(help="Inputs that run side by side; one per core if left out.")
]
Device = Annotated[str, typer.Option(help="'emulation', or 'pynq' on a board.")]
Overlay = Annotated[Path | None, typer.Option(help="Only pynq: the folder of the overlay to load.")]
Constants = Annotated[
    list[str] | None,
    typer.Option(
        help="Make an input a constant: adjacency=a.npy, e.g. the graph of a graph network."
    ),
]
WIDTH = 120  # where output goes to a file


def console() -> Console:
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    # names like "a:b:c" must not turn into emoji
    return Console(width=None if known else WIDTH, emoji=False)


def emit(data: Any) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(data, indent=2, allow_nan=False) + "\n")


@contextmanager
def progress(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A bar that appears with the first input, so that refused feeds give one message alone."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    bar = Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), disable=quiet)
    task = bar.add_task("inputs", total=None)

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
    """On a terminal, the time that work of unknown length has taken; nothing stays of it."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    screen = Console(stderr=True)
    hidden = quiet or not screen.is_terminal
    with Progress(*columns, console=screen, transient=True, disable=hidden) as bar:
        bar.add_task(what, total=None)
        yield
