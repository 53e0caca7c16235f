# SPDX-License-Identifier: Apache-2.0
"""The kernels' control registers and the offsets that Vitis HLS gives them.

In: nothing.  Out: each kernel's s_axilite arguments in the order of its C signature, and an
address map in the tool's layout for the emulated board.  A driver takes offsets from the .hwh.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

VENDOR, LIBRARY, VERSION = "neuralmatrix", "hls", "1.0"

# The block-level protocol ap_ctrl_hs: offsets and bits.
CTRL, GIE, IER, ISR = 0x00, 0x04, 0x08, 0x0C
AP_START, AP_DONE, AP_IDLE, AP_READY = 1, 2, 4, 8
FIRST_ARGUMENT = 0x10
ADDRESS_RANGE = 0x10000  # of one kernel's control interface
FAULT_ADDRESS, FAULT_OPCODE = 1, 2  # bits of the register "fault", named as in nm/kernels.h


@dataclass(frozen=True)
class Argument:
    """One s_axilite argument; an output is written by the kernel and read by the host."""

    name: str
    bits: Literal[32, 64]
    output: bool = False


def _counters() -> tuple[Argument, ...]:
    return (
        Argument("busy", 64, output=True),  # cycles spent on instructions
        Argument("ended", 64, output=True),  # the cycle counter at END
        Argument("retired", 32, output=True),  # instructions run, without END
        Argument("fault", 32, output=True),  # FAULT_... bits of nm/kernels.h
    )


KERNELS: dict[str, tuple[Argument, ...]] = {
    "fetch": (
        Argument("code", 64),
        Argument("count", 32),
        Argument("fingerprint", 64, output=True),
        Argument("began", 64, output=True),  # the cycle counter before the first instruction
        Argument("fault", 32, output=True),
        Argument("checksum", 32, output=True),  # of the instructions read, as in checksums.py
    ),
    "load": (
        Argument("dram", 64),
        Argument("const_base", 64),
        Argument("const_bytes", 32),
        Argument("arena_base", 64),
        Argument("arena_bytes", 32),
        *_counters(),
        Argument("checksum", 32, output=True),  # of the constants read, as in checksums.py
    ),
    "compute": _counters(),
    "store": (
        Argument("dram", 64),
        Argument("arena_base", 64),
        Argument("arena_bytes", 32),
        *_counters(),
    ),
}


def vlnv(kernel: str) -> str:
    """Return vendor, library, name and version of a kernel's IP."""
    return f"{VENDOR}:{LIBRARY}:{kernel}:{VERSION}"


def kernel_cell(kernel: str) -> str:
    """Return the name of a kernel's cell in the block design."""
    return f"{kernel}_0"


@dataclass(frozen=True)
class Register:
    """One 32-bit word of a kernel's address map."""

    name: str
    offset: int
    writable: bool


def _words(argument: Argument, offset: int) -> Iterator[Register]:
    """List an argument's words: 64 bits take NAME_1 and NAME_2; an output adds its valid bit."""
    halves = ("",) if argument.bits == 32 else ("_1", "_2")
    for i, half in enumerate(halves):
        yield Register(argument.name + half, offset + 4 * i, not argument.output)
    if argument.output:
        yield Register(f"{argument.name}_ctrl", offset + 4 * len(halves), False)


def registers(kernel: str) -> tuple[Register, ...]:
    """Lay out a kernel's argument registers, with one free word between two of them."""
    found: list[Register] = []
    offset = FIRST_ARGUMENT
    for argument in KERNELS[kernel]:
        found += _words(argument, offset)
        offset = found[-1].offset + 8
    return tuple(found)
