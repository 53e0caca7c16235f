# SPDX-License-Identifier: Apache-2.0
"""Runs a program on a device.

In: a ``Program`` and feeds named as in the source model.  Out: its outputs, named likewise.
The emulation runs several images in parallel, one emulated array per thread; a board runs them
one after the other while the host works on their neighbours.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt

from ..errors import BadInput
from ..program.host_edges import HostRun, check_images, finished, host_runs, joined
from ..program.host_io import check_feeds
from ..program.program import Program
from .device import How, Origin, without_pynq
from .saturation import Saturated, saturated, texts_of, warn_of

if TYPE_CHECKING:
    from .device import Batch, Device, Progress

Array = npt.NDArray[Any]

LONGEST_TIMEOUT_S = 1e6  # longer than any run, and within the limits of a system's wait


@dataclass(frozen=True)
class Stats:
    """Statistics of the last ``Session.run``.

    Cycles are the device's, of its median run: counted by the hardware on a board (``busy`` of
    LOAD, COMPUTE and STORE), by the emulation else (and of DRAM).  ``dram_bytes`` are the
    program's.  ``seconds`` are the host's clock, summed over the images: "host", "transfer" (copies
    and cache maintenance) and "array"; in emulation, whose images run in parallel, they may exceed
    ``host_seconds``, the whole run.  ``saturated`` describes the inputs of which values lay outside
    the range of calibration.
    """

    images: int
    threads: int
    host_seconds: float
    cycles: int
    busy: Mapping[str, int]
    dram_bytes: int
    clock_mhz: float
    origin: Origin = "emulation"
    seconds: Mapping[str, float] = field(default_factory=dict)
    saturated: Mapping[str, Saturated] = field(default_factory=dict)

    @property
    def images_per_host_second(self) -> float:
        """Speed for the caller: of the emulation, or of the board including the host's work."""
        return self.images / self.host_seconds

    @property
    def notes(self) -> list[str]:
        """What a user should know of the run: inputs of which many values saturated."""
        return texts_of(self.saturated, self.images)


def _emulation(program: Program, threads: int | None, schedule: str | None, **board: Any) -> Device:
    """Open the emulation, which takes none of a ``board``'s options."""
    from .emulation.pool import EmulatorPool

    if board["overlay"] is not None:
        raise BadInput(
            "overlay: found one for device 'emulation', allowed is one for 'pynq'; leave it out, "
            "or choose device 'pynq'"
        )
    return EmulatorPool(program, threads or os.cpu_count() or 1, schedule)


def _pynq(program: Program, threads: int | None, schedule: str | None, **board: Any) -> Device:
    """Open a board, which has one array, so that ``threads`` has no effect."""
    if schedule is not None:
        raise BadInput(
            "schedule: found one for device 'pynq', allowed is one for 'emulation'; leave it out "
            "(an emulated board takes that of NEURALMATRIX_SCHEDULE)"
        )
    try:
        from .pynq.device import PynqDevice
    except ImportError as error:
        raise without_pynq(error) from None
    return PynqDevice(program, **board)


DEVICES: Mapping[str, Callable[..., Device]] = {"emulation": _emulation, "pynq": _pynq}


