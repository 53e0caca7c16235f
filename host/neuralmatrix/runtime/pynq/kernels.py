# SPDX-License-Identifier: Apache-2.0
"""The four kernels of a loaded overlay: their registers written, started, awaited, read out.

In: a pynq.Overlay, a program's buffers.  Out: the hardware's counters; DeviceTimeout if a run
does not end, DeviceFault if it ends with a fault.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pynq

from ...errors import BadInput, DeviceFault, DeviceTimeout, WrongOverlay
from ...hardware.checksums import constant_checksum, instruction_checksum
from ...hardware.instruction_costs import costs
from ...hardware.isa import UNITS, Unit
from ...hardware.registers import FAULT_ADDRESS, FAULT_OPCODE, kernel_cell
from ...program.program import Program
from ..device import How
from .buffers import Buffers
from .ip_drivers import Kernel
from .waiting import by_interrupt, poll, uses_interrupt

TIMEOUT_BASE_SECONDS = 5.0  # allowance for a busy system
TIMEOUT_FACTOR = 20  # units overlap, so that the sum of their work far exceeds a run's time
_FAULTS = {
    FAULT_ADDRESS: "an access outside of its region was refused",
    FAULT_OPCODE: "an unknown instruction was skipped",
}
_READ = {"fetch": "instructions", "load": "constants"}


@dataclass(frozen=True)
class Job:
    """Counts and costs of a program, known before it runs."""

    instructions: int
    retired: tuple[int, ...]  # per unit
    read: dict[str, int]  # checksums, by the kernel that reads
    dram_bytes: int
    work_cycles: int  # of all units together

    def timeout(self, clock_mhz: float) -> float:
        """Return the seconds after which a run has certainly failed."""
        return TIMEOUT_BASE_SECONDS + TIMEOUT_FACTOR * self.seconds(clock_mhz)

    def seconds(self, clock_mhz: float) -> float:
        """Return an upper bound of a run's seconds by the cycle model."""
        return self.work_cycles / (clock_mhz * 1e6)


def job_of(program: Program) -> Job:
    """Compute a program's counts and costs."""
    found = costs(program.instructions, program.array, program.timing)
    retired = np.bincount(found.unit[found.unit >= 0], minlength=len(Unit))
    return Job(
        len(program.instructions),
        tuple(int(count) for count in retired),
        {
            "fetch": instruction_checksum(program.instructions),
            "load": constant_checksum(program.instructions, program.const, program.array.rows),
        },
        int(found.dram_bytes.sum()),
        int(found.cycles.sum()),
    )


EMPTY = Job(0, (0,) * len(Unit), {"fetch": 0, "load": 0}, 0, 0)


@dataclass(frozen=True)
class Counters:
    """The hardware's counters of one run: total cycles and busy cycles per unit."""

    cycles: int
    busy: dict[str, int]


def _cell(overlay: Any, kernel: str) -> Kernel:
    name = kernel_cell(kernel)
    ip = getattr(overlay, name, None) if name in overlay.ip_dict else None
    if not isinstance(ip, Kernel):
        raise WrongOverlay(
            f"{overlay.bitfile_name}: found no neuralmatrix kernel {name} among "
            f"{', '.join(overlay.ip_dict)}; load an overlay that 'make overlay' built"
        )
    return ip


