# SPDX-License-Identifier: Apache-2.0
"""The emulation as a device: images run in parallel, one emulated array per thread.

In: a Program.  Out: a ``Device``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from ...program.host_io import read_output, write_input
from ...program.program import Program
from ..device import Array, Batch, Counted, FeedOf, Feeds, Origin, Progress
from .emulator import Emulator
from .schedule import chosen


@dataclass(frozen=True)
class _Image:
    outputs: dict[str, Array]
    counted: Counted
    host: float
    array: float


class EmulatorPool:
    """As many emulated arrays as images run in parallel, at most ``threads``.

    ``schedule``: "cpu" or "device", else that of the environment.
    """

    origin: Origin = "emulation"

    def __init__(self, program: Program, threads: int, schedule: str | None = None) -> None:
        self.program = program
        self.schedule = chosen(schedule)
        self.threads = threads
        self._idle: SimpleQueue[Emulator] = SimpleQueue()
        self._idle.put(self._made())

    @property
    def info(self) -> Mapping[str, Any]:
        program = self.program
        return {
            "origin": self.origin,
            "board": program.board,
            "fingerprint": program.array.fingerprint,
            "clock_mhz": program.clock_mhz,
            "schedule": self.schedule,
        }

    @property
    def clock_mhz(self) -> float:
        return self.program.clock_mhz

    def _made(self) -> Emulator:
        p = self.program
        return Emulator(
            p.array, p.timing, p.const, p.instructions, p.arena_bytes, schedule=self.schedule
        )

    def _taken(self) -> Emulator:
        """Take an idle or a new array: waiting for one that ``close`` dropped would never end."""
        try:
            return self._idle.get_nowait()
        except Empty:
            return self._made()

    def run(self, feeds: FeedOf, images: int, progress: Progress | None) -> Batch:
        threads = min(self.threads, images)
        found: list[_Image] = []
        with ExitStack() as stack:
            each: Callable[..., Iterable[_Image]] = map
            if threads > 1:  # starting threads takes longer than a small network
                each = stack.enter_context(ThreadPoolExecutor(threads)).map
            for image in each(lambda i: self._run_one(feeds(i)), range(images)):
                found.append(image)
                if progress is not None:
                    progress(len(found), images)
        seconds = {
            "host": sum(image.host for image in found),
            "transfer": 0.0,
            "array": sum(image.array for image in found),
        }
        outputs = [image.outputs for image in found]
        return Batch(outputs, [image.counted for image in found], threads, seconds)

    def _run_one(self, feeds: Feeds) -> _Image:
        emulator = self._taken()
        try:
            began = time.perf_counter()
            for port in self.program.inputs:
                write_input(port, feeds[port.name], emulator.arena)
            start = time.perf_counter()
            stats = emulator.run()
            array = time.perf_counter() - start
            ports = self.program.outputs
            outputs = {port.name: read_output(port, emulator.arena) for port in ports}
            host = time.perf_counter() - began - array
        finally:
            self._idle.put(emulator)
        return _Image(outputs, Counted(stats.cycles, stats.busy, stats.dram_bytes), host, array)

    def close(self) -> None:
        """Drop the arrays; the next run makes new ones."""
        with suppress(Empty):
            while True:
                self._idle.get_nowait()
