# SPDX-License-Identifier: Apache-2.0
"""Registers of the emulated board: a kernel's control interface, the interrupt controller, and the
processor's clock registers.

In: reads and writes of 32-bit words.  Out: the words, and calls when a kernel is started or an
interrupt line changes.  Offsets are those of Vitis HLS (UG1399, S_AXILITE control registers), of
AXI INTC v4.1 (PG099), and of the processors' manuals (UG585 SLCR, UG1087 CRL_APB and CRF_APB).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...hardware.processing_system import Family
from ...hardware.registers import (
    AP_DONE,
    AP_IDLE,
    AP_READY,
    AP_START,
    CTRL,
    GIE,
    IER,
    ISR,
    KERNELS,
    registers,
)

AUTO_RESTART = 0x80
INTERRUPT = 0x200  # CTRL: the interrupt line
WORD = 0xFFFFFFFF


class HlsBlock:
    """One kernel's registers.  ``started()`` is called when the host starts it, ``line(level)``
    when its interrupt pin changes.  The owner calls ``put`` and ``finish``."""

    def __init__(
        self, kernel: str, started: Callable[[], None], line: Callable[[bool], None]
    ) -> None:
        self.kernel = kernel
        self._started, self._line = started, line
        self._table = {register.offset: register for register in registers(kernel)}
        self._offsets = {register.name: register.offset for register in registers(kernel)}
        self._words = dict.fromkeys(self._table, 0)
        self.running = False
        self._flags = 0  # AP_DONE and AP_READY until they are read
        self._restart = False
        self._gie = self._ier = self._isr = 0

    # -------------------------------------------------------------------- the host's side

    def read(self, offset: int) -> int:
        """Read a word; reading CTRL or an output's valid bit clears it."""
        if offset == CTRL:
            return self._read_ctrl()
        if offset in (GIE, IER, ISR):
            return {GIE: self._gie, IER: self._ier, ISR: self._isr}[offset]
        value = self._words.get(offset, 0)
        if offset in self._table and self._table[offset].name.endswith("_ctrl"):
            self._words[offset] = 0
        return value

    def _read_ctrl(self) -> int:
        value = self._flags | (AP_START if self.running else AP_IDLE)
        value |= AUTO_RESTART * self._restart | INTERRUPT * self._level
        self._flags = 0
        return value

    def write(self, offset: int, value: int) -> None:
        """Write a word; outputs and unknown offsets ignore it."""
        if offset == CTRL:
            self._restart = bool(value & AUTO_RESTART)
            if value & AP_START and not self.running:
                self._begin()
        elif offset in (GIE, IER, ISR):
            self._write_interrupt(offset, value)
        elif offset in self._table and self._table[offset].writable:
            self._words[offset] = value & WORD

    def _begin(self) -> None:
        self.running = True
        self._started()

    def _write_interrupt(self, offset: int, value: int) -> None:
        if offset == GIE:
            self._gie = value & 1
        elif offset == IER:
            self._ier = value & 3
        else:
            self._isr ^= value & 3  # writing 1 toggles
        self._line(self._level)

    @property
    def _level(self) -> bool:
        return bool(self._gie and self._isr)

    # -------------------------------------------------------------------- the kernel's side

    def argument(self, name: str) -> int:
        """Return an argument of one or two words, as the kernel reads it."""
        if name in self._offsets:
            return self._words[self._offsets[name]]
        low, high = (self._words[self._offsets[f"{name}_{half}"]] for half in (1, 2))
        return high << 32 | low

    def put(self, name: str, value: int) -> None:
        """Set an output, and its valid bit."""
        halves = {name: 0} if name in self._offsets else {f"{name}_1": 0, f"{name}_2": 32}
        for half, shift in halves.items():
            self._words[self._offsets[half]] = value >> shift & WORD
        self._words[self._offsets[f"{name}_ctrl"]] = 1

    def finish(self) -> None:
        """Record that the kernel has returned."""
        self.running = False
        self._flags = AP_DONE | AP_READY
        self._isr |= self._ier
        self._line(self._level)
        if self._restart:
            self._begin()


def outputs(kernel: str) -> tuple[str, ...]:
    """Return the names of the values that a kernel writes."""
    return tuple(argument.name for argument in KERNELS[kernel] if argument.output)


# ------------------------------------------------------------------------------ interrupts


