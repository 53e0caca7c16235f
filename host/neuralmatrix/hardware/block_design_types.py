# SPDX-License-Identifier: Apache-2.0
"""The types of a block design.

In: facts about cells and wires.  Out: ``Design``, which ``block_design.design_of`` makes.
"""

from __future__ import annotations

from dataclasses import dataclass

from .processing_system import Family, Parameter


@dataclass(frozen=True)
class Cell:
    """An instance of an IP and the parameters that differ from its defaults."""

    name: str
    vlnv: str
    config: tuple[Parameter, ...] = ()

    @property
    def ip(self) -> str:
        """The IP without its version, for example ``xilinx.com:ip:axi_intc``."""
        return self.vlnv.rpartition(":")[0]

    def value(self, name: str) -> str | None:
        """Return the value of a parameter, or None for its default."""
        return next((p.value for p in self.config if p.name == name), None)


@dataclass(frozen=True)
class InterfaceNet:
    """A bus from ``CELL/PIN`` to ``CELL/PIN``."""

    master: str
    slave: str


@dataclass(frozen=True)
class Net:
    """Wires from the ``CELL/PIN`` that drives to those that receive."""

    source: str
    sinks: tuple[str, ...]


@dataclass(frozen=True)
class Segment:
    """Registers of a cell as the processor sees them."""

    cell: str
    interface: str  # pin of the cell
    segment: str  # Vivado's name of the register block
    offset: int
    range_bytes: int


@dataclass(frozen=True)
class DramWindow:
    """DRAM as the master port of a kernel sees it."""

    space: str
    segments: tuple[str, ...]
    excluded: tuple[str, ...]


@dataclass(frozen=True)
class Clock:
    """The only clock: what it is, and how the PS makes it."""

    pin: str  # CELL/PIN
    mhz: float
    pll_mhz: float
    divisors: tuple[int, int]


@dataclass(frozen=True)
class Design:
    """A whole block design."""

    name: str
    board: str
    part: str
    board_part: str
    family: Family
    clock: Clock
    space: str  # address space of the processor
    cells: tuple[Cell, ...]  # the processing system first
    interfaces: tuple[InterfaceNet, ...]
    nets: tuple[Net, ...]
    interrupts: tuple[str, ...]  # cells in the order of the interrupt controller's inputs
    segments: tuple[Segment, ...]
    dram: tuple[DramWindow, ...]

    @property
    def ps(self) -> Cell:
        """The processing system."""
        return self.cells[0]

    def cell(self, name: str) -> Cell:
        """Return the cell called ``name``."""
        return next(cell for cell in self.cells if cell.name == name)
