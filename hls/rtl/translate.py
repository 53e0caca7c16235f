# SPDX-License-Identifier: Apache-2.0
"""LLVM IR of a unit to Verilog.

In: a unit, a board and the LLVM IR of the unit's source.  Out: ``Translated``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from neuralmatrix.hardware.board import Board

from . import standins
from .arithmetic import Graph
from .delays import budget_of, fabric_of, period_of
from .evaluate import Output, evaluate
from .llvm import RtlError
from .schedule import schedule
from .state import top_name, with_state
from .unit import Port, StandIn, Unit
from .verilog import Module, module


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
    def counted(self) -> tuple[str, str]:
        """What is counted: a top module and its text; a loop has its registers there."""
        name, text = self.unit.name, self.module.text
        registers = self.unit.state if isinstance(self.unit, Unit) else ()
        return (top_name(name), with_state(text, name, registers)) if registers else (name, text)

    @property
    def digest(self) -> str:
        """SHA-256 of the Verilog that is counted."""
        return hashlib.sha256(self.counted[1].encode()).hexdigest()

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


def stand_in(unit: StandIn, board: Board, folder: Path) -> Translated:
    """A stand-in with the board's parameters; it has no schedule, and so no longest path."""
    text = standins.verilog(unit, board)
    made = Translated(unit, board, (), folder, Module(text, (), ()), 0, 0.0)
    made.verilog.write_text(text, encoding="utf-8")
    return made
