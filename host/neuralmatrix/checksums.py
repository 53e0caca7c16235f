# SPDX-License-Identifier: Apache-2.0
"""What FETCH and LOAD must have read of a program, as sums that the hardware counts as well.

In: a program's instructions and constants.  Out: sums modulo 2^32 of little-endian 32-bit parts:
of every instruction up to END, and of every word that a LOAD reads of CONST, as often as it does.
A memory port of an HLS kernel does not tell that the bus failed; these registers do.  Activations
have no such sum: what they will be is not known before the run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from .columns import Columns, columns, opcodes
from .isa import Opcode, Region

Array = npt.NDArray[Any]
_BITS = 0xFFFF_FFFF


def instruction_checksum(words: Array) -> int:
    """``words``: (n, 16) uint32, read up to the first END."""
    ends = np.flatnonzero(opcodes(words) == Opcode.END)
    return _sum(words[: ends[0] + 1] if ends.size else words)


def constant_checksum(words: Array, const: Array, lanes: int) -> int:
    """``const``: (bytes,) uint8; ``lanes``: bytes in a word, the array's rows.

    All reads must lie within ``const``, as those of a proven program do.
    """
    loads = columns(words, Opcode.LOAD)
    total = 0
    for k in np.flatnonzero(loads["region"] == Region.CONST):
        total += _sum(_words(loads, int(k), const, lanes).view("<u4"))
    return total & _BITS


def _words(loads: Columns, k: int, const: Array, lanes: int) -> Array:
    """(words, lanes) bytes that the k-th LOAD reads."""
    at = np.full(1, loads["addr"][k])
    for count, step in (("n2", "s2"), ("n1", "s1"), ("n0", "s0")):
        at = np.add.outer(at, np.arange(loads[count][k]) * loads[step][k]).reshape(-1)
    stride = int(loads["lane_stride"][k])
    if stride == 1:  # whole words, much faster than byte by byte
        return np.asarray(sliding_window_view(const, lanes)[at])
    return np.asarray(const[np.add.outer(at, np.arange(lanes) * stride)])


def _sum(parts: Array) -> int:
    return int(parts.sum(dtype=np.uint64)) & _BITS
