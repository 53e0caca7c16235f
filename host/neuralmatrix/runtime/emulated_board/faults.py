# SPDX-License-Identifier: Apache-2.0
"""Faults that the emulated board can inject.

In: nothing.  Out: ``Faults``, and ``Injector``, which says when they occur.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

Event = Literal["run", "fingerprint", "allocation"]


@dataclass(frozen=True)
class Faults:
    """Kinds and times of faults: the first ``after`` events succeed, then ``times`` of them fail
    (None: all).  Events are runs, runs of no instructions (for ``wrong_fingerprint``) and
    allocations, each counted from when these faults were set.

    >>> Faults(never_done=True, after=2, times=1)  # the third run hangs, the fourth works
    """

    never_done: bool = False
    """Half of the program runs; LOAD and FETCH finish, COMPUTE and STORE never do."""
    early_done: bool = False
    """Half of the program runs; all four kernels report that they are done."""
    refused_access: bool = False
    """LOAD refuses an access half way and sets its fault bit; the run ends there."""
    dma_error: bool | Literal["fetch", "load", "activations"] = False
    """The port reads zeros without an error; True: both ports; "activations": only what LOAD
    reads from the arena.
    """
    wrong_fingerprint: bool = False
    """The fingerprint register holds another array's fingerprint."""
    allocation_failure: bool = False
    """Allocations fail."""
    clock_mhz: float | None = None
    """The fabric's clock reads back as (nearly) this, whatever dividers are written."""
    after: int = 0
    times: int | None = None


class Injector:
    """Counts events since the faults were set."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._seen: Counter[Event] = Counter()

    def strike(self, event: Event) -> Faults:
        """Count one event; return the faults if it is one of those that fail, else none."""
        seen = self._seen[event]
        self._seen[event] += 1
        faults, times = self.faults, self.faults.times
        fails = seen >= faults.after and (times is None or seen < faults.after + times)
        return faults if fails else Faults()
