# SPDX-License-Identifier: Apache-2.0
"""The delay model: what an operator of a width costs in nanoseconds of a fabric.

In: a node and a fabric.  Out: ns from its last operand to its value, routing included.
No figure is measured here.  They are rounded from what the vendor's data sheets and published
timing reports give for the slowest speed grade of our boards; the share of the routing is assumed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from neuralmatrix.hardware.board import Board

from .nodes import Node
from .unit import Bank

FREE = ("const", "in", "alias", "low", "uns", "bit0", "not")
LOGIC = ("and", "or", "xor", "select")
SHIFTS = ("shl", "lshr", "ashr")
# Two levels of two-input gates, or a choice among four, fit one LUT6.
GATES_PER_LUT = 2
MARGIN = 0.27  # of a period that Vitis HLS keeps for routing unless told otherwise


@dataclass(frozen=True)
class Fabric:
    """Delays of a family's cells, in ns, and the widest operands of its multiplier."""

    family: str
    lut: float  # through a LUT
    net: float  # one routed connection of small fan-out (assumed)
    carry_in: float  # operand to the carry chain
    carry_bit: float  # along the chain, per bit
    carry_out: float  # chain to sum
    register: float  # clock to output, and setup of the next one
    product: float  # a DSP's multiplier between its registers
    memory: float  # clock to output of a block RAM without output register
    ultra: float  # the same of an UltraRAM
    ultra_link: float  # from one UltraRAM of a cascade to the next, without registers
    wide: int  # bits of the longer operand of one DSP
    narrow: int  # bits of the shorter operand of one DSP

    @property
    def level(self) -> float:
        return self.lut + self.net


FABRICS = {
    # Zynq-7000, speed grade -1: LUT 0.124, CARRY4 0.114 per four bits, flip-flop 0.456 and its
    # setup, block RAM 2.45 as timing reports of such parts print them; DSP48E1 about 3 with one
    # pipeline register at the product; a net 0.65 (assumed: reports show 0.3 to 1.2).
    "xc7": Fabric("xc7", 0.124, 0.65, 0.40, 0.0285, 0.33, 0.55, 3.0, 2.45, 0.0, 0.0, 25, 18),
    # Zynq UltraScale+, -1 and -2: about half of the above in data sheets and reports: LUT 0.10,
    # CARRY8 0.12 per eight bits, flip-flop 0.08 and its setup; a net 0.35 (assumed).  An UltraRAM's
    # output 1.7 after the clock and 0.5 for each further one of a cascade: both assumed.
    "xcup": Fabric("xcup", 0.10, 0.35, 0.22, 0.015, 0.16, 0.16, 1.6, 1.3, 1.7, 0.5, 27, 18),
}
FAMILIES = {"DSP48E1": "xc7", "DSP48E2": "xcup"}


def fabric_of(board: Board) -> Fabric:
    return FABRICS[FAMILIES[board.part.dsp_type]]


def period_of(board: Board) -> float:
    """The clock's period in ns."""
    return 1000 / board.clock_mhz


def budget_of(board: Board) -> float:
    """Ns of a period that a pipeline stage may use between its registers."""
    return period_of(board) * (1 - MARGIN) - fabric_of(board).register


ULTRA_WORDS = 4096  # of an UltraRAM
DEPTHS = {
    **dict.fromkeys(("ibuf", "wbuf"), "{}_words"),
    **dict.fromkeys(("tbuf", "ubuf", "obuf", "acc"), "{}_rows"),
}


def ultra_reads(board: Board) -> dict[str, float]:
    """Ns that a read in one cycle takes, by buffer in UltraRAM: its cascade, a net, a register."""
    fabric = fabric_of(board)
    found = {}
    for name in board.uram_buffers:
        links = math.ceil(getattr(board.array, DEPTHS[name].format(name)) / ULTRA_WORDS) - 1
        path = fabric.ultra + links * fabric.ultra_link + fabric.net + fabric.register
        found[name] = round(path, 2)
    return found


def is_product(node: Node) -> bool:
    return node.op == "mul" and not any(x.constant for x in node.args)


def is_wide(node: Node, fabric: Fabric) -> bool:
    """Whether a product takes more than one DSP."""
    short, long = sorted(x.wires[0] + (not x.wires[1]) for x in node.args)
    return long > fabric.wide or short > fabric.narrow


def inside(node: Node, fabric: Fabric) -> tuple[int, ...]:
    """Registers between each operand and the value; none where there are none.

    A DSP has them at its operands, its product and its sum, a block RAM has two.  A product of
    several DSPs has one more.
    """
    if node.op == "mac":
        return 3, 3, 1
    if is_product(node):
        return (3, 3) if is_wide(node, fabric) else (2, 2)
    if node.op == "read" and node.extra[0].style == "block":
        return (2,)
    return ()


def registered(node: Node, fabric: Fabric) -> float:
    """The longest path between the registers within a node."""
    if node.op == "mac":
        return fabric.product
    if is_product(node):
        # Several DSPs: their products are added behind the first register.
        return fabric.product + (_sum(node.wires[0], fabric) if is_wide(node, fabric) else 0)
    return fabric.memory


def delay(node: Node, fabric: Fabric) -> float:
    """Ns from the last operand to the value, without any register."""
    if node.op in FREE or (node.op in SHIFTS and node.args[1].constant):
        return 0.0
    widest = max(x.wires[0] for x in node.args)
    if node.op in LOGIC:
        return fabric.level / GATES_PER_LUT
    if node.op in ("add", "sub"):
        return _sum(max(node.wires[0], widest), fabric)
    if node.op == "icmp":
        return _comparison(node, widest, fabric)
    if node.op in SHIFTS:  # a choice among four for every two bits of the count
        return math.ceil(node.args[1].wires[0] / 2) * fabric.level
    if node.op in ("mul", "mac"):
        return fabric.product + fabric.net
    return _read(node.extra[0], fabric)


def _sum(bits: int, fabric: Fabric) -> float:
    return fabric.net + fabric.carry_in + bits * fabric.carry_bit + fabric.carry_out


def _comparison(node: Node, bits: int, fabric: Fabric) -> float:
    """Of two numbers, or of one with a constant."""
    if node.extra in ("eq", "ne"):
        inputs = bits if any(x.constant for x in node.args) else 2 * bits
        return max(1, math.ceil(math.log(max(inputs, 2), 6))) * fabric.level
    return _sum(bits, fabric)


def _read(bank: Bank, fabric: Fabric) -> float:
    """A RAM of LUTs: 64 words a LUT6, then choices among four."""
    blocks = max(1, math.ceil(bank.words / 64))
    return (1 + math.ceil(math.log(blocks, 4))) * fabric.level
