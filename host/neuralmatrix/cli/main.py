# SPDX-License-Identifier: Apache-2.0
"""The command line: it calls the package's functions and prints tables or JSON.

In: ``neuralmatrix compile | run | bench | compare | verify | report | boards | segments | doctor
| deploy | serve | evaluate | sweep | overlay | demo | list``.
Out: exit code 0; 1 with one message for an error; 2 for wrong usage.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from .._version import __version__
from ..errors import NeuralMatrixError
from . import board, cluster, measure
from . import compile as cli_compile
from . import overlay as cli_overlay
from . import serve as cli_serve
from .common import (
    Constants,
    Device,
    Json,
    ModelPath,
    Overlay,
    ProgramPath,
    Threads,
    console,
    emit,
    progress,
    show_accuracy,
    show_notes,
    waiting,
)

if TYPE_CHECKING:
    from ..runtime.session import Stats

# Options of segments.
FunctionName = Annotated[str, typer.Argument(help="A scalar function: gelu, exp, rsqrt, ...")]
XRange = Annotated[tuple[float, float], typer.Option("--range", help="Lowest and highest x.")]
MaxError = Annotated[
    float | None,
    typer.Option(
        help="Find the smallest table whose worst error, in units of y, is at most this value."
    ),
]
MostSegments = Annotated[
    int, typer.Option("--segments", min=2, max=64, help="Largest number of segments.")
]
ResultBits = Annotated[int, typer.Option(help="Bits of the result: 8 or 16.")]
TableKind = Annotated[str, typer.Option(help="Kind of table: uniform, log, mapped or auto.")]
Parameters = Annotated[
    list[float] | None,
    typer.Option(help="Parameter of the function, such as the slope of leaky_relu."),
]
HtmlPlot = Annotated[Path | None, typer.Option(help="Also write a plot; needs plotly.")]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Whole neural networks as matrix products on one array of a PYNQ board, or emulated.",
)


# ------------------------------------------------------------------------------ compile, run


app.command()(cli_compile.compile)


@app.command()
def run(
    program: ProgramPath,
    inputs: Annotated[Path, typer.Argument(help=".npz file with one array per input.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help=".npz file to which the outputs are written.")
    ],
    device: Device = "emulation",
    threads: Threads = None,
    overlay: Overlay = None,
    timeout: Annotated[
        float | None, typer.Option(help="With pynq only: seconds that one run may take.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run a program on one input, or on N where its batch is 1."""
    from .. import files
    from ..program.host_io import check_feeds
    from ..program.program import load
    from ..runtime.saturation import without_warnings
    from ..runtime.session import Session

    files.check_target(output)
    loaded, feeds = load(program), files.read_arrays(inputs)
    check_feeds(loaded.shown_inputs, feeds)
    with Session(loaded, device, threads, overlay=overlay, timeout_s=timeout) as session:
        with without_warnings(), progress(quiet=as_json) as step:
            outputs = session.run(feeds, step)
        stats, info = session.stats, session.device_info
    assert stats is not None
    files.write_arrays(output, outputs)
    shapes = {name: list(array.shape) for name, array in outputs.items()}
    _show_run(output, shapes, stats, info, as_json)


def _show_run(
    output: Path, shapes: dict[str, list[int]], stats: Stats, info: dict[str, Any], as_json: bool
) -> None:
    from ..jsonform import to_json
    from ..measure.provenance import RUN, provenance_label

    show_notes(stats.notes)
    if as_json:
        found = {"basis": RUN[stats.origin], **to_json(stats)}
        emit({"output": str(output), "shapes": shapes, "stats": found, "device": info})
        return
    text = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    where = provenance_label(stats.origin, info["board"])
    console().print(f"{output}: {text} ({where})", highlight=False, markup=False)


# ------------------------------------------------------------------------------ numbers


app.command()(measure.bench)
app.command()(measure.compare)
app.command()(cluster.evaluate)
app.command()(cluster.sweep)


