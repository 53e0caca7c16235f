# SPDX-License-Identifier: Apache-2.0
"""Writes a design as the dict that overlay/design.tcl reads.

In: a ``Design``.  Out: Tcl text that sets DESIGN.
"""

from __future__ import annotations

from collections.abc import Iterable

from neuralmatrix.errors import BadInput
from neuralmatrix.hardware.block_design_types import Design
from neuralmatrix.hardware.board import Board
from neuralmatrix.hardware.processing_system import Parameter

_SPECIAL = set(' \t\n{}[]"$\\;#')


def word(text: object) -> str:
    """Quote one word of a Tcl list.

    >>> word("IO PLL")
    '{IO PLL}'
    """
    plain = str(text)
    if "{" in plain or "}" in plain or "\\" in plain:
        raise BadInput(
            f"found {plain!r}, allowed are values without braces and backslashes; correct the "
            "board file"
        )
    return f"{{{plain}}}" if not plain or _SPECIAL & set(plain) else plain


def words(items: Iterable[object]) -> str:
    """Join a Tcl list to one word."""
    return f"{{{' '.join(map(word, items))}}}"


def pairs(parameters: Iterable[Parameter]) -> str:
    """Join names and values to one word."""
    return words(text for p in parameters for text in (p.name, p.value))


def _block(key: str, lines: Iterable[str]) -> str:
    return "\n".join([f"    {key} {{", *(f"        {line}" for line in lines), "    }"])


def _ps(design: Design) -> str:
    ps = design.family.ps
    facts = {
        "cell": word(ps.cell),
        "vlnv": word(ps.vlnv),
        "rule": word(ps.rule),
        "automation": pairs(ps.automation),
        "config": pairs(design.ps.config),
    }
    return _block("ps", (f"{key} {value}" for key, value in facts.items()))


def _clock(design: Design) -> str:
    clock, source = design.clock, design.family.clock
    facts = {
        "mhz": f"{clock.mhz:g}",
        "pll_mhz": f"{clock.pll_mhz:g}",
        "actual": source.actual,
        "divisors": words(source.divisors),
    }
    return _block("clock", (f"{key} {value}" for key, value in facts.items()))


def _lists(design: Design) -> Iterable[str]:
    yield _block("cells", (f"{{{c.name} {c.vlnv} {pairs(c.config)}}}" for c in design.cells[1:]))
    yield _block("interfaces", (words((net.master, net.slave)) for net in design.interfaces))
    yield _block("nets", (words((net.source, *net.sinks)) for net in design.nets))
    yield _block(
        "segments",
        (words((s.segment, f"0x{s.offset:08X}", f"0x{s.range_bytes:X}")) for s in design.segments),
    )
    yield _block(
        "dram", (f"{{{w.space} {words(w.segments)} {words(w.excluded)}}}" for w in design.dram)
    )


def tcl_data(design: Design, board: Board) -> str:
    """Make the text of the data file."""
    facts = {
        "name": design.name,
        "board": design.board,
        "part": design.part,
        "board_part": design.board_part,
        "board_files": board.board_files,
        "space": design.space,
    }
    lines = [f"    {key} {word(value)}" for key, value in facts.items()]
    lines += [_ps(design), _clock(design), *_lists(design)]
    return "\n".join(["set DESIGN {", *lines, "}", ""])
