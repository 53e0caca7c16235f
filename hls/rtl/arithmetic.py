# SPDX-License-Identifier: Apache-2.0
"""The data-flow graph with its arithmetic: folded, simplified, with ranges.

In: LLVM's binary operators on nodes.  Out: nodes; sums and products wrap around.
"""

from __future__ import annotations

from collections.abc import Callable

from .conditions import Conditions
from .nodes import Node, Range, fit, whole

OPERATORS = ("add", "sub", "mul", "and", "or", "xor", "shl", "lshr", "ashr")
COMMUTATIVE = ("add", "mul", "and", "or", "xor")
SHIFTS = ("shl", "lshr", "ashr")
LOGIC = ("and", "or", "xor", "mul", "add", "sub")


class Graph(Conditions):
    """The data-flow graph of one unit."""

    def binary(self, op: str, a: Node, b: Node, width: int) -> Node:
        if width == 1 and op in LOGIC:
            return self._one_bit(op, a, b)
        if a.constant and b.constant:
            return self.constant(_value(op, a.extra, b.extra, width), width)
        if op in COMMUTATIVE and a.constant:
            a, b = b, a
        simple = self._simpler(op, a, b, width) if b.constant else self._shifted(op, a, b, width)
        if simple is not None:
            return simple
        if a.constant and a.extra == 0 and op in SHIFTS:
            return a
        low, high = _span(op, a, b, width)
        return (
            self.constant(low, width) if low == high else self.make(op, (a, b), width, (low, high))
        )

    def _one_bit(self, op: str, a: Node, b: Node) -> Node:
        if op in ("and", "mul"):
            return self.both(a, b)
        if op == "or":
            return self.any_of_two(a, b)
        if a.constant:
            a, b = b, a
        if b.constant:
            return self.invert(a) if b.extra else a
        return self.constant(0, 1) if a is b else self.make("xor", (a, b), 1, (0, 1))

    def _simpler(self, op: str, a: Node, b: Node, width: int) -> Node | None:
        """A cheaper form of ``a op constant``, or None."""
        k = b.extra
        if k == 0:
            return b if op in ("mul", "and") else a
        if (op == "mul" and k == 1) or (op == "and" and k == -1):
            return a
        if op == "mul" and k > 0 and k & (k - 1) == 0:
            return self.binary("shl", a, self.constant(k.bit_length() - 1, width), width)
        if op == "and" and k > 0 and (k + 1) & k == 0:
            if a.low >= 0 and a.high <= k:
                return a
            return self.zero_extend(self.truncate(a, k.bit_length()), width)
        if op in ("ashr", "lshr") and a.op == "shl" and a.args[1].constant:
            return self._field(op, a.args[0], a.args[1].extra, k, width)
        return None

    def _shifted(self, op: str, a: Node, b: Node, width: int) -> Node | None:
        """A product or sum of what is shifted left, with the shift behind it; or None.

        Compilers put a cut to fewer bits before the operator, where it makes the operands longer.
        """
        if op == "mul" and not _shift_left(a):
            a, b = b, a
        left = _shift_left(a)
        if left is None or (op != "mul" and left is not _shift_left(b)):
            return None
        if op == "mul":
            inner = self.binary(op, a.args[0], b, width)
        elif op in ("add", "sub"):
            inner = self.binary(op, a.args[0], b.args[0], width)
        else:
            return None
        return self.binary("shl", inner, left, width)

    def _field(self, op: str, a: Node, left: int, right: int, width: int) -> Node:
        """A shift left, then right: an extension of the low part and one shift."""
        part = self.truncate(a, width - left)
        extend = self.sign_extend if op == "ashr" else self.zero_extend
        part = extend(part, width)
        if left > right:
            return self.binary("shl", part, self.constant(left - right, width), width)
        return self.binary(op, part, self.constant(right - left, width), width)

    def quotient(self, a: Node, divisor: int, width: int) -> Node:
        """LLVM's udiv by a constant: an exact product with the reciprocal, and a shift."""
        bits = a.wires[0] if a.low >= 0 else width
        right = bits + divisor.bit_length()
        wide = bits + right + 2
        factor = self.constant(-(-(1 << right) // divisor), wide)
        product = self.binary("mul", self.zero_extend(a, wide), factor, wide)
        return self.truncate(self.binary("lshr", product, self.constant(right, wide), wide), width)

    def remainder(self, a: Node, divisor: int, width: int) -> Node:
        """LLVM's urem by a constant."""
        whole_parts = self.quotient(a, divisor, width)
        taken = self.binary("mul", whole_parts, self.constant(divisor, width), width)
        return self.binary("sub", a, taken, width)

    def sign_extend(self, node: Node, width: int) -> Node:
        if node.width == 1:
            return self.select(node, self.constant(-1, width), self.constant(0, width))
        return self.retype(node, width)

    def extreme(self, op: str, a: Node, b: Node) -> Node:
        """LLVM's smax, smin, umax and umin; the range is tighter than a choice's."""
        pick = max if op.endswith("max") else min
        less = self.compare(op[0] + "lt", a, b)
        result = self.select(less, b, a) if pick is max else self.select(less, a, b)
        if result.op != "select" or (op[0] == "u" and min(a.low, b.low) < 0):
            return result
        span = pick(a.low, b.low), pick(a.high, b.high)
        return self.make("select", result.args, a.width, span, "extreme")

    def magnitude(self, a: Node) -> Node:
        """LLVM's abs."""
        zero = self.constant(0, a.width)
        return self.select(self.compare("slt", a, zero), self.binary("sub", zero, a, a.width), a)


def _shift_left(node: Node) -> Node | None:
    """The constant that a value is shifted left by."""
    return node.args[1] if node.op == "shl" and node.args[1].constant else None


def _value(op: str, x: int, y: int, width: int) -> int:
    mask = (1 << width) - 1
    count = y & mask
    if op in ("shl", "lshr") and count >= width:
        return 0
    table: dict[str, Callable[[], int]] = {
        "add": lambda: x + y,
        "sub": lambda: x - y,
        "mul": lambda: x * y,
        "and": lambda: x & y,
        "or": lambda: x | y,
        "xor": lambda: x ^ y,
        "shl": lambda: x << count,
        "lshr": lambda: (x & mask) >> count,
        "ashr": lambda: x >> min(count, width - 1),
    }
    return table[op]()


def _ones(*values: int) -> int:
    """The smallest number of ones alone that is not below any of the magnitudes."""
    return (1 << max(max(v, -v - 1) for v in values).bit_length()) - 1


def _span(op: str, a: Node, b: Node, width: int) -> Range:
    spans = {"add": _add, "sub": _sub, "mul": _mul, "and": _and, "or": _or, "xor": _or}
    low, high = spans[op](a, b) if op in spans else _shift(op, a, b, width)
    return fit(width, low, high)


def _add(a: Node, b: Node) -> Range:
    return a.low + b.low, a.high + b.high


def _sub(a: Node, b: Node) -> Range:
    return a.low - b.high, a.high - b.low


def _mul(a: Node, b: Node) -> Range:
    corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    return min(corners), max(corners)


def _and(a: Node, b: Node) -> Range:
    if a.low >= 0 or b.low >= 0:
        return 0, min(x.high for x in (a, b) if x.low >= 0)
    return -_ones(a.low, b.low) - 1, max(0, a.high, b.high)


def _or(a: Node, b: Node) -> Range:
    most = _ones(a.low, a.high, b.low, b.high)
    return (0 if a.low >= 0 and b.low >= 0 else -most - 1), most


def _shift(op: str, a: Node, b: Node, width: int) -> Range:
    """A count beyond the width gives no value in LLVM, so that it needs no care here."""
    least = min(max(0, b.low), width - 1)
    most = width - 1 if b.low < 0 else max(least, min(width - 1, b.high))
    if op == "shl":
        corners = [x << y for x in (a.low, a.high) for y in (least, most)]
    elif op == "ashr" or a.low >= 0:
        corners = [x >> y for x in (a.low, a.high) for y in (least, most)]
    elif least > 0:
        return 0, ((1 << width) - 1) >> least
    else:
        return whole(width)
    return min(corners), max(corners)
