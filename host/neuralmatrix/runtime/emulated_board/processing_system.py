# SPDX-License-Identifier: Apache-2.0
"""The emulated board's surroundings of the fabric: memory to allocate, an interrupt, clocks.

In: the board's memory, interrupt pin and clock registers.  Out: objects that pynq's own code uses.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pynq
from pynq import ps as pynq_ps
from pynq.buffer import PynqBuffer

from ...hardware.board import Board, family_of
from .memory import BoardMemory, Buffer


def pynq_version() -> tuple[int, int]:
    """Return the major and minor version of the installed pynq."""
    major, minor = pynq.__version__.split(".")[:2]
    return int(major), int(minor)


# ------------------------------------------------------------------------------ memory


@dataclass(frozen=True)
class _Pointer:
    """The object that a freed buffer returns."""

    buffer: Buffer
    owner: weakref.ref[Any]


class Cma:
    """The memory of ``pynq.allocate``.  If ``refuse()`` is true, an allocation fails."""

    def __init__(self, device: Any, memory: BoardMemory, refuse: Callable[[], bool]) -> None:
        self._device, self._memory, self._refuse = device, memory, refuse

    def allocate(self, shape: Any, dtype: Any, cacheable: int = 0, **_: Any) -> Any:
        """Allocate a PynqBuffer.  RuntimeError, as on a board: there is no room."""
        if self._refuse():
            raise RuntimeError("BO allocation failed: the emulated board injects this fault")
        dtype = np.dtype(dtype)
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        buffer = self._memory.take(nbytes, bool(cacheable))
        array = PynqBuffer(
            shape,
            dtype,
            buffer=buffer.host,
            device=self._device,
            device_address=self._memory.address(buffer),
            bo=buffer,
            coherent=False,
        )
        array.pointer = _Pointer(buffer, weakref.ref(array))
        array.return_to = array.memory = self
        return array

    def return_pointer(self, pointer: _Pointer) -> None:
        """Free the buffer."""
        self._memory.give(pointer.buffer)
        owner = pointer.owner()
        if owner is not None:
            owner.freed = True  # pynq would unmap it by a library that only boards have


# ------------------------------------------------------------------------------ interrupts


class Uio:
    """Replaces pynq's UIO device: wakes waiting tasks while the pin is high.  Like pynq's device
    it outlives the bitstream, and so do the tasks that wait for it.

    ``level()``: the pin.  A UIO device belongs to the event loop in which pynq opened it.
    ``bound``: this one does, too, and a wait in another loop never ends, as on a board; otherwise
    it wakes any waiting loop.
    """

    def __init__(self, bound: bool) -> None:
        self.level: Callable[[], bool] = lambda: False
        self._bound = bound
        self._events: list[Any] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()

    def opened(self) -> None:
        """Called when pynq sets up the interrupt controller, in the thread that opens it."""
        if self._bound and self._loop is None:
            self._loop = asyncio.get_event_loop()

    def add_event(self, event: Any, _number: int) -> None:
        """Wake ``event`` at the next interrupt; called by pynq inside a coroutine."""
        with self._lock:
            self._events.append(event)
            if not self._bound:
                self._loop = asyncio.get_running_loop()
        self.changed(self.level())

    def changed(self, level: bool) -> None:
        """Called by any thread after the pin may have changed."""
        loop = self._loop
        if level and self._events and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        with self._lock:
            events, self._events = self._events, []
        for event in events:
            event.set()


# ------------------------------------------------------------------------------ clocks


class _KeepDividers(pynq_ps._ClocksZynq):  # type: ignore[misc]
    """pynq 4 dropped Zynq-7000 and finds no frequency in its hand-off; this class uses the
    dividers that the design names, as pynq 3 does."""

    divisors = (1, 1)

    def set_pl_clk(
        self, clk_idx: int, div0: Any = None, div1: Any = None, clk_mhz: Any = 100.0
    ) -> None:
        if clk_mhz is None and div0 is None and div1 is None:
            div0, div1 = self.divisors
        super().set_pl_clk(clk_idx, div0, div1, clk_mhz)


def clocks_of(board: Board) -> Any:
    """Return pynq's own clock code on the active device's registers."""
    if board.family != "zynq7000":
        return pynq_ps._ClocksUltrascale()
    if pynq_version() < (4, 0):
        return pynq_ps._ClocksZynq()
    clocks = _KeepDividers()
    clocks.divisors = family_of(board).divisors(board.pll_mhz, board.clock_mhz) or (1, 1)
    return clocks
