# SPDX-License-Identifier: Apache-2.0
"""A schedule as one Verilog module: a wire per node, a register per stage that it lives on.

In: a unit's name and its ``Schedule``.  Out: ``Module``: the text and the names of its ports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .delays import is_wide
from .names import Names, kind_of
from .nodes import Node
from .schedule import Schedule
from .unit import Bank

WIDE, NARROW = 25, 18  # bits of a DSP's factors, as yosys counts them: see synthesize.mapping
INFIX = {"add": "+", "sub": "-", "and": "&", "or": "|", "xor": "^", "mul": "*"}
COMPARED = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "eq": "==", "ne": "!="}
CHUNK = 64  # bits of a RAM's word that one port of the module takes


@dataclass(frozen=True)
class Module:
    """Verilog text, the names of its inputs, and its outputs as (port, element)."""

    text: str
    inputs: tuple[str, ...]
    outputs: tuple[tuple[str, int], ...]


def module(name: str, found: Schedule) -> Module:
    """The module of a scheduled unit."""
    emitter = _Emitter(found)
    for node in found.nodes:
        if not node.constant:
            HANDLERS.get(node.op, _Emitter.infix)(emitter, node)
            emitter.registers(node)
    emitter.outputs()
    ports, body = ",\n  ".join(emitter.ports), "\n".join(emitter.body)
    text = f"module {name}(\n  {ports}\n);\n{body}\nendmodule\n"
    inputs = tuple(p.split()[-1] for p in emitter.ports if p.startswith("input"))
    return Module(text, inputs, tuple((o.port, o.element) for o in found.outputs))


def _top(bank: Bank) -> int:
    """The highest bit of an address of a bank."""
    return max(1, (bank.words - 1).bit_length()) - 1


class _Emitter(Names):
    """Adds one node after the other to a module's text."""

    def input(self, node: Node) -> None:
        port, element = node.extra
        self.ports.append(f"input {kind_of(node)} {port}_{element}")
        self.wire(node, f"{port}_{element}")

    def lowest(self, node: Node) -> None:
        """An assignment keeps the low bits and extends the sign."""
        self.wire(node, self.operands(node)[0])

    def unsigned(self, node: Node) -> None:
        name = f"n{node.ident}x"
        width = node.args[0].width
        self.body.append(f"wire signed [{width - 1}:0] {name} = {self.operands(node)[0]};")
        self.wire(node, name)

    def invert(self, node: Node) -> None:
        self.wire(node, "!" + self.raw(node.args[0], self.found.stage[node.ident]))

    def infix(self, node: Node) -> None:
        a, b = self.operands(node)
        self.wire(node, f"{a} {INFIX[node.op]} {b}")

    def compare(self, node: Node) -> None:
        a, b = self.operands(node)
        self.wire(node, f"{a} {COMPARED[node.extra]} {b}")

    def select(self, node: Node) -> None:
        _, a, b = self.operands(node)
        condition = self.raw(node.args[0], self.found.stage[node.ident])
        self.wire(node, f"{condition} ? {a} : {b}")

    def factors(self, node: Node) -> str:
        """A DSP's product between registers; returns its expression."""
        name, stages = f"n{node.ident}", self.found.used(node)
        for letter, x, stage in zip("ab", node.args, stages, strict=False):
            bits, signed = x.wires
            self.register(f"signed [{bits - signed}:0]", name + letter, self.ref(x, stage))
        return f"{name}a * {name}b"

    def product(self, node: Node) -> None:
        name = f"n{node.ident}"
        if not self.found.inside(node):
            self.infix(node)
            return
        factors = self.factors(node)
        if not is_wide(node, self.found.fabric):
            self.register(kind_of(node), name + "p", factors)
            self.wire(node, name + "p")
            return
        self.register(kind_of(node), name + "q", self.halves(node) or self.whole(node, factors))
        self.wire(node, name + "q")

    def whole(self, node: Node, factors: str) -> str:
        name = f"n{node.ident}p"
        self.register(kind_of(node), name, factors)
        return name

    def halves(self, node: Node) -> str:
        """A product of two DSPs, which share the shorter factor; empty where it takes more.

        yosys cuts such a product into four, as it cuts both factors.
        """
        name, lower = f"n{node.ident}", NARROW - 1  # a DSP's factors have signs
        (long, cut), (short, kept) = sorted(
            (
                (x.wires[0] + (not x.wires[1]), letter)
                for x, letter in zip(node.args, "ab", strict=True)
            ),
            reverse=True,
        )
        if short > WIDE or long > lower + NARROW:
            return ""
        bits = node.wires[0]
        low = f"$signed({{1'b0, {name}{cut}[{lower - 1}:0]}}) * {name}{kept}"
        self.register(f"signed [{lower + short}:0]", name + "l", low)
        self.register(f"signed [{bits}:0]", name + "h", f"({name}{cut} >>> {lower}) * {name}{kept}")
        return f"{name}l + ({name}h <<< {lower})"

    def product_and_sum(self, node: Node) -> None:
        a, b, before = self.operands(node)
        if not self.found.inside(node):
            self.wire(node, f"{a} * {b} + {before}")
            return
        name, bits = f"n{node.ident}", sum(x.wires[0] + 1 for x in node.args[:2])
        self.register(f"signed [{bits - 1}:0]", name + "m", self.factors(node))
        before = self.ref(node.args[2], self.found.used(node)[2])
        self.register(kind_of(node), name + "p", f"{name}m + {before}")
        self.wire(node, name + "p")

    def shift_left(self, node: Node) -> None:
        self.shift(node, "<<<")

    def shift_right(self, node: Node) -> None:
        self.shift(node, ">>>")

    def shift(self, node: Node, operator: str) -> None:
        stage = self.found.stage[node.ident]
        a, count = self.ref(node.args[0], stage), self.raw(node.args[1], stage)
        self.wire(node, f"{a} {operator} {count}")

    def shift_logical(self, node: Node) -> None:
        """Zeros come in from above: on the bits of the whole type."""
        a = node.args[0]
        if a.low >= 0:
            self.shift_right(node)
            return
        stage, name, top = self.found.stage[node.ident], f"n{node.ident}", a.width - 1
        self.body += [
            f"wire signed [{top}:0] {name}y = {self.ref(a, stage)};",
            f"wire [{top}:0] {name}x = {name}y;",
            f"wire [{top}:0] {name}z = {name}x >> {self.raw(node.args[1], stage)};",
        ]
        self.wire(node, f"{name}z")

    # ------------------------------------------------------------ memories

    def write_port(self, bank: Bank, name: str) -> str:
        """The ports by which a bank's owner writes all of its copies; returns the word written."""
        chunks = [(k, min(CHUNK, bank.bits - k)) for k in range(0, bank.bits, CHUNK)]
        ports = [f"input {name}_we", f"input [{_top(bank)}:0] {name}_wa"]
        ports += [f"input [{bits - 1}:0] {name}_wd{k // CHUNK}" for k, bits in chunks]
        self.ports += [each for each in ports if each not in self.ports]
        return ", ".join(f"{name}_wd{k // CHUNK}" for k, _ in reversed(chunks))

    def bank(self, bank: Bank, copy: int) -> str:
        """The RAM of one copy of a bank."""
        owner = f"m_{bank.name}"
        name = f"{owner}_{copy}"
        if name not in self.banks:
            self.banks.add(name)
            word = self.write_port(bank, owner)
            self.body += [
                f'(* ram_style="{bank.style}" *)',
                f"reg [{bank.bits - 1}:0] {name} [0:{bank.words - 1}]; always @(posedge clk)",
                f"if ({owner}_we) {name}[{owner}_wa] <= {{{word}}};",
            ]
        return name

    def word(self, node: Node) -> str:
        """The name of the whole word at a node's address; two reads of one address share it."""
        bank, copy, *_ = node.extra
        name, address = self.bank(bank, copy), node.args[0]
        word = f"{name}_{address.ident}"
        if (name, address.ident) in self.words:
            return self.words[name, address.ident]
        where = self.raw(address, self.found.used(node)[0])
        self.body.append(f"wire [{_top(bank)}:0] {word}a = {where};")
        if self.found.inside(node):
            self.register(f"[{bank.bits - 1}:0]", f"{word}r", f"{name}[{word}a]")
            self.register(f"[{bank.bits - 1}:0]", word, f"{word}r")
        else:
            self.body.append(f"wire [{bank.bits - 1}:0] {word} = {name}[{word}a];")
        self.words[name, address.ident] = word
        return word

    def read(self, node: Node) -> None:
        bank, _, byte, count = node.extra
        top = min(8 * (byte + count), bank.bits) - 1
        self.wire(node, f"{self.word(node)}[{top}:{8 * byte}]")

    # ------------------------------------------------------------ outputs

    def outputs(self) -> None:
        for each in self.found.outputs:
            name, top = f"{each.port}_{each.element}", each.bits - 1
            self.ports.append(f"output [{top}:0] {name}")
            value = self.ref(each.node, self.found.latency)
            self.body.append(f"wire signed [{top}:0] o_{name} = {value};")
            self.body.append(f"assign {name} = o_{name};")


Handler = Callable[[_Emitter, Node], None]
HANDLERS: dict[str, Handler] = {
    "in": _Emitter.input,
    "alias": _Emitter.lowest,
    "low": _Emitter.lowest,
    "bit0": _Emitter.lowest,
    "uns": _Emitter.unsigned,
    "not": _Emitter.invert,
    "icmp": _Emitter.compare,
    "select": _Emitter.select,
    "mul": _Emitter.product,
    "mac": _Emitter.product_and_sum,
    "shl": _Emitter.shift_left,
    "ashr": _Emitter.shift_right,
    "lshr": _Emitter.shift_logical,
    "read": _Emitter.read,
}
