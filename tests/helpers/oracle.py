# SPDX-License-Identifier: Apache-2.0
"""The addresses that a program accesses, found by running every loop of every instruction.

In: a ``Program``.  Out: the smallest size of each memory that holds all of them.
It is slow and plain on purpose: tests compare the closed forms of the program verifier with it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import product

from neuralmatrix.hardware.isa import Buffer, Instruction, Mode, Opcode, Region, Stat, decode
from neuralmatrix.program.program import Program

BUFFER_OF = {
    Buffer.IBUF: ("ibuf_words", 1),
    Buffer.WBUF: ("wbuf_words", 1),
    Buffer.PBUF: ("pbuf_rows", 8),
    Buffer.T_LO: ("tbuf_rows", 1),
    Buffer.T_HI: ("tbuf_rows", 1),
    Buffer.U_LO: ("ubuf_rows", 1),
    Buffer.U_HI: ("ubuf_rows", 1),
}
Touch = tuple[str, int]


def _dma(i: Instruction) -> Iterator[int]:
    for i2, i1, i0 in product(range(i["n2"]), range(i["n1"]), range(i["n0"])):
        yield i["addr"] + i2 * i["s2"] + i1 * i["s1"] + i0 * i["s0"]


def _load(i: Instruction, lanes: int) -> Iterator[Touch]:
    memory = "const" if i["region"] == Region.CONST else "arena_bytes"
    for address in _dma(i):
        for lane in range(lanes):
            yield memory, address + lane * i["lane_stride"]
    name, words_per_row = BUFFER_OF[Buffer(i["dest"])]
    height = i["pad_top"] + i["n1"] + i["pad_bottom"]
    width = i["pad_left"] + i["n0"] + i["pad_right"]
    for word in range(i["n2"] * height * width):
        yield name, (i["dst"] + word) // words_per_row


def _store(i: Instruction, lanes: int) -> Iterator[Touch]:
    for row, address in enumerate(_dma(i)):
        yield "obuf_rows", i["src"] + row
        yield "arena_bytes", address
        yield "arena_bytes", address + lanes - 1


def _epilogue(i: Instruction, lanes: int) -> Iterator[Touch]:
    for segment in range(i["seg_count"]):
        yield "pbuf_rows", i["seg_base"] + segment // lanes
        yield "seg_entries", segment
    map_row = i["seg_base"] + -(-i["seg_count"] // lanes)
    for cell in range(i["seg_cells"]):
        yield "pbuf_rows", map_row + cell // 8 // lanes


def _passes(i: Instruction) -> Iterator[tuple[int, int]]:
    """Yield (first x word, first weight word) of every pass, in order."""
    byte_planes = range(1 + i["w_wide"]), range(1 + i["x_wide"])
    for nb in range(i["nb"]):
        block = 0
        for kh, kw, cb in product(range(i["kh"]), range(i["kw"]), range(i["cb"])):
            for _w, x in product(*byte_planes):
                start = i["x_base"] + nb * i["x_nb"] + kh * i["x_kh"] + kw * i["x_kw"]
                yield start + cb * i["x_cb"] + x * i["x_half"], i["w_base"] + nb * i["w_nb"] + block
                block += x == i["x_wide"]


def _rasters(i: Instruction) -> tuple[range, range]:
    if i["mode"] == Mode.GEMM:
        return range(i["m1"]), range(i["m0"])
    height = (i["m1"] - 1) * i["stride_h"] + i["win_h"]
    width = (i["m0"] - 1) * i["stride_w"] + i["win_w"]
    return range(height), range(width)


def _compute(i: Instruction, state: Instruction, lanes: int) -> Iterator[Touch]:
    rows, columns = _rasters(i)
    if i["mode"] == Mode.WINDOW:
        yield "line_words", len(columns) - 1
        yield "win", max(i["win_h"], i["win_w"]) - 1
    per_nb = i["kh"] * i["kw"] * i["cb"] * (1 + i["x_wide"]) * (1 + i["w_wide"])
    for number, (x, block) in enumerate(_passes(i)):
        nb = number // per_nb
        base = i["w_base"] + nb * i["w_nb"]
        yield "wbuf_words", base + (block - base) * lanes + lanes - 1
        for i1, i0 in product(rows, columns):
            yield "ibuf_words", x + i1 * i["x_m1"] + i0 * i["x_m0"]
    for nb, i1, i0 in product(range(i["nb"]), range(i["m1"]), range(i["m0"])):
        m = i1 * i["m0"] + i0
        yield "acc_rows", i["acc_base"] + m
        yield "pbuf_rows", i["p_base"] + nb * i["p_nb"]
        if i["last"]:
            yield from _result(i, state, nb, i1, i0, m)


def _result(
    i: Instruction, state: Instruction, nb: int, i1: int, i0: int, m: int
) -> Iterator[Touch]:
    yield "obuf_rows", i["o_base"] + nb * i["o_nb"] + m
    if state["stat"] != Stat.NONE and i["stat_last"]:
        second = i["m1"] * i["m0"] if state["stat"] == Stat.MOMENTS else 0
        yield "obuf_rows", i["r_base"] + second + m
    for name in "tu":
        if state[f"{name}_en"]:
            step = nb * state[f"{name}_nb"] + i1 * state[f"{name}_m1"] + i0 * state[f"{name}_m0"]
            yield f"{name}buf_rows", i[f"{name}_base"] + step


def _touches(program: Program) -> Iterator[Touch]:
    lanes, state = program.array.rows, Instruction(Opcode.EPILOGUE, {})
    for words in program.instructions.tolist():
        i = decode(tuple(words))
        if i.opcode == Opcode.LOAD:
            yield from _load(i, lanes)
        elif i.opcode == Opcode.STORE:
            yield from _store(i, lanes)
        elif i.opcode == Opcode.EPILOGUE:
            state = i
            yield from _epilogue(i, lanes)
        elif i.opcode == Opcode.COMPUTE:
            yield from _compute(i, state, lanes)


def needed_sizes(program: Program) -> dict[str, int]:
    """Return the smallest size of each memory; addresses below 0 are ignored."""
    sizes: dict[str, int] = defaultdict(int)
    for name, address in _touches(program):
        sizes[name] = max(sizes[name], address + 1)
    return dict(sizes)
