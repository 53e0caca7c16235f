# SPDX-License-Identifier: Apache-2.0
"""The command line: arguments in, the package's functions called, tables or JSON out.

In: ``neuralmatrix compile | run | bench | verify | report | boards | doctor | demo | list``.
Out: exit code 0; 1 with one message for an error; 2 for wrong usage.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ._version import __version__
from .errors import NeuralMatrixError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Whole neural networks as matrix products on one array of a PYNQ board, or emulated.",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
ProgramPath = Annotated[Path, typer.Argument(help="A program made by 'neuralmatrix compile'.")]
ModelPath = Annotated[Path, typer.Argument(help="An ONNX model.")]
Threads = Annotated[
    int | None, typer.Option(help="Images that run side by side [default: one per core].")
]


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 120)


def _emit(data: Any) -> None:
    """One JSON object on standard output."""
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


def _progress(quiet: bool) -> Progress:
    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*bar, console=Console(stderr=True), disable=quiet)


# ------------------------------------------------------------------------------ compile, run


@app.command()
def compile(
    model: ModelPath,
    output: Annotated[Path, typer.Option("-o", "--output", help="Program to write (.nmx).")],
    board: Annotated[
        str, typer.Option(help="Target board; see 'neuralmatrix boards'.")
    ] = "pynq-z2",
    precision: Annotated[str, typer.Option(help="int8 or int16.")] = "int8",
    calibration: Annotated[
        Path | None, typer.Option(help=".npz with one array of samples per input.")
    ] = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="Fix dynamic dimensions: input=1x3x224x224.")
    ] = None,
    keep_stages: Annotated[
        Path | None, typer.Option(help="Folder for each stage as readable text.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compile a model to a program for a board."""
    from . import files
    from .compiler import compile_model
    from .report import program_report, summary_lines

    shapes = files.parse_shapes(shape or [])
    samples = files.read_arrays(calibration) if calibration else None
    program = compile_model(
        model,
        board=board,
        calibration=[samples] if samples else None,
        precision=precision,
        shapes=shapes or None,
        keep_stages=keep_stages,
    )
    program.save(output)
    report = program_report(program)
    if as_json:
        _emit({"output": str(output), **report})
        return
    console = _console()
    text = f"{output}: {len(program.instructions)} instructions, {board}, {precision}"
    console.print(text, markup=False)
    for line in summary_lines(report):
        console.print(line, highlight=False, markup=False)


