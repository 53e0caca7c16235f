# SPDX-License-Identifier: Apache-2.0
"""The commands about boards: their table, and what this machine has.

In: arguments.  Out: tables or JSON on standard output.
"""

from __future__ import annotations

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from .cli_common import Json, console, emit

WIDE_BOARDS = 96  # columns that the table takes with the names of the parts
BOARDS_CAPTION = (
    "LUT to URAM: the array's share of the part, estimated, not synthesised. DRAM: assumed. "
    "peak: two operations per PE and cycle. --json gives the basis of each number."
)


def boards(as_json: Json = False) -> None:
    """Show the boards, their arrays and what these take of the part (estimated)."""
    from .boards import board_table
    from .resources import KINDS

    rows = board_table()
    if as_json:
        emit(rows)
        return
    screen = console()
    facts = ("array", "MHz", "peak\nGop/s", "DRAM\nGB/s", *(f"{kind.upper()}\n%" for kind in KINDS))
    table = Table(caption=BOARDS_CAPTION, caption_justify="left", box=box.SIMPLE_HEAD)
    table.padding, table.pad_edge, table.show_edge = (0, 1, 0, 0), False, False
    table.add_column("board", no_wrap=True)
    for name in facts:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("fits", no_wrap=True)
    wide = screen.width >= WIDE_BOARDS
    if wide:
        table.add_column("part", no_wrap=True)
    for row in rows:
        shares = (f"{100 * row['resources'][kind]['share']:.0f}" for kind in KINDS)
        table.add_row(
            row["name"],
            row["array"],
            f"{row['clock_mhz']:g}",
            f"{row['peak_gops']:.0f}",
            f"{row['dram_bytes_per_s'] / 1e9:.2f}",
            *shares,
            "yes" if row["fits"] else "no",
            *([row["part"]] if wide else []),
        )
    screen.print(table)


def doctor(as_json: Json = False) -> None:
    """Show what this machine has, and what is missing for what."""
    from dataclasses import asdict

    from .doctor import diagnose

    checks = diagnose()
    bad = [check for check in checks if check.required and not check.ok]
    if as_json:
        emit({"ok": not bad, "checks": [{**asdict(check), "ok": check.ok} for check in checks]})
    else:
        table = Table()
        for name in ("what", "found", "needed for", "if missing"):
            table.add_column(name, overflow="fold")
        for check in checks:
            remedy = "" if check.ok else check.remedy
            cells = (check.name, check.found or "missing", check.needed_for, remedy)
            table.add_row(*map(escape, cells))
        console().print(table)
    if bad:
        raise typer.Exit(1)
