# SPDX-License-Identifier: Apache-2.0
"""The nodes of one unit's data-flow graph, each made once, with the range of its values.

In: operands.  Out: ``Node``; a node's range, not its width, decides how many wires it gets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Range = tuple[int, int]


@dataclass(eq=False)
class Node:
    """A value of ``width`` bits in ``low..high``; it is signed unless ``width`` is 1.

    ``op``: const, in, read, alias, low, uns, bit0, not, and, or, xor, add, sub, mul, shl, lshr,
    ashr, icmp, select or mac (the third operand plus the product of the first two).  ``extra``:
    the value of a constant, the place of an input, the memory of a read, the predicate of a
    comparison.
    """

    ident: int
    op: str
    args: tuple[Node, ...]
    width: int
    low: int
    high: int
    extra: Any = None

    @property
    def constant(self) -> bool:
        return self.op == "const"

    @property
    def wires(self) -> tuple[int, bool]:
        """The number of bits that the range needs, and whether they are signed."""
        if self.low >= 0:
            return max(1, self.high.bit_length()), False
        return max(self.high.bit_length(), (-self.low - 1).bit_length()) + 1, True


def whole(width: int) -> Range:
    """The range of all values of a width."""
    return (0, 1) if width == 1 else (-(1 << width - 1), (1 << width - 1) - 1)


def fit(width: int, low: int, high: int) -> Range:
    """The range if the width holds it, else that of the width, as the value wraps around."""
    least, most = whole(width)
    return (low, high) if least <= low and high <= most else (least, most)


def wrap(value: int, width: int) -> int:
    """The value that remains of ``value`` in a signed type of ``width`` bits."""
    value &= (1 << width) - 1
    return value - (1 << width) if width > 1 and value >> (width - 1) else value


def under_aliases(node: Node) -> Node:
    while node.op == "alias":
        node = node.args[0]
    return node


class Nodes:
    """All nodes of one unit; two equal computations are one node."""

    def __init__(self) -> None:
        self.order: list[Node] = []  # in the order of making: operands come first
        self._known: dict[tuple[Any, ...], Node] = {}

    def make(
        self, op: str, args: tuple[Node, ...], width: int, span: Range, extra: Any = None
    ) -> Node:
        key = (op, tuple(x.ident for x in args), width, extra)
        node = self._known.get(key)
        if node is None:
            node = Node(len(self.order), op, args, width, *span, extra)
            self._known[key] = node
            self.order.append(node)
        return node

    def constant(self, value: int, width: int) -> Node:
        value = wrap(value, width)
        return self.make("const", (), width, (value, value), value)

    def input(self, port: str, element: int, bits: int, signed: bool, width: int) -> Node:
        """An element of a port: ``bits`` wires, read as a value of ``width`` bits."""
        if signed or bits < width:
            span = whole(bits) if signed and bits > 1 else (0, (1 << bits) - 1)
            return self.make("in", (), width, span, (port, element))
        # As wide as its type and unsigned: the same bits as a signed number.
        raw = self.make("in", (), bits + 1, (0, (1 << bits) - 1), (port, element))
        return self.make("low", (raw,), width, whole(width))

    def retype(self, node: Node, width: int) -> Node:
        """The same value in a type of another width."""
        if node.width == width:
            return node
        if node.constant:
            return self.constant(node.extra, width)
        return self.make("alias", (node,), width, (node.low, node.high))

    def unsigned(self, node: Node) -> Node:
        """The bits of the node as a number that is never negative, one bit wider."""
        if node.low >= 0:
            return node
        if node.constant:
            return self.constant(node.extra & ((1 << node.width) - 1), node.width + 1)
        return self.make("uns", (node,), node.width + 1, (0, (1 << node.width) - 1))

    def zero_extend(self, node: Node, width: int) -> Node:
        return self.retype(node if node.width == 1 else self.unsigned(node), width)