@app.command()
def verify(
    model: ModelPath,
    program: ProgramPath,
    inputs: Annotated[Path, typer.Argument(help=".npz file with one array per input.")],
    constant: Constants = None,
    as_json: Json = False,
) -> None:
    """Compare float model, integer reference and emulation on one input, layer by layer."""
    import neuralmatrix as nm

    from .. import files
    from ..frontend.onnx.bind_constants import read_constants

    bound = read_constants(constant or []) or None
    loaded, feeds = nm.load(program), files.read_arrays(inputs)
    with waiting("comparing", quiet=as_json):
        check = nm.verify(model, loaded, feeds, bound)
    if as_json:
        emit(check.to_dict())
    else:
        console().print(check.to_text(), highlight=False, markup=False)
    if not check.ok:
        raise typer.Exit(1)


@app.command()
def report(
    program: ProgramPath,
    html: Annotated[
        Path | None, typer.Option(help="Also write an HTML page with time lines; needs plotly.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a program costs on its board (estimated), and what it loses (emulated)."""
    from ..files import check_target
    from ..program.program import load
    from ..program.report import layer_table, program_report, summary_lines, write_html

    if html:
        check_target(html)
    loaded = load(program)
    data = program_report(loaded)
    if html:
        write_html(loaded, html)
    if as_json:
        emit(data)
        return
    screen = console()
    screen.print(layer_table(data, screen.width))
    for line in summary_lines(data):
        screen.print(line, highlight=False, markup=False)
    show_accuracy(screen, loaded.accuracy)


@app.command("list")
def list_(program: ProgramPath, as_json: Json = False) -> None:
    """Print the instructions of a program, one per line; fields that are 0 are left out."""
    from ..program.disassembly import listing
    from ..program.program import load

    text = listing(load(program))
    if as_json:
        emit({"lines": text.splitlines()})
    else:
        sys.stdout.write(text)


# ------------------------------------------------------------------------------ about


app.command()(board.boards)
app.command()(board.doctor)
app.command()(board.deploy)
app.command()(cli_serve.serve)
app.add_typer(cli_overlay.app, name="overlay")


@app.command()
def segments(
    function: FunctionName,
    x_range: XRange,
    error: MaxError = None,
    count: MostSegments = 64,
    bits: ResultBits = 16,
    kind: TableKind = "auto",
    param: Parameters = None,
    html: HtmlPlot = None,
    as_json: Json = False,
) -> None:
    """Fit a piecewise-linear table to a function, and show its error over all quantised inputs."""
    from ..files import check_target
    from ..ir.types import Function
    from ..quantization.pwl import display
    from ..quantization.pwl.report import Wanted, make_table, table_report

    if html:
        check_target(html)
    wanted = Wanted(Function(function, tuple(param or ())), x_range, bits, kind, count, error)
    table = make_table(wanted)
    data = table_report(wanted, table)
    if html:
        display.write_plot(wanted, table, html)
    if as_json:
        emit(data)
        return
    screen = console()
    screen.print(display.segment_rows(data))
    for line in (*display.plot_lines(wanted, table), "", *display.summary_lines(data)):
        screen.print(line, highlight=False, markup=False)


@app.command()
def demo(
    name: Annotated[
        str,
        typer.Argument(
            help="digits (a CNN), transformer (a ViT on the same digits) or gnn (karate club)."
        ),
    ] = "digits",
    keep: Annotated[
        Path | None,
        typer.Option(help="Folder that receives net.onnx, net.nmx, samples.npz and inputs.npz."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compile an embedded network for PYNQ-Z2 and run its test data in emulation."""
    from ..demo.run import run_demo

    run_demo(as_json=as_json, name=name, keep=keep)


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
    """Run the command line; an error gives one message and exit code 1.

    The caller's handler of SIGTERM is restored afterwards.
    """
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        app()
    except NeuralMatrixError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"the operating system refused: {error}; free some space or choose another place")
    except MemoryError:
        _fail("this machine has too little free memory; close programs or use a smaller network")
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: object) -> None:
    """Exit through the ``finally`` clauses, which remove half-written files."""
    sys.stderr.write(f"error: stopped by {signal.Signals(number).name}\n")
    sys.exit(128 + number)


def _fail(message: str) -> NoReturn:
    screen = Console(stderr=True, soft_wrap=True, emoji=False)
    screen.print(f"error: {message}", highlight=False, markup=False)
    sys.exit(1)
