# SPDX-License-Identifier: Apache-2.0
"""Waits until all kernels are done, by interrupt or by polling, with a deadline.

In: the kernels, a deadline.  Out: whether they were done in time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from ..device import How
from . import board_thread

SPIN_SECONDS = 200e-6  # by how much a sleep may exceed the requested time
SHORTEST_SLEEP = 50e-6
LONGEST_SLEEP = 5e-3
SLEEP_SHARE = 0.05  # share of the time waited so far by which the end may be detected late
INTERRUPT_SLICE = 0.1  # seconds after which a lost interrupt is detected
INTERRUPT_GRACE = 0.02  # seconds to wait for a late interrupt
INTERRUPT_PAYS = 2e-3  # seconds of a run above which an interrupt saves more than it costs


class _Interrupt(Protocol):
    async def wait(self) -> None: ...


class Waitable(Protocol):
    """The part of a kernel that waiting needs."""

    interrupt: _Interrupt

    @property
    def done(self) -> bool: ...

    @property
    def wired(self) -> bool: ...

    def clear_interrupt(self) -> None: ...


def poll(kernels: Sequence[Waitable], deadline: float) -> bool:
    """Read the done bits, first without a pause, then at growing intervals."""
    left, began = list(kernels), time.monotonic()
    while True:
        deadline = min(deadline, board_thread.until())
        left = [kernel for kernel in left if not kernel.done]
        now = time.monotonic()
        if not left:
            return True
        if now > deadline:  # this process may have been suspended while the array ran
            return all(kernel.done for kernel in left)
        if now - began > SPIN_SECONDS:
            pause = min(max(SHORTEST_SLEEP, SLEEP_SHARE * (now - began)), LONGEST_SLEEP)
            time.sleep(min(pause, max(0.0, deadline - now)))


async def _comes(last: Waitable, seconds: float) -> bool:
    """Return whether the interrupt arrives in time; if so, clear it."""
    try:
        await asyncio.wait_for(last.interrupt.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    last.clear_interrupt()
    return True


async def _promoted(last: Waitable, deadline: float) -> bool:
    """Until the kernel that ends last is done, or the time is over.  False: it is done, and its
    interrupt did not come: another event loop has it, or pynq lost it with an earlier overlay."""
    comes = True
    while not last.done:
        left = min(deadline, board_thread.until()) - time.monotonic()
        if left <= 0:
            return True
        comes = await _comes(last, min(left, INTERRUPT_SLICE))  # the done bit is decisive
    return comes or await _comes(last, INTERRUPT_GRACE)


def by_interrupt(kernels: Sequence[Waitable], deadline: float) -> tuple[bool, bool]:
    """Sleep until the last kernel's interrupt, then read all done bits; return whether all are
    done, and whether the interrupt arrived."""
    comes = board_thread.complete(_promoted(kernels[-1], deadline))
    return poll(kernels, deadline), comes


def uses_interrupt(how: How, wired: bool, expected_seconds: float) -> bool:
    """Return whether to wait by interrupt; "auto" does so for runs above a minimal length."""
    return how == "interrupt" or (how == "auto" and wired and expected_seconds > INTERRUPT_PAYS)
