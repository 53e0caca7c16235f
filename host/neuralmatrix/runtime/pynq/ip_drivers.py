# SPDX-License-Identifier: Apache-2.0
"""pynq drivers of the four kernels, which Overlay() binds by VLNV.

In: a cell's description from the .hwh.  Out: registers by name, start, done, interrupt.
Importing this module imports pynq and registers the drivers.
"""

from __future__ import annotations

from typing import Any

from pynq import DefaultIP

from ...errors import WrongOverlay
from ...hardware.registers import AP_DONE, AP_START, CTRL, GIE, IER, ISR, vlnv


class Kernel(DefaultIP):  # type: ignore[misc]
    """A kernel under the block protocol ap_ctrl_hs."""

    def __init__(self, description: dict[str, Any]) -> None:
        super().__init__(description)
        self._name = str(description.get("fullpath", "a kernel"))
        registers = description.get("registers", {})
        self._offsets = {name: int(r["address_offset"]) for name, r in registers.items()}
        self._done = False

    # ---- arguments

    def _offset(self, name: str) -> int:
        try:
            return self._offsets[name]
        except KeyError:
            raise WrongOverlay(
                f"{self._name}: found no register {name!r} in the .hwh, which has "
                f"{', '.join(self._offsets)}; build the overlay with this version of neuralmatrix"
            ) from None

    def put(self, name: str, value: int) -> None:
        """Write a 32-bit argument."""
        self.write(self._offset(name), int(value))

    def put64(self, name: str, value: int) -> None:
        """Write a 64-bit argument, as two words."""
        self.put(f"{name}_1", int(value) & 0xFFFFFFFF)
        self.put(f"{name}_2", int(value) >> 32)

    def get(self, name: str) -> int:
        """Read a 32-bit result without pynq's read(), whose checks take longer than reading."""
        return int(self.mmio.array[self._offset(name) // 4])

    def get64(self, name: str) -> int:
        """Read a 64-bit result."""
        return self.get(f"{name}_1") | self.get(f"{name}_2") << 32

    # ---- control

    def start(self) -> None:
        """Start the kernel and clear the done bit of an earlier run."""
        self._done = False
        self.write(CTRL, AP_START)

    def forget(self) -> None:
        """Clear the done bit of a run that was given up, by reading it."""
        self.read(CTRL)
        self._done = False

    @property
    def done(self) -> bool:
        """Whether the run has ended.  Reading CTRL clears its done bit, so it is kept here."""
        if not self._done:
            self._done = bool(self.read(CTRL) & AP_DONE)
        return self._done

    # ---- interrupt

    @property
    def wired(self) -> bool:
        """Whether pynq found the kernel's interrupt."""
        return getattr(self, "interrupt", None) is not None

    def enable_interrupt(self) -> None:
        """Enable the interrupt at the end of every run."""
        self.clear_interrupt()
        self.write(GIE, 1)
        self.write(IER, 1)

    def clear_interrupt(self) -> None:
        """Lower the interrupt; writing a set bit toggles it."""
        pending = int(self.read(ISR)) & 3
        if pending:
            self.write(ISR, pending)


class FetchKernel(Kernel):
    """Reads the program."""

    bindto = [vlnv("fetch")]


class LoadKernel(Kernel):
    """Reads DRAM."""

    bindto = [vlnv("load")]


class ComputeKernel(Kernel):
    """The array and its epilogue."""

    bindto = [vlnv("compute")]


class StoreKernel(Kernel):
    """Writes DRAM."""

    bindto = [vlnv("store")]
