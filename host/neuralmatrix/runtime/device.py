# SPDX-License-Identifier: Apache-2.0
"""What a Session needs of a device.

In: nothing.  Out: ``Device``, and ``Batch``: what running several images gives.
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
FeedOf = Callable[[int], Feeds]  # image i's checked feeds
Origin = Literal["emulation", "emulated board", "board"]
BEAT_BYTES = 64  # of the widest port; ports read whole beats, which may end behind a region
How = Literal["auto", "interrupt", "poll"]  # how the end of a run is noticed


@dataclass(frozen=True)
class Counted:
    """One run of the program, in cycles of the device; ``busy`` per unit."""

    cycles: int
    busy: Mapping[str, int]
    dram_bytes: int


@dataclass(frozen=True)
class Batch:
    """All images: their outputs, what was counted of each, and where the time went.

    ``seconds``: "host", "transfer" (copies and cache maintenance) and "array", summed over images.
    """

    outputs: list[dict[str, Array]]
    counted: list[Counted]
    threads: int
    seconds: Mapping[str, float]

    @property
    def typical(self) -> Counted:
        """The run with the median number of cycles."""
        return sorted(self.counted, key=lambda run: run.cycles)[len(self.counted) // 2]


def lacking(error: ImportError) -> str:
    """What a pynq lacks that is installed and cannot be imported, and what to do."""
    return (
        f"pynq is installed, but not complete: {error}; install what is missing (pkg_resources: "
        "pip install 'setuptools<=80', pycparser.plyparser: pip install 'pycparser<3')"
    )


def without_pynq(error: ImportError) -> Exception:
    """What to raise where importing pynq failed; also for a folder called so that is no package."""
    missing = (error.name or "").split(".")[0]
    if missing == "neuralmatrix":
        return error
    if missing != "pynq":
        return ToolMissing(lacking(error))
    return ToolMissing(
        "device='pynq' needs the package pynq, which a board's PYNQ image brings along; elsewhere: "
        f"pip install 'neuralmatrix[pynq]', and set {EMULATED_VARIABLE}=pynq-z2"
    )


class Device(Protocol):
    """Holds one program, ready to run."""

    @property
    def origin(self) -> Origin:
        """Where its numbers come from."""

    @property
    def info(self) -> Mapping[str, Any]:
        """What it is, for reports."""

    @property
    def clock_mhz(self) -> float:
        """The clock its cycles are of."""

    def run(self, feeds: FeedOf, images: int, progress: Progress | None) -> Batch:
        """Run every image; ``progress(done, total)`` after each."""

    def close(self) -> None:
        """Give back what it holds; it opens again with the next run."""
