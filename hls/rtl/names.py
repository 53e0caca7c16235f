# SPDX-License-Identifier: Apache-2.0
"""The names of a module's values: a node in a stage, as a signed operand or as bits.

In: a ``Schedule``.  Out: texts of Verilog, and the registers between the stages.
"""

from __future__ import annotations

from .nodes import Node
from .schedule import Schedule


def kind_of(node: Node) -> str:
    bits, signed = node.wires
    return ("signed " if signed else "") + f"[{bits - 1}:0]"


class Names:
    """The ports and the body of a module as far as it is written."""

    def __init__(self, found: Schedule) -> None:
        self.found = found
        self.ports = ["input clk"]
        self.body: list[str] = []
        self.banks: set[str] = set()
        self.words: dict[tuple[str, int], str] = {}

    def at(self, node: Node, stage: int) -> str:
        """The name of the value as it is in a stage."""
        still = node.ident in self.found.static or stage == self.found.stage[node.ident]
        return f"n{node.ident}" if still else f"n{node.ident}_{stage}"

    def ref(self, node: Node, stage: int) -> str:
        """The value as a signed operand."""
        bits, signed = node.wires
        if node.constant:
            sign = "-" if node.extra < 0 else ""
            return f"{sign}{bits + 1}'sd{abs(node.extra)}"
        name = self.at(node, stage)
        return name if signed else f"$signed({{1'b0,{name}}})"

    def raw(self, node: Node, stage: int) -> str:
        """The value's bits, for conditions, addresses and counts of a shift."""
        bits, _ = node.wires
        if node.constant:
            return f"{bits}'d{node.extra & ((1 << bits) - 1)}"
        return self.at(node, stage)

    def operands(self, node: Node) -> list[str]:
        return [self.ref(x, self.found.stage[node.ident]) for x in node.args]

    def wire(self, node: Node, expression: str) -> None:
        self.body.append(f"wire {kind_of(node)} n{node.ident} = {expression};")

    def registers(self, node: Node) -> None:
        if node.ident in self.found.static:
            return
        first = self.found.stage[node.ident]
        for stage in range(first + 1, self.found.until.get(node.ident, first) + 1):
            self.register(kind_of(node), f"n{node.ident}_{stage}", self.at(node, stage - 1))

    def register(self, kind: str, name: str, value: str) -> None:
        self.body.append(f"reg {kind} {name}; always @(posedge clk) {name} <= {value};")
