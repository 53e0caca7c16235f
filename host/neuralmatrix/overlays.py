# SPDX-License-Identifier: Apache-2.0
"""Built overlays: what lies beside a bitstream, and where overlays are looked for.

In: a folder, an environment variable or the package's own data.  Out: ``Overlay``.
An overlay is a folder of ``neuralmatrix.bit``, ``neuralmatrix.hwh``, ``overlay.json``,
``selftest.nmx`` and ``selftest.npz``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FORMAT = 1
BIT, HWH, INFO = "neuralmatrix.bit", "neuralmatrix.hwh", "overlay.json"
SELFTEST, EXPECTED = "selftest.nmx", "selftest.npz"
DIRECTORY_VARIABLE = "NEURALMATRIX_OVERLAY_DIR"


@dataclass(frozen=True)
class Tool:
    """A program that took part in the build."""

    name: str
    version: str


@dataclass(frozen=True)
class Utilization:
    """Cells of one kind ("lut", "ff", "dsp", "bram36", "uram") after placement."""

    kind: str
    used: float
    available: int


@dataclass(frozen=True)
class FileHash:
    """SHA-256 of a file of the folder, in hex."""

    name: str
    sha256: str


@dataclass(frozen=True)
class OverlayInfo:
    """``overlay.json``."""

    format: int
    name: str  # the board whose file it was built from
    boards: tuple[str, ...]  # all boards that load this bitstream
    origin: Literal["vivado", "emulated"]
    fingerprint: str  # of the array
    part: str
    clock_mhz: float  # timing is closed up to this clock
    worst_slack_ns: float | None
    commit: str
    tools: tuple[Tool, ...]
    utilization: tuple[Utilization, ...]
    files: tuple[FileHash, ...]
