# SPDX-License-Identifier: Apache-2.0
"""An emulated board for drivers, below the unmodified pynq package.

In: a board's name; faults, once it is made.  Out: ``EmulatedBoard``, which is pynq's active device
and whose ``overlay`` is a folder to load; ``from_environment``.
Its numbers are emulated, never measured: cycles come from the cycle model, bytes from the kernels'
C++.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

from ..._version import __version__
from ...errors import BadInput, ToolMissing
from ...files import write_whole
from ...hardware import overlay_folder
from ...hardware.block_design import design_of
from ...hardware.board import Board, board_names, family_of, load_board
from ...hardware.isa import ISA_VERSION
from ..selftest_build.build import write as write_selftest
from .array import EmulatedArray, Tally
from .bitfile import Circuit, bitstream
from .faults import Faults, Injector
from .hwh import hwh, without_interrupts
from .memory import BoardMemory
from .registers import PsRegisters

__all__ = ["EmulatedBoard", "Faults", "from_environment", "write_overlay"]

MEGABYTE = 1 << 20
CMA_WHERE_UNKNOWN = 256 * MEGABYTE
HIGH_DRAM = 0x8_0000_0000
"""Where MPSoCs keep DRAM beyond their first 2 GB: addresses of more than 32 bits."""
Interrupts = Literal["bound"] | bool


# ------------------------------------------------------------------------------ the overlay folder


@lru_cache(maxsize=4)
def _selftest(board: Board) -> tuple[tuple[str, bytes], ...]:
    """Return the self-test's files, compiled once per process."""
    with tempfile.TemporaryDirectory() as folder:
        write_selftest(board, Path(folder))
        names = (overlay_folder.SELFTEST, overlay_folder.EXPECTED)
        return tuple((name, (Path(folder) / name).read_bytes()) for name in names)


def _info(board: Board, folder: Path) -> overlay_folder.OverlayInfo:
    return overlay_folder.OverlayInfo(
        format=overlay_folder.FORMAT,
        name=board.overlay,
        boards=overlay_folder.boards_of(board.overlay),
        origin="emulated",
        fingerprint=board.array.fingerprint,
        isa_version=ISA_VERSION,
        part=board.part.name,
        clock_mhz=board.clock_mhz,
        worst_slack_ns=None,
        commit="",
        tools=(overlay_folder.Tool("neuralmatrix", __version__),),
        utilization=(),
        files=overlay_folder.hash_files(folder),
    )


def _fill(data: bytes, file: IO[bytes]) -> None:
    file.write(data)


