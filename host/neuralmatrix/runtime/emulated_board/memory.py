# SPDX-License-Identifier: Apache-2.0
"""The emulated board's DRAM, as seen by the processor through its caches and by the array.

In: sizes, and addresses of the array.  Out: buffers, and the array's views of them.
A cacheable buffer has two sides: what the host writes reaches the array by a flush, what the array
writes reaches the host by an invalidate.  Caches that write back early are not modelled: the model
shows the worst effect of a missing call.  A non-cacheable buffer has one side only.
"""

from __future__ import annotations

import threading
from bisect import insort
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

PAGE = 4096
UNSET = 0xA5
"""The value of bytes that were not written since memory was allocated or freed."""


@dataclass(order=True)
class Buffer:
    """One allocation: ``nbytes`` requested, ``size`` allocated, ``host`` the processor's side."""

    offset: int
    size: int = field(compare=False)
    nbytes: int = field(compare=False)
    host: Array = field(compare=False, repr=False)
    cacheable: bool = field(compare=False)

    @property
    def end(self) -> int:
        return self.offset + self.size


def _whole_pages(nbytes: int, least: int) -> int:
    return -(-max(nbytes, least, 1) // PAGE) * PAGE


class BoardMemory:
    """The contiguous memory (CMA) from ``base`` on.

    ``whole_sync``: flush and invalidate ignore the range and sync whole buffers, and a buffer has
    at least ``least`` bytes, as in pynq from 3.1 on.
    """

    def __init__(self, base: int, nbytes: int, whole_sync: bool = True, least: int = 8192) -> None:
        self.base, self.nbytes = base, nbytes
        self._whole_sync, self._least = whole_sync, least
        self._dram = np.zeros(nbytes, np.uint8)
        self._live: list[Buffer] = []
        self._lock = threading.Lock()
        self.peak = 0  # bytes

    @property
    def allocated(self) -> int:
        """Bytes that buffers hold now; 0 after all are freed."""
        return sum(buffer.size for buffer in self._live)

    @property
    def buffers(self) -> int:
        """The number of buffers held now."""
        return len(self._live)

    # -------------------------------------------------------------------- buffers

    def take(self, nbytes: int, cacheable: bool) -> Buffer:
        """Allocate a buffer filled with UNSET.  RuntimeError, as in pynq: no room is left."""
        size = _whole_pages(nbytes, self._least)
        with self._lock:
            offset = self._gap(size)
            side = self._dram[offset : offset + size]
            side[:] = UNSET
            buffer = Buffer(offset, size, nbytes, side.copy() if cacheable else side, cacheable)
            insort(self._live, buffer)
            self.peak = max(self.peak, self.allocated)
        return buffer

    def _gap(self, size: int) -> int:
        """Return where the first gap of ``size`` bytes begins."""
        offset = 0
        for buffer in self._live:
            if buffer.offset - offset >= size:
                return offset
            offset = buffer.end
        if self.nbytes - offset < size:
            raise RuntimeError(
                f"BO allocation failed: {size} bytes requested, {self.nbytes - self.allocated} of "
                f"the emulated board's {self.nbytes} bytes of contiguous memory are free"
            )
        return offset

    def give(self, buffer: Buffer) -> None:
        """Free a buffer and its contents; freeing it again has no effect."""
        with self._lock:
            self._live = [other for other in self._live if other is not buffer]
            buffer.host[:] = UNSET
            self._dram[buffer.offset : buffer.end] = UNSET

    def address(self, buffer: Buffer) -> int:
        """Return the array's address of a buffer."""
        return self.base + buffer.offset

    # -------------------------------------------------------------------- caches

    def _range(self, buffer: Buffer, offset: int, nbytes: int) -> slice:
        return slice(0, buffer.size) if self._whole_sync else slice(offset, offset + nbytes)

    def _side(self, buffer: Buffer) -> Array:
        return self._dram[buffer.offset : buffer.end]

    def flush(self, buffer: Buffer, offset: int, nbytes: int) -> None:
        """Copy what the host wrote to the array's side."""
        if buffer.cacheable:
            part = self._range(buffer, offset, nbytes)
            self._side(buffer)[part] = buffer.host[part]

    def invalidate(self, buffer: Buffer, offset: int, nbytes: int) -> None:
        """Copy what the array wrote to the host's side; writes not yet flushed are lost."""
        if buffer.cacheable:
            part = self._range(buffer, offset, nbytes)
            buffer.host[part] = self._side(buffer)[part]

    # -------------------------------------------------------------------- the array's side

    def view(self, address: int, nbytes: int) -> Array | None:
        """Return the array's view of an address range, None if part of it is outside."""
        offset = address - self.base
        if offset < 0 or offset + nbytes > self.nbytes:
            return None
        return self._dram[offset : offset + nbytes]

    def held(self, address: int, nbytes: int) -> bool:
        """Return whether one buffer holds all of an address range."""
        offset = address - self.base
        return any(b.offset <= offset and offset + nbytes <= b.end for b in self._live)
