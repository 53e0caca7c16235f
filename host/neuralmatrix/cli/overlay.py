# SPDX-License-Identifier: Apache-2.0
"""The commands about overlays: add a published one, list, remove, print the folder of one.

In: arguments.  Out: tables or JSON on standard output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table

from .common import Json, console, emit, waiting

if TYPE_CHECKING:
    from ..hardware.overlay_folder import Overlay

app = typer.Typer(
    no_args_is_help=True,
    help="Overlays (bitstreams) for boards: add published ones, list what is found.",
)
Source = Annotated[
    str, typer.Argument(metavar="FILE_OR_URL", help="A packed overlay: a file, or an https URL.")
]
Sha256 = Annotated[
    str | None, typer.Option(help="SHA-256 of the file, as its publisher states it.")
]
BoardName = Annotated[str, typer.Argument(metavar="BOARD", help="A board, for example pynq-z2.")]


def _row(overlay: Overlay) -> dict[str, Any]:
    info = overlay.info
    return {
        "name": info.name,
        "boards": list(info.boards),
        "clock_mhz": info.clock_mhz,
        "missed_clock_mhz": info.missed_clock_mhz,
        "worst_slack_ns": info.worst_slack_ns,
        "fingerprint": info.fingerprint,
        "part": info.part,
        "tools": {tool.name: tool.version for tool in info.tools},
        "commit": info.commit,
        "folder": str(overlay.folder),
    }


@app.command()
def add(source: Source, sha256: Sha256 = None, as_json: Json = False) -> None:
    """Fetch a packed overlay, check it, and install it where the driver looks."""
    from ..hardware.board import load_board
    from ..hardware.overlay_archive import install
    from ..hardware.overlay_fetch import fetched
    from ..hardware.overlay_folder import resolve

    with waiting("fetching and checking", quiet=as_json), fetched(source, sha256) as path:
        added = install(path)
    used = resolve(load_board(added.info.name))
    if as_json:
        emit({**_row(added), "used": str(used.folder)})
        return
    info = added.info
    lines = [f"added for {', '.join(info.boards)}, {info.clock_mhz:g} MHz: {added.folder}"]
    if used.folder != added.folder:
        lines.append(f"but sessions use {used.folder}, which NEURALMATRIX_OVERLAY_DIR names")
    for line in lines:
        console().print(line, highlight=False, markup=False, soft_wrap=True)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the overlays that are found, and which of them sessions use."""
    from ..hardware.overlay_folder import found_overlays

    rows = [
        {**_row(one.overlay), "used": one.used, "problem": one.problem} for one in found_overlays()
    ]
    if as_json:
        emit(rows)
    elif rows:
        console().print(_table(rows))
    else:
        text = "no overlays found; 'neuralmatrix overlay add FILE_OR_URL' adds a published one"
        console().print(text, highlight=False, markup=False)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("boards", "MHz", "array", "used", "folder"):
        table.add_column(name, overflow="fold", no_wrap=name == "array")
    for row in rows:
        used = row["problem"] or ("yes" if row["used"] else "")
        boards = ", ".join(row["boards"])
        table.add_row(boards, f"{row['clock_mhz']:g}", row["fingerprint"], used, str(row["folder"]))
    return table


@app.command()
def remove(board: BoardName, as_json: Json = False) -> None:
    """Remove the overlay that was added for a board; built ones stay."""
    from ..hardware.overlay_archive import remove as remove_added

    folder = remove_added(board)
    if as_json:
        emit({"removed": str(folder)})
    else:
        console().print(f"removed {folder}", highlight=False, markup=False, soft_wrap=True)


@app.command()
def path(board: BoardName) -> None:
    """Print the folder of the overlay that sessions use for a board."""
    from ..hardware.board import load_board
    from ..hardware.overlay_folder import resolve

    typer.echo(str(resolve(load_board(board)).folder))
