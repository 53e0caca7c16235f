# SPDX-License-Identifier: Apache-2.0
"""Runs waiting requests of one program together.

In: a session, feeds of single requests.  Out: the answer to each.
Whenever the device is free it takes what waits, up to ``max_batch`` inputs: a request that finds it
idle starts at once, and under load batches form by themselves.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from ..errors import BadInput, NeuralMatrixError
from .protocol import Array, RequestRefused

Outputs = dict[str, Array]


@dataclass(frozen=True)
class Answer:
    """The outputs of one request, and the seconds of the run that it was part of."""

    outputs: Outputs
    run_s: float


class Runner(Protocol):
    """What runs inputs: a session's ``run``."""

    def __call__(self, feeds: Mapping[str, Array]) -> Outputs: ...


@dataclass(frozen=True)
class Limits:
    """``max_batch``: inputs that run together; ``max_queue``: inputs that wait, of one program;
    ``max_bytes``: of a request; ``read_s``: seconds in which a request must arrive."""

    max_batch: int = 32
    max_queue: int = 2048
    max_bytes: int = 64 << 20
    read_s: float = 30.0


@dataclass(frozen=True, eq=False)
class _Waiting:
    feeds: Mapping[str, Array]
    count: int
    answer: asyncio.Future[Answer]


class Batcher:
    """The queue of one program; ``seen(count)`` is told of each batch that runs."""

    def __init__(
        self,
        run: Runner,
        *,
        batches: bool,
        fixed: frozenset[str],
        limits: Limits,
        executor: Executor,
        seen: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._run, self._fixed, self._limits, self._seen = run, fixed, limits, seen
        self._most = limits.max_batch if batches else 1
        self._executor = executor
        self._queue: deque[_Waiting] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self._ended = False
        self._ran: list[int] = []  # sizes of what has run, for ``seen``; of the executor's thread

    @property
    def waiting(self) -> int:
        """How many inputs wait."""
        return sum(one.count for one in self._queue)

    def submit(self, feeds: Mapping[str, Array], count: int) -> asyncio.Future[Answer]:
        """Return the answer to come of one request of ``count`` inputs; who cancels it leaves the
        queue.

        RequestRefused (503): too many wait, or the server ends.
        """
        if self._ended:
            raise RequestRefused(503, "the server is shutting down; ask another one")
        waiting = self.waiting
        if waiting and waiting + count > self._limits.max_queue:
            raise RequestRefused(
                503, f"{waiting} inputs wait already, of at most {self._limits.max_queue}; "
                "ask again later, or of another server"
            )  # fmt: skip
        one = _Waiting(feeds, count, asyncio.get_running_loop().create_future())
        one.answer.add_done_callback(partial(self._left, one))
        self._queue.append(one)
        self._start()
        return one.answer

    def _left(self, one: _Waiting, answer: asyncio.Future[Answer]) -> None:
        if answer.cancelled() and one in self._queue:
            self._queue.remove(one)

    def _start(self) -> None:
        """Run what waits, unless the device is busy."""
        if self._idle.is_set() and self._queue:
            self._idle.clear()
            loop = asyncio.get_running_loop()
            self._executor.submit(self._work, loop, self._next())

    def _work(self, loop: asyncio.AbstractEventLoop, batch: list[_Waiting]) -> None:
        loop.call_soon_threadsafe(self._done, batch, self._together(batch))
        while self._ran:  # while the loop awakes
            self._seen(self._ran.pop())

    def _done(self, batch: list[_Waiting], found: list[Answer | Exception]) -> None:
        """Begin the next batch, and answer this one."""
        self._idle.set()
        self._start()
        for one, result in zip(batch, found, strict=True):
            _settle(one.answer, result)

    def end(self) -> None:
        """Refuse what waits and what comes; what runs is answered."""
        self._ended = True
        waiting = list(self._queue)
        self._queue.clear()
        for one in waiting:
            _settle(one.answer, RequestRefused(503, "the server is shutting down; ask another one"))

    async def ended(self) -> None:
        """Wait for what runs."""
        await self._idle.wait()

    def _next(self) -> list[_Waiting]:
        """Take the first request that waits, and those behind it that fit in its batch."""
        batch = [self._queue.popleft()]
        count = batch[0].count
        while self._queue and count + self._queue[0].count <= self._most:
            count += self._queue[0].count
            batch.append(self._queue.popleft())
        return batch

    def _together(self, batch: list[_Waiting]) -> list[Answer | Exception]:
        """Return the result of each request; where all fail together, of parts of them."""
        if len(batch) == 1:
            return [self._alone(batch[0])]
        names, began = batch[0].feeds, time.perf_counter()
        try:
            found = self._run({n: np.concatenate([one.feeds[n] for one in batch]) for n in names})
        except BadInput:  # before anything ran: halves, so that the good ones stay together
            half = len(batch) // 2
            return [*self._together(batch[:half]), *self._together(batch[half:])]
        except NeuralMatrixError:
            return [self._alone(one) for one in batch]
        except (
            Exception
        ) as error:  # whatever a run raises is that of its requests, not of the server
            return [error] * len(batch)
        run_s = time.perf_counter() - began
        self._ran.append(sum(one.count for one in batch))
        ends = np.cumsum([one.count for one in batch])
        return [Answer(self._part(found, end - one.count, end), run_s)
                for one, end in zip(batch, ends, strict=True)]  # fmt: skip

    def _alone(self, one: _Waiting) -> Answer | Exception:
        began = time.perf_counter()
        try:
            found = self._run(one.feeds)
        except Exception as error:  # as above
            return error
        self._ran.append(one.count)
        return Answer(found, time.perf_counter() - began)

    def _part(self, found: Outputs, start: int, end: int) -> Outputs:
        return {name: y if name in self._fixed else y[start:end] for name, y in found.items()}


def _settle(answer: asyncio.Future[Any], result: Any) -> None:
    if answer.done():  # its client is gone
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
