# SPDX-License-Identifier: Apache-2.0
"""Runs a program on a device.

In: a ``Program`` and feeds named as in the source model.  Out: its outputs, named likewise.
Several images run side by side, one emulated device per thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .errors import BadInput, NeuralMatrixError
from .ports import check_feeds, read_output, write_input
from .program import Program, ProgramPort

if TYPE_CHECKING:
    from .device.emulation import Emulator

Array = npt.NDArray[Any]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Stats:
    """The last ``Session.run``.  Cycles are the device's, per run; seconds are the host's."""

    images: int
    threads: int
    host_seconds: float
    cycles: int
    busy: Mapping[str, int]
    dram_bytes: int
    clock_mhz: float

    @property
    def images_per_host_second(self) -> float:
        """Speed of the emulation, not of the device."""
        return self.images / self.host_seconds


def _emulator(program: Program) -> Emulator:
    from .device.emulation import Emulator

    return Emulator(
        program.array, program.timing, program.const, program.instructions, program.arena_bytes
    )


def _check_device(device: str) -> None:
    if device == "pynq":
        raise NeuralMatrixError(
            "device 'pynq' is not part of this version: it has been run on no board yet; "
            "use device='emulation', which runs the same kernels bit for bit"
        )
    if device != "emulation":
        raise BadInput(f"device: found {device!r}, allowed is 'emulation'")


class Session:
    """A program on a device, ready to run.

    >>> outputs = Session(program).run({"input": x})  # x: (1, ...) or (N, ...) for N images
    """

    def __init__(
        self, program: Program, device: str = "emulation", threads: int | None = None
    ) -> None:
        _check_device(device)
        if threads is not None and threads < 1:
            raise BadInput(f"threads: found {threads}, allowed is at least 1")
        self.program = program
        self.threads = threads or os.cpu_count() or 1
        self.stats: Stats | None = None
        self._idle: SimpleQueue[Emulator] = SimpleQueue()
        self._idle.put(_emulator(program))
        self._made = 1

    def run(self, feeds: Mapping[str, Any], progress: Progress | None = None) -> dict[str, Array]:
        """Outputs of one run, or of N where each feed's leading 1 is replaced by N.

        ``progress(done, total)`` is called after each image.
        """
        arrays, images = check_feeds(self.program.inputs, feeds)
        self._check_outputs(images)
        threads = min(self.threads, images)
        while self._made < threads:
            self._idle.put(_emulator(self.program))
            self._made += 1
        began = time.perf_counter()
        results = self._run_all(arrays, images, threads, progress)
        seconds = time.perf_counter() - began
        self.stats = self._stats(results[0][1], images, threads, seconds)
        return {
            port.name: np.concatenate([outputs[port.name] for outputs, _ in results])
            if images > 1
            else results[0][0][port.name]
            for port in self.program.outputs
        }

    def _check_outputs(self, images: int) -> None:
        for port in self.program.outputs:
            if images > 1 and port.shape[:1] != (1,):
                raise BadInput(
                    f"feeds hold {images} images, but output {port.name!r} of shape {port.shape} "
                    "does not begin with a batch of 1; run one image at a time"
                )

    def _run_all(
        self, arrays: dict[str, Array], images: int, threads: int, progress: Progress | None
    ) -> list[tuple[dict[str, Array], Any]]:
        def one(i: int) -> tuple[dict[str, Array], Any]:
            feeds = {n: x if images == 1 else x[i : i + 1] for n, x in arrays.items()}
            return self._run_one(feeds)

        results = []
        with ThreadPoolExecutor(threads) as pool:
            for result in pool.map(one, range(images)):
                results.append(result)
                if progress is not None:
                    progress(len(results), images)
        return results

    def _run_one(self, feeds: dict[str, Array]) -> tuple[dict[str, Array], Any]:
        emulator = self._idle.get()
        try:
            for port in self.program.inputs:
                write_input(port, feeds[port.name], emulator.arena)
            stats = emulator.run()
            outputs: tuple[ProgramPort, ...] = self.program.outputs
            return {port.name: read_output(port, emulator.arena) for port in outputs}, stats
        finally:
            self._idle.put(emulator)

    def _stats(self, run: Any, images: int, threads: int, seconds: float) -> Stats:
        clock = self.program.clock_mhz
        return Stats(images, threads, seconds, run.cycles, run.busy, run.dram_bytes, clock)
