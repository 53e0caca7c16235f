# SPDX-License-Identifier: Apache-2.0
"""What a program spends on moving data, said where it is much.

In: a Program.  Out: notes: none, or one that names the costliest Moves and what to try.
"""

from __future__ import annotations

from .data import ProgramData
from .estimate import LayerEstimate, estimate

SHARE = 0.1  # of the estimated cycles, above which Moves are noted
_NAMED = 3


def move_notes(program: ProgramData) -> tuple[str, ...]:
    """Return a note if Moves take over a tenth of the estimated cycles."""
    if not any(info.kind == "Move" for info in program.layers):
        return ()
    found = estimate(program)
    moves = sorted((row for row in found.layers if row.kind == "Move"), key=lambda row: -row.cycles)
    share = sum(row.cycles for row in moves) / max(found.cycles, 1)
    if share <= SHARE:
        return ()
    most = ", ".join(_named(row, program, found.cycles) for row in moves[:_NAMED] if row.cycles)
    kinds = "move" if len(moves) == 1 else "moves"
    return (
        f"{len(moves)} {kinds} of data cost {100 * share:.0f} % of the estimated cycles ({most}): "
        "they change places between channels and positions, or cut and join channels in parts that "
        f"are no multiple of {program.array.cols}; try such multiples, and fewer Reshape and "
        "Transpose nodes between layers",
    )


def _named(row: LayerEstimate, program: ProgramData, cycles: int) -> str:
    source = next(info.source for info in program.layers if info.name == row.name)
    name = row.name if source in ("", row.name) else f"{row.name} of {source}"
    return f"{name} {100 * row.cycles / max(cycles, 1):.0f} %"
