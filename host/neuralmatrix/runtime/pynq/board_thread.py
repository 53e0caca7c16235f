# SPDX-License-Identifier: Apache-2.0
"""The only thread that accesses the board.

In: calls.  Out: their results.
A process that was forked has a thread of its own.
The thread has its own event loop, on which pynq's interrupts arrive, so that a caller may run in
another loop, as a notebook does.  One call runs at a time, as the board requires.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from math import inf
from typing import Any, Generic, TypeVar

T = TypeVar("T")

PATIENCE_S = 1.0  # for a run that was given up, before the overlay is loaded again
_HERE = threading.local()


def _own_loop() -> None:
    asyncio.set_event_loop(asyncio.new_event_loop())


@lru_cache(maxsize=1)
def _executor() -> ThreadPoolExecutor:
    """Return the process's thread: pynq binds a board's interrupts to the first loop for good."""
    return ThreadPoolExecutor(1, "neuralmatrix-board", initializer=_own_loop)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_executor.cache_clear)  # threads are not inherited


class Task(Generic[T]):
    """A call on the board's thread; ``until``: the time at which a wait within it must end."""

    def __init__(self, call: Callable[[], T]) -> None:
        self.until = inf
        self._call = call
        self._future = _executor().submit(self._run)

    def _run(self) -> T:
        _HERE.task = self
        try:
            return self._call()
        finally:
            _HERE.task = None  # nor the objects of the call

    def result(self) -> T:
        """Wait for the call.  An interrupt of the wait, as by Ctrl-C, gives the call up."""
        try:
            return self._future.result()
        except BaseException:
            self.give_up()
            raise

    def give_up(self) -> None:
        """Give the call up: it ends soon, even if the board hangs."""
        self.until = min(self.until, time.monotonic() + PATIENCE_S)


def until() -> float:
    """Return when a wait on this thread must end, by ``time.monotonic``."""
    task = getattr(_HERE, "task", None)
    return inf if task is None else float(task.until)


def submit(call: Callable[..., T], *args: Any) -> Task[T]:
    """Queue a call for the board's thread."""
    return Task(partial(call, *args))


def run(call: Callable[..., T], *args: Any) -> T:
    """Run a call on the board's thread and wait for it."""
    return submit(call, *args).result()


def complete(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end; only on the board's thread."""
    return asyncio.get_event_loop().run_until_complete(work)