def _is_number(value: Any, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def _check_threads(threads: int | None) -> None:
    if threads is None or (_is_number(threads, int, np.integer) and threads > 0):
        return
    raise BadInput(f"threads: found {threads!r}, allowed is an integer of at least 1")


def _check_timeout(timeout_s: float | None) -> None:
    if timeout_s is None:
        return
    if not (_is_number(timeout_s, int, float, np.number) and 0 < timeout_s <= LONGEST_TIMEOUT_S):
        raise BadInput(
            f"timeout_s: found {timeout_s!r}, allowed is a number of seconds above 0, at most "
            f"{LONGEST_TIMEOUT_S:g}"
        )


def _check_overlay(overlay: str | Path | None) -> None:
    if overlay is not None and not isinstance(overlay, (str, os.PathLike)):
        raise BadInput(f"overlay: found {overlay!r}, allowed is a folder's name")


def _check_options(program: Program, device: str, wait: str) -> None:
    if not isinstance(program, Program):
        raise BadInput(
            f"program: found a {type(program).__name__}, allowed is a Program; load() reads one"
        )
    if device not in tuple(DEVICES):
        raise BadInput(f"device: found {device!r}, allowed are {', '.join(map(repr, DEVICES))}")
    if wait not in get_args(How):
        allowed = ", ".join(map(repr, get_args(How)))
        raise BadInput(f"wait: found {wait!r}, allowed are {allowed}")


class Session:
    """A program on a device, ready to run.

    ``device`` "emulation", or "pynq" on a board.  For the emulation: ``threads`` is how many images
    run in parallel, ``schedule`` "cpu", or "device" for the kernels' loops as they are synthesized
    (else $NEURALMATRIX_SCHEDULE, else "cpu").  For a board: ``overlay`` is the folder of its
    bitstream (else $NEURALMATRIX_OVERLAY_DIR, else an installed one), ``timeout_s`` how long a run
    may take, and ``wait`` how its end is detected.

    >>> outputs = Session(program).run({"input": x})  # x: (1, ...) or (N, ...) for N images
    """

    def __init__(
        self,
        program: Program,
        device: str = "emulation",
        threads: int | None = None,
        *,
        schedule: str | None = None,
        overlay: str | Path | None = None,
        timeout_s: float | None = None,
        wait: str = "auto",
    ) -> None:
        _check_options(program, device, wait)
        _check_threads(threads)
        _check_timeout(timeout_s)
        _check_overlay(overlay)
        self.program = program
        self.stats: Stats | None = None
        board = {"overlay": overlay, "timeout_s": timeout_s, "wait": wait}
        self._device = DEVICES[device](program, threads, schedule, **board)

    @property
    def device_info(self) -> dict[str, Any]:
        """Origin, board, fingerprint and clock; of the emulation also its schedule, of a board its
        overlay and pynq's version."""
        return dict(self._device.info)

    def close(self) -> None:
        """Free the device's memory.  A closed session opens again with its next run."""
        self._device.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def run(self, feeds: Mapping[str, Any], progress: Progress | None = None) -> dict[str, Array]:
        """Return outputs of one run, or of N where each feed's leading 1 is replaced by N.

        ``progress(done, total)`` is called after each image.  Warns ``InputsSaturated`` where many
        input values lie outside the range of calibration.
        """
        began = time.perf_counter()
        arrays, images = check_feeds(self.program.shown_inputs, feeds)
        check_images(self.program, images)
        runs = host_runs(self.program, arrays, images)
        fed = arrays if self.program.host is None else _together(runs)
        outside = saturated(self.program.inputs, fed, images)
        warn_of(outside, images)
        before = time.perf_counter()
        batch = self._device.run(lambda i: runs[i].feeds, images, progress)
        after = time.perf_counter()
        found = [finished(self.program, *one) for one in zip(runs, batch.outputs, strict=True)]
        outputs = joined(self.program, found)
        seconds = time.perf_counter() - began
        stats = self._stats(batch, seconds, seconds - (after - before))
        self.stats = replace(stats, saturated=outside)
        return outputs

    def _stats(self, batch: Batch, seconds: float, outside: float) -> Stats:
        """Make statistics; ``outside``: seconds of work outside the device, such as checks."""
        run, device = batch.typical, self._device
        return Stats(
            len(batch.outputs),
            batch.threads,
            seconds,
            run.cycles,
            run.busy,
            run.dram_bytes,
            device.clock_mhz,
            device.origin,
            {**batch.seconds, "host": batch.seconds["host"] + outside},
        )


def _together(runs: list[HostRun]) -> Mapping[str, Array]:
    """Return the feeds of all runs, stacked."""
    return {name: np.stack([run.feeds[name] for run in runs]) for name in runs[0].feeds}
