# SPDX-License-Identifier: Apache-2.0
"""Faults that the emulated board can be told to have.

In: nothing.  Out: ``Faults``, and ``Injector``, which says when they strike.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

Event = Literal["run", "fingerprint", "allocation"]


@dataclass(frozen=True)
class Faults:
    """What goes wrong, and when: the first ``after`` events go well, then ``times`` of them fail
    (None: all).  Events are runs, runs of no instructions (for ``wrong_fingerprint``) and
    allocations, each counted from the moment these faults were set.

    >>> Faults(never_done=True, after=2, times=1)  # the third run hangs, the fourth works
    """

    never_done: bool = False
    """Half of the program runs; LOAD and FETCH finish, COMPUTE and STORE never do."""
    early_done: bool = False
    """Half of the program runs; all four kernels say that they are done."""
    refused_access: bool = False
    """LOAD refuses an access half way and says so; the run ends there."""
    dma_error: bool | Literal["fetch", "load", "activations"] = False
    """What the port reads is zeros, and it does not tell; True: both ports; "activations": what
    LOAD reads of the arena alone.
    """
    wrong_fingerprint: bool = False
    """The fingerprint register holds another array's."""
    allocation_failure: bool = False
    """No buffer is handed out."""
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
        """One more event: the faults if it is one of those that fail, else none."""
        seen = self._seen[event]
        self._seen[event] += 1
        faults, times = self.faults, self.faults.times
        fails = seen >= faults.after and (times is None or seen < faults.after + times)
        return faults if fails else Faults()
