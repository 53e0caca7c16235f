# SPDX-License-Identifier: Apache-2.0
"""The table of boards: facts about each, and the share of its part that the design takes.

In: the board files.  Out: rows ready for JSON or a table.
"""

from __future__ import annotations

from typing import Any

from .board import Board, board_names, load_board
from .resources import KINDS, Piece, Resources, resources
from .unit_counts import tool


def _kind(used: Resources, kind: str) -> dict[str, float]:
    """Describe one kind: ``used`` and ``share`` are the high end."""
    return {
        "used": used.used(kind),
        "used_low": used.low(kind),
        "available": used.available[kind],
        "share": used.share(kind),
        "share_low": used.low_share(kind),
        "limit": used.limits[kind],
    }


def _piece(piece: Piece) -> dict[str, Any]:
    numbers = {kind: getattr(piece, kind) for kind in KINDS}
    facts = {"name": piece.name, "kernel": piece.kernel, "how": piece.how, "basis": piece.basis}
    return {**facts, **numbers, "lut_low": piece.lut_low}


def board_row(board: Board) -> dict[str, Any]:
    """Describe one board in JSON form: facts from its file, resources that were counted."""
    used = resources(board)
    array, ports = board.array, board.ports
    return {
        "name": board.name,
        "title": board.title,
        "device_name": board.device_name,
        "part": board.part.name,
        "board_part": board.board_part,
        "family": board.family,
        "clock_mhz": board.clock_mhz,
        "fallback_clock_mhz": board.fallback_clock_mhz,
        "fallback_loss": board.fallback_loss,
        "array": f"{array.rows}x{array.cols}",
        "fingerprint": array.fingerprint,
        "peak_gops": 2 * array.rows * array.cols * board.clock_mhz / 1e3,
        "port_bytes_per_cycle": ports.load.bytes_per_cycle,
        "ports": {unit: port.name for unit, port in vars(ports).items()},
        "dram_bytes_per_s": board.dram_bytes_per_s,
        "dram_basis": board.dram.basis,
        "power": [vars(rail) for rail in board.power],
        "resources": {kind: _kind(used, kind) for kind in KINDS},
        "resources_counted_by": tool(),
        "resources_counted_share": used.counted_share,
        "resources_basis": [_piece(piece) for piece in used.pieces],
        "fits": used.fits,
        "notes": list(board.notes),
    }


def board_table() -> list[dict[str, Any]]:
    """Describe all boards, in alphabetical order."""
    return [board_row(load_board(name)) for name in board_names()]
