# SPDX-License-Identifier: Apache-2.0
"""The part of the page about boards that tells their resources.

In: a board's resource table.  Out: lines of Markdown.
"""

from __future__ import annotations

from collections.abc import Iterator

from .board import Board, load_board
from .markdown import markdown_table
from .resources import FROM_COUNT, KINDS, Resources, resources
from .unit_counts import counted_board, tool


def span(low: float, high: float) -> str:
    """Return a range in words, one number where both ends are equal.

    >>> span(30.5, 30.5), span(800, 1000)
    ('30.5', '800 to 1,000')
    """
    ends = [f"{end:,.1f}".removesuffix(".0") for end in (low, high)]
    return ends[0] if low == high else " to ".join(ends)


def legend() -> Iterator[str]:
    """Explain the numbers, once for all boards."""
    yield "## How resources are counted"
    yield ""
    yield (
        "*Counted*: units of the kernels, from their unmodified C++ to Verilog and cells "
        f"([rtl](rtl.md)), by {tool().partition(' (')[0]} for the board's family; "
        "`hardware/bill.py` says how often each occurs in a design. *Counted (stand-in)*: Verilog "
        "of our own in place of what Vitis HLS and Vivado build around the kernels: queues, memory "
        "and register ports, loops over lines and bursts; simulated against the kernels' C++ where "
        "that says what they do. *Shape*: follows from widths and depths. *Estimated*: nobody "
        "counted it, and its basis says why it is what it is."
    )
    yield ""
    yield (
        "LUTs have two ends. The high end is the count as LUT6 after pairing, with shift registers "
        f"and LUT RAM; the low end is {FROM_COUNT:g} of it, a factor from yosys to Vivado that is "
        "**assumed**: Vivado maps smaller as a rule, but no design of this project has been "
        "through it. Estimated pieces have their own ends. Whether a board fits is said by the "
        "high end."
    )
    yield ""


def tables(board: Board) -> Iterator[str]:
    """Tell what a board's design takes, and where it goes."""
    used = resources(board)
    yield (
        f"Resources. Fits by the high end: **{used.fits}** (above the limit, placement and timing "
        f"are in doubt). Counted are {100 * used.counted_share:.0f} % of the LUTs."
    )
    yield ""
    yield from markdown_table(("kind", "used", "of", "share", "limit"), (
        (
            kind.upper(),
            span(used.low(kind), used.used(kind)),
            f"{used.available[kind]:,}",
            span(round(100 * used.low_share(kind)), round(100 * used.share(kind))) + " %",
            f"{100 * used.limits[kind]:.0f} %",
        )
        for kind in KINDS
        if used.available[kind]
    ))  # fmt: skip
    counted = counted_board(board)
    if counted == board.name:
        yield from _pieces(used)
    else:
        yield f"Piece by piece: the logic is that of {load_board(counted).title}."
        yield ""


def _pieces(used: Resources) -> Iterator[str]:
    """List where the logic goes; memories have their line among the facts."""
    yield from markdown_table(("piece", "how", "LUT", "FF", "DSP", "units, or basis"), (
        (
            piece.name,
            piece.how,
            span(piece.lut_low, piece.lut),
            f"{piece.ff:,}",
            str(piece.dsp),
            piece.basis,
        )
        for piece in used.pieces
        if piece.lut or piece.ff
    ))  # fmt: skip
