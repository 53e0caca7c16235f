# SPDX-License-Identifier: Apache-2.0
"""Checksums of what FETCH and LOAD must read of a program; the hardware computes them as well.

In: a program's instructions and constants.  Out: sums modulo 2^32 of little-endian 32-bit parts:
of every instruction up to END, and of every word that a LOAD reads from CONST, once per read.
A memory port of an HLS kernel does not report a failure of the bus; these registers reveal it.
Activations have no such sum, since their values are unknown before the run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .instruction_columns import columns, opcodes
from .isa import Opcode, Region

Array = npt.NDArray[Any]
_BITS = 0xFFFF_FFFF
_NEST = ("addr", "n2", "n1", "n0", "s2", "s1", "s0", "lane_stride")


def instruction_checksum(words: Array) -> int:
    """Sum the instructions; ``words``: (n, 16) uint32, read up to the first END."""
    ends = np.flatnonzero(opcodes(words) == Opcode.END)
    return _sum(words[: ends[0] + 1] if ends.size else words)


def constant_checksum(words: Array, const: Array, lanes: int) -> int:
    """Sum the loaded constants; ``const``: (bytes,) uint8; ``lanes``: bytes of a word.

    All reads must lie within ``const``, as in a verified program; else ValueError.
    """
    loads = columns(words, Opcode.LOAD)
    total = 0
    for k in np.flatnonzero(loads["region"] == Region.CONST):
        total += _sum_of_load({name: int(loads[name][k]) for name in _NEST}, const, lanes)
    return total & _BITS


def _sum_of_load(load: dict[str, int], const: Array, lanes: int) -> int:
    """Sum a LOAD through a strided view: nothing is copied, numpy refuses addresses outside."""
    addr, n2, n1, n0, s2, s1, s0, lane = (load[name] for name in _NEST)
    shape, steps = (n2, n1, n0, lanes // 4), (s2, s1, s0, 4 * lane)
    if lane == 1:
        return _sum(np.ndarray(shape, "<u4", const, addr, steps))
    parts = np.ndarray((*shape, 4), np.uint8, const, addr, (*steps, lane))
    return sum(_sum(parts[..., i]) << 8 * i for i in range(4))


def _sum(parts: Array) -> int:
    return int(parts.sum(dtype=np.uint32))
