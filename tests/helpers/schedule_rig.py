# SPDX-License-Identifier: Apache-2.0
"""Parts of the scheduler alone: a context with a few tensors, and the effects of programs.

In: layouts of tensors, or a small MatGraph.  Out: emitted instructions, written bytes, sums.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
from golden_passes import BOARD, exact, quantized, scheduled
from neuralmatrix.hardware.isa import Instruction, Opcode, Region, decode
from neuralmatrix.hardware.tensor_layout import Blocked
from neuralmatrix.ir.matgraph.ops import MatGraph, Tensor
from neuralmatrix.ir.types import QParams
from neuralmatrix.program.program import Program
from neuralmatrix.program.verify import verify_program
from neuralmatrix.scheduling.context import Context
from neuralmatrix.scheduling.emitter import Emitter, make_rings
from neuralmatrix.scheduling.memory_plan import ConstRegion, Place
from quantized import observed

LANES = BOARD.array.rows


def context(**layouts: Blocked) -> Context:
    """Return a context with tensors one after another in the arena, scale 1/64, zero point 5."""
    places, offset = {}, 0
    for name, layout in layouts.items():
        places[name] = Place(Region.ARENA, offset, layout)
        offset += layout.nbytes
    tensors = {n: Tensor(n, (b.n, b.h, b.w, b.c), b.broadcast) for n, b in layouts.items()}
    qparams = {n: QParams(1 / 64, 0 if b.int16 else 5, b.int16) for n, b in layouts.items()}
    emitter = Emitter(BOARD.array, offset)
    return Context(BOARD.target, emitter, make_rings(BOARD.array), ConstRegion(), places, tensors,
                   qparams)  # fmt: skip


def blocked(h: int, w: int, c: int, int16: bool = False, n: int = 1) -> Blocked:
    return Blocked(n, h, w, c, LANES, int16)


def program_of(mg: MatGraph, precision: str = "int8", **sizes: int) -> Program:
    """Return a verified program, on an array whose buffers may be smaller, without memory reuse."""
    bounds = observed(mg, {"x": exact(5, *mg.inputs[0].shape)})
    board = replace(BOARD, array=replace(BOARD.array, **sizes))
    program = scheduled(quantized(mg, bounds, precision), board, shared=False)
    verify_program(program)
    return program


def instructions(program: Program, opcode: Opcode) -> list[Instruction]:
    decoded = (decode(tuple(words)) for words in program.instructions.tolist())
    return [i for i in decoded if i.opcode == opcode]


def _stored(i: Instruction) -> Iterator[int]:
    """Return the first byte of every lane vector that a STORE writes."""
    for i2, i1, i0 in product(range(i["n2"]), range(i["n1"]), range(i["n0"])):
        yield i["addr"] + i2 * i["s2"] + i1 * i["s1"] + i0 * i["s0"]


def writes_of(program: Program, name: str) -> Counter[int]:
    """Return how often each lane vector of a tensor is written."""
    (slot,) = (point.tensor for point in program.watchpoints if point.tensor.name == name)
    span = range(slot.offset, slot.offset + slot.layout.nbytes)
    found = (a for i in instructions(program, Opcode.STORE) for a in _stored(i) if a in span)
    return Counter((address - slot.offset) // LANES for address in found)


def once(program: Program, name: str) -> bool:
    """Return whether every lane vector of a tensor is written exactly once."""
    (slot,) = (point.tensor for point in program.watchpoints if point.tensor.name == name)
    return writes_of(program, name) == Counter(range(slot.layout.nbytes // LANES))


def passes(program: Program) -> int:
    """Return rows times blocks of weights of all COMPUTEs."""
    total = 0
    for i in instructions(program, Opcode.COMPUTE):
        digits = (1 + i["x_wide"]) * (1 + i["w_wide"])
        total += i["m1"] * i["m0"] * i["nb"] * i["cb"] * i["kh"] * i["kw"] * digits
    return total


def weights_from_const(program: Program, offset: int, words: int) -> np.ndarray:
    """Return lane vectors of the CONST region as int8."""
    data = program.const[offset : offset + words * LANES]
    return np.asarray(data).view(np.int8).reshape(words, LANES)
