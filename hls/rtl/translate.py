# SPDX-License-Identifier: Apache-2.0
"""LLVM IR of a unit to Verilog.

In: a unit, a board and the LLVM IR of the unit's source.  Out: ``Translated``.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from neuralmatrix.hardware.board import Board

from .arithmetic import Graph
from .delays import budget_of, fabric_of, period_of
from .evaluate import Output, evaluate
from .llvm import RtlError
from .schedule import schedule
from .unit import Port, StandIn, Unit
from .verilog import Module, module

STAND_INS = Path(__file__).resolve().parent / "verilog"


@dataclass(frozen=True)
class Translated:
    """A unit for one board, in Verilog, and what its schedule says."""

    unit: Unit | StandIn
    board: Board
    ports: tuple[Port, ...]
    folder: Path
    module: Module
    latency: int  # cycles from inputs to outputs
    longest_ns: float

    @property
    def family(self) -> str:
        return fabric_of(self.board).family

    @property
    def verilog(self) -> Path:
        return self.folder / f"{self.unit.name}.v"

    @property
    def digest(self) -> str:
        """SHA-256 of the Verilog."""
        return hashlib.sha256(self.module.text.encode()).hexdigest()

    @property
    def period_ns(self) -> float:
        return period_of(self.board)


def _check_written(ports: tuple[Port, ...], outputs: list[Output]) -> None:
    """Refuses a wrapper that leaves an output alone, since nothing of it would be compared."""
    written = {(each.port, each.element) for each in outputs}
    for p in ports:
        for k in range(len(p.elements) if p.kind == "out" else 0):
            if (p.name, k) not in written:
                raise RtlError(f"the wrapper does not write {p.name}[{k}]")


def translate(unit: Unit, board: Board, ll: Path) -> Translated:
    """The unit's module, written beside the LLVM IR."""
    ports = unit.ports(board)
    graph = Graph()
    try:
        outputs = evaluate(graph, ll.read_text(encoding="utf-8"), unit.name, ports)
        _check_written(ports, outputs)
    except RtlError as error:
        raise RtlError(f"{unit.name} for {board.name}: {error}") from None
    static = {p.name for p in ports if p.kind == "static"}
    found = schedule(graph, outputs, static, fabric_of(board), budget_of(board), unit.loop)
    made = Translated(
        unit,
        board,
        ports,
        ll.parent,
        module(unit.name, found),
        found.latency,
        round(found.longest_ns, 2),
    )
    made.verilog.write_text(made.module.text, encoding="utf-8")
    return made


def stand_in_text(unit: StandIn, board: Board) -> str:
    """The Verilog of a stand-in with the board's parameters."""
    text = (STAND_INS / f"{unit.name}.v").read_text(encoding="utf-8")
    for name, value in unit.parameters(board).items():
        text, found = re.subn(rf"(parameter\s+{name}\s*=\s*)\d+", rf"\g<1>{value}", text)
        if found != 1:
            raise RtlError(f"{unit.name}.v has {found} parameters {name}; it must have one")
    return text


def stand_in(unit: StandIn, board: Board, folder: Path) -> Translated:
    """A stand-in for a board; it has no schedule, and so no longest path."""
    text = stand_in_text(unit, board)
    made = Translated(unit, board, (), folder, Module(text, (), ()), 0, 0.0)
    made.verilog.write_text(text, encoding="utf-8")
    return made
