# SPDX-License-Identifier: Apache-2.0
"""What a unit of hardware is: a C++ wrapper's name and its ports, as data.

In: short texts such as ``u16*4 u8*2``.  Out: ``Port`` with the place of every element in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

from neuralmatrix.hardware.board import Board

from .nodes import Range, whole
from .state import State

Kind = Literal["in", "static", "out", "ram"]
NATIVE = (8, 16, 32, 64)


class Element(NamedTuple):
    """One number of a port: ``bits`` wires, kept in a C type of ``width`` bits at ``offset``."""

    bits: int
    signed: bool
    width: int
    offset: int  # bytes

    @property
    def c_type(self) -> str:
        return f"{'int' if self.signed else 'uint'}{self.width}_t"


@dataclass(frozen=True)
class Bank:
    """A RAM of a port, which a test bench writes and the unit reads at computed places.

    Word ``i`` lies at byte ``offset + i * stride`` of the port as clang lays it out, as ``copies``
    of one word of ``bits`` bits side by side: one copy for every reader in a cycle.  ``host`` is
    the C++ expression of the word's address in the test bench, whose layout may differ.
    """

    name: str
    words: int
    stride: int
    bits: int
    host: str
    offset: int = 0
    copies: int = 1
    style: Literal["distributed", "block"] = "distributed"

    @property
    def end(self) -> int:
        return self.offset + self.words * self.stride

    def place(self, byte: int) -> tuple[int, int, int]:
        """The word, the copy, and the byte of the word that a byte of the port is."""
        word, within = divmod(byte - self.offset, self.stride)
        return word, *divmod(within, self.stride // self.copies)

    def span(self, byte: int, count: int) -> Range:
        """The range of ``count`` bytes of a word from ``byte`` on."""
        left = self.bits - 8 * byte
        return (0, (1 << left) - 1) if left < 8 * count else whole(8 * count)


@dataclass(frozen=True)
class Port:
    """A pointer argument of the wrapper.

    ``in`` is new in each cycle; ``static`` stays for an instruction; ``out`` is compared;
    ``ram`` has banks instead of elements.
    """

    name: str
    kind: Kind
    elements: tuple[Element, ...] = ()
    c_type: str = ""
    banks: tuple[Bank, ...] = ()

    @property
    def enters(self) -> bool:
        return self.kind in ("in", "static")

    @property
    def size(self) -> int:
        """Bytes, with what pads the last element."""
        if self.banks:
            return max(bank.end for bank in self.banks)
        align = max(e.width for e in self.elements) // 8
        last = self.elements[-1]
        return -(-(last.offset + last.width // 8) // align) * align

    @cached_property
    def _elements_by_byte(self) -> dict[int, tuple[int, Element, int]]:
        return {
            e.offset + k: (i, e, k)
            for i, e in enumerate(self.elements)
            for k in range(e.width // 8)
        }

    def find(self, byte: int) -> tuple[int, Element, int] | None:
        """The element of a byte: its number, itself, and which of its bytes it is."""
        return self._elements_by_byte.get(byte)

    def bank(self, byte: int) -> Bank:
        return next(bank for bank in self.banks if bank.offset <= byte < bank.end)


def port(name: str, kind: Kind, elements: str, c_type: str = "") -> Port:
    """A port from a text: ``i16*32`` for an array, ``u16*4 u8*2 u32*6`` for a struct.

    ``u6`` is unsigned with 6 bits in the next native type.  ``c_type`` names a struct.
    """
    found: list[Element] = []
    at = 0
    for part in elements.split():
        kind_bits, _, count = part.partition("*")
        bits = int(kind_bits[1:])
        width = next(w for w in NATIVE if w >= bits)
        at = -(-at // (width // 8)) * (width // 8)
        for _ in range(int(count or 1)):
            found.append(Element(bits, kind_bits[0] == "i", width, at))
            at += width // 8
    return Port(name, kind, tuple(found), c_type or found[0].c_type)


def ram(name: str, c_type: str, *banks: Bank) -> Port:
    """A port that is read at computed places."""
    return Port(name, "ram", c_type=c_type, banks=banks)


BOARDS = ("pynq-z2", "ultra96-v2", "kv260")
"""One board per array, family and clock that differ; others take the counts of one of these."""


@dataclass(frozen=True)
class Unit:
    """A function of the kernels, wrapped as ``extern "C"`` in ``kernels/SOURCE.cpp``.

    ``loop``: the outputs are the next cycle's inputs, so that all is done within one cycle.
    ``state``: which input is the register of which output; it is counted with the step.
    ``draw``: the source has ``NAME_draw``, which corrects the random inputs of one vector.
    ``cares``: outputs that are compared only where the source's ``NAME_cares`` is true.
    """

    name: str
    title: str
    source: str
    ports: Callable[[Board], tuple[Port, ...]] = field(repr=False)
    loop: bool = False
    state: State = ()
    draw: bool = False
    cares: tuple[str, ...] = ()
    boards: tuple[str, ...] = BOARDS


@dataclass(frozen=True)
class StandIn:
    """Verilog of our own for what an HLS compiler makes around the kernels.

    ``module`` names it in ``standins.texts()``; ``parameters`` gives those of a board.  ``bench``
    names its test bench, ``modules/BENCH_bench.cpp``, which takes the number of vectors and prints
    vectors and differences, as a unit's does; the class of the model is DUT there, and parameter X
    is P_X.
    """

    name: str
    title: str
    module: str
    bench: str
    parameters: Callable[[Board], dict[str, int]] = field(repr=False)
    boards: tuple[str, ...] = BOARDS
