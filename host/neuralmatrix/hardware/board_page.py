# SPDX-License-Identifier: Apache-2.0
"""The page about boards, made from the board files.

In: ``overlay/boards``, the resource table.  Out: the text of docs/boards.md
(``python -m neuralmatrix.hardware.board_page > docs/boards.md``; a test fails when that file is
stale).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from .block_design import design_of
from .board import Board, Image, PowerRail, board_names, family_of, load_board
from .board_evidence import NOT_VERIFIED, VERIFIED
from .board_page_resources import legend, tables
from .markdown import markdown_table
from .overlay_folder import CLOCK_TOLERANCE, boards_of
from .resources import resources

_INTRO = """\
# Boards

Generated from `overlay/boards/` by `python -m neuralmatrix.hardware.board_page`. [Add a
board](add-a-board.md) says how to add one; [on a board](on-a-board.md) how to run on one.

**No overlay has been built yet and none of these boards has been run.** Resources are counted unit
by unit with open tools ([rtl](rtl.md)), not by Vivado; bandwidths and latencies of DRAM are
assumed; facts about pynq, images and sensors come from their sources and documentation."""


PLLS_SEEN = {"zynq7000": (1000.0,), "zynqmp": (1000.0, 1500.0)}  # MHz, of boot images


# ------------------------------------------------------------------------------ all boards


def _cma(board: Board) -> str:
    return f"{board.cma.mbytes} MB" if board.cma.mbytes else "not known"


def _pynqs(board: Board) -> str:
    return ", ".join(image.pynq for image in board.images if image.usable)


def _overview(boards: list[Board]) -> Iterator[str]:
    head = ("board", "pynq's name", "part", "array", "MHz", "DRAM, assumed", "pynq", "CMA", "power")
    yield from markdown_table(head, (
        (
            f"[{board.title}](#{_anchor(board)})",
            f"`{board.device_name}`",
            board.part.name,
            f"{board.array.rows} x {board.array.cols}",
            f"{board.clock_mhz:g}",
            f"{board.dram_bytes_per_s / 1e9:.2f} GB/s",
            _pynqs(board),
            _cma(board),
            ", ".join(rail.scope for rail in board.power) or "no sensor",
        )
        for board in boards
    ))  # fmt: skip


def _verification() -> Iterator[str]:
    yield "## What was verified, and how"
    yield ""
    yield from markdown_table(
        ("what", "how", "boards", "test"),
        ((v.what, v.how, v.boards, f"`{v.test}`") for v in VERIFIED),
    )
    yield "Not verified yet:"
    yield ""
    yield from markdown_table(("what", "why"), NOT_VERIFIED)


# ------------------------------------------------------------------------------ one board


def _anchor(board: Board) -> str:
    kept = (c for c in board.title.lower() if c.isalnum() or c in "- ")
    return "".join(kept).replace(" ", "-")


def _shared(board: Board) -> str:
    if board.overlay != board.name:
        return f"that of {load_board(board.overlay).title}: `make overlay BOARD={board.overlay}`"
    others = [load_board(name).title for name in boards_of(board.name)]
    also = f", for {' and '.join(others)}" if len(others) > 1 else ""
    return f"`make overlay BOARD={board.name}`{also}"


def _packing(board: Board) -> str:
    if board.array.macs_per_dsp == 2:
        return "two int8 products per DSP in GEMM; the sums of a WINDOW take two beats"
    return "one int8 product per DSP"


def _ports(board: Board) -> str:
    return ", ".join(
        f"{unit.upper()} {port.name} ({8 * port.bytes_per_cycle} bit)"
        for unit, port in vars(board.ports).items()
    )


def nearest_by_pynq_4(pll_mhz: float, clock_mhz: float, largest_divisor: int) -> float:
    """Return the clock that pynq 4.0 sets: it takes the product of dividers nearest to the exact
    quotient, the smaller of two equally near, so that the clock can exceed the requested one."""
    span = range(1, largest_divisor + 1)
    quotient = round(pll_mhz / clock_mhz, 6)
    return pll_mhz / min(
        sorted({a * b for a in span for b in span}), key=lambda q: abs(q - quotient)
    )


def _verdict(mhz: float, board: Board) -> str:
    return f"{mhz:.4g} MHz, " + (
        "refused" if mhz > board.clock_mhz * CLOCK_TOLERANCE else "runs, slower"
    )


def _other_plls(board: Board) -> Iterator[tuple[str, str]]:
    """List clocks for other PLLs of the boot image: pynq 3 keeps the .hwh's dividers, 4 the
    nearest.
    """
    largest = family_of(board).clock.largest_divisor
    for pll in PLLS_SEEN[board.family]:
        if pll == board.pll_mhz:
            continue
        kept = _verdict(board.clock_mhz * pll / board.pll_mhz, board)
        near = _verdict(nearest_by_pynq_4(pll, board.clock_mhz, largest), board)
        yield f"if the image's IO PLL is {pll:g} MHz", f"pynq 3: {kept}; pynq 4.0: {near}"


def _memories(board: Board) -> Iterator[str]:
    """List the memories with their sizes, taken from the text of the estimate."""
    for piece in resources(board).pieces:
        if piece.how == "shape" and (piece.bram36 or piece.uram):
            size = piece.basis.partition(",")[0].partition(" in ")[0].replace(" memories", "")
            cells = f"{piece.uram} URAM" if piece.uram else f"{piece.bram36:g} BRAM36"
            yield f"{piece.name} {size.removeprefix('1 of ')} in {cells}"


def _fallback(board: Board) -> str:
    """Say which slower clock a build takes, and what it costs."""
    a, b = design_of(board.fallback).clock.divisors
    return (
        f"{board.fallback_clock_mhz:.4g} MHz = IO PLL / ({a} x {b}), which the build takes where "
        f"timing is missed at {board.clock_mhz:g} MHz; at most "
        f"{100 * board.fallback_loss:.0f} % fewer frames/s, estimated from the clocks "
        "([an example](benchmarks.md#fallback-clocks))"
    )


def _facts(board: Board) -> Iterator[tuple[str, str]]:
    part, dram = board.part, board.dram
    yield "name", f"`{board.name}`; pynq calls it `{board.device_name}`"
    yield "part", f"{part.name}, {part.dsp_type}"
    yield "Vivado's board files", f"`{board.board_part}`: {board.board_files}"
    yield "overlay", _shared(board)
    array = board.array
    yield "array", f"{array.rows} x {array.cols} PEs, fingerprint `{array.fingerprint}`"
    yield "multipliers", _packing(board)
    yield "buffers", "; ".join(_memories(board))
    a, b = design_of(board).clock.divisors
    yield "clock", f"{board.clock_mhz:g} MHz = IO PLL {board.pll_mhz:g} MHz / ({a} x {b})"
    yield "fallback clock", _fallback(board)
    yield from _other_plls(board)
    yield "ports", f"{_ports(board)}; bursts of at most {board.burst_beats} beats"
    yield "DRAM", f"{dram.mbytes} MB; {dram.basis}"
    size = f"{_cma(board)}: " if board.cma.mbytes else ""
    yield "CMA of the image", size + board.cma.basis


def _image(image: Image) -> tuple[str, ...]:
    return (image.name, image.pynq, image.python, "yes" if image.usable else "no", image.basis)


def _rail(rail: PowerRail) -> tuple[str, ...]:
    place = " ".join(part for part in (rail.address, rail.channel) if part)
    return rail.name, f"`{rail.sensor}` {place}".rstrip(), rail.scope, ", ".join(rail.feeds)


def _board(board: Board) -> Iterator[str]:
    yield f"## {board.title}"
    yield ""
    yield from markdown_table(("", ""), _facts(board))
    yield from markdown_table(
        ("image", "pynq", "Python", "meant to run", "basis"), map(_image, board.images)
    )
    if board.power:
        head = ("power rail", "hwmon sensor", "scope", "supplies also")
        yield from markdown_table(head, map(_rail, board.power))
    yield from tables(board)
    yield from (f"* {note}" for note in board.notes)
    yield ""


def boards_markdown() -> str:
    """Make the text of docs/boards.md."""
    boards = [load_board(name) for name in board_names()]
    lines = [_INTRO, "", *_overview(boards), *_verification(), *legend()]
    for board in boards:
        lines += _board(board)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.stdout.write(boards_markdown())
