# SPDX-License-Identifier: Apache-2.0
"""Runs one LLVM function on nodes instead of numbers; what remains is an expression per output.

In: LLVM IR without loops, and the unit's ports.  Out: ``Output`` per element that is written.
Branches become conditions and choices.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from . import calls
from .arithmetic import OPERATORS, Graph
from .llvm import NAME, RtlError, function
from .memory import Address, Pointer, choose
from .nodes import Node
from .operands import Operands, Value, fields
from .unit import Port

NOTHING = ("ret", "unreachable")


@dataclass(frozen=True)
class Output:
    """One element of an output port and what it is."""

    port: str
    element: int
    bits: int
    node: Node


def evaluate(graph: Graph, text: str, name: str, ports: tuple[Port, ...]) -> list[Output]:
    """The outputs of function ``name`` of the LLVM IR ``text``."""
    run = Evaluator(graph, text, function(text, name), ports)
    run.run()
    return [each for port in ports if port.kind == "out" for each in run.outputs(port)]


class Evaluator(Operands):
    """Runs a function's blocks, each once."""

    def run(self) -> None:
        self.reached[next(iter(self.code.blocks))] = self.graph.constant(1, 1)
        for block in self.code.in_order():
            self.block = block
            for line in self.code.blocks[block] if block in self.reached else ():
                self.step(line)

    def outputs(self, port: Port) -> list[Output]:
        found = []
        for k, element in enumerate(port.elements):
            place = Pointer(port.name, element.offset)
            if self.memory.written(place, element.width // 8):
                node = self.graph.truncate(self.memory.load(place, element.width), element.bits)
                found.append(Output(port.name, k, element.bits, node))
        return found

    def step(self, line: str) -> None:
        found = re.match(rf"(?:({NAME}) = )?(?:tail |musttail |notail )?((\S+) .*|\S+)$", line)
        target, line, op = found.groups() if found else (None, line, "")
        if (op or line) in NOTHING or line.startswith("#dbg"):
            return
        handler = HANDLERS.get(op)
        if handler is None:
            raise RtlError(f"no hardware for the instruction: {line}")
        result = handler(self, line)
        if target and result is not None:
            self.values[target] = result

    def on_arithmetic(self, line: str) -> Node:
        op, t, a, b = fields(r"(\w+) (?:nuw |nsw |exact |disjoint )*i(\d+) ([^,]+), (.*)", line)
        width = int(t)
        return self.graph.binary(op, self.value(a, width), self.value(b, width), width)

    def on_division(self, line: str) -> Node:
        op, t, a, b = fields(r"(\w+) (?:exact )?i(\d+) ([^,]+), (\d+)", line)
        act = self.graph.quotient if op == "udiv" else self.graph.remainder
        return act(self.value(a, int(t)), int(b), int(t))

    def on_icmp(self, line: str) -> Node:
        p, t, a, b = fields(r"icmp (?:samesign )?(\w+) i(\d+) ([^,]+), (.*)", line)
        return self.graph.compare(p, self.value(a, int(t)), self.value(b, int(t)))

    def on_select(self, line: str) -> Value:
        c, t, a, b = fields(r"select i1 ([^,]+), (i\d+|ptr) ([^,]+), (?:i\d+|ptr) (.*)", line)
        return self.chosen(self.value(c, 1), t, a, b)

    def chosen(self, c: Node, t: str, yes: str, no: str) -> Value:
        if t == "ptr":
            return choose(self.graph, c, self.pointer(yes), self.pointer(no))
        width = int(t[1:])
        return self.graph.select(c, self.value(yes, width), self.value(no, width))

    def on_cast(self, line: str) -> Node:
        op, f, v, t = fields(r"(\w+) (?:nneg |nuw |nsw )*i(\d+) (.*) to i(\d+)", line)
        casts = {
            "trunc": self.graph.truncate,
            "zext": self.graph.zero_extend,
            "sext": self.graph.sign_extend,
        }
        return casts[op](self.value(v, int(f)), int(t))

    def on_freeze(self, line: str) -> Node:
        return self.typed(line.removeprefix("freeze "))

    def on_alloca(self, line: str) -> Pointer:
        (t,) = fields(r"alloca ([^,]+)", line)
        return self.memory.add(f"local {len(self.memory.sizes)}", self.types.size(t))

    def on_getelementptr(self, line: str) -> Address:
        pattern = r"getelementptr (?:inbounds |nuw |nusw )*(.+?), ptr ([^,]+), (.*)"
        return self.element(*fields(pattern, line))

    def on_load(self, line: str) -> Value:
        t, p = fields(r"load i(\d+), ptr (.*)", line)
        return self.load(self.pointer(p), int(t))

    def on_store(self, line: str) -> None:
        t, v, p = fields(r"store i(\d+) ([^,]+), ptr (.*)", line)
        self.store(self.pointer(p), self.value(v, int(t)), self.reached[self.block])

    # ------------------------------------------------------------ branches

    def on_phi(self, line: str) -> Value | None:
        t = line.split()[1]
        ways = [
            (v, self.graph.terms(self.edges[b, self.block]))
            for v, b in re.findall(rf"\[ ([^,]+), ({NAME}) \]", line)
            if (b, self.block) in self.edges
        ]
        common = set.intersection(*(terms for _, terms in ways))
        result: Value | None = None
        for text, terms in ways:
            x: Value = self.pointer(text) if t == "ptr" else self.value(text, int(t[1:]))
            c = self.graph.all_of(terms - common)
            if result is None:
                result = x
            elif isinstance(x, Node) and isinstance(result, Node):
                result = self.graph.select(c, x, result)
            elif not isinstance(x, Node) and not isinstance(result, Node):
                result = choose(self.graph, c, x, result)
        return result

    def go(self, to: str, condition: Node) -> None:
        """Control passes from this block to another under a condition."""
        if condition.constant and not condition.extra:
            return
        edge = (self.block, to)
        before = self.edges.get(edge)
        self.edges[edge] = condition if before is None else self.graph.either(before, condition)
        reached = self.reached.get(to)
        self.reached[to] = condition if reached is None else self.graph.either(reached, condition)

    def on_br(self, line: str) -> None:
        here = self.reached[self.block]
        two = re.match(r"br i1 ([^,]+), label (\S+), label (\S+)$", line)
        if two is None:
            self.go(fields(r"br label (\S+)", line)[0], here)
            return
        c = self.value(two.group(1), 1)
        self.go(two.group(2), self.graph.both(here, c))
        self.go(two.group(3), self.graph.both(here, self.graph.invert(c)))

    def on_switch(self, line: str) -> None:
        t, v, default, cases = fields(r"switch i(\d+) ([^,]+), label (\S+) \[(.*)\]", line)
        g = self.graph
        here = rest = self.reached[self.block]
        for k, to in re.findall(rf"i\d+ (-?\d+), label ({NAME})", cases):
            hit = g.compare("eq", self.value(v, int(t)), g.constant(int(k), int(t)))
            self.go(to, g.both(here, hit))
            rest = g.both(rest, g.invert(hit))
        self.go(default, rest)

    def on_call(self, line: str) -> Value | None:
        return calls.call(self, line)


Handler = Callable[[Evaluator, str], Value | None]
HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(OPERATORS, Evaluator.on_arithmetic),
    **dict.fromkeys(("zext", "sext", "trunc"), Evaluator.on_cast),
    **dict.fromkeys(("udiv", "urem"), Evaluator.on_division),
    "alloca": Evaluator.on_alloca,
    "br": Evaluator.on_br,
    "call": Evaluator.on_call,
    "freeze": Evaluator.on_freeze,
    "getelementptr": Evaluator.on_getelementptr,
    "icmp": Evaluator.on_icmp,
    "load": Evaluator.on_load,
    "phi": Evaluator.on_phi,
    "select": Evaluator.on_select,
    "store": Evaluator.on_store,
    "switch": Evaluator.on_switch,
}
