# SPDX-License-Identifier: Apache-2.0
"""The evaluation of a table in a lane, bit for bit: the segment of x, then its line.

In: quantised x and the fields of an EPILOGUE instruction.  Out: segment numbers, int16 results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ...errors import BadInput
from ...hardware.isa import MAP_CELLS, SegKind
from ...ir.types import Array

INT16_LO, INT16_HI = -32768, 32767
MAX_SEG_SHIFT = 15


@dataclass(frozen=True)
class Index:
    """The index of a table, which selects the segment of x; fields of an EPILOGUE instruction.

    UNIFORM and MAPPED count steps of 2^shift from x0, LOG steps of 2^-shift of an octave.  With
    ``cells`` (uint8; always for MAPPED, for LOG if wanted) that number is a cell, and ``cells``
    holds the segment of each.
    """

    kind: SegKind
    x0: int
    shift: int
    count: int
    cells: Array | None = None

    @property
    def positions(self) -> int:
        """The number of cells if there is a map, else of segments."""
        return self.count if self.cells is None else len(self.cells)

    @property
    def entries(self) -> int:
        """The 64-bit words of the table: one per segment, one per 8 cells."""
        return self.count + (0 if self.cells is None else -(-len(self.cells) // 8))


def _uniform(index: Index, x: Array) -> Array:
    return np.asarray((x - index.x0) >> index.shift)


def _log(index: Index, x: Array) -> Array:
    d = np.maximum(x - index.x0, 1)
    e = np.frexp(d.astype(np.float64))[1].astype(np.int64) - 1
    return np.asarray((e << index.shift) + ((d << index.shift) >> e) - (1 << index.shift))


def _log_firsts(index: Index, position: Array) -> Array:
    """Return the least x of a position: x0 + 2^octave * (1 + fraction / 2^shift), rounded up."""
    octave = np.minimum(position >> index.shift, 2 * MAX_SEG_SHIFT)  # beyond all int16 values
    fraction = position & ((1 << index.shift) - 1)
    return np.asarray(index.x0 - (-(((1 << index.shift) + fraction) << octave) >> index.shift))


_RULES: Mapping[SegKind, Callable[[Index, Array], Array]] = {
    SegKind.UNIFORM: _uniform,
    SegKind.LOG: _log,
    SegKind.MAPPED: _uniform,
}


def positions_of(index: Index, x: Array) -> Array:
    """Return the cell of every x if there is a map, else its segment; it rises with x."""
    if index.kind not in _RULES:
        raise BadInput(f"segment kind {index.kind} has no index; use UNIFORM, LOG or MAPPED")
    if index.kind == SegKind.MAPPED and index.cells is None:
        raise BadInput("a MAPPED table has no cells; give the segment of each cell")
    if index.cells is not None and not 1 <= len(index.cells) <= MAP_CELLS:
        raise BadInput(f"a map has {len(index.cells)} cells; allowed are 1..{MAP_CELLS}")
    i = _RULES[index.kind](index, np.asarray(x, np.int64))
    return np.asarray(np.clip(i, 0, index.positions - 1))


def starts_in(index: Index, x: Array) -> Array:
    """Return ``starts_of(positions_of(index, x))`` of consecutive x, without evaluating all."""
    position = np.arange(1, index.positions)
    log = index.kind == SegKind.LOG
    first = _log_firsts(index, position) if log else index.x0 + (position << index.shift)
    inner = first[(first > x[0]) & (first <= x[-1])] - x[0]
    return np.unique(np.concatenate(([0], inner)))


def segment_index(index: Index, x: Array) -> Array:
    """Return the segment number of every x, bit for bit as the lanes compute it."""
    i = positions_of(index, x)
    return i if index.cells is None else np.asarray(index.cells.astype(np.int64)[i])


def apply_lines(k: Array, b: Array, sh: Array, i: Array, x: Array) -> Array:
    """Return sat16((x*k[i] + b[i]) >> sh[i]) as int16."""
    y = (x * k.astype(np.int64)[i] + b.astype(np.int64)[i]) >> sh.astype(np.int64)[i]
    return np.asarray(np.clip(y, INT16_LO, INT16_HI), np.int16)
