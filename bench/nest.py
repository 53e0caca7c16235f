# SPDX-License-Identifier: Apache-2.0
"""Measures the emulation's inner loops alone, on one thread: programs of COMPUTE only.

In: shapes of transformers, random bytes.  Out: GMAC/s of products, million results/s of epilogues.
"""

from __future__ import annotations

import numpy as np
from common import BOARD, Row, median_seconds, report
from neuralmatrix.hardware.board import load_board
from neuralmatrix.hardware.instruction_columns import as_words
from neuralmatrix.hardware.isa import Buffer, Instruction, Mode, Opcode, SegKind, Stat
from neuralmatrix.runtime.emulation.emulator import Emulator

LEAST_GMACS = 15
LANES = 16
REPEATS = 150
BYTES = 1 << 19
WIDE = {"x_wide": 1, "x_half": 4000}
SHAPES = {  # rows, K, column blocks, further fields
    "64 x 384": (64, 384, 8, {}),
    "128 x 768": (128, 768, 4, {"x_m1": 16, "x_cb": 32}),
    "197 x 192": (197, 192, 5, {}),
    "64 x 384, x int16": (64, 384, 8, WIDE | {"x_cb": 64}),
    "64 x 192, x and w int16": (64, 192, 8, WIDE | {"w_wide": 1}),
    "64 x 64, transposed": (64, 64, 8, {"transpose": 1}),
}
MOMENTS = {"stat": Stat.MOMENTS, "sq_m": 100, "sq_shift": 20, "u_shift": 8}
EPILOGUES = {
    "plain": {},
    "residual": {"t_en": 1, "t_wide": 1, "mt": 1 << 20, "t_m0": 1},
    "Hadamard": {"u_en": 1, "u_wide": 1, "u_shift": 15, "u_m0": 1},
    "uniform segments": {"seg_kind": SegKind.UNIFORM, "seg_shift": 9, "seg_count": 64},
    "logarithmic segments": {"seg_kind": SegKind.LOG, "seg_shift": 2, "seg_count": 64},
    "mapped segments": {
        "seg_kind": SegKind.MAPPED, "seg_shift": 7, "seg_count": 64, "seg_cells": 256,
    },
    "row sum": {"stat": Stat.SUM, "stat_m": 100, "stat_shift": 10},
    "row maximum": {"stat": Stat.MAX},
    "row moments": {**MOMENTS, "stat_m": 100, "stat_shift": 10},
}  # fmt: skip


def insn(opcode: Opcode, **values: int) -> Instruction:
    """Make an instruction with its fields as plain integers."""
    return Instruction(opcode, {name: int(value) for name, value in values.items()})


def load(dest: Buffer, words: int) -> Instruction:
    """Make a LOAD of random words."""
    return insn(Opcode.LOAD, dest=dest, n2=1, n1=1, n0=words, s0=LANES, lane_stride=1)


def seconds(epilogue: dict[str, int], fields: dict[str, int], repeats: int) -> float:
    """Return the seconds of one COMPUTE of ``fields``, from a program of many."""
    board = load_board(BOARD)
    array = board.array
    operands = {
        Buffer.IBUF: array.ibuf_words, Buffer.WBUF: array.wbuf_words, Buffer.PBUF: 400,
        Buffer.T_LO: array.tbuf_rows, Buffer.T_HI: array.tbuf_rows,
        Buffer.U_LO: array.ubuf_rows, Buffer.U_HI: array.ubuf_rows,
    }  # fmt: skip
    loads = [load(dest, words) for dest, words in operands.items()]
    limits = {"lo": -32640, "hi": 32639, "f_shift": 20, "seg_base": 20, "seg_x0": -(1 << 14)}
    setup = insn(Opcode.EPILOGUE, out_wide=1, **limits, **epilogue)
    ones = dict.fromkeys(("first", "last", "m0", "nb", "cb", "kh", "kw", "p_nb"), 1)
    compute = insn(Opcode.COMPUTE, **{**ones, "stat_first": 1, "stat_last": 1, **fields})
    loads[-1] = Instruction(Opcode.LOAD, {**loads[-1].values, "signal_compute": 1})
    setup = Instruction(Opcode.EPILOGUE, {**setup.values, "wait_load": 1})
    words = as_words([*loads, setup, *[compute] * repeats, insn(Opcode.END)])
    data = np.random.default_rng(0).integers(-128, 128, BYTES).astype(np.int8).view(np.uint8)
    emulator = Emulator(array, board.timing, data, words, 4096)
    return median_seconds(emulator.run) / repeats


def product_row(name: str) -> Row:
    """Return the rate of multiply-adds; one of int16 values counts once, whatever its passes."""
    rows, k, blocks, more = SHAPES[name]
    place = {"x_m0": 1, "x_cb": rows, "w_nb": k * (1 + more.get("w_wide", 0)), "o_nb": rows}
    shape = {"m1": 1, "m0": rows, "nb": blocks, "cb": k // LANES}
    took = seconds({}, {"mode": Mode.GEMM, **place, **shape, **more}, REPEATS)
    gmacs = rows * k * blocks * LANES / took / 1e9
    passes = (1 + more.get("x_wide", 0)) * (1 + more.get("w_wide", 0))
    return Row(f"GEMM {name}", gmacs, "GMAC/s", "measured", at_least=LEAST_GMACS / passes)


def epilogue_row(name: str) -> Row:
    """Return the rate of epilogues beyond the passes: at depth 64 one epilogue per four passes."""
    rows, blocks = 128, 7
    fields = {"m1": 1, "m0": rows, "nb": blocks, "cb": 4, "x_m0": 1, "x_cb": rows, "w_nb": 64}
    place = {"o_nb": rows, "r_base": 700}
    passes = seconds({}, {**fields, **place, "nb": 1, "last": 0}, blocks * REPEATS) * blocks
    took = seconds(EPILOGUES[name], {**fields, **place}, REPEATS) - passes
    return Row(f"epilogue, {name}", rows * blocks * LANES / took / 1e6, "M/s", "measured")


def pointwise_row() -> Row:
    """Return the rate of an element-wise pass over int16: two byte planes, one epilogue."""
    rows, blocks = 128, 7
    window = {"mode": Mode.WINDOW, "win_h": 1, "win_w": 1, "stride_h": 1, "stride_w": 1}
    place = {"x_m1": rows, "x_m0": 1, "x_nb": 2 * rows, "x_half": rows, "o_nb": rows}
    shape = {"m1": 1, "m0": rows, "nb": blocks, "x_wide": 1}
    took = seconds({}, {**window, **place, **shape}, REPEATS)
    return Row("element-wise int16", rows * blocks * LANES / took / 1e6, "M/s", "measured")


def main() -> None:
    report("nest", [product_row(name) for name in SHAPES])
    report("nest", [*(epilogue_row(name) for name in EPILOGUES), pointwise_row()])


if __name__ == "__main__":
    main()
