# SPDX-License-Identifier: Apache-2.0
"""Boards as workers, each reached over SSH as ``deploy`` does it.

In: boards' addresses, chunks of a data set.  Out: each chunk's sums.
A board takes a chunk whenever it is free; what a board had that is lost, another one takes.
"""

from __future__ import annotations

import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ..deploy.deploy import Request, deployed
from ..deploy.ssh import Target, check_target
from ..errors import (
    BadInput,
    DeviceFault,
    DeviceTimeout,
    HostUnreachable,
    NeuralMatrixError,
    OverlayMissing,
    RemoteFailure,
    WrongClock,
    WrongOverlay,
)
from ..files import read_arrays, write_arrays
from ..paths import REMOTE_DIR
from .metrics import Sums
from .workers import HERE, Chunk, Job, Workers

# What ends a board's part in the work; any other error would come again on every board.
LOST = (
    HostUnreachable, RemoteFailure, DeviceFault, DeviceTimeout, OverlayMissing, WrongClock,
    WrongOverlay,
)  # fmt: skip
Found = tuple[int, Sums] | NeuralMatrixError | None  # None: a board has nothing more to do


class Todo:
    """Chunks that wait, for boards that take one at a time and may give it back."""

    def __init__(self, chunks: Iterable[Chunk]) -> None:
        self._waiting = deque(enumerate(chunks))
        self.count = len(self._waiting)
        self._running = 0
        self._changed = threading.Condition()

    def take(self) -> tuple[int, Chunk] | None:
        """Return the next chunk; None once all are done, as a running one may still come back."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or not self._running)
            if not self._waiting:
                return None
            self._running += 1
            return self._waiting.popleft()

    def done(self, given_back: tuple[int, Chunk] | None = None) -> None:
        """End a chunk that was taken, or give it back."""
        with self._changed:
            self._running -= 1
            if given_back is not None:
                self._waiting.appendleft(given_back)
            self._changed.notify_all()

    def stop(self) -> None:
        """Give out no more."""
        with self._changed:
            self._waiting.clear()
            self._changed.notify_all()


@dataclass(frozen=True)
class Farm:
    """Boards over SSH.

    ``device``: "pynq", or "emulation" on the other machines' processors; ``overlay``, ``python``
    and ``remote_dir`` as ``deploy`` has them; ``note(text)`` is told of steps and of lost boards.
    """

    boards: tuple[Target, ...]
    device: str = "pynq"
    overlay: Path | None = None
    python: str | None = None
    remote_dir: str = REMOTE_DIR
    note: Callable[[str], object] = lambda text: None

    @property
    def inner(self) -> Workers:
        return self

    def each(
        self, call: Callable[[Any, Any], Any], shared: Any, items: Iterable[Any]
    ) -> Iterator[tuple[int, Any]]:
        """Call in this process: a board runs programs alone."""
        return HERE.each(call, shared, items)

    def score(self, job: Job, chunks: Iterable[Chunk]) -> Iterator[tuple[int, Sums]]:
        """Yield each chunk's sums.  The last board's error is raised where all boards are lost."""
        todo = Todo(chunks)
        found: SimpleQueue[Found] = SimpleQueue()
        with tempfile.TemporaryDirectory(prefix="nm-") as folder:
            program = Path(folder) / "net.nmx"
            program.write_bytes(job.program.data)
            threads = [
                threading.Thread(target=self._work, args=(number, program, job, todo, found))
                for number in range(len(self.boards))
            ]
            for thread in threads:
                thread.start()
            try:
                yield from self._collected(found, todo.count)
            finally:
                todo.stop()
                for thread in threads:
                    thread.join()

    def _collected(self, found: SimpleQueue[Found], count: int) -> Iterator[tuple[int, Sums]]:
        working = len(self.boards)
        while count:
            one = found.get()
            if isinstance(one, tuple):
                count -= 1
                yield one
                continue
            working -= 1
            if one is not None and (not working or not isinstance(one, LOST)):
                raise one

    def _work(
        self, number: int, program: Path, job: Job, todo: Todo, found: SimpleQueue[Found]
    ) -> None:
        """Let one board take chunks until none is left or it is lost."""
        target = self.boards[number]
        request = Request(
            program, overlay=self.overlay, python=self.python, remote_dir=self.remote_dir,
            device=self.device,
        )  # fmt: skip
        inputs, outputs = (program.with_name(f"{kind}{number}.npz") for kind in ("in", "out"))
        try:
            with deployed(target, request) as run:
                while (taken := todo.take()) is not None:
                    back: tuple[int, Chunk] | None = taken
                    try:
                        write_arrays(inputs, taken[1].feeds)
                        run(inputs, outputs)
                        found.put((taken[0], job.sums(taken[1], read_arrays(outputs))))
                        back = None
                    finally:
                        todo.done(back)
            found.put(None)
        except NeuralMatrixError as error:
            self.note(f"lost {target.host}: {error}")
            found.put(error)
        except Exception as error:  # a fault of this package must not leave the others waiting
            found.put(RemoteFailure(f"{target.host}: {type(error).__name__}: {error}"))


def addresses(text: str, port: int | None = None, config: Path | None = None) -> tuple[Target, ...]:
    """Return the boards that "user@a,user@b" names, or a file with one address per line.

    BadInput: none, or one twice.
    """
    lines = [text]
    if "@" not in text and Path(text).is_file():
        rows = Path(text).read_text(encoding="utf-8").splitlines()
        lines = [row.partition("#")[0] for row in rows]
    hosts = [host.strip() for line in lines for host in line.split(",") if host.strip()]
    if not hosts or len(set(hosts)) < len(hosts):
        raise BadInput(
            f"boards: found {text!r}, allowed are addresses as user@a,user@b, each once, or a file "
            "with one in a line"
        )
    targets = tuple(Target(host, port, config=config) for host in hosts)
    for target in targets:
        check_target(target)
    return targets
