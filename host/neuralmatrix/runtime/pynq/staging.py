# SPDX-License-Identifier: Apache-2.0
"""Converts inputs and outputs to and from the bytes of a board's arena.

In: a program's ports, feeds.  Out: bytes by arena offset, prepared while another image runs, and
outputs from such bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...program.data import ProgramPort
from ...program.host_io import read_output, write_input
from ...program.program import Program
from ..device import Feeds

Array = npt.NDArray[Any]
Staged = list[tuple[int, Array]]  # arena offset, bytes

READ_SHARE = 8


def is_cacheable(arena_bytes: int, read_bytes: int) -> bool:
    """Decide whether the CPU caches an arena of which the host reads ``read_bytes`` per run.

    Uncached bytes are slow to read, but as fast to write.  With a cache, pynq 3.1 and later clean
    and invalidate the whole arena for every run.  That costs less where outputs are a large part
    of it; the share is estimated, not measured.
    """
    return arena_bytes <= READ_SHARE * read_bytes


def _at_offset_0(port: ProgramPort) -> ProgramPort:
    """Return the port with its slot moved to offset 0."""
    return replace(port, slot=replace(port.slot, offset=0))


class Staging:
    """Turns one image's feeds into bytes, and bytes into outputs."""

    def __init__(self, program: Program) -> None:
        self._inputs = [(p.slot.offset, _at_offset_0(p)) for p in program.inputs]
        self._outputs = [_at_offset_0(p) for p in program.outputs]
        self.reads = [(p.slot.offset, p.slot.layout.nbytes) for p in program.outputs]
        self.read_bytes = sum(nbytes for _, nbytes in self.reads)

    def pack(self, feeds: Feeds) -> Staged:
        """Quantised inputs as bytes."""
        return [(offset, _packed(port, feeds[port.name])) for offset, port in self._inputs]

    def unpack(self, raw: Sequence[Array]) -> dict[str, Array]:
        """Convert bytes to outputs, in the order of ``reads``."""
        ports = zip(self._outputs, raw, strict=True)
        return {port.name: read_output(port, data) for port, data in ports}


def _packed(port: ProgramPort, feed: Array) -> Array:
    data = np.empty(port.slot.layout.nbytes, np.uint8)
    write_input(port, feed, data)
    return data