class Kernels:
    """FETCH, LOAD, COMPUTE and STORE of one loaded overlay."""

    def __init__(self, overlay: pynq.Overlay) -> None:
        self.fetch = _cell(overlay, "fetch")
        self.units = tuple(_cell(overlay, name) for name in UNITS)
        self.all = (self.fetch, *self.units)  # the kernel that ends last is last
        for kernel in self.all:
            kernel.forget()
        if self.wired:
            self.all[-1].enable_interrupt()
        self._interrupt_arrives = True  # interrupts are used until one does not arrive

    @property
    def wired(self) -> bool:
        return bool(self.all[-1].wired)

    @property
    def fingerprint(self) -> str:
        """The array's fingerprint, as FETCH reported it at its last run."""
        return f"{self.fetch.get64('fingerprint'):016x}"

    def point_at(self, program: Program | None, buffers: Buffers | None) -> None:
        """Write the addresses of a program's memory; none for an empty run."""
        load, _, store = self.units
        const_bytes = program.const.nbytes if program else 0
        arena_bytes = program.arena_bytes if program else 0
        const, arena, words = (
            (b.const.device_address, b.arena.device_address, b.program.device_address)
            if (b := buffers)
            else (0, 0, 0)
        )
        for kernel in (load, store):
            kernel.put64("dram", 0)
            kernel.put64("arena_base", arena)
            kernel.put("arena_bytes", arena_bytes)
        load.put64("const_base", const)
        load.put("const_bytes", const_bytes)
        self.fetch.put64("code", words)
        self.fetch.put("count", len(program.instructions) if program else 0)

    def start(self) -> None:
        """Start the units first, as FETCH feeds them."""
        for kernel in (*self.units, self.fetch):
            kernel.start()

    def wait(self, how: How, expected_seconds: float, timeout_s: float) -> None:
        """Wait for all kernels.  DeviceTimeout: one is not done in time."""
        if how == "interrupt" and not self.wired:
            raise BadInput(
                "wait='interrupt': found no interrupt that pynq can use; allowed are 'poll' and "
                "'auto'"
            )
        began = time.monotonic()
        if self._interrupt_arrives and uses_interrupt(how, self.wired, expected_seconds):
            done, self._interrupt_arrives = by_interrupt(self.all, began + timeout_s)
        else:
            done = poll(self.all, began + timeout_s)
        if not done:
            names = ("fetch", *UNITS)
            waited = min(timeout_s, time.monotonic() - began)
            running = [n for n, kernel in zip(names, self.all, strict=True) if not kernel.done]
            raise DeviceTimeout(
                f"the array was not done after {waited:.3g} s: still running: "
                f"{', '.join(running)}.  The overlay is loaded again; run again, give a larger "
                "timeout_s, or compile the program again if it happens every time"
            )

    def counters(self, job: Job) -> Counters:
        """Read the counters.  DeviceFault: a kernel refused an access or instruction, read
        other bytes than the program's, or ended early.
        """
        self._check_read("fetch", job)  # first, as wrong instructions explain all other faults
        for name, kernel in zip(("fetch", *UNITS), self.all, strict=True):
            fault = kernel.get("fault")
            if fault:
                raise _fault(name, fault)
        retired = tuple(kernel.get("retired") for kernel in self.units)
        if retired != job.retired:
            raise DeviceFault(
                f"the array ended early: found {_named(retired)} instructions run, the program has "
                f"{_named(job.retired)}.  The overlay is loaded again; run again, and check the "
                "board's power supply and clock if it happens again"
            )
        self._check_read("load", job)
        ended = max(kernel.get64("ended") for kernel in self.units)
        busy = {n: k.get64("busy") for n, k in zip(UNITS, self.units, strict=True)}
        return Counters(ended - self.fetch.get64("began"), busy)

    def _check_read(self, name: str, job: Job) -> None:
        """Raise DeviceFault if a kernel read other bytes than the host wrote."""
        kernel = self.fetch if name == "fetch" else self.units[Unit.LOAD]
        found, wanted = kernel.get("checksum"), job.read[name]
        if found != wanted:
            raise DeviceFault(
                f"{name} read {_READ[name]} that differ from the program's: found checksum "
                f"{found:#010x}, the program has {wanted:#010x}.  The overlay is loaded again; run "
                "again, and check the board's power supply and clock, and whether other software "
                "writes to this memory, if it happens again"
            )


def _named(counts: tuple[int, ...]) -> str:
    return ", ".join(f"{name} {count}" for name, count in zip(UNITS, counts, strict=True))


def _fault(name: str, bits: int) -> DeviceFault:
    reasons = [text for bit, text in _FAULTS.items() if bits & bit] or ["an unknown reason"]
    return DeviceFault(
        f"{name} stopped with fault {bits:#x}: {' and '.join(reasons)}.  The overlay is loaded "
        "again; compile the program again with this version if it happens every time"
    )
