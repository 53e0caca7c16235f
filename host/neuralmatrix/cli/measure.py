# SPDX-License-Identifier: Apache-2.0
"""The commands that measure.

In: arguments.  Out: tables or JSON on standard output, a page of charts.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import BadInput
from .common import Constants, Device, Json, ModelPath, Overlay, ProgramPath, Threads, console, emit

if TYPE_CHECKING:
    from ..measure.power_run import PowerOptions
    from ..measure.power_windows import Plan

Batches = Annotated[str, typer.Option(help="Batch sizes at which throughput is measured.")]
Repeats = Annotated[int, typer.Option(min=1, help="Number of timed repeats after a warm-up.")]
Seconds = Annotated[
    float,
    typer.Option(min=0.1, max=86400.0, help="Seconds of each idle and each loaded power window."),
]
Pairs = Annotated[int, typer.Option(min=3, help="Number of pairs of idle and loaded windows.")]
Seed = Annotated[int, typer.Option(help="Seed of the shuffled order of the windows.")]
Html = Annotated[Path | None, typer.Option(help="Also write an HTML page of charts; needs plotly.")]

Power = Annotated[
    bool, typer.Option("--power", help="Read the board's power sensors, idle and loaded.")
]
MeterLog = Annotated[
    Path | None, typer.Option(help="CSV log of an external power meter that ran during the bench.")
]
MeterStart = Annotated[
    str | None, typer.Option(help="Start of a log whose times begin at 0: 2026-01-31T12:00:00.")
]
Saved = Annotated[
    Path | None,
    typer.Option("--from", help="Run nothing; add the --meter log to this saved JSON of bench."),
]
Sysfs = Annotated[
    Path | None,
    typer.Option(
        help="Read sensors in this folder instead of /sys; results are labelled simulated."
    ),
]
Inputs = Annotated[
    Path | None, typer.Argument(help=".npz file with one array per input (default: random values).")
]
ComparedDevice = Annotated[
    str, typer.Option(help="Device: 'emulation', or 'pynq' on a board (default: the estimate).")
]
BoardResult = Annotated[Path | None, typer.Option(help="Saved JSON of 'bench' on a board.")]
Rail = Annotated[
    str,
    typer.Option(
        help="Measured rail that represents the board (default: the one that feeds the others)."
    ),
]
NoPower = Annotated[bool, typer.Option("--no-power", help="Measure times only.")]
HostThreads = Annotated[
    int, typer.Option(min=0, max=1024, help="Threads of onnxruntime; with 0 onnxruntime chooses.")
]

_BATCHES = re.compile(r"\s*[1-9][0-9]{0,5}\s*(,\s*[1-9][0-9]{0,5}\s*)*")


def _batches(text: str) -> tuple[int, ...]:
    if not _BATCHES.fullmatch(text):
        raise BadInput(
            f"--batches: found {text[:60]!r}, allowed are numbers from 1 to 999999: 1,8,32"
        )
    return tuple(int(part) for part in text.split(","))


def _plan(seconds: float, pairs: int, seed: int) -> Plan:
    from ..measure.power_windows import Plan

    return Plan(seconds, pairs, seed)


def _show(
    result: dict[str, Any], title: str, lines: list[str], html: Path | None, as_json: bool
) -> None:
    if html:
        from ..measure.charts import bench_figures, compare_figures, write_page

        figures = compare_figures(result) if "rows" in result else bench_figures(result)
        write_page(html, title, lines, figures)
    if as_json:
        emit(result)
        return
    for line in lines:
        console().print(line, highlight=False, markup=False)


# ------------------------------------------------------------------------------ bench


def bench(
    program: ProgramPath,
    device: Device = "emulation",
    overlay: Overlay = None,
    power: Power = False,
    meter: MeterLog = None,
    meter_start: MeterStart = None,
    saved: Saved = None,
    sysfs: Sysfs = None,
    batches: Batches = "1,8,32",
    repeats: Repeats = 10,
    seconds: Seconds = 10.0,
    pairs: Pairs = 6,
    seed: Seed = 0,
    threads: Threads = None,
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Measure a program on a device: time, cycles compared with the estimate, and power."""
    plan = _plan(seconds, pairs, seed)
    options = _power_options(plan, power, meter, meter_start, sysfs)
    _check_targets(html)
    title = f"Bench of {program.name}"
    if saved is not None:
        _show_joined(saved, meter, meter_start, title, html, as_json)
        return
    from ..measure.text_tables import bench_lines

    counts = _batches(batches)
    result = _benched(program, device, overlay, counts, repeats, threads, options)
    _show(result, title, list(bench_lines(result)), html, as_json)


