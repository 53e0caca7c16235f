# SPDX-License-Identifier: Apache-2.0
"""Workers of Dask: processes of this machine, or of a cluster that runs already.

In: pieces of work.  Out: their results, in the order of their ends.
Nothing lives in a worker alone: what pieces share is itself a task, which Dask does again where
its worker died, and the pieces hold their own data.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import Any

import numpy as np

from .._version import __version__
from ..errors import BadInput, HostUnreachable, RemoteFailure, ToolMissing
from .metrics import Sums
from .workers import Chunk, Feeds, Here, Job, Workers, scored

CONNECT_SECONDS = 15
WAITING = 3  # pieces per worker's thread that are on their way


class Dask:
    """The workers behind a client of ``dask.distributed``; ``threads``: of each piece."""

    def __init__(self, client: Any, threads: int = 1) -> None:
        self.client = client
        self.threads = threads

    @property
    def inner(self) -> Workers:
        return Here(self.threads)

    def each(
        self, call: Callable[[Any, Any], Any], shared: Any, items: Iterable[Any]
    ) -> Iterator[tuple[int, Any]]:
        """Yield each item's result; few pieces are on their way at once, so that a data set does
        not fill the scheduler's memory."""
        from distributed import KilledWorker, as_completed

        common = self.client.submit(_same, shared, pure=False)
        todo = enumerate(items)
        numbers: dict[Any, int] = {}

        def submit(count: int) -> list[Any]:
            futures = []
            for number, item in islice(todo, count):
                future = self.client.submit(call, common, item, pure=False)
                numbers[future] = number
                futures.append(future)
            return futures

        ended = as_completed(submit(self._most()))
        try:
            for future in ended:
                yield numbers.pop(future), future.result()
                ended.update(submit(max(1, self._most() - len(numbers))))
        except KilledWorker as error:
            raise RemoteFailure(
                f"a piece of work ended several workers, as too little memory would ({error}); "
                "give each worker more, or take smaller chunks"
            ) from None
        finally:
            self.client.cancel(list(numbers))

    def score(self, job: Job, chunks: Iterable[Chunk]) -> Iterator[tuple[int, Sums]]:
        narrow = (Chunk(_narrow(chunk.feeds), chunk.truth) for chunk in chunks)
        yield from self.each(scored, (job, self.threads), narrow)

    def _most(self) -> int:
        """Return how many pieces are on their way; workers come and go."""
        threads: int = sum(self.client.nthreads().values())
        return max(1, WAITING * threads)


def _narrow(feeds: Feeds) -> Feeds:
    """Return values as bytes where all of them are bytes, as raw pixels are: less to send."""
    found = {}
    for name, x in feeds.items():
        with np.errstate(invalid="ignore"):  # what no byte holds differs
            small = x.astype(np.uint8)
        found[name] = small if np.array_equal(small, x) else x
    return found


def _same(shared: Any) -> Any:
    return shared


def _version() -> str:
    return __version__


@contextmanager
def on_dask(
    scheduler: str | None = None, workers: int | None = None, threads: int = 1
) -> Iterator[Dask]:
    """Open the workers of a scheduler ("tcp://10.0.0.1:8786"), or start ``workers`` processes
    here (None: one per core).  ``threads``: inputs that run in parallel in each piece.

    A script that starts processes must do so under ``if __name__ == "__main__":``.
    ToolMissing: dask.distributed is not installed.  HostUnreachable: no scheduler answers.

    >>> with on_dask(workers=2) as workers:  # doctest: +SKIP
    ...     evaluate(program, {"input": x}, labels, workers=workers)
    """
    try:
        import distributed
    except ImportError as error:
        raise ToolMissing(
            f"several workers need dask.distributed ({error}); pip install 'neuralmatrix[cluster]'"
        ) from None
    with ExitStack() as stack:
        address = scheduler or stack.enter_context(_local(distributed, workers)).scheduler_address
        client = stack.enter_context(_connected(distributed, address))
        _check_versions(client, address)
        yield Dask(client, threads)


def _local(distributed: Any, workers: int | None) -> Any:
    """Start processes that only this machine reaches, without a page and a limit of memory."""
    return distributed.LocalCluster(
        n_workers=workers or os.cpu_count() or 1,
        threads_per_worker=1,
        dashboard_address=None,
        memory_limit=None,
        silence_logs=logging.ERROR,
    )


def _connected(distributed: Any, address: str) -> Any:
    try:
        return distributed.Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TypeError) as error:
        raise HostUnreachable(
            f"found no scheduler of Dask at {address!r} ({error}); start one (dask scheduler), and "
            "give its address as tcp://HOST:8786"
        ) from None


def _check_versions(client: Any, address: str) -> None:
    try:
        found = client.run(_version)
    except Exception as error:  # whatever importing this package raises there
        raise RemoteFailure(
            f"the workers of {address} cannot import neuralmatrix {__version__} ({error}); install "
            "it in their environment"
        ) from None
    others = sorted({version for version in found.values() if version != __version__})
    if others:
        raise BadInput(
            f"found neuralmatrix {', '.join(others)} at workers of {address}, allowed is "
            f"{__version__}, as here; install it there"
        )
