# SPDX-License-Identifier: Apache-2.0
"""A program's memory on a board: instructions, constants and arena in the kernels' address space.

In: a Program.  Out: ``Buffers``: physical addresses, copies with their cache maintenance.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pynq

from ...errors import DoesNotFit
from ...program.program import Program
from ..device import BEAT_BYTES
from .cma import MORE, cma_of
from .staging import Staged, is_cacheable

Array = npt.NDArray[Any]

_MEMINFO = Path("/proc/meminfo")


def cma_text(meminfo: Path = _MEMINFO) -> str:
    """Format CmaTotal and CmaFree as the kernel reports them."""
    try:
        found = cma_of(meminfo.read_text(encoding="utf-8"))
    except OSError:
        found = None
    if found is None:
        return "/proc/meminfo names no CMA"
    return f"CmaTotal {found.total / 2**20:.1f} MiB, CmaFree {found.free / 2**20:.1f} MiB"


def _allocate(shape: int, dtype: str, cacheable: bool, total: int) -> Any:
    try:
        return pynq.allocate((shape,), dtype, cacheable=int(cacheable))
    except (RuntimeError, MemoryError, OSError) as error:
        nbytes = shape * np.dtype(dtype).itemsize
        raise DoesNotFit(
            f"the board gave no contiguous buffer of {nbytes} bytes ({error}); the program needs "
            f"{total} bytes in all; {cma_text()}.  Close other sessions and notebooks that hold "
            f"buffers, enlarge CMA with {MORE} on the kernel's command line (in the boot "
            "partition's boot.scr or uEnv.txt) and restart, or compile for a smaller input"
        ) from None


class Buffers:
    """Instructions, constants and arena of one program in contiguous memory."""

    def __init__(self, program: Program, read_bytes: int) -> None:
        self.cacheable = is_cacheable(program.arena_bytes, read_bytes)
        self.program, self.const, self.arena, self._fence = self._take(program)
        words = np.ascontiguousarray(program.instructions, np.uint32).reshape(-1)
        for buffer, data in ((self.program, words), (self.const, program.const)):
            view = np.asarray(buffer)
            view[: data.size] = data
            buffer.flush()
        self._view: Array = np.asarray(self.arena)
        self._view[:] = 0
        self.arena.flush()

    def _take(self, program: Program) -> list[Any]:
        wanted = (
            (program.instructions.size + BEAT_BYTES, "u4", True),
            (program.const.nbytes + BEAT_BYTES, "u1", True),
            (program.arena_bytes + BEAT_BYTES, "u1", self.cacheable),
            (BEAT_BYTES, "u1", True),
        )
        total = sum(size * np.dtype(dtype).itemsize for size, dtype, _ in wanted)
        taken: list[Any] = []
        try:
            for size, dtype, cacheable in wanted:
                taken.append(_allocate(size, dtype, cacheable, total))
        except BaseException:
            for buffer in taken:
                buffer.freebuffer()
            raise
        return taken

    @property
    def _synchronized(self) -> Any:
        """The buffer to flush before a run.  Flushing an uncached arena only costs time; flushing a
        small cached buffer drains the write buffer, as uncached writes need.
        """
        return self.arena if self.cacheable else self._fence

    def write(self, staged: Staged) -> None:
        """Copy bytes into the arena and flush them for the kernels."""
        for offset, data in staged:
            self._view[offset : offset + data.size] = data.view(np.uint8)
        self._synchronized.flush()

    def read(self, places: Sequence[tuple[int, int]]) -> list[Array]:
        """Return copies of parts of the arena (offset, bytes), as the kernels left them."""
        self._synchronized.invalidate()
        return [self._view[offset : offset + nbytes].copy() for offset, nbytes in places]

    def free(self) -> None:
        """Free the memory; the buffers must not be used afterwards."""
        self._view = np.empty(0, np.uint8)
        for buffer in (self.program, self.const, self.arena, self._fence):
            buffer.freebuffer()