@app.command()
def run(
    program: ProgramPath,
    inputs: Annotated[Path, typer.Argument(help=".npz with one array per input.")],
    output: Annotated[Path, typer.Option("-o", "--output", help=".npz for the outputs.")],
    device: Annotated[str, typer.Option(help="emulation.")] = "emulation",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Run a program on inputs; N images at once where the batch is 1."""
    from . import files
    from .jsonform import to_json
    from .program import load
    from .session import Session

    session = Session(load(program), device, threads)
    feeds = files.read_arrays(inputs)
    with _progress(quiet=as_json) as bar:
        task = bar.add_task("images", total=None)
        outputs = session.run(
            feeds, lambda done, total: bar.update(task, completed=done, total=total)
        )
    files.write_arrays(output, outputs)
    shapes = {name: list(array.shape) for name, array in outputs.items()}
    if as_json:
        _emit({"output": str(output), "shapes": shapes, "stats": to_json(session.stats)})
        return
    text = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    _console().print(f"{output}: {text}", markup=False)


# ------------------------------------------------------------------------------ numbers


@app.command()
def bench(
    program: ProgramPath,
    images: Annotated[int, typer.Option(min=1, help="Images per repeat.")] = 32,
    repeats: Annotated[int, typer.Option(min=1, help="Timed repeats after one warm-up.")] = 5,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Time the emulation on this machine, beside the device's estimate."""
    from .bench import bench_program
    from .program import load

    result = bench_program(load(program), images, repeats, threads)
    if as_json:
        _emit(result)
        return
    console = _console()
    host, device = result["host"], result["device"]
    console.print(
        f"emulation, measured on this machine: {host['images_per_s']['median']:.1f} images/s "
        f"(median of {repeats}, {host['images_per_s']['lowest']:.1f} to "
        f"{host['images_per_s']['highest']:.1f}), {host['gmac_per_s']:.2f} GMAC/s, "
        f"{host['threads']} threads",
        highlight=False,
    )
    console.print(
        f"{device['board']}, {device['basis']}: {device['frames_per_s']:.1f} images/s, "
        f"{device['cycles']} cycles at {device['clock_mhz']:g} MHz",
        highlight=False,
    )


@app.command()
def verify(
    model: ModelPath,
    program: ProgramPath,
    inputs: Annotated[Path, typer.Argument(help=".npz with one array per input.")],
    as_json: Json = False,
) -> None:
    """Compare float model, integer reference and emulation, layer by layer."""
    import neuralmatrix as nm

    from . import files

    check = nm.verify(model, nm.load(program), files.read_arrays(inputs))
    if as_json:
        _emit(check.to_dict())
    else:
        _console().print(check.to_text(), highlight=False, markup=False)
    if not check.ok:
        raise typer.Exit(1)


@app.command()
def report(
    program: ProgramPath,
    html: Annotated[Path | None, typer.Option(help="Also write a page with time lines.")] = None,
    as_json: Json = False,
) -> None:
    """Show what a program costs, layer by layer."""
    from .program import load
    from .report import layer_table, program_report, summary_lines, write_html

    loaded = load(program)
    data = program_report(loaded)
    if html:
        write_html(loaded, html)
    if as_json:
        _emit(data)
        return
    console = _console()
    console.print(layer_table(data))
    for line in summary_lines(data):
        console.print(line, highlight=False, markup=False)


@app.command("list")
def list_(program: ProgramPath, as_json: Json = False) -> None:
    """Print the instructions of a program, one per line."""
    from .listing import listing
    from .program import load

    text = listing(load(program))
    if as_json:
        _emit({"lines": text.splitlines()})
    else:
        sys.stdout.write(text)


# ------------------------------------------------------------------------------ about


@app.command()
def boards(as_json: Json = False) -> None:
    """Show the boards, their arrays and what these take of the part."""
    from .boards import board_table
    from .resources import KINDS

    rows = board_table()
    if as_json:
        _emit(rows)
        return
    table = Table(
        caption="Resources are estimates, not synthesis results; --json gives their basis."
    )
    for name in ("board", "part", "array", "MHz", "Gop/s", "DRAM GB/s"):
        table.add_column(name, justify="left" if name in ("board", "part") else "right")
    for kind in KINDS:
        table.add_column(f"{kind.upper()} %", justify="right")
    table.add_column("fits")
    for row in rows:
        shares = (f"{100 * row['resources'][kind]['share']:.0f}" for kind in KINDS)
        table.add_row(
            row["name"],
            row["part"],
            row["array"],
            f"{row['clock_mhz']:g}",
            f"{row['peak_gops']:.0f}",
            f"{row['dram_bytes_per_s'] / 1e9:.2f}",
            *shares,
            "yes" if row["fits"] else "no",
        )
    _console().print(table)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Show what this machine has, and what is missing for what."""
    from dataclasses import asdict

    from .doctor import diagnose

    checks = diagnose()
    bad = [check for check in checks if check.required and not check.ok]
    if as_json:
        _emit({"ok": not bad, "checks": [{**asdict(check), "ok": check.ok} for check in checks]})
    else:
        table = Table()
        for name in ("what", "found", "needed for", "if missing"):
            table.add_column(name, overflow="fold")
        for check in checks:
            remedy = "" if check.ok else check.remedy
            cells = (check.name, check.found or "missing", check.needed_for, remedy)
            table.add_row(*map(escape, cells))
        _console().print(table)
    if bad:
        raise typer.Exit(1)


@app.command()
def demo(as_json: Json = False) -> None:
    """Compile the embedded digits network for PYNQ-Z2 and run its test images in emulation."""
    from .demo import run_demo

    run_demo(as_json=as_json)


def _version(value: bool) -> None:
    if value:
        sys.stdout.write(f"neuralmatrix {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: errors become one message and exit code 1."""
    try:
        app()
    except NeuralMatrixError as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", highlight=False, markup=False)
        sys.exit(1)
