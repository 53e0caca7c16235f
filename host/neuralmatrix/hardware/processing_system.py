# SPDX-License-Identifier: Apache-2.0
"""Families of devices: the resources of their processing systems (PS), and the names of these.

In: ``overlay/boards/families/*.json``.  Out: ``Family``.
A board file names its family; names of ports, pins and parameters are those of the PS IP.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import BadInput
from ..jsonform import FormError, from_json

MOST_DIVISOR = 1024
_HEX = re.compile("0x[0-9A-Fa-f]{1,16}")


@dataclass(frozen=True)
class Parameter:
    """A name and its value, as Vivado writes them."""

    name: str
    value: str


@dataclass(frozen=True)
class Ps:
    """The processing system: its IP, the automation that applies the board's preset, and the
    parameters that every design of the family sets."""

    cell: str
    vlnv: str
    rule: str
    automation: tuple[Parameter, ...]
    config: tuple[Parameter, ...]


@dataclass(frozen=True)
class ControlPort:
    """The PS master that reaches the kernels' registers, and the addresses it reaches."""

    name: str
    clock_pin: str
    space: str
    base: str  # hexadecimal
    end: str  # first address after it

    @property
    def base_address(self) -> int:
        """Address of the first register."""
        return int(self.base, 16)

    @property
    def end_address(self) -> int:
        """First address after the port's window."""
        return int(self.end, 16)


@dataclass(frozen=True)
class ClockSource:
    """The PS clock of the fabric: a PLL over two dividers."""

    pin: str
    enable: str  # parameter: the clock is on
    frequency: str  # parameter: requested MHz
    actual: str  # parameter: actual MHz
    source: str  # parameter: which PLL
    source_value: str
    divisors: tuple[str, str]  # parameters
    largest_divisor: int


@dataclass(frozen=True)
class MemoryPort:
    """A PS slave port to DRAM."""

    name: str
    enable: str  # parameter
    width: str  # parameter, in bits
    clock_pin: str
    segments: str  # prefix of its address segments' names


@dataclass(frozen=True)
class Family:
    """One family file."""

    name: Literal["zynq7000", "zynqmp"]
    title: str
    ps: Ps
    control: ControlPort
    clock: ClockSource
    reset_pin: str
    interrupt_pin: str
    memory_ports: tuple[MemoryPort, ...]
    port_bytes: tuple[int, ...]  # widths a memory port can have
    burst_beats: int  # longest burst that reaches the DRAM controller in one piece
    dram_segment: str
    dram_low_mbytes: int  # DRAM beyond this lies in the high segment
    dram_high_segment: str  # empty: there is none
    excluded_segments: tuple[str, ...]  # address segments of the ports besides DRAM
    dsp_type: Literal["DSP48E1", "DSP48E2"]
    uram: bool  # some parts of the family hold UltraRAM
    coherent: bool  # memory ports see the processor's caches
    notes: tuple[str, ...]

    def memory_port(self, name: str) -> MemoryPort | None:
        """Return the port of that name."""
        return next((port for port in self.memory_ports if port.name == name), None)

    def clock_choices(self, pll_mhz: float) -> Iterator[tuple[float, tuple[int, int]]]:
        """Return every frequency that dividers make from a PLL, with the dividers, unordered."""
        span = range(1, self.clock.largest_divisor + 1)
        return ((pll_mhz / (a * b), (a, b)) for a in span for b in span)

    def divisors(self, pll_mhz: float, clock_mhz: float) -> tuple[int, int] | None:
        """Return the dividers that make exactly that clock, as equal as possible, larger one first.

        >>> load_family(boards_dir(), "zynq7000").divisors(1000.0, 100.0)
        (5, 2)
        """
        exact = [
            divisors
            for mhz, divisors in self.clock_choices(pll_mhz)
            if abs(mhz - clock_mhz) <= 1e-6 * clock_mhz
        ]
        return min(exact, key=lambda d: (d[0] < d[1], d[0] - d[1]), default=None)

    def nearest_clock(self, pll_mhz: float, clock_mhz: float) -> float:
        """Return the fastest clock not above ``clock_mhz``, which a board file may use instead."""
        below = [mhz for mhz, _ in self.clock_choices(pll_mhz) if mhz <= clock_mhz]
        return max(below, default=pll_mhz)


def _check(family: Family) -> None:
    """Raise FormError for values that the type alone does not restrict."""
    divisor = family.clock.largest_divisor
    if not 1 <= divisor <= MOST_DIVISOR:
        raise FormError("clock.largest_divisor", f"1 to {MOST_DIVISOR}", divisor)
    for name in ("base", "end"):
        text = getattr(family.control, name)
        if not _HEX.fullmatch(text):
            raise FormError(f"control.{name}", "a hexadecimal address", text)


def load_family(folder: Path, name: str) -> Family:
    """Load the family called ``name`` of the board files in ``folder``."""
    path = folder / "families" / f"{name}.json"
    try:
        family = from_json(Family, json.loads(path.read_text(encoding="utf-8")), path.name)
        _check(family)
    except (OSError, ValueError, RecursionError) as error:
        text = str(error) if isinstance(error, FormError) else f"{path}: not readable: {error}"
        raise BadInput(f"{text}; see docs/add-a-board.md") from None
    if family.name != name:
        raise BadInput(f"{path}: name: found {family.name!r}, allowed is {name!r}")
    return family
