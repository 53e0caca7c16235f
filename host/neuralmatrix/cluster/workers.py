# SPDX-License-Identifier: Apache-2.0
"""Who does pieces of work: here, this process; ``dask_workers`` and ``farm`` have others.

In: a job and its chunks.  Out: each chunk's sums, in whatever order they end.
"""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..files import Array
from ..program.program import Program, load
from ..runtime.saturation import without_warnings
from ..runtime.session import Session
from .metrics import Sums, metric_of

Feeds = Mapping[str, Array]


@dataclass(frozen=True)
class Chunk:
    """Some inputs of a data set, and what is right for them."""

    feeds: Feeds
    truth: Array


@dataclass(frozen=True)
class Packed:
    """A program's file, known by its content."""

    digest: str
    data: bytes = field(repr=False, compare=False)

    @classmethod
    def of(cls, program: Program) -> Packed:
        """Pack a program."""
        with tempfile.TemporaryDirectory(prefix="nm-") as folder:
            path = Path(folder) / "net.nmx"
            program.save(path)
            data = path.read_bytes()
        return cls(hashlib.sha256(data).hexdigest(), data)

    def load(self) -> Program:
        """Read the program again, checked as any file is."""
        with tempfile.TemporaryDirectory(prefix="nm-") as folder:
            path = Path(folder) / "net.nmx"
            path.write_bytes(self.data)
            return load(path)


@dataclass(frozen=True)
class Job:
    """What the chunks of a data set share; ``output`` is judged by ``metric``."""

    program: Packed
    output: str
    metric: str

    def sums(self, chunk: Chunk, outputs: Mapping[str, Array]) -> Sums:
        """Judge the outputs of a chunk."""
        return metric_of(self.metric).sums(outputs[self.output], chunk.truth)


class Workers(Protocol):
    """Who does the work.

    ``inner``: who scores where a piece of work scores a data set itself; it goes with the piece.
    """

    @property
    def inner(self) -> Workers: ...

    def each(
        self, call: Callable[[Any, Any], Any], shared: Any, items: Iterable[Any]
    ) -> Iterator[tuple[int, Any]]:
        """Yield the number of each item and ``call(shared, item)``, in the order of their ends."""
        ...

    def score(self, job: Job, chunks: Iterable[Chunk]) -> Iterator[tuple[int, Sums]]:
        """Yield the number of each chunk and its sums, in the order of their ends."""
        ...


@dataclass(frozen=True)
class Here:
    """This process, with ``threads`` for inputs that run in parallel (None: one per core)."""

    threads: int | None = None

    @property
    def inner(self) -> Workers:
        return self

    def each(
        self, call: Callable[[Any, Any], Any], shared: Any, items: Iterable[Any]
    ) -> Iterator[tuple[int, Any]]:
        for number, item in enumerate(items):
            yield number, call(shared, item)

    def score(self, job: Job, chunks: Iterable[Chunk]) -> Iterator[tuple[int, Sums]]:
        yield from self.each(scored, (job, self.threads), chunks)


HERE = Here()


class _Opened(threading.local):
    """The last session of a thread: a worker gets many chunks of one program."""

    key: tuple[str, int | None] | None = None
    session: Session | None = None


_OPENED = _Opened()


def _session(job: Job, threads: int | None) -> Session:
    key = (job.program.digest, threads)
    if _OPENED.key != key or _OPENED.session is None:
        if _OPENED.session is not None:
            _OPENED.session.close()
        _OPENED.key = None
        _OPENED.session = Session(job.program.load(), threads=threads)
        _OPENED.key = key
    return _OPENED.session


def scored(shared: tuple[Job, int | None], chunk: Chunk) -> Sums:
    """Run a chunk in emulation, in the process that calls this."""
    job, threads = shared
    with without_warnings():
        return job.sums(chunk, _session(job, threads).run(chunk.feeds))
