# SPDX-License-Identifier: Apache-2.0
"""The calls that are left after inlining: LLVM's own functions on memory and numbers.

In: a ``call`` instruction.  Out: its value, or a change of the memory.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .llvm import RtlError
from .memory import Address, Either, Pointer
from .nodes import Node

if TYPE_CHECKING:
    from .operands import Operands, Value

IGNORED = ("llvm.lifetime", "llvm.assume", "llvm.experimental.noalias", "llvm.dbg")


def call(run: Operands, line: str) -> Value | None:
    """The value of a call; None where it has none."""
    found = re.match(r"call .*?@([\w.$]+)\((.*)\)", line)
    if found is None:
        raise RtlError(f"no hardware for the call: {line}")
    name, inside = found.groups()
    if name.startswith(IGNORED):
        return None
    arguments = re.split(r", (?=[a-z])", inside)
    if name.startswith("llvm.memset"):
        _set(run, arguments)
        return None
    if name.startswith(("llvm.memcpy", "llvm.memmove")):
        _copy(run, arguments)
        return None
    return _number(run, line, name, arguments)


def _address(run: Operands, argument: str) -> Pointer:
    address: Address = run.pointer(argument.split()[-1])
    if isinstance(address, Either):
        raise RtlError("a copy from or to a place that depends on a condition")
    return address


def _count(argument: str) -> int:
    text = argument.split()[-1]
    if not text.isdigit():
        raise RtlError("a copy of a number of bytes that is not constant")
    return int(text)


def _set(run: Operands, arguments: list[str]) -> None:
    value = run.value(arguments[1].split()[-1], 8)
    condition = run.reached[run.block]
    run.memory.fill(_address(run, arguments[0]), value, _count(arguments[2]), condition)


def _copy(run: Operands, arguments: list[str]) -> None:
    to, start = (_address(run, a) for a in arguments[:2])
    run.memory.copy(to, start, _count(arguments[2]), run.reached[run.block])


def _number(run: Operands, line: str, name: str, arguments: list[str]) -> Node:
    g, what = run.graph, name.split(".")[1]
    a, *more = (run.typed(x) for x in arguments)
    if what == "abs":
        return g.magnitude(a)
    if what in ("smax", "smin", "umax", "umin"):
        return g.extreme(what, a, more[0])
    if what in ("fshl", "fshr"):
        return _funnel(run, what, a, *more)
    if what == "usub":  # saturating
        zero = g.constant(0, a.width)
        less = g.compare("ult", a, more[0])
        return g.select(less, zero, g.binary("sub", a, more[0], a.width))
    raise RtlError(f"no hardware for the call: {line}")


def _funnel(run: Operands, what: str, high: Node, low: Node, count: Node) -> Node:
    """A shift of two words side by side, by a constant."""
    if not count.constant:
        raise RtlError("a rotation by a number that is not constant")
    g, width = run.graph, high.width
    left = (count.extra if what == "fshl" else -count.extra) % width
    if left == 0:
        return high if what == "fshl" else low
    up = g.binary("shl", high, g.constant(left, width), width)
    return g.binary("or", up, g.binary("lshr", low, g.constant(width - left, width), width), width)
