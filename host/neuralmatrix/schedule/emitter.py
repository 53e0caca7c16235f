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


def _place_tokens(items: list[_Item]) -> None:
    """One token per new dependency: a consumer that waits for instruction i of a unit needs no token
    for any instruction of that unit before i, because units finish in order."""
    by_unit: dict[Unit, list[_Item]] = {unit: [] for unit in Unit}
    for item in items:
        by_unit[UNIT_OF[item.opcode]].append(item)
    for consumer, mine in by_unit.items():
        seen = dict.fromkeys(Unit, 0)
        for item in mine:
            for producer, count in item.needs.items():
                if count > seen[producer]:
                    seen[producer] = count
                    item.values[f"wait_{producer.name.lower()}"] = 1
                    by_unit[producer][count - 1].values[f"signal_{consumer.name.lower()}"] = 1


@dataclass
class Ring:
    """Hands out buffer ranges one after another, wrapping around; hazards are the emitter's job."""

    size: int
    cursor: int = 0

    def take(self, count: int) -> int:
        if self.cursor + count > self.size:
            self.cursor = 0
        start = self.cursor
        self.cursor += count
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
