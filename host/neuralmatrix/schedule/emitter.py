# SPDX-License-Identifier: Apache-2.0
"""Collects instructions and works out the tokens between the units.

In: instructions in program order, each with the buffer and DRAM ranges it reads and writes.
Out: the same instructions with wait and signal flags.

Every buffer has one writing and one reading unit, so an instruction depends on at most one
instruction of each other unit: the latest one that touched its ranges in the conflicting way.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..config import ArrayConfig
from ..isa import UNIT_OF, Instruction, Opcode, Unit, encode

GRAIN = 16  # arena bytes per dependency cell
RING_TAKES = 16

WRITER = {"arena": Unit.STORE, "obuf": Unit.COMPUTE}  # the other buffers are written by LOAD
READER = {"arena": Unit.LOAD, "obuf": Unit.STORE}  # the other buffers are read by COMPUTE


@dataclass(frozen=True)
class Range:
    """Cells start..stop-1 of a space: words or rows of a buffer, GRAIN-byte cells of the arena."""

    space: str
    start: int
    stop: int


def arena_range(first_byte: int, last_byte: int) -> Range:
    """Cells that bytes first..last of the arena touch."""
    return Range("arena", first_byte // GRAIN, last_byte // GRAIN + 1)


@dataclass
class _Item:
    opcode: Opcode
    values: dict[str, int]
    layer: int
    needs: dict[Unit, int]  # per unit: how many of its instructions must have finished


@dataclass
class _Cells:
    """Per cell: 1 + index of the last instruction of the writer and of the reader."""

    written: np.ndarray
    read: np.ndarray


def _cells(count: int) -> _Cells:
    return _Cells(np.zeros(count, np.int32), np.zeros(count, np.int32))


@dataclass
class Emitter:
    """Program under construction; ``layer`` labels what is emitted next."""

    array: ArrayConfig
    arena_bytes: int
    layer: int = 0
    items: list[_Item] = field(default_factory=list)
    _counts: dict[Unit, int] = field(default_factory=lambda: dict.fromkeys(Unit, 0))
    _spaces: dict[str, _Cells] = field(default_factory=dict)

    def __post_init__(self) -> None:
        a = self.array
        sizes = {
            "ibuf": a.ibuf_words, "wbuf": a.wbuf_words, "pbuf": a.pbuf_rows,
            "t": a.tbuf_rows, "u": a.ubuf_rows, "obuf": a.obuf_rows,
            "arena": self.arena_bytes // GRAIN + 2,
        }  # fmt: skip
        self._spaces = {name: _cells(size) for name, size in sizes.items()}

    def emit(
        self,
        opcode: Opcode,
        values: dict[str, int],
        reads: tuple[Range, ...] = (),
        writes: tuple[Range, ...] = (),
    ) -> int:
        """Append an instruction; returns its index in the program."""
        unit = UNIT_OF[opcode]
        self._counts[unit] += 1
        mine = self._counts[unit]
        needs: dict[Unit, int] = {}
        for r in reads:
            cells = self._spaces[r.space]
            _need(needs, WRITER.get(r.space, Unit.LOAD), cells.written[r.start : r.stop])
            cells.read[r.start : r.stop] = mine
        for w in writes:
            cells = self._spaces[w.space]
            _need(needs, READER.get(w.space, Unit.COMPUTE), cells.read[w.start : w.stop])
            cells.written[w.start : w.stop] = mine
        needs.pop(unit, None)
        self.items.append(_Item(opcode, values, self.layer, needs))
        return len(self.items) - 1

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Instructions (n, 16) uint32, END last, and the layer of each (-1 for END)."""
        _place_tokens(self.items)
        words = [encode(Instruction(i.opcode, i.values)) for i in self.items]
        words.append(encode(Instruction(Opcode.END, {})))
        layers = [i.layer for i in self.items] + [-1]
        return np.asarray(words, np.uint32), np.asarray(layers, np.int32)


def _need(needs: dict[Unit, int], unit: Unit, cells: np.ndarray) -> None:
    latest = int(cells.max(initial=0))
    if latest > needs.get(unit, 0):
        needs[unit] = latest


Clock = dict[Unit, int]  # per unit: instructions known to have finished


def _place_tokens(items: list[_Item]) -> None:
    """Turn dependencies into tokens, leaving out all that follow from others.

    Units finish in order, so knowing that instruction i of a unit has finished covers all before
    it, and all that those had waited for.
    """
    by_unit: dict[Unit, list[_Item]] = {unit: [] for unit in Unit}
    clocks: dict[Unit, list[Clock]] = {unit: [] for unit in Unit}
    for item in items:
        unit = UNIT_OF[item.opcode]
        known = dict(clocks[unit][-1]) if clocks[unit] else dict.fromkeys(Unit, 0)
        for producer, count in _essential(item.needs, known, clocks):
            item.values[f"wait_{producer.name.lower()}"] = 1
            by_unit[producer][count - 1].values[f"signal_{unit.name.lower()}"] = 1
            known = _later(known, clocks[producer][count - 1])
        by_unit[unit].append(item)
        known[unit] = len(by_unit[unit])
        clocks[unit].append(known)


def _essential(
    needs: dict[Unit, int], known: Clock, clocks: dict[Unit, list[Clock]]
) -> list[tuple[Unit, int]]:
    """Dependencies that neither ``known`` nor another dependency covers."""
    open_ = [(unit, count) for unit, count in needs.items() if count > known[unit]]
    return [
        (unit, count)
        for unit, count in open_
        if not any(clocks[u][c - 1][unit] >= count for u, c in open_ if u != unit)
    ]


def _later(a: Clock, b: Clock) -> Clock:
    return {unit: max(a[unit], b[unit]) for unit in Unit}


@dataclass
class Ring:
    """Hands out buffer ranges one after another, wrapping around; hazards are the emitter's job.

    It wraps after RING_TAKES ranges at the latest: the token that frees a range is then used soon,
    and the token queues, which are bounded, cannot fill up with tokens for a far future.
    """

    size: int
    cursor: int = 0
    taken: int = 0

    def take(self, count: int) -> int:
        """First cell of ``count`` free cells."""
        if self.cursor + count > self.size or self.taken == RING_TAKES:
            self.cursor = self.taken = 0
        start = self.cursor
        self.cursor += count
        self.taken += 1
        return start


@dataclass
class Rings:
    """One ring per on-chip buffer."""

    ibuf: Ring
    wbuf: Ring
    pbuf: Ring
    t: Ring
    u: Ring
    obuf: Ring


def make_rings(a: ArrayConfig) -> Rings:
    sizes = (a.ibuf_words, a.wbuf_words, a.pbuf_rows, a.tbuf_rows, a.ubuf_rows, a.obuf_rows)
    return Rings(*(Ring(size) for size in sizes))
