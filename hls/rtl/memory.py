# SPDX-License-Identifier: Apache-2.0
"""The memory of a function that runs on nodes: every byte is a byte of some node.

In: loads, stores and copies at constant or computed places.  Out: nodes.  A store to a computed
place becomes a choice per element; a load from one a choice among elements, or a read of a RAM.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from .arithmetic import Graph
from .llvm import RtlError
from .nodes import Node
from .unit import Port

LONGEST_CHAIN = 4096  # elements that a computed place may choose from
FULL = 64  # bits of an address


class Pointer(NamedTuple):
    """A byte of a region; ``dynamic``: pairs of a node and the bytes that it counts."""

    region: str
    offset: int
    dynamic: tuple[tuple[Node, int], ...] = ()

    def moved(self, count: int) -> Pointer:
        return self._replace(offset=self.offset + count)


@dataclass(frozen=True)
class Either:
    """A pointer that depends on a condition."""

    condition: Node
    yes: Address
    no: Address


Address = Pointer | Either
Piece = tuple[Node, int, int]  # a node, which of its bytes, and how many it has
Place = tuple[str, int]


class Memory:
    """Regions by name: a unit's ports, and the locals and constants of its function."""

    def __init__(self, graph: Graph, ports: tuple[Port, ...]) -> None:
        self.graph = graph
        self.ports = {p.name: p for p in ports}
        self.sizes: dict[str, int] = {p.name: p.size for p in ports}
        self.pieces: dict[Place, Piece] = {}

    def add(self, region: str, size: int) -> Pointer:
        self.sizes[region] = size
        return Pointer(region, 0)

    # ------------------------------------------------------------ bytes

    def _piece(self, place: Place) -> Piece | None:
        """A byte; None where nothing was written, which is undefined."""
        if place not in self.pieces:
            port = self.ports.get(place[0])
            found = port.find(place[1]) if port is not None and port.enters else None
            if port is None or found is None:
                return None
            index, element, first = found
            node = self.graph.input(port.name, index, element.bits, element.signed, element.width)
            return node, first, element.width // 8
        return self.pieces[place]

    def _bytes(self, p: Pointer, count: int) -> list[Piece | None]:
        return [self._piece((p.region, p.offset + i)) for i in range(count)]

    def _assemble(self, parts: list[Piece | None], width: int) -> Node:
        """A value of ``width`` bits; bytes of one node that follow each other stay together."""
        g, total = self.graph, len(parts) * 8
        result, at = g.constant(0, total), 0
        while at < len(parts):
            node, first, size = parts[at] or (g.constant(0, 8), 0, 1)
            n = 1
            while at + n < len(parts) and (parts[at + n] or ())[:2] == (node, first + n):
                n += 1
            if first == 0 and n == size and 8 * n == total:
                return g.truncate(g.retype(node, total), width)
            last = at + n == len(parts)
            result = g.binary("or", result, self._part(node, first, n, at, total, last), total)
            at += n
        return g.truncate(result, width)

    def _part(self, node: Node, first: int, n: int, at: int, total: int, last: bool) -> Node:
        """``n`` bytes of a node from byte ``first`` on, moved to byte ``at`` of a value."""
        g = self.graph
        down = g.constant(8 * first, node.width)
        piece = g.binary("lshr", node, down, node.width) if first else node
        if piece.width > 8 * n:
            piece = g.truncate(piece, 8 * n)
        # The highest part's sign bit is the value's own.
        piece = g.retype(piece, total) if last else g.zero_extend(piece, total)
        return g.binary("shl", piece, g.constant(8 * at, total), total)

    # ------------------------------------------------------------ computed places

    def _index(self, p: Pointer) -> tuple[Node, int]:
        """The number of steps of a computed place, and the bytes of a step."""
        g = self.graph
        step = math.gcd(*(scale for _, scale in p.dynamic))
        index = g.constant(0, FULL)
        for node, scale in p.dynamic:
            factor = g.constant(scale // step, FULL)
            steps = g.binary("mul", g.retype(node, FULL), factor, FULL)
            index = g.binary("add", index, steps, FULL)
        return index, step

    def _candidates(self, p: Pointer, count: int, known: bool) -> list[tuple[Node, Pointer]]:
        """Each constant place that a computed one may be, and the condition that it is.

        ``known``: only places of which something is known; of others any value will do.
        """
        g = self.graph
        index, step = self._index(p)
        first = max(index.low, -(p.offset // step))
        last = min(index.high, (self.sizes[p.region] - p.offset - count) // step)
        places = [(k, Pointer(p.region, p.offset + k * step)) for k in range(first, last + 1)]
        if known:
            places = [(k, place) for k, place in places if any(self._bytes(place, count))]
        if len(places) > LONGEST_CHAIN:
            raise RtlError(f"{p.region}: a computed place among {len(places)} elements")
        narrow = g.truncate(index, max(2, index.wires[0] + 1))
        return [
            (g.compare("eq", narrow, g.constant(k, narrow.width)), place) for k, place in places
        ]

    def _read_ram(self, port: Port, p: Pointer, count: int) -> Node:
        """A read of a RAM port: the bank, the word and the bits that the place lies in."""
        g = self.graph
        bank = port.bank(p.offset)
        word, copy, byte = bank.place(p.offset)
        address = g.constant(word, FULL)
        if p.dynamic:
            index, step = self._index(p)
            if step % bank.stride:
                raise RtlError(f"{port.name}: a step of {step} bytes in words of {bank.stride}")
            steps = g.binary("mul", index, g.constant(step // bank.stride, FULL), FULL)
            address = g.binary("add", steps, address, FULL)
        where = (bank, copy, byte, count)
        span = bank.span(byte, count)
        return g.make("read", (address,), count * 8, span, where)

    # ------------------------------------------------------------ access

    def load(self, p: Pointer, width: int) -> Node:
        count = -(-width // 8)
        port = self.ports.get(p.region)
        if port is not None and port.banks:
            return self.graph.truncate(self._read_ram(port, p, count), width)
        if not p.dynamic:
            return self._assemble(self._bytes(p, count), width)
        word: Node | None = None
        for hit, place in self._candidates(p, count, known=True):
            other = self._assemble(self._bytes(place, count), width)
            word = other if word is None else self.graph.select(hit, other, word)
        return self.graph.constant(0, width) if word is None else word

    def store(self, p: Pointer, node: Node, condition: Node) -> None:
        if p.region in self.ports and self.ports[p.region].banks:
            raise RtlError(f"a store to {p.region}, which is a RAM that units only read")
        if p.dynamic:
            for hit, place in self._candidates(p, -(-node.width // 8), known=False):
                self.store(place, node, self.graph.both(condition, hit))
            return
        count = -(-node.width // 8)
        if node.width != count * 8:
            node = self.graph.zero_extend(node, count * 8)
        before = self._bytes(p, count)
        # Where nothing is known, any value will do: the new one needs no choice.
        if not condition.constant and any(before):
            node = self.graph.select(condition, node, self._assemble(before, count * 8))
        for i in range(count):
            self.pieces[p.region, p.offset + i] = (node, i, count)

    def fill(self, p: Pointer, value: Node, count: int, condition: Node) -> None:
        for i in range(count):
            self.store(p.moved(i), value, condition)

    def copy(self, to: Pointer, start: Pointer, count: int, condition: Node) -> None:
        """``count`` bytes, in parts as large as what lies at the start."""
        if condition.constant and not to.dynamic and self._is_plain(start):
            for i, piece in enumerate(self._bytes(start, count)):
                if piece is not None:
                    self.pieces[to.region, to.offset + i] = piece
            return
        grain = self._grain(start, count)
        values = [self.load(start.moved(i), 8 * grain) for i in range(0, count, grain)]
        for i, value in enumerate(values):
            self.store(to.moved(i * grain), value, condition)

    def _is_plain(self, p: Pointer) -> bool:
        return not p.dynamic and not (p.region in self.ports and self.ports[p.region].banks)

    def _grain(self, start: Pointer, count: int) -> int:
        """Bytes that are copied as one value: a word of a RAM, or a node of another region."""
        port = self.ports.get(start.region)
        if port is not None and port.banks:
            bank = port.bank(start.offset)
            size = bank.stride // bank.copies
        else:
            place = self._candidates(start, 1, known=True)[0][1] if start.dynamic else start
            _, first, size = self._piece((place.region, place.offset)) or (None, 0, 1)
            size = size if first == 0 else 1
        return size if count % size == 0 else 1

    def written(self, p: Pointer, count: int) -> bool:
        return all((p.region, p.offset + i) in self.pieces for i in range(count))


def choose(graph: Graph, c: Node, yes: Address, no: Address) -> Address:
    """The address that a condition chooses."""
    if c.constant:
        return yes if c.extra else no
    return yes if yes == no else Either(c, yes, no)


def each(address: Address, act: Callable[[Pointer], Address]) -> Address:
    """``act`` on a plain pointer, or on both sides of one that depends on a condition."""
    if isinstance(address, Either):
        return Either(address.condition, each(address.yes, act), each(address.no, act))
    return act(address)
