# SPDX-License-Identifier: Apache-2.0
"""The clock of measurements, which tests replace by their own.

In: nothing.  Out: ``SYSTEM``, the machine's clocks and a thread per repeated call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Clock(Protocol):
    """The clock that measurements use; all times in seconds."""

    def now(self) -> float:
        """Return monotonic time from an arbitrary start."""

    def wall(self) -> float:
        """Return the time since 1970, UTC."""

    def sleep(self, seconds: float) -> None: ...

    def every(self, seconds: float, call: Callable[[], None]) -> AbstractContextManager[None]:
        """Call ``call`` repeatedly while the body runs."""


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> float:
        return time.perf_counter()

    def wall(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    @contextmanager
    def every(self, seconds: float, call: Callable[[], None]) -> Iterator[None]:
        stop = threading.Event()

        def repeat() -> None:
            due = time.perf_counter()
            while not stop.is_set():
                call()
                due = max(due + seconds, time.perf_counter())
                stop.wait(due - time.perf_counter())

        thread = threading.Thread(target=repeat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


SYSTEM = SystemClock()
