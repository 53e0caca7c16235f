# SPDX-License-Identifier: Apache-2.0
"""What a build of an overlay makes, and where.

In: a board's name.  Out: ``Plan``, its board, folders and options, and the names of its files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from neuralmatrix.hardware.board import Board, load_board
from neuralmatrix.hardware.overlay_folder import boards_of

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
DEFAULT_JOBS = 4
TIMING, UTILIZATION, POWER = "timing.rpt", "utilization.rpt", "power.rpt"
RESULTS, MISSED = "results.txt", "missed.txt"
VIVADO_LOG = "vivado.log"


@dataclass(frozen=True)
class Plan:
    """The folders of a build and of its result."""

    board: Board  # the board whose bitstream is built
    work: Path
    target: Path
    users: tuple[str, ...]  # the boards that load it
    jobs: int = DEFAULT_JOBS
    csim: bool = True
    cosim: bool = False
    missed_clock_mhz: float | None = None  # at which timing was missed, before this clock

    @property
    def hls(self) -> Path:
        return self.work / "hls"

    @property
    def vivado(self) -> Path:
        return self.work / "vivado"

    @property
    def selftest(self) -> Path:
        return self.work / "selftest"

    @property
    def missed(self) -> Path:
        """Reports and log of the implementation that missed timing."""
        return self.work / "missed"

    def slower(self) -> Plan:
        """Return the plan of the same build at the board's fallback clock."""
        return replace(self, board=self.board.fallback, missed_clock_mhz=self.board.clock_mhz)


def plan_of(name: str, root: Path = REPOSITORY, *, fallback_clock: bool = False) -> Plan:
    """Make the plan for a board; boards that share a bitstream share its build."""
    board = load_board(load_board(name).overlay)
    board = board.fallback if fallback_clock else board
    work = root / "build" / "overlay" / board.name
    return Plan(board, work, root / "overlay" / "build" / board.name, boards_of(board.name))
