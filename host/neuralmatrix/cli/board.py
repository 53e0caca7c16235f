# SPDX-License-Identifier: Apache-2.0
"""The commands about boards: their table, what this machine has, running on one over SSH.

In: arguments.  Out: tables or JSON on standard output.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..paths import REMOTE_DIR
from .common import Json, ProgramPath, console, emit, progress, show_notes

if TYPE_CHECKING:
    from ..deploy.deploy import Request
    from ..deploy.ssh import Target
    from .doctor_machine import Check

WIDE_BOARDS = 96  # columns that the table gets with the names of the parts
BOARDS_CAPTION = (
    "LUT to URAM: the design's share of the part. LUTs are counted by open tools, not by Vivado, "
    "between a low end (assumed) and the count; 'fits' goes by the high end. DRAM: assumed. peak: "
    "two operations per PE and cycle. tight: placement and timing are in doubt until Vivado has "
    "run. {fallback} --json gives the basis of each number."
)
FALLBACK_CAPTION = (
    "Where timing is missed, the build takes a slower clock, which costs at most {least:.0f} to "
    "{most:.0f} % of the frames/s (estimated; boards.md names the clocks)."
)
Host = Annotated[
    str,
    typer.Argument(
        metavar="USER@BOARD", help="SSH address (user@board), or a host of ~/.ssh/config."
    ),
]
RunInputs = Annotated[
    Path | None, typer.Option(help="Run the program on this .npz file with one array per input.")
]
RunOutputs = Annotated[
    Path | None,
    typer.Option("-o", "--output", help=".npz file to which the outputs of --run are written."),
]
BenchThere = Annotated[
    bool,
    typer.Option("--bench", help="Time the program on the board and compare with the estimate."),
]
PowerThere = Annotated[
    bool, typer.Option("--power", help="Like --bench, and also read the board's power sensors.")
]
MadeOverlay = Annotated[
    Path | None,
    typer.Option(help="Folder made by 'make overlay' (default: found here, else on the board)."),
]
Port = Annotated[
    int | None,
    typer.Option(
        min=1, max=65535, help="SSH port (default 22, unless ssh is configured otherwise)."
    ),
]
Identity = Annotated[Path | None, typer.Option(help="Private key for ssh.")]
SshConfig = Annotated[
    Path | None, typer.Option(help="SSH configuration file, instead of ~/.ssh/config.")
]
BoardPython = Annotated[
    str | None,
    typer.Option(help="Python on the board (default: that of the PYNQ image, else python3)."),
]
RemoteDir = Annotated[str, typer.Option(help="Folder on the board for the files.")]
BoardDevice = Annotated[
    str, typer.Option(help="Device on the board: 'pynq', or 'emulation' on its processor.")
]
NOT_ON_A_BOARD = (
    "This is not a board. 'neuralmatrix deploy user@board net.nmx' runs a program on one; "
    "'neuralmatrix doctor' there says what the board has."
)


def boards(as_json: Json = False) -> None:
    """Show the boards, their arrays and the share of the part that each design takes."""
    from ..hardware.board_table import board_table

    rows = board_table()
    if as_json:
        emit(rows)
        return
    screen = console()
    screen.print(_board_table(rows, wide=screen.width >= WIDE_BOARDS))


def _share(kind: dict[str, float]) -> str:
    """Return a share in percent, its two ends where they differ."""
    ends = [f"{100 * kind[end]:.0f}" for end in ("share_low", "share")]
    return ends[0] if ends[0] == ends[1] else "-".join(ends)


def _board_table(rows: list[dict[str, Any]], wide: bool) -> Table:
    """Make one row per board; with ``wide`` the names of the parts are shown."""
    from ..hardware.resources import KINDS

    facts = ("array", "MHz", "peak\nGop/s", "DRAM\nGB/s", *(f"{kind.upper()}\n%" for kind in KINDS))
    losses = [100 * row["fallback_loss"] for row in rows]
    fallback = FALLBACK_CAPTION.format(least=min(losses), most=max(losses))
    caption = BOARDS_CAPTION.format(fallback=fallback)
    table = Table(caption=caption, caption_justify="left", box=box.SIMPLE_HEAD)
    table.padding, table.pad_edge, table.show_edge = (0, 1, 0, 0), False, False
    table.add_column("board", no_wrap=True)
    for name in facts:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("fits", no_wrap=True)
    if wide:
        table.add_column("part", no_wrap=True)
    for row in rows:
        shares = (_share(row["resources"][kind]) for kind in KINDS)
        table.add_row(
            row["name"],
            row["array"],
            f"{row['clock_mhz']:g}",
            f"{row['peak_gops']:.0f}",
            f"{row['dram_bytes_per_s'] / 1e9:.2f}",
            *shares,
            row["fits"],
            *([row["part"]] if wide else []),
        )
    return table


def doctor(as_json: Json = False) -> None:
    """Show what this machine or board has, what is missing, and which task needs it."""
    from dataclasses import asdict

    from .doctor import diagnose

    checks = diagnose()
    bad = [check for check in checks if check.required and not check.ok]
    on_board = any(check.board for check in checks)
    if as_json:
        rows = [{**asdict(check), "ok": check.ok} for check in checks]
        emit({"ok": not bad, "on_board": on_board, "checks": rows})
    else:
        _print_checks(checks)
        if not on_board:
            console().print(NOT_ON_A_BOARD, highlight=False, markup=False)
    if bad:
        raise typer.Exit(1)


def _print_checks(checks: tuple[Check, ...]) -> None:
    table = Table()
    for name in ("what", "found", "needed for", "what to do"):
        table.add_column(name, overflow="fold")
    for check in checks:
        found = ": ".join(filter(None, (check.found or "missing", check.problem)))
        remedy = "" if check.ok else check.remedy
        table.add_row(*map(escape, (check.name, found, check.needed_for, remedy)))
    console().print(table)


def deploy(
    host: Host,
    program: ProgramPath,
    run: RunInputs = None,
    output: RunOutputs = None,
    bench: BenchThere = False,
    power: PowerThere = False,
    overlay: MadeOverlay = None,
    port: Port = None,
    identity: Identity = None,
    ssh_config: SshConfig = None,
    python: BoardPython = None,
    remote_dir: RemoteDir = REMOTE_DIR,
    device: BoardDevice = "pynq",
    as_json: Json = False,
) -> None:
    """Copy a program to a board over SSH, run it there, and bring the results back.

    Package, overlay and program are copied if the board lacks them. ssh must log in with a key
    (ssh-copy-id USER@BOARD installs one).
    """
    from ..deploy.deploy import Request
    from ..deploy.ssh import Target

    target = Target(host, port, identity, ssh_config)
    request = Request(
        program, run, output, bench or power, power, overlay, python, remote_dir, device
    )
    result = _deployed(target, request, quiet=as_json)
    if as_json:
        emit(result)
    else:
        _print_deployed(result)


def _deployed(target: Target, request: Request, quiet: bool) -> dict[str, Any]:
    """Deploy, show steps and progress on standard error, and return the board's results."""
    from ..deploy.deploy import Progress
    from ..deploy.deploy import deploy as deploy_program

    notes = Console(stderr=True, quiet=quiet, soft_wrap=True, emoji=False)
    with progress(quiet) as step:
        callbacks = Progress(lambda text: notes.print(text, highlight=False, markup=False), step)
        return deploy_program(target, request, callbacks)


def _print_deployed(result: dict[str, Any]) -> None:
    from ..measure.provenance import provenance_label

    lines = []
    if "run" in result:
        show_notes(result["run"].get("notes", ()))
        shapes = result["run"]["shapes"].items()
        text = ", ".join(f"{name} {shape}" for name, shape in shapes)
        where = provenance_label(result["run"]["stats"]["origin"], result["run"]["device"]["board"])
        lines.append(f"{result['outputs']}: {text} ({where})")
    if "bench" in result:
        from ..measure.text_tables import bench_lines

        lines += bench_lines(result["bench"])
    if not lines:
        lines.append(f"copied to {result['remote_dir']}; --run and --bench run it there")
    for line in lines:
        console().print(line, highlight=False, markup=False, soft_wrap=True)
