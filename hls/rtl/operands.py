# SPDX-License-Identifier: Apache-2.0
"""The state of a function that runs on nodes, and its operands: numbers, addresses, memory.

In: texts of LLVM IR.  Out: nodes and addresses.
"""

from __future__ import annotations

import re

from .arithmetic import Graph
from .llvm import Function, RtlError, Types
from .memory import Address, Either, Memory, Pointer, each
from .nodes import Node
from .unit import Port

NAMED = {"true": 1, "false": 0, "undef": 0, "poison": 0, "zeroinitializer": 0, "null": 0}
Value = Node | Pointer | Either


def fields(pattern: str, line: str) -> tuple[str, ...]:
    """The groups of an instruction that must match."""
    found = re.match(pattern + "$", line)
    if found is None:
        raise RtlError(f"no hardware for the instruction: {line}")
    return found.groups()


class Operands:
    """Values by name, memory, and the condition under which every block runs."""

    def __init__(self, graph: Graph, text: str, code: Function, ports: tuple[Port, ...]) -> None:
        if len(code.parameters) != len(ports):
            found = f"the wrapper has {len(code.parameters)} pointers"
            raise RtlError(f"{found}, the unit {len(ports)} ports")
        self.graph, self.text, self.code = graph, text, code
        self.types = Types(text)
        self.memory = Memory(graph, ports)
        self.values: dict[str, Value] = {
            parameter: Pointer(port.name, 0)
            for parameter, port in zip(code.parameters, ports, strict=True)
        }
        self.reached: dict[str, Node] = {}
        self.edges: dict[tuple[str, str], Node] = {}
        self.block = ""  # the one that runs

    def value(self, text: str, width: int) -> Node:
        text = text.strip()
        if text.startswith("%"):
            found = self.values[text]
            if not isinstance(found, Node):
                raise RtlError(f"the address {text} is used as a number")
            return found
        return self.graph.constant(NAMED[text] if text in NAMED else int(text), width)

    def typed(self, text: str) -> Node:
        """An operand with its type: ``i32 %x``."""
        words = text.split()
        return self.value(words[-1], int(words[0][1:]))

    def pointer(self, text: str) -> Address:
        text = text.strip()
        if text.startswith("getelementptr"):
            found = re.match(r"getelementptr (?:inbounds )?\((.+?), ptr ([^,]+), (.*)\)$", text)
            if found:
                return self.element(*found.groups())
        if text in self.values:
            address = self.values[text]
            if isinstance(address, Node):
                raise RtlError(f"the number {text} is used as an address")
            return address
        raise RtlError(f"the wrapper uses {text}, which is no port and no local")

    def element(self, t: str, base: str, indices: str) -> Address:
        """The address of an element of an array or a member of a struct, at any depth."""
        offset = 0
        dynamic: tuple[tuple[Node, int], ...] = ()
        for depth, text in enumerate(indices.split(", ")):
            node = self.typed(text)
            if depth and not t.startswith("["):
                offset += self.types.offset(t, node.extra)
                t = self.types.members[t][node.extra]
                continue
            t = self.types.array(t)[1] if depth else t
            if node.constant:
                offset += node.extra * self.types.size(t)
            else:
                dynamic += ((node, self.types.size(t)),)

        def moved(p: Pointer) -> Address:
            return Pointer(p.region, p.offset + offset, p.dynamic + dynamic)

        return each(self.pointer(base), moved)

    def load(self, address: Address, width: int) -> Node:
        if isinstance(address, Either):
            yes, no = self.load(address.yes, width), self.load(address.no, width)
            return self.graph.select(address.condition, yes, no)
        return self.memory.load(address, width)

    def store(self, address: Address, node: Node, condition: Node) -> None:
        if isinstance(address, Either):
            g, c = self.graph, address.condition
            self.store(address.yes, node, g.both(condition, c))
            self.store(address.no, node, g.both(condition, g.invert(c)))
        else:
            self.memory.store(address, node, condition)
