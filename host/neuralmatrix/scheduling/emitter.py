# SPDX-License-Identifier: Apache-2.0
"""Collects instructions and computes the tokens between the units.

In: instructions in program order, each with the buffer and DRAM ranges it reads and writes.
Out: the same instructions with wait and signal flags, LOADs in the faster of two orders.

Every buffer has one writing and one reading unit.  COMPUTE and STORE keep their order, so that
waiting for the latest conflicting instruction on a range covers all before it; LOADs may be
reordered, so that the latest one of every cell is waited for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..hardware.instruction_columns import as_words
from ..hardware.instruction_costs import costs
from ..hardware.isa import UNIT_OF, Instruction, Opcode, Unit
from ..hardware.target import ArrayConfig, Timing
from ..hardware.timeline import simulate
from .prefetch import Task, prefetched
from .tokens import Ready, place_tokens

GRAIN = 16  # arena bytes per dependency cell
RING_TAKES = 16
FEW = 64  # cells
END = Instruction(Opcode.END, {})

WRITER = {"arena": Unit.STORE, "obuf": Unit.COMPUTE}  # the other buffers are written by LOAD
READER = {"arena": Unit.LOAD, "obuf": Unit.STORE}  # the other buffers are read by COMPUTE


@dataclass(frozen=True)
class Range:
    """Cells start..stop-1 of a space: words or rows of a buffer, GRAIN-byte cells of the arena."""

    space: str
    start: int
    stop: int


def arena_range(first_byte: int, last_byte: int) -> Range:
    """Return the cells of bytes first..last; a gather's unused lanes may lie before the arena."""
    return Range("arena", max(0, first_byte // GRAIN), max(0, last_byte // GRAIN + 1))


@dataclass
class _Item:
    opcode: Opcode
    values: dict[str, int]
    layer: int
    after: set[tuple[Unit, int]]  # instructions that must have finished, numbered per unit from 1


@dataclass
class _Cells:
    """Per cell, 1 + index of the last instruction of the writer and of the reader."""

    written: np.ndarray
    read: np.ndarray


def _cells(count: int) -> _Cells:
    return _Cells(np.zeros(count, np.int32), np.zeros(count, np.int32))


@dataclass(frozen=True)
class Finished:
    """``words`` (n, 16) uint32; ``layers`` of each, -1 for END; ``places``: the place of the
    instruction emitted as number i."""

    words: np.ndarray
    layers: np.ndarray
    places: np.ndarray


@dataclass
class Emitter:
    """A program under construction; ``layer`` is that of the next instructions."""

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
        after: set[tuple[Unit, int]] = set()
        for r in reads:
            cells, part = self._spaces[r.space], slice(r.start, r.stop)
            _add(after, WRITER.get(r.space, Unit.LOAD), cells.written[part])
            if r.space == "arena":  # a cell's last reader covers earlier ones
                _add(after, Unit.LOAD, cells.read[part])
            cells.read[part] = mine
        for w in writes:
            cells, part = self._spaces[w.space], slice(w.start, w.stop)
            _add(after, READER.get(w.space, Unit.COMPUTE), cells.read[part])
            if unit == Unit.LOAD:
                _add(after, Unit.LOAD, cells.written[part])
            cells.written[part] = mine
        after = {(u, i) for u, i in after if u != unit or (unit == Unit.LOAD and i != mine)}
        self.items.append(_Item(opcode, values, self.layer, after))
        return len(self.items) - 1

    def finish(self, timing: Timing | None = None) -> Finished:
        """Return all instructions, END last.

        With ``timing`` LOADs may be reordered to begin earlier.
        """
        plain = self._finish(range(len(self.items)))
        if timing is None:
            return plain
        cost = costs(plain.words, self.array, timing)
        moved = self._finish(prefetched(self._tasks(cost.cycles)))
        after = simulate(costs(moved.words, self.array, timing), self.array, timing).cycles
        return moved if after < simulate(cost, self.array, timing).cycles else plain

    def _tasks(self, cycles: np.ndarray) -> list[Task]:
        numbers = self._numbers(range(len(self.items)))
        return [
            Task(UNIT_OF[item.opcode], int(cost), tuple(numbers[key] for key in item.after))
            for item, cost in zip(self.items, cycles, strict=False)
        ]

    def _numbers(self, order: Sequence[int]) -> dict[tuple[Unit, int], int]:
        """Map (unit, number within it as emitted) to the place in ``order``."""
        counts = dict.fromkeys(Unit, 0)
        keys = []
        for item in self.items:
            unit = UNIT_OF[item.opcode]
            counts[unit] += 1
            keys.append((unit, counts[unit]))
        return {keys[i]: place for place, i in enumerate(order)}

    def _finish(self, order: Sequence[int]) -> Finished:
        """Return the program with its instructions in another order."""
        numbers = self._numbers(order)
        items = [self.items[i] for i in order]
        ranks = _ranks(items)
        ready = []
        for item in items:
            needs: dict[Unit, int] = {}
            for key in item.after:
                needs[key[0]] = max(needs.get(key[0], 0), ranks[numbers[key]])
            needs.pop(UNIT_OF[item.opcode], None)
            ready.append(Ready(item.opcode, dict(item.values), needs))
        place_tokens(ready, self.array.token_depth)
        words = as_words([*(Instruction(i.opcode, i.values) for i in ready), END])
        layers = [item.layer for item in items] + [-1]
        places = np.empty(len(items), np.int64)
        places[np.asarray(order, np.int64)] = np.arange(len(items))
        return Finished(words, np.asarray(layers, np.int32), places)


def _ranks(items: Sequence[_Item]) -> list[int]:
    """Return the number of each instruction within its unit, from 1."""
    counts = dict.fromkeys(Unit, 0)
    found = []
    for item in items:
        unit = UNIT_OF[item.opcode]
        counts[unit] += 1
        found.append(counts[unit])
    return found


def _add(after: set[tuple[Unit, int]], unit: Unit, cells: np.ndarray) -> None:
    """Add the instructions of a unit that cells name: all of LOAD's, the latest of others."""
    if unit != Unit.LOAD and len(cells) > FEW:
        found = {int(cells.max())}
    elif len(cells) > FEW and int(cells.min()) == int(cells.max()):
        found = {int(cells[0])}
    else:  # of a few cells a list is faster than numpy
        numbers = cells.tolist() if len(cells) <= FEW else np.unique(cells).tolist()
        found = set(numbers) if unit == Unit.LOAD else {max(numbers, default=0)}
    after.update((unit, number) for number in found if number)


@dataclass
class Ring:
    """Allocates buffer ranges one after another, wrapping around; the emitter handles hazards.

    It wraps after RING_TAKES ranges at the latest, so that the token that frees a range is used
    soon.  Tokens for much later uses would fill their queue and be merged, and LOADs would wait
    longer than needed.
    """

    size: int
    cursor: int = 0
    taken: int = 0

    def take(self, count: int) -> int:
        """Return the first of ``count`` free cells."""
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
