# SPDX-License-Identifier: Apache-2.0
"""Random instructions that stay inside an array's buffers.

In: a seeded generator.  Out: programs that load, compute in some mode, and store what came out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from neuralmatrix.hardware.board import load_board
from neuralmatrix.hardware.isa import (
    MAP_CELLS,
    Buffer,
    Instruction,
    Mode,
    Opcode,
    Reduce,
    Region,
    SegKind,
    Stat,
)
from neuralmatrix.hardware.target import ArrayConfig

LANES = 16
ARENA_BYTES = 1 << 18
CONST_BYTES = 1 << 17


def insn(opcode: Opcode, **values: int) -> Instruction:
    return Instruction(opcode, {k: int(v) for k, v in values.items()})


def extreme_bytes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return signed bytes with many zeros and both ends of the range."""
    data = rng.integers(-128, 128, count).astype(np.int8)
    data[rng.random(count) < 0.15] = 0
    data[rng.random(count) < 0.05] = -128
    data[rng.random(count) < 0.05] = 127
    return data.view(np.uint8)


def channels(rng: np.random.Generator, entries: int) -> np.ndarray:
    """Return channel parameters: bias, 24-bit multiplier, shift up to 55."""
    bias = rng.integers(-(2**20), 2**20, entries)
    m = rng.integers(-(2**23), 2**23, entries)
    s = rng.integers(0, 56, entries)
    return ((bias & 0xFFFFFFFF) | (m & 0xFFFFFF) << 32 | s << 56).astype("<i8").view(np.uint8)


def segments(rng: np.random.Generator, entries: int) -> np.ndarray:
    """Return segments: intercept, 16-bit slope, shift up to 31."""
    b = rng.integers(-(2**24), 2**24, entries)
    k = rng.integers(-(2**15), 2**15, entries)
    sh = rng.integers(0, 32, entries)
    return ((b & 0xFFFFFFFF) | (k & 0xFFFF) << 32 | sh << 48).astype("<i8").view(np.uint8)


def fill(dest: Buffer, words: int, addr: int, dst: int = 0, region: int = Region.CONST):
    """Return a LOAD of consecutive lane vectors."""
    return insn(
        Opcode.LOAD,
        dest=dest,
        region=region,
        addr=addr,
        dst=dst,
        n2=1,
        n1=1,
        n0=words,
        s0=LANES,
        lane_stride=1,
    )


@dataclass(frozen=True)
class Case:
    """A program, not yet serialised by tokens, and its memory."""

    array: ArrayConfig
    program: list[Instruction]
    const: np.ndarray
    arena: np.ndarray


def random_epilogue(rng: np.random.Generator, **fixed: int) -> Instruction:
    is_int16 = int(rng.integers(2))
    low, high = (-32640, 32639) if is_int16 else (-128, 127)
    lo, hi = sorted(rng.integers(low, high + 1, 2)) if rng.random() < 0.5 else (low, high)
    kind, stat = int(rng.choice(list(SegKind))), int(rng.choice(list(Stat)))
    mapped = kind == SegKind.MAPPED or (kind == SegKind.LOG and rng.random() < 0.5)
    values = dict(
        t_en=rng.integers(2),
        t_wide=rng.integers(2),
        u_en=0 if stat == Stat.MOMENTS else rng.integers(2),
        u_wide=rng.integers(2),
        seg_kind=kind,
        stat=stat,
        out_wide=is_int16,
        f_shift=rng.integers(12),
        u_shift=rng.integers(20),
        off=rng.integers(-(2**20), 2**20),
        mt=rng.integers(-(2**23), 2**23),
        uz=rng.integers(-128, 128),
        zp=rng.integers(-300, 300),
        lo=lo,
        hi=hi,
        seg_x0=rng.integers(-(2**15), 2**15),
        seg_base=8,
        seg_count=rng.integers(1, 65) if kind else 0,
        seg_shift=rng.integers(6) if kind == SegKind.LOG else rng.integers(16),
        seg_cells=rng.integers(1, MAP_CELLS + 1) if mapped else 0,
        stat_shift=rng.integers(20),
        stat_m=rng.integers(-(2**15), 2**15),
        stat_off=rng.choice([0, int(rng.integers(-(2**20), 2**20)), -(2**31), 2**31 - 1]),
        stat_lanes=rng.integers(LANES + 1),
        sq_shift=rng.integers(32),
        sq_m=rng.integers(-(2**15), 2**15),
        t_nb=rng.integers(30),
        t_m1=rng.integers(8),
        t_m0=rng.integers(3),
        u_nb=rng.integers(20),
        u_m1=rng.integers(6),
        u_m0=rng.integers(2),
    )
    return insn(Opcode.EPILOGUE, **{**values, **fixed})


