# SPDX-License-Identifier: Apache-2.0
"""A rig that drives an emulated board register by register, and the expected results of a run.

In: programs of tests/helpers/programs.py.  Out: ``Rig``; arenas and counters by device="emulation".
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from neuralmatrix.hardware.isa import UNITS, Opcode
from neuralmatrix.hardware.registers import AP_DONE, AP_START, CTRL, KERNELS, kernel_cell
from neuralmatrix.program.program import Program
from neuralmatrix.runtime.emulation.emulator import Emulator

RigMaker = Callable[..., Any]


class Rig:
    """A loaded overlay and the buffers of one program, driven by register writes alone."""

    def __init__(self, board: Any) -> None:
        import pynq

        self.board = board
        self.overlay = pynq.Overlay(str(board.overlay / "neuralmatrix.bit"))
        self.ips = {name: getattr(self.overlay, kernel_cell(name)) for name in KERNELS}
        self.arena: Any = None

    def offset(self, kernel: str, register: str) -> int:
        return int(self.ips[kernel]._registers[register]["address_offset"])

    def set(self, kernel: str, name: str, value: int) -> None:
        """Write an argument of one word or two."""
        ip, names = self.ips[kernel], self.ips[kernel]._registers
        if name in names:
            ip.write(self.offset(kernel, name), value)
        else:
            ip.write(self.offset(kernel, f"{name}_1"), value & 0xFFFFFFFF)
            ip.write(self.offset(kernel, f"{name}_2"), value >> 32)

    def get(self, kernel: str, name: str) -> int:
        ip, names = self.ips[kernel], self.ips[kernel]._registers
        if name in names:
            return int(ip.read(self.offset(kernel, name)))
        low, high = (ip.read(self.offset(kernel, f"{name}_{half}")) for half in (1, 2))
        return int(high << 32 | low)

    def load(self, program: Program, arena: Any = None, cacheable: int = 1) -> None:
        """Allocate, copy and flush everything, and write the pointers."""
        import pynq

        self.program = pynq.allocate(program.instructions.shape, "u4", cacheable=cacheable)
        self.const = pynq.allocate((max(1, program.const.nbytes),), "u1", cacheable=cacheable)
        self.arena = pynq.allocate((program.arena_bytes,), "u1", cacheable=cacheable)
        self.program[:] = program.instructions
        self.const[: program.const.nbytes] = program.const
        self.arena[:] = 0 if arena is None else arena
        for buffer in (self.program, self.const, self.arena):
            buffer.flush()
        self.set("fetch", "code", self.program.device_address)
        self.set("fetch", "count", len(program.instructions))
        self.set("load", "const_base", self.const.device_address)
        self.set("load", "const_bytes", program.const.nbytes)
        for kernel in ("load", "store"):
            self.set(kernel, "dram", 0)
            self.set(kernel, "arena_base", self.arena.device_address)
            self.set(kernel, "arena_bytes", program.arena_bytes)

    def free(self) -> None:
        for name in ("program", "const", "arena"):
            getattr(self, name).freebuffer()

    def start(self) -> None:
        for kernel in (*UNITS, "fetch"):
            self.ips[kernel].write(CTRL, AP_START)

    def wait(self, seconds: float = 20.0) -> list[str]:
        """Return kernels in the order in which they finish, until all are done or time is over."""
        done: list[str] = []
        until = time.monotonic() + seconds
        while len(done) < len(self.ips) and time.monotonic() < until:
            for kernel, ip in self.ips.items():
                if kernel not in done and ip.read(CTRL) & AP_DONE:
                    done.append(kernel)
        return done

    def run(self) -> None:
        self.start()
        assert set(self.wait()) == set(self.ips)

    def result(self) -> Any:
        """Return the arena as a plain array."""
        self.arena.invalidate()
        return np.array(self.arena)

    def counters(self, name: str) -> dict[str, int]:
        return {unit: self.get(unit, name) for unit in UNITS}


def noise(program: Program, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, program.arena_bytes, np.uint8)


def emulate(program: Program, arena: Any) -> tuple[Any, Any]:
    """Return arena and statistics of one run of device="emulation"."""
    p = program
    emulator = Emulator(p.array, p.timing, p.const, p.instructions, p.arena_bytes)
    emulator.arena[:] = arena
    stats = emulator.run()
    return emulator.arena, stats


def of_unit(program: Program) -> dict[str, int]:
    """Return the number of instructions per unit."""
    opcodes = program.instructions[:, 0] & 15
    compute = np.isin(opcodes, (Opcode.COMPUTE, Opcode.EPILOGUE))
    counts = ((opcodes == Opcode.LOAD).sum(), compute.sum(), (opcodes == Opcode.STORE).sum())
    return dict(zip(UNITS, map(int, counts), strict=True))
