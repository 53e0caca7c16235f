# SPDX-License-Identifier: Apache-2.0
"""The commands that run data sets and sweeps, here or on several workers.

In: arguments.  Out: tables or JSON on standard output; the file of a sweep.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from ..errors import BadInput
from ..paths import REMOTE_DIR
from .common import Constants, Json, ModelPath, ProgramPath, Threads, console, emit, progress

if TYPE_CHECKING:
    from ..cluster.sweeps import DataSet, Row
    from ..cluster.workers import Workers

Data = Annotated[
    Path,
    typer.Argument(help=".npz file with one array of N per input, and what is right (--labels)."),
]
Labels = Annotated[str, typer.Option(help="Array of the data that says what is right.")]
Metric = Annotated[
    str,
    typer.Option(help="top1 or top5 (labels are classes), or relative (labels are outputs)."),
]
Judged = Annotated[
    str | None, typer.Option("--of", help="Output that is judged, of a program that has several.")
]
Chunk = Annotated[
    int | None, typer.Option(min=1, help="Images that a worker gets at once (default: by size).")
]
Count = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Start so many processes of Dask on this machine."),
]
Scheduler = Annotated[
    str | None, typer.Option(help="Use the workers of this scheduler of Dask: tcp://HOST:8786.")
]
Boards = Annotated[
    str | None,
    typer.Option(
        "--farm", help="Run on boards over SSH: user@a,user@b, or a file with one in a line."
    ),
]
FarmDevice = Annotated[
    str, typer.Option(help="Of the farm: 'pynq', or 'emulation' on its processors.")
]
FarmPort = Annotated[int | None, typer.Option("--port", min=1, max=65535, help="SSH port.")]
FarmConfig = Annotated[
    Path | None, typer.Option("--ssh-config", help="SSH configuration instead of ~/.ssh/config.")
]
FarmOverlay = Annotated[Path | None, typer.Option("--overlay", help="Overlay for the farm.")]
FarmPython = Annotated[str | None, typer.Option("--python", help="Python on the farm's boards.")]
FarmDir = Annotated[str, typer.Option("--remote-dir", help="Folder on the farm's boards.")]


@contextmanager
def _workers(
    count: int | None, scheduler: str | None, boards: str | None, threads: int | None, **farm: Any
) -> Iterator[Workers]:
    """Open the workers that the options name; without any, this process."""
    from ..cluster.dask_workers import on_dask
    from ..cluster.farm import Farm, addresses
    from ..cluster.workers import Here

    given = {"--workers": count, "--scheduler": scheduler, "--farm": boards}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise BadInput(f"found {' and '.join(named)}, allowed is one of them: each names workers")
    if boards is not None:
        targets = addresses(boards, farm.pop("port"), farm.pop("config"))
        notes = Console(stderr=True, soft_wrap=True, emoji=False)
        yield Farm(targets, **farm, note=lambda text: notes.print(text, markup=False))
    elif named:
        with on_dask(scheduler, count, threads or 1) as workers:
            yield workers
    else:
        yield Here(threads)


def _data(path: Path, labels: str) -> tuple[dict[str, Any], Any]:
    """Return the inputs in a file and what is right."""
    from ..files import read_arrays

    arrays = read_arrays(path)
    if labels not in arrays:
        names = ", ".join(map(repr, arrays))
        raise BadInput(f"{path}: found {names} and no {labels!r}; name the labels with --labels")
    truth = arrays.pop(labels)
    return arrays, truth


# ------------------------------------------------------------------------------ evaluate


def evaluate(
    program: ProgramPath,
    data: Data,
    labels: Labels = "labels",
    metric: Metric = "top1",
    output: Judged = None,
    chunk: Chunk = None,
    threads: Threads = None,
    workers: Count = None,
    scheduler: Scheduler = None,
    farm: Boards = None,
    device: FarmDevice = "pynq",
    port: FarmPort = None,
    ssh_config: FarmConfig = None,
    overlay: FarmOverlay = None,
    python: FarmPython = None,
    remote_dir: FarmDir = REMOTE_DIR,
    as_json: Json = False,
) -> None:
    """Run a program over a data set, here, on Dask or on boards, and count what is right."""
    from ..cluster.data_sets import evaluate as count_right
    from ..program.program import load

    loaded, (feeds, truth) = load(program), _data(data, labels)
    with (
        _workers(workers, scheduler, farm, threads, device=device, port=port, config=ssh_config,
                 overlay=overlay, python=python, remote_dir=remote_dir) as found,
        progress(quiet=as_json) as step,
    ):  # fmt: skip
        result = count_right(
            loaded, feeds, truth, metric, output=output, chunk=chunk, workers=found, progress=step
        )
    if as_json:
        emit(result.to_dict())
        return
    rate = result.images / result.seconds
    console().print(
        f"{result.metric} of {result.output}: {result.value:.4g} {result.unit}, "
        f"{result.images:,} images, {rate:.4g} images/s (measured, of this run)",
        highlight=False, markup=False,
    )  # fmt: skip


# ------------------------------------------------------------------------------ sweep

SweepBoards = Annotated[
    str, typer.Option(help="Boards to compile for: pynq-z2,kv260, or all; see 'boards'.")
]
Precisions = Annotated[str, typer.Option(help="Precisions: int8,mixed,int16.")]
Losses = Annotated[
    str, typer.Option(help="Losses allowed of mixed precision: 0.05,0.01 (see compile --max-loss).")
]
Calibration = Annotated[
    Path | None, typer.Option(help=".npz file with typical samples, as compile takes it.")
]
SweepData = Annotated[
    Path | None, typer.Option("--data", help=".npz file that every program is run on.")
]
SweepShapes = Annotated[
    list[str] | None, typer.Option("--shape", help="Fix dynamic dimensions, as compile does.")
]
Kept = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="JSON file that receives each row; a sweep goes on there."),
]
NOTE = (
    "frames/s: estimated at the board's clock. error: relative, of the worst output; same: answers "
    "equal to the float model's; both emulated, on inputs held back from calibration."
)


def sweep(
    model: ModelPath,
    boards: SweepBoards = "pynq-z2",
    precisions: Precisions = "int8,mixed,int16",
    losses: Losses = "",
    calibration: Calibration = None,
    data: SweepData = None,
    labels: Labels = "labels",
    metric: Metric = "top1",
    of: Judged = None,
    shape: SweepShapes = None,
    constant: Constants = None,
    output: Kept = None,
    threads: Threads = None,
    workers: Count = None,
    scheduler: Scheduler = None,
    farm: Boards = None,
    device: FarmDevice = "pynq",
    port: FarmPort = None,
    ssh_config: FarmConfig = None,
    overlay: FarmOverlay = None,
    python: FarmPython = None,
    remote_dir: FarmDir = REMOTE_DIR,
    as_json: Json = False,
) -> None:
    """Compile a model for several boards and precisions, and compare accuracy and speed."""
    from .. import files
    from ..cluster.sweeps import points_of
    from ..cluster.sweeps import sweep as run_sweep
    from ..frontend.onnx.bind_constants import read_constants
    from ..jsonform import to_json

    if farm is not None and data is None:
        raise BadInput("--farm: boards run programs on data; give --data")
    points = points_of(_boards(boards), _words(precisions), _losses(losses))
    judged = _data_set(data, labels, metric, of)
    if output:
        files.check_target(output)
    with (
        _workers(workers, scheduler, farm, threads, device=device, port=port, config=ssh_config,
                 overlay=overlay, python=python, remote_dir=remote_dir) as found,
        progress(quiet=as_json, what="programs") as step,
    ):  # fmt: skip
        rows = run_sweep(
            model, points, files.read_arrays(calibration) if calibration else None, data=judged,
            workers=found, kept=output, progress=step,
            shapes=files.parse_shapes(shape or []) or None,
            constants=read_constants(constant or []) or None,
        )  # fmt: skip
    if as_json:
        emit({"rows": to_json(rows)})
    else:
        _print_rows(rows)


def _data_set(path: Path | None, labels: str, metric: str, output: str | None) -> DataSet | None:
    from ..cluster.metrics import metric_of
    from ..cluster.sweeps import DataSet

    if path is None:
        return None
    metric_of(metric)
    feeds, truth = _data(path, labels)
    return DataSet(feeds, truth, metric, output)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _boards(text: str) -> list[str]:
    from ..hardware.board import board_names, load_board

    names = list(board_names()) if text == "all" else _words(text)
    for name in names:
        load_board(name)  # an unknown one is refused before the work
    return names


def _losses(text: str) -> list[float]:
    try:
        return [float(word) for word in _words(text)]
    except ValueError:
        raise BadInput(f"--losses: found {text!r}, allowed are numbers: 0.05,0.01") from None


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.3g} %"


def _print_rows(rows: tuple[Row, ...]) -> None:
    """Print one row per point, then why points have no program."""
    table = Table(box=box.SIMPLE_HEAD)
    table.padding, table.pad_edge, table.show_edge = (0, 1, 0, 0), False, False
    table.add_column("board", no_wrap=True)
    table.add_column("precision", no_wrap=True)
    units = {row.unit for row in rows if row.unit}
    for name in ("frames/s", "error", "same", *sorted(units)):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        loss = "" if row.point.max_loss is None else f" {row.point.max_loss:g}"
        speed = "refused" if row.frames_per_s is None else f"{row.frames_per_s:.4g}"
        score = [] if row.score is None else [f"{row.score:.4g}"]
        table.add_row(
            row.point.board, row.point.precision + loss, speed, _percent(row.relative_error),
            _percent(row.same_answers), *score,
        )  # fmt: skip
    screen = console()
    screen.print(table)
    screen.print(NOTE, highlight=False, markup=False)
    for row in rows:
        if row.refused:
            screen.print(f"{row.point.board}, {row.point.precision}: {row.refused}", markup=False)
