# SPDX-License-Identifier: Apache-2.0
"""Conditions, choices and comparisons of the data-flow graph, folded as they are made.

In: nodes.  Out: nodes; paths that meet again leave no trace in the conditions.
"""

from __future__ import annotations

from operator import eq, ge, gt, le, lt, ne

from .nodes import Node, Nodes, under_aliases, whole

COMPARED = {"gt": gt, "ge": ge, "lt": lt, "le": le, "eq": eq, "ne": ne}
BIT = (0, 1)


class Conditions(Nodes):
    """Nodes, with what makes one-bit values and chooses between two values."""

    def invert(self, c: Node) -> Node:
        if c.constant:
            return self.constant(1 - c.extra, 1)
        return c.args[0] if c.op == "not" else self.make("not", (c,), 1, BIT)

    def both(self, a: Node, b: Node) -> Node:
        if a.constant:
            return b if a.extra else a
        if b.constant:
            return a if b.extra else b
        return a if a is b else self.make("and", (a, b), 1, BIT)

    def any_of_two(self, a: Node, b: Node) -> Node:
        if a.constant:
            return a if a.extra else b
        if b.constant:
            return b if b.extra else a
        if a is b:
            return a
        if self.invert(a) is b or self.invert(b) is a:
            return self.constant(1, 1)
        return self.make("or", (a, b), 1, BIT)

    def terms(self, c: Node) -> set[Node]:
        """The conditions whose conjunction is ``c``."""
        if c.constant:
            return set()
        if c.op == "and" and c.width == 1:
            return self.terms(c.args[0]) | self.terms(c.args[1])
        return {c}

    def all_of(self, conditions: set[Node]) -> Node:
        result = self.constant(1, 1)
        for c in sorted(conditions, key=lambda node: node.ident):
            result = self.both(result, c)
        return result

    def either(self, a: Node, b: Node) -> Node:
        """``a`` or ``b``, with what they have in common factored out."""
        if a.constant or b.constant:
            return self.any_of_two(a, b)
        common = self.terms(a) & self.terms(b)
        only_a, only_b = self.terms(a) - common, self.terms(b) - common
        if not only_a or not only_b:
            return self.all_of(common)
        x, y = self.all_of(only_a), self.all_of(only_b)
        if self.invert(x) is y or self.invert(y) is x:
            return self.all_of(common)
        # a or (not a and b) is a or b.
        if len(only_a) == 1 and self.invert(x) in only_b:
            y = self.all_of(only_b - {self.invert(x)})
        elif len(only_b) == 1 and self.invert(y) in only_a:
            x = self.all_of(only_a - {self.invert(y)})
        return self.both(self.all_of(common), self.any_of_two(x, y))

    def select(self, c: Node, yes: Node, no: Node) -> Node:
        if c.constant:
            return yes if c.extra else no
        if yes is no:
            return yes
        if c.op == "not":
            c, yes, no = c.args[0], no, yes
        if yes.width == 1:
            return self._select_bit(c, yes, no)
        span = min(yes.low, no.low), max(yes.high, no.high)
        return self.make("select", (c, yes, no), yes.width, span)

    def _select_bit(self, c: Node, yes: Node, no: Node) -> Node:
        if yes.constant:
            return self.any_of_two(c, no) if yes.extra else self.both(self.invert(c), no)
        if no.constant:
            return self.any_of_two(self.invert(c), yes) if no.extra else self.both(c, yes)
        return self.make("select", (c, yes, no), 1, BIT)

    def truncate(self, node: Node, width: int) -> Node:
        """The lowest ``width`` bits."""
        if width == node.width:
            return node
        if node.constant:
            return self.constant(node.extra, width)
        inner = under_aliases(node)
        if width == 1:
            return inner if inner.width == 1 else self.make("bit0", (inner,), 1, BIT)
        low, high = whole(width)
        if low <= node.low and node.high <= high:
            return self.retype(inner, width)
        if inner.op == "select" and any(x.constant for x in inner.args[1:]):
            yes, no = (self.truncate(self.retype(x, node.width), width) for x in inner.args[1:])
            return self.select(inner.args[0], yes, no)
        return self.make("low", (inner,), width, (low, high))

    def compare(self, predicate: str, a: Node, b: Node) -> Node:
        """LLVM's icmp: ``eq``, ``ne``, or ``s``/``u`` and ``lt``, ``le``, ``gt``, ``ge``."""
        if predicate[0] == "u":
            a, b = self.unsigned(a), self.unsigned(b)
        elif predicate[0] == "s" and a.width == 1:  # of one bit, 1 is -1
            a, b = b, a
        p = predicate[1:] if predicate[0] in "su" else predicate
        known = _decided(p, a, b)
        if known is not None:
            return self.constant(int(known), 1)
        if a.width == 1 and b.width == 1 and p in ("eq", "ne"):
            return self._compare_bits(p, *((b, a) if a.constant else (a, b)))
        if p in ("eq", "ne") and b.constant and b.extra in BIT and (a.low, a.high) == BIT:
            return self._compare_bits(p, self.truncate(a, 1), self.constant(b.extra, 1))
        return self.make("icmp", (a, b), 1, BIT, p)

    def _compare_bits(self, p: str, a: Node, b: Node) -> Node:
        if b.constant:
            return a if (p == "eq") == bool(b.extra) else self.invert(a)
        differ = self.make("xor", (a, b), 1, BIT)
        return self.invert(differ) if p == "eq" else differ


def _decided(p: str, a: Node, b: Node) -> bool | None:
    """The result of a comparison where the ranges decide it."""
    apart = a.high < b.low or a.low > b.high
    if p in ("eq", "ne"):
        if a is b or a.low == a.high == b.low == b.high:
            return p == "eq"
        return p == "ne" if apart else None
    corners = {COMPARED[p](x, y) for x in (a.low, a.high) for y in (b.low, b.high)}
    if a is b:
        return p in ("le", "ge")
    return corners.pop() if len(corners) == 1 else None
