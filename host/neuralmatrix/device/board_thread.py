# SPDX-License-Identifier: Apache-2.0
"""The one thread that talks to the board.

In: calls.  Out: their results.
It has an event loop of its own, on which pynq's interrupts arrive, so that a caller may itself sit
inside a running loop, as a notebook does; and one call runs at a time, as the board needs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

T = TypeVar("T")


def _own_loop() -> None:
    asyncio.set_event_loop(asyncio.new_event_loop())


@lru_cache(maxsize=1)
def _executor() -> ThreadPoolExecutor:
    """pynq ties a board's interrupts to the loop it first met for good: one thread per process."""
    return ThreadPoolExecutor(1, "neuralmatrix-board", initializer=_own_loop)


def submit(call: Callable[..., T], *args: Any) -> Future[T]:
    """Queue a call for the board's thread."""
    return _executor().submit(call, *args)


def run(call: Callable[..., T], *args: Any) -> T:
    """Run a call on the board's thread and wait for it."""
    return submit(call, *args).result()


def complete(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end; only on the board's thread."""
    return asyncio.get_event_loop().run_until_complete(work)