def write_overlay(board: Board, folder: Path, interrupts: bool = True) -> None:
    """Write an overlay folder that only emulated boards load."""
    design = design_of(board)
    text = hwh(design if interrupts else without_interrupts(design))
    files = {
        overlay_folder.BIT: bitstream(board),
        overlay_folder.HWH: text.encode(),
        **dict(_selftest(board)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_whole(folder / name, partial(_fill, data))
    overlay_folder.write_info(folder, _info(board, folder))


# ------------------------------------------------------------------------------ the board


def _memory(board: Board, cma_bytes: int | None, whole_sync: bool) -> BoardMemory:
    """Place contiguous memory at the end of the board's DRAM, as a boot image does."""
    nbytes = cma_bytes
    if nbytes is None:
        known = board.cma.mbytes
        nbytes = known * MEGABYTE if known else CMA_WHERE_UNKNOWN
    low, total = family_of(board).dram_low_mbytes * MEGABYTE, board.dram.mbytes * MEGABYTE
    base = HIGH_DRAM if total > low else total - nbytes
    return BoardMemory(base, nbytes, whole_sync, least=8192 if whole_sync else 0)


class EmulatedBoard:
    """A board with its overlay folder.  Use it with ``with``, or close it.

    ``interrupts``: False wires none, "bound" binds them to the event loop in which pynq opened
    them, as a board's kernel does.  ``cma_bytes``: contiguous memory, else as much as the image
    reserves.  ``spacing_s`` lies between two kernels' ends, ``run_s`` is the least time of a run.

    >>> with EmulatedBoard("pynq-z2") as board:
    ...     overlay = pynq.Overlay(str(board.overlay / "neuralmatrix.bit"))
    """

    def __init__(
        self,
        board: str | Board = "pynq-z2",
        *,
        cma_bytes: int | None = None,
        interrupts: Interrupts = True,
        spacing_s: float = 0.0,
        run_s: float = 0.0,
    ) -> None:
        device_class, version = _pynq()
        self.board = load_board(board) if isinstance(board, str) else board
        self._spacing_s, self._run_s = spacing_s, run_s
        self._injector = Injector(Faults())
        self.memory = _memory(self.board, cma_bytes, version >= (3, 1))
        self._folder = tempfile.TemporaryDirectory(prefix="neuralmatrix-")
        self.overlay = Path(self._folder.name)
        write_overlay(self.board, self.overlay, bool(interrupts))
        family = family_of(self.board)
        ps = PsRegisters(family, self.board.pll_mhz, lambda: self.faults.clock_mhz)
        self.device = device_class(
            self.board, self.memory, ps, self._load, self._refuse, interrupts == "bound"
        )
        self._tally = Tally()
        self.closed = False
        self.activate()

    def __enter__(self) -> EmulatedBoard:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()

    def activate(self) -> None:
        """Make this board pynq's active device."""
        self.device.activate()

    def close(self) -> None:
        """Stop the array and remove the overlay's temporary folder."""
        if self.closed:
            return
        self.closed = True
        self.device.close()
        self._folder.cleanup()

    # -------------------------------------------------------------------- counters for tests

    @property
    def faults(self) -> Faults:
        """The active faults; setting them resets the count of events."""
        return self._injector.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._injector = Injector(faults)

    @property
    def allocated(self) -> int:
        """Bytes that buffers hold; 0 after all are freed."""
        return self.memory.allocated

    @property
    def downloads(self) -> int:
        """Bitstreams loaded."""
        return int(self.device.downloads)

    @property
    def runs(self) -> int:
        """Runs begun, without those of no instructions."""
        return self._tally.runs

    @property
    def stray(self) -> int:
        """Regions that the array could access while no buffer held them: 0 for a correct driver."""
        return self._tally.stray

    # -------------------------------------------------------------------- called by the device

    def _refuse(self) -> bool:
        return self._injector.strike("allocation").allocation_failure

    def _load(self, circuit: Circuit, irq: Callable[[bool], None]) -> EmulatedArray:
        return EmulatedArray(
            circuit.array,
            circuit.timing,
            self.memory,
            lambda: self._injector,
            irq,
            self._tally,
            self._spacing_s,
            self._run_s,
        )


def _pynq() -> tuple[Any, tuple[int, int]]:
    """Return the device class and pynq's version.  ToolMissing: pynq is not installed."""
    try:
        from .processing_system import pynq_version
        from .pynq_device import EmulatedDevice
    except ImportError as error:
        raise ToolMissing(
            f"the emulated board needs pynq, which cannot be imported ({error}); install it: "
            "pip install 'neuralmatrix[pynq]'"
        ) from None
    return EmulatedDevice, pynq_version()


# ------------------------------------------------------------------------------ the environment


@lru_cache(maxsize=1)
def _of_process(name: str) -> EmulatedBoard:
    return EmulatedBoard(name)


def from_environment() -> EmulatedBoard | None:
    """Return the process's emulated board if NEURALMATRIX_EMULATED_BOARD names one, else None."""
    name = os.environ.get(overlay_folder.EMULATED_VARIABLE)
    if not name:
        return None
    if name not in board_names():
        raise BadInput(
            f"{overlay_folder.EMULATED_VARIABLE}: found {name!r}, allowed are "
            f"{', '.join(board_names())}; correct or unset it"
        )
    if _of_process(name).closed:
        _of_process.cache_clear()
    board = _of_process(name)
    board.activate()
    return board
