# SPDX-License-Identifier: Apache-2.0
"""What open tools counted of the kernels' units: ``counts.json``, which ``make rtl`` writes.

In: the name of a unit and a board.  Out: ``Counted``.  A board takes the counts of the board that
was counted for its family, array and port widths.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import BadInput
from .board import Board, load_board

COUNTS = Path(__file__).resolve().parent / "counts.json"


@dataclass(frozen=True)
class Counted:
    """Cells of one unit; ``lut`` as LUT6 after pairing, with shift registers and LUT RAM."""

    lut: int
    ff: int
    dsp: int
    bram36: float
    stand_in: bool  # Verilog of our own in place of what HLS makes


@cache
def _file() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(COUNTS.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{COUNTS}: not readable: {error}; restore it, or run make rtl") from None
    return found


def tool() -> str:
    """Return what counted, as it calls itself."""
    return str(_file()["tools"]["yosys"])


def counted_units() -> tuple[str, ...]:
    """Return the names of all units that were counted."""
    return tuple(_file()["units"])


def title(unit: str) -> str:
    """Return what a unit is, in words."""
    return str(_unit(unit)["title"])


def _unit(unit: str) -> dict[str, Any]:
    units = _file()["units"]
    if unit not in units:
        raise BadInput(f"{unit} is not in {COUNTS.name}; run make rtl")
    found: dict[str, Any] = units[unit]
    return found


def _design(board: Board) -> tuple[object, ...]:
    """What a unit's cells depend on."""
    widths = (port.bytes_per_cycle for port in vars(board.ports).values())
    return (board.family, board.array, *widths)


@cache
def counted_board(board: Board) -> str:
    """Name the board whose counts are also those of ``board``."""
    found: set[str] = {name for unit in _file()["units"].values() for name in unit["boards"]}
    names = sorted(found)
    for name in names:
        if _design(load_board(name)) == _design(board):
            return name
    raise BadInput(
        f"{board.name}: no units were counted for its array ({board.array_name}), family and port "
        f"widths, only for those of {', '.join(names)}; add it to BOARDS in hls/rtl/unit.py and "
        "run make rtl"
    )


def counted(unit: str, board: Board) -> Counted:
    """Return the cells of a unit in the design of a board."""
    entry = _unit(unit)["boards"].get(counted_board(board))
    if entry is None or "lut" not in entry:
        raise BadInput(f"{unit} was not counted for {counted_board(board)}; run make rtl")
    return Counted(
        lut=entry["lut"],
        ff=entry["ff"],
        dsp=entry["dsp"],
        bram36=entry["bram36"] + entry["bram18"] / 2,
        stand_in=entry["kind"] == "stand-in",
    )