def _power_options(
    plan: Plan, power: bool, meter: Path | None, start: str | None, sysfs: Path | None
) -> PowerOptions | None:
    """Return the options of measuring power; None where no option requests power."""
    from ..measure.power_run import PowerOptions

    options = PowerOptions(plan, power or sysfs is not None, meter, start, sysfs)
    wanted = power or meter is not None or sysfs is not None
    return options if wanted else None


def _check_targets(html: Path | None) -> None:
    """Report errors of the outputs' paths before the work starts."""
    if html:
        from ..files import check_target

        check_target(html)


def _show_joined(
    saved: Path, meter: Path | None, start: str | None, title: str, html: Path | None, as_json: bool
) -> None:
    """Show a saved bench with a meter's log added."""
    from ..measure.bench import FORMAT
    from ..measure.power_run import MANGLED, mangled, read_result, with_meter
    from ..measure.text_tables import bench_lines

    if meter is None:
        raise BadInput("--from: found no --meter; name the meter's log of these windows")
    try:
        result = with_meter(read_result(saved, FORMAT), meter, start)
        _show(result, title, list(bench_lines(result)), html, as_json)
    except MANGLED as error:
        raise mangled(saved, error) from None


def _benched(
    path: Path,
    device: str,
    overlay: Path | None,
    batches: tuple[int, ...],
    repeats: int,
    threads: int | None,
    power: PowerOptions | None,
) -> dict[str, Any]:
    from ..measure.bench import Options, bench_program
    from ..program.program import load

    options = Options(batches, repeats, power)
    return bench_program(load(path), device, options, threads=threads, overlay=overlay)


# ------------------------------------------------------------------------------ compare


def compare(
    model: ModelPath,
    program: ProgramPath,
    inputs: Inputs = None,
    device: ComparedDevice = "",
    overlay: Overlay = None,
    board_result: BoardResult = None,
    rail: Rail = "",
    constant: Constants = None,
    batches: Batches = "1,8,32",
    repeats: Repeats = 10,
    no_power: NoPower = False,
    seconds: Seconds = 10.0,
    pairs: Pairs = 6,
    seed: Seed = 0,
    threads: HostThreads = 0,
    html: Html = None,
    as_json: Json = False,
) -> None:
    """Compare the throughput per watt of a network on the board and on this machine."""
    from ..measure.compare_host import HostOptions

    _check_targets(html)
    plan = _plan(seconds, pairs, seed)
    host = HostOptions(
        _batches(batches), repeats, threads, not no_power, plan, constants=_constants(constant)
    )
    from ..measure.compare import CompareOptions
    from ..measure.text_tables import compare_lines

    options = CompareOptions(device, overlay, board_result, rail, host)
    result = _compared(model, program, inputs, options)
    _show(result, f"{model.name} compared", list(compare_lines(result)), html, as_json)


def _constants(constant: list[str] | None) -> dict[str, Any]:
    if not constant:
        return {}
    from ..frontend.onnx.bind_constants import read_constants

    return read_constants(constant)


def _compared(model: Path, path: Path, inputs: Path | None, options: Any) -> dict[str, Any]:
    from ..files import read_arrays
    from ..measure.compare import compare as compare_devices
    from ..program.program import load

    program = load(path)
    return compare_devices(model, program, read_arrays(inputs) if inputs else None, options)
