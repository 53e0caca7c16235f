# SPDX-License-Identifier: Apache-2.0
"""The interface between a Session and a device.

In: nothing.  Out: ``Device``, and ``Batch``, the results of several images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy.typing as npt

from ..errors import ToolMissing
from ..hardware.overlay_folder import EMULATED_VARIABLE

Array = npt.NDArray[Any]
Progress = Callable[[int, int], None]
Feeds = Mapping[str, Array]
FeedOf = Callable[[int], Feeds]  # checked feeds of image i
Origin = Literal["emulation", "emulated board", "board"]
BEAT_BYTES = 64  # bytes of the widest port; ports read whole beats, which may end behind a region
How = Literal["auto", "interrupt", "poll"]  # how the end of a run is detected


@dataclass(frozen=True)
class Counted:
    """One run of the program, in cycles of the device; ``busy`` per unit."""

    cycles: int
    busy: Mapping[str, int]
    dram_bytes: int


@dataclass(frozen=True)
class Batch:
    """Results of all images: outputs, counters, and times.

    ``seconds``: "host", "transfer" (copies and cache maintenance) and "array", summed over images.
    """

    outputs: list[dict[str, Array]]
    counted: list[Counted]
    threads: int
    seconds: Mapping[str, float]

    @property
    def typical(self) -> Counted:
        """Return the run with the median number of cycles."""
        return sorted(self.counted, key=lambda run: run.cycles)[len(self.counted) // 2]


def lacking(error: ImportError) -> str:
    """Describe what an installed pynq lacks to be imported, and what to do."""
    return (
        f"pynq is installed, but incomplete: {error}; install what is missing (pkg_resources: "
        "pip install 'setuptools<=80', pycparser.plyparser: pip install 'pycparser<3')"
    )


def without_pynq(error: ImportError) -> Exception:
    """Return the error to raise if importing pynq failed or imported a mere folder."""
    missing = (error.name or "").split(".")[0]
    if missing == "neuralmatrix":
        return error
    if missing != "pynq":
        return ToolMissing(lacking(error))
    return ToolMissing(
        "device='pynq' needs the package pynq, which a board's PYNQ image includes; elsewhere: "
        f"pip install 'neuralmatrix[pynq]', and set {EMULATED_VARIABLE}=pynq-z2"
    )


class Device(Protocol):
    """A device that holds one program, ready to run."""

    @property
    def origin(self) -> Origin:
        """The origin of its numbers."""

    @property
    def info(self) -> Mapping[str, Any]:
        """A description of the device for reports."""

    @property
    def clock_mhz(self) -> float:
        """The clock of its cycles."""

    def run(self, feeds: FeedOf, images: int, progress: Progress | None) -> Batch:
        """Run every image; ``progress(done, total)`` after each."""

    def close(self) -> None:
        """Release its memory; the next run opens it again."""