def operand_loads(rng: np.random.Generator) -> list[Instruction]:
    """Load IBUF, WBUF, T and U from CONST, parameter rows 0..7, segments and map from row 8."""

    def anywhere(dest: Buffer, words: int) -> Instruction:
        first = 16 * LANES * 8
        return fill(dest, words, int(rng.integers(first, CONST_BYTES - words * LANES)))

    operands = (Buffer.T_LO, Buffer.T_HI, Buffer.U_LO, Buffer.U_HI)
    return [
        anywhere(Buffer.IBUF, 2000),
        anywhere(Buffer.WBUF, 2000),
        fill(Buffer.PBUF, 16 * 8, 0),
        *(anywhere(dest, 500) for dest in operands),
    ]


def gemm(rng: np.random.Generator, **fixed: int) -> Instruction:
    values = dict(
        mode=Mode.GEMM,
        reduce=Reduce.ADD,
        first=1,
        last=1,
        transpose=rng.integers(2),
        x_wide=rng.integers(2),
        w_wide=rng.integers(2),
        m1=rng.integers(1, 8),
        m0=rng.integers(1, 12),
        nb=rng.integers(1, 4),
        cb=rng.integers(1, 4),
        kh=rng.integers(1, 4),
        kw=rng.integers(1, 3),
        x_base=rng.integers(100),
        x_m1=rng.integers(30),
        x_m0=rng.integers(4),
        x_kh=rng.integers(40),
        x_kw=rng.integers(5),
        x_cb=rng.integers(60),
        x_half=rng.integers(800),
        x_nb=rng.integers(30),
        w_base=rng.integers(100),
        w_nb=rng.integers(500),
        p_base=rng.integers(4),
        p_nb=rng.integers(2),
        acc_base=rng.integers(40),
        o_base=rng.integers(200),
        o_nb=rng.integers(100),
        t_base=rng.integers(100),
        u_base=rng.integers(100),
        r_base=500 + rng.integers(80),
        stat_first=1,
        stat_last=int(rng.random() < 0.9),
    )
    return insn(Opcode.COMPUTE, **{**values, **fixed})


def window(rng: np.random.Generator, **fixed: int) -> Instruction:
    values = dict(
        mode=Mode.WINDOW,
        transpose=0,
        win_h=rng.integers(1, 5),
        win_w=rng.integers(1, 5),
        stride_h=rng.integers(1, 4),
        stride_w=rng.integers(1, 4),
        m1=rng.integers(1, 6),
        m0=rng.integers(1, 9),
        cb=1,
        x_m1=rng.integers(40),
    )
    return gemm(rng, **{**values, **fixed})


def stores() -> list[Instruction]:
    """Store the first 1000 rows of both byte planes."""
    return [
        insn(
            Opcode.STORE,
            plane=plane,
            addr=plane * 1000 * LANES,
            n2=1,
            n1=1,
            n0=1000,
            s0=LANES,
        )
        for plane in (0, 1)
    ]


def compute_case(rng: np.random.Generator, body: list[Instruction]) -> Case:
    """Return a program that loads operands, runs EPILOGUEs and COMPUTEs, and stores everything."""
    const = extreme_bytes(rng, CONST_BYTES)
    const[: 8 * LANES * 8] = channels(rng, 8 * LANES)
    const[8 * LANES * 8 : 16 * LANES * 8] = segments(rng, 8 * LANES)
    program = [*operand_loads(rng), *body, *stores()]
    return Case(load_board("pynq-z2").array, program, const, extreme_bytes(rng, ARENA_BYTES))
