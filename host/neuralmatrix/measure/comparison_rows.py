# SPDX-License-Identifier: Apache-2.0
"""One row of a comparison: a device, its images per second, its watts, and their origin.

In: the result of a bench, or an estimate.  Out: a ``Row``; a missing number has its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import BadInput
from ..hardware.board import load_board
from ..jsonform import to_json
from ..program.program import Program
from .bench import best_of
from .provenance import ESTIMATED

NO_WATTS = "the estimate has no power; measure on a board: bench --power, then --board-result"


@dataclass(frozen=True)
class Row:
    """The row of one device.  An image is one run where the program's batch is not 1.

    ``watts`` and its fields are None or empty where ``no_watts`` gives a reason.
    """

    device: str
    precision: str
    source: str  # origin of the times: "measured", "emulated" or "estimated"
    basis: str  # the origin in more words
    batch: int  # the one that images_per_s belongs to
    images_per_s: float
    latency_s: float  # latency of one image alone
    watts: float | None = None
    joules: float | None = None  # per image, of the windows in which the watts were read
    idle_watts: float | None = None
    scope: str = ""
    watts_basis: str = ""
    no_watts: str = ""
    notes: tuple[str, ...] = ()

    @property
    def images_per_joule(self) -> float | None:
        """Images per joule, both from the same windows."""
        return None if self.joules is None else 1 / self.joules


def row_json(row: Row) -> dict[str, Any]:
    """Convert to JSON form, with images per joule and their basis."""
    both = f"images and joules of the loaded windows: {row.watts_basis}"
    return {
        **to_json(row),
        "images_per_s_per_w": row.images_per_joule,
        "images_per_s_per_w_basis": row.no_watts if row.joules is None else both,
    }


# ------------------------------------------------------------------------------ the board


def _rail(result: Mapping[str, Any], wanted: str) -> dict[str, Any] | str:
    """Return the rail that represents the board, or why there is none."""
    rails = {rail["name"]: rail for rail in result["power"]["rails"]}
    name = wanted or result["power"]["widest"]
    if name in rails:
        found: dict[str, Any] = rails[name]
        return found
    if wanted and rails:
        raise BadInput(f"--rail: found {wanted!r}, measured are {', '.join(rails)}")
    if rails:
        return f"no rail feeds all of {', '.join(rails)}; choose one with --rail"
    return "; ".join(one["reason"] for one in result["power"]["absent"])


def with_watts(row: Row, rail: Mapping[str, Any] | str) -> Row:
    """Add the watts of a measured rail to the row, or the reason why there are none."""
    if isinstance(rail, str):
        return replace(row, no_watts=rail)
    return replace(
        row,
        watts=rail["loaded_w"]["mean"],
        joules=rail["joules_per_inference"]["mean"],
        idle_watts=rail["idle_w"]["mean"],
        scope=f"{rail['name']}: {rail['scope']}",
        watts_basis=rail["basis"],
    )


def _measured_board(result: Mapping[str, Any], rail: str) -> Row:
    best = best_of(result["throughput"])
    row = Row(
        device=load_board(result["board"]).title,
        precision=result["precision"],
        source="measured",
        basis=best["basis"],
        batch=best["batch"],
        images_per_s=best["images_per_s"]["median"],
        latency_s=result["latency"]["total_s"]["median"],
    )
    return with_watts(row, _rail(result, rail))


def _emulated_board(result: Mapping[str, Any]) -> Row:
    """Make an emulated board's row from cycles; the emulation's speed is not the board's."""
    array = result["array"]
    return Row(
        device=load_board(result["board"]).title,
        precision=result["precision"],
        source="emulated",
        basis=array["basis"],
        batch=1,
        images_per_s=array["runs_per_s"],
        latency_s=array["seconds"],
        no_watts="an emulated board has no power; measure on a board",
    )


def board_row(result: Mapping[str, Any], rail: str = "") -> Row:
    """Make the row of a bench, from its times if it ran on a board, else from its cycles."""
    try:
        if result["origin"] == "board":
            return _measured_board(result, rail)
        return _emulated_board(result)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise BadInput(f"the bench result lacks {error}; measure again with bench --json") from None


def estimated_row(program: Program) -> Row:
    """Make the row of a board on which nothing has run."""
    estimate = program.estimate()
    return Row(
        device=load_board(program.board).title,
        precision=program.precision,
        source="estimated",
        basis=ESTIMATED,
        batch=1,
        images_per_s=estimate.frames_per_s,
        latency_s=estimate.latency_s,
        no_watts=NO_WATTS,
    )
