# SPDX-License-Identifier: Apache-2.0
"""Waiting until all kernels are done: by interrupt or by polling, never without end.

In: the kernels, a deadline.  Out: whether they were done in time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from ..device import How
from . import board_thread

SPIN_SECONDS = 200e-6  # what a sleep may take longer than asked for
SHORTEST_SLEEP = 50e-6
LONGEST_SLEEP = 5e-3
SLEEP_SHARE = 0.05  # of the time waited so far: a run is noticed at most so much too late
INTERRUPT_SLICE = 0.1  # an interrupt that went missing costs no more than this
INTERRUPT_GRACE = 0.02  # for one that is only late
INTERRUPT_PAYS = 2e-3  # seconds of a run from which on an interrupt costs less than it saves


class _Interrupt(Protocol):
    async def wait(self) -> None: ...


class Waitable(Protocol):
    """What waiting needs of a kernel."""

    interrupt: _Interrupt

    @property
    def done(self) -> bool: ...

    @property
    def wired(self) -> bool: ...

    def clear_interrupt(self) -> None: ...


def poll(kernels: Sequence[Waitable], deadline: float) -> bool:
    """Read the done bits, first without a pause, then at ever longer intervals."""
    left, began = list(kernels), time.monotonic()
    while True:
        deadline = min(deadline, board_thread.until())
        left = [kernel for kernel in left if not kernel.done]
        now = time.monotonic()
        if not left:
            return True
        if now > deadline:  # this process may have been stopped, while the array was not
            return all(kernel.done for kernel in left)
        if now - began > SPIN_SECONDS:
            pause = min(max(SHORTEST_SLEEP, SLEEP_SHARE * (now - began)), LONGEST_SLEEP)
            time.sleep(min(pause, max(0.0, deadline - now)))


async def _comes(last: Waitable, seconds: float) -> bool:
    """Whether the interrupt comes in time; if so, it is lowered again."""
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
        comes = await _comes(last, min(left, INTERRUPT_SLICE))  # the done bit decides
    return comes or await _comes(last, INTERRUPT_GRACE)


def by_interrupt(kernels: Sequence[Waitable], deadline: float) -> tuple[bool, bool]:
    """Sleep until the last kernel's interrupt, then look at all of them: whether all are done, and
    whether the interrupt came."""
    comes = board_thread.complete(_promoted(kernels[-1], deadline))
    return poll(kernels, deadline), comes


def uses_interrupt(how: How, wired: bool, expected_seconds: float) -> bool:
    """Whether to wait by interrupt; "auto" does where a run is long enough for it to pay."""
    return how == "interrupt" or (how == "auto" and wired and expected_seconds > INTERRUPT_PAYS)
