# SPDX-License-Identifier: Apache-2.0
"""A board under pynq as a device: one program on the array of a loaded overlay.

In: a Program, and its overlay's folder.  Out: a ``Device``; images are pipelined: while one is on
the array, the next is quantised and the previous one is dequantised.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import pynq

from ...errors import BadInput
from ...hardware import overlay_folder
from ...hardware.board import load_board
from ...program.program import Program
from ..device import Array, Batch, Counted, FeedOf, How, Origin, Progress
from . import board_thread, fabric
from .buffers import Buffers
from .kernels import job_of
from .staging import Staged, Staging

AHEAD = 2  # images handed to the board's thread: one on the array, one waiting


@dataclass(frozen=True)
class _Image:
    """The results of one run: outputs as bytes, counters, and seconds."""

    raw: list[Array]
    counted: Counted
    transfer: float
    array: float


class PynqDevice:
    """The array of an overlay that ``pynq.Overlay`` loaded, with one program's memory."""

    def __init__(
        self,
        program: Program,
        overlay: str | Path | None = None,
        timeout_s: float | None = None,
        wait: How = "auto",
    ) -> None:
        self.program = program
        self._process = os.getpid()
        self._timeout_s, self._wait = timeout_s, wait
        self._job, self._staging = job_of(program), Staging(program)
        self._loaded: fabric.Loaded | None = None
        self._buffers: Buffers | None = None
        self._board, self._source = board_thread.run(self._find, overlay)
        self.origin: Origin = board_thread.run(self._first_open)

    # ---- description

    @property
    def clock_mhz(self) -> float:
        return self._loaded.clock_mhz if self._loaded else self._source.info.clock_mhz

    @property
    def info(self) -> Mapping[str, Any]:
        return {
            "origin": self.origin,
            "board": self._board,
            "overlay": str(self._source.folder),
            "fingerprint": self._source.info.fingerprint,
            "clock_mhz": self.clock_mhz,
            "pynq": str(pynq.__version__),
        }

    # ---- opening and closing, on the board's thread

    def _find(self, overlay: str | Path | None) -> tuple[str, overlay_folder.Overlay]:
        """Find board and overlay; a mismatch in the overlay's description is reported before
        anything is loaded."""
        emulated = _emulated_overlay() if overlay is None or not fabric.has_device() else None
        device = str(fabric.active_device().name)
        board = overlay_folder.board_of_device(device) or load_board(self.program.board)
        found = overlay_folder.resolve(board, emulated if overlay is None else overlay)
        overlay_folder.check_board(found, device)
        overlay_folder.check_array(found, self.program.board, self.program.array.fingerprint)
        return board.name, found

    def _first_open(self) -> Origin:
        with fabric.alone():
            return self._open()[0].origin

    def _open(self) -> tuple[fabric.Loaded, Buffers]:
        """Load the overlay and allocate this program's memory unless they are there."""
        if self._loaded and self._buffers and fabric.is_loaded(self._loaded):
            return self._loaded, self._buffers
        self._close()
        self._loaded = fabric.acquire(self._source, self._timeout_s)
        self._buffers = Buffers(self.program, self._staging.read_bytes)
        return self._loaded, self._buffers

    def _close(self) -> None:
        buffers, self._buffers, self._loaded = self._buffers, None, None
        if buffers is not None:
            buffers.free()

    def close(self) -> None:
        """Free the memory on the board; the overlay stays loaded for others."""
        if self._process == os.getpid():  # else the parent process frees the memory
            board_thread.run(self._close)

    # ---- running

    def _check_process(self) -> None:
        if self._process != os.getpid():
            raise BadInput(
                f"session: found one that process {self._process} opened, allowed is one of this "
                "process; open it after the fork, or have multiprocessing spawn its processes"
            )

    def run(self, feeds: FeedOf, images: int, progress: Progress | None) -> Batch:
        """Run images one after the other, overlapped with the host's work on their neighbours."""
        self._check_process()
        began = time.perf_counter()
        outputs: list[dict[str, Array]] = []
        done: list[_Image] = []
        ahead: deque[board_thread.Task[_Image]] = deque()
        stop = Event()

        def collect() -> None:
            done.append(ahead.popleft().result())
            outputs.append(self._staging.unpack(done[-1].raw))
            if progress is not None:
                progress(len(done), images)

        try:
            for i in range(images):
                staged = self._staging.pack(feeds(i))
                ahead.append(board_thread.submit(self._run_image, staged, stop))
                if len(ahead) == AHEAD:
                    collect()
            while ahead:
                collect()
        finally:
            stop.set()
            for task in ahead:
                task.give_up()
        return Batch(outputs, [image.counted for image in done], 1, _seconds(done, began))

    def _run_image(self, staged: Staged, stop: Event) -> _Image:
        """Run one image unless an earlier one failed."""
        if stop.is_set():
            raise CancelledError
        try:
            with fabric.alone():
                return self._run_on(*self._open(), staged)
        except BaseException:
            stop.set()
            raise

    def _run_on(self, loaded: fabric.Loaded, buffers: Buffers, staged: Staged) -> _Image:
        """Copy in, run, copy out; on an error of the run the fabric is loaded again and the
        memory freed."""
        began = time.perf_counter()
        buffers.write(staged)
        transfer = time.perf_counter() - began
        try:
            with fabric.reloaded_on_error(loaded, buffers):
                loaded.point_at(self.program, buffers)
                array = fabric.run(loaded, self._job, self._wait, self._timeout_s)
                counters = loaded.kernels.counters(self._job)
        except BaseException:
            self._buffers = self._loaded = None
            raise
        began = time.perf_counter()
        raw = buffers.read(self._staging.reads)
        transfer += time.perf_counter() - began
        counted = Counted(counters.cycles, counters.busy, self._job.dram_bytes)
        return _Image(raw, counted, transfer, array)


def _seconds(done: list[_Image], began: float) -> dict[str, float]:
    """Split a run's time: the host has what remains besides transfer and array."""
    wall = time.perf_counter() - began
    transfer = sum(image.transfer for image in done)
    array = sum(image.array for image in done)
    return {"host": max(0.0, wall - transfer - array), "transfer": transfer, "array": array}


def _emulated_overlay() -> Path | None:
    """Make the emulated board of the environment pynq's device and return its overlay."""
    from ..emulated_board.board import from_environment

    board = from_environment()
    if board is None:
        return None
    board.activate()
    return board.overlay