class InterruptController:
    """An AXI INTC with level-sensitive inputs.  ``output(level)`` is called when its pin may have
    changed.  An input that is still high when it is acknowledged is pending again at once."""

    ISR, IPR, IER, IAR, SIE, CIE, IVR, MER = range(0x00, 0x20, 4)

    def __init__(self, output: Callable[[bool], None]) -> None:
        self._output = output
        self._lines = self._isr = self._ier = self._mer = 0

    @property
    def level(self) -> bool:
        """The interrupt pin."""
        return bool(self._mer & 1 and self._isr & self._ier)

    def read(self, offset: int) -> int:
        """Read a word; write-only registers read as 0."""
        pending = self._isr & self._ier
        lowest = (pending & -pending).bit_length() - 1 if pending else WORD
        words = {self.ISR: self._isr, self.IPR: pending, self.IER: self._ier, self.IVR: lowest}
        return {**words, self.MER: self._mer}.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """Set, clear or acknowledge."""
        if offset == self.IAR:
            self._isr &= ~value
        elif offset == self.MER:
            self._mer |= value & 2  # hardware interrupts stay enabled
            self._mer = self._mer & 2 | value & 1
        elif offset in (self.IER, self.SIE, self.CIE):
            kept = {self.IER: 0, self.SIE: self._ier, self.CIE: self._ier & ~value}[offset]
            self._ier = kept if offset == self.CIE else kept | value
        elif offset == self.ISR and not self._mer & 2:
            self._isr = value  # software interrupts are possible until hardware ones are enabled
        self._latch()

    def set_line(self, number: int, level: bool) -> None:
        """Change an input."""
        self._lines = self._lines & ~(1 << number) | level << number
        self._latch()

    def _latch(self) -> None:
        if self._mer & 2:
            self._isr |= self._lines
        self._output(self.level)


# ------------------------------------------------------------------------------ clocks


@dataclass(frozen=True)
class ClockMap:
    """Addresses of a family's PLLs and clock 0, and the places of the fields in a word."""

    reference_mhz: float  # as assumed by pynq
    plls: dict[int, tuple[float, int]]  # address: MHz at power-up (0: the board's), low bit of FDIV
    pll_halved: int  # bit that halves a PLL's output; 0: there is none
    words: dict[int, int]  # other words at power-up
    clock0: int  # address
    divisors: tuple[int, int]  # low bits of the two fields


CLOCKS = {
    "zynq7000": ClockMap(
        reference_mhz=50.0,
        plls={0xF8000100: (1300.0, 12), 0xF8000104: (1050.0, 12), 0xF8000108: (0.0, 12)},
        pll_halved=0,
        words={0xF8000120: 2 << 8},  # CPU clock: ARM PLL / 2
        clock0=0xF8000170,
        divisors=(8, 20),
    ),
    "zynqmp": ClockMap(
        reference_mhz=33.333,
        plls={0xFF5E0020: (0.0, 8), 0xFD1A0020: (1200.0, 8)},
        pll_halved=1 << 16,
        words={0xFD1A0060: 1 << 8, 0xFF5E00C0: 1 << 24},  # CPU clock: APLL; PL0 is on
        clock0=0xFF5E00C0,
        divisors=(8, 16),
    ),
}
FIELD = 0x3F  # mask of a divider


class PsRegisters:
    """The processor's registers that pynq touches.  ``stuck_mhz()`` names the clock that the
    fabric keeps regardless of writes, or None."""

    def __init__(
        self, family: Family, pll_mhz: float, stuck_mhz: Callable[[], float | None]
    ) -> None:
        self._map, self._family, self._pll_mhz = CLOCKS[family.name], family, pll_mhz
        self._stuck_mhz = stuck_mhz
        self.words = dict(self._map.words)
        for address, (mhz, bit) in self._map.plls.items():
            self.words[address] = self._pll_word(mhz or pll_mhz, bit)
        self.words[self._map.clock0] = self._dividers(63, 63)  # slow until a bitstream is loaded

    def _pll_word(self, mhz: float, bit: int) -> int:
        halves = 2 if self._map.pll_halved else 1
        return round(mhz * halves / self._map.reference_mhz) << bit | self._map.pll_halved

    def _dividers(self, first: int, second: int) -> int:
        low, high = self._map.divisors
        kept = self.words[self._map.clock0] if self._map.clock0 in self.words else 0
        kept &= ~(FIELD << low | FIELD << high)
        return kept | first << low | second << high

    def read(self, address: int) -> int:
        """Read a word; words never written read as 0."""
        stuck = self._stuck_mhz()
        if address == self._map.clock0 and stuck is not None:
            choices = self._family.clock_choices(self._pll_mhz)
            _, (first, second) = min(choices, key=lambda choice: abs(choice[0] - stuck))
            return self._dividers(first, second)
        return self.words.get(address, 0)

    def write(self, address: int, value: int) -> None:
        """Write a word."""
        self.words[address] = value & WORD
