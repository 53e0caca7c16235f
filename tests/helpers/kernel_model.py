# SPDX-License-Identifier: Apache-2.0
"""A second implementation of docs/numerics.md and the fields of isa.py, in plain numpy.

In: instructions in program order, the bytes of CONST and ARENA.  Out: the bytes of ARENA.
It runs one instruction after the other, without units and cycles; tests compare the emulation with
it.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from neuralmatrix.hardware.isa import (
    Buffer,
    Instruction,
    Mode,
    Opcode,
    Reduce,
    Region,
    SegKind,
    Stat,
    Unit,
)
from neuralmatrix.hardware.target import ArrayConfig

_BUFFERS = {
    Buffer.IBUF: "ibuf",
    Buffer.WBUF: "wbuf",
    Buffer.PBUF: "pbuf",
    Buffer.T_LO: "t_lo",
    Buffer.T_HI: "t_hi",
    Buffer.U_LO: "u_lo",
    Buffer.U_HI: "u_hi",
}


def sat(x: np.ndarray, low: int, high: int) -> np.ndarray:
    return np.minimum(np.maximum(x, low), high)


def sat16(x: np.ndarray) -> np.ndarray:
    return sat(x, -32768, 32767)


def half(n: int) -> int:
    return 0 if n == 0 else 1 << (n - 1)


def int16(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return two byte planes in the lanes' 16 bits; random bytes may exceed an int16 tensor."""
    return (low + 256 * high + 2**15) % 2**16 - 2**15


def round_half_even(v: np.ndarray, n: int) -> np.ndarray:
    """Return v / 2^n, rounded half to even."""
    floor, rest = v >> n, v - ((v >> n) << n)
    up = (2 * rest > 2**n) | ((2 * rest == 2**n) & (floor % 2 == 1))
    return floor + up


def wrap32(x: np.ndarray) -> np.ndarray:
    return (np.asarray(x, np.int64) + 2**31) % 2**32 - 2**31


class Model:
    """The state of the device, and one method per opcode."""

    def __init__(self, array: ArrayConfig, const: np.ndarray, arena: np.ndarray) -> None:
        self.lanes = lanes = array.rows
        self.win = array.win
        self.const, self.arena = const.view(np.int8), arena.copy().view(np.int8)
        sizes = {
            "ibuf": array.ibuf_words,
            "wbuf": array.wbuf_words,
            "pbuf": array.pbuf_rows * 8,
            "t_lo": array.tbuf_rows,
            "t_hi": array.tbuf_rows,
            "u_lo": array.ubuf_rows,
            "u_hi": array.ubuf_rows,
        }
        self.buffers = {n: np.zeros((words, lanes), np.int8) for n, words in sizes.items()}
        self.out = np.zeros((2, array.obuf_rows, lanes), np.int8)
        self.acc = np.zeros((array.acc_rows, lanes), np.int64)
        self.e = Instruction(Opcode.EPILOGUE, {})
        self.segments = np.zeros((0, 8), np.uint8)
        self.map = np.zeros(0, np.int64)
        self.stat = np.zeros((2, array.acc_rows), np.int64)

    def run(self, program: list[Instruction]) -> np.ndarray:
        steps = {
            Opcode.LOAD: self.load,
            Opcode.STORE: self.store,
            Opcode.EPILOGUE: self.epilogue,
            Opcode.COMPUTE: self.compute,
        }
        for insn in program:
            if insn.opcode != Opcode.END:
                steps[insn.opcode](insn)
        return self.arena.view(np.uint8)

    # -------------------------------------------------------------------------- DRAM

    def load(self, i: Instruction) -> None:
        memory = self.const if i["region"] == Region.CONST else self.arena
        buffer = self.buffers[_BUFFERS[Buffer(i["dest"])]]
        lanes = np.arange(self.lanes) * i["lane_stride"]
        rows = range(-i["pad_top"], i["n1"] + i["pad_bottom"])
        columns = range(-i["pad_left"], i["n0"] + i["pad_right"])
        for at, (i2, i1, i0) in enumerate(product(range(i["n2"]), rows, columns)):
            if 0 <= i1 < i["n1"] and 0 <= i0 < i["n0"]:
                first = i["addr"] + i2 * i["s2"] + i1 * i["s1"] + i0 * i["s0"]
                buffer[i["dst"] + at] = memory[first + lanes]
            else:
                buffer[i["dst"] + at] = i["pad_value"]

    def store(self, i: Instruction) -> None:
        counts = (range(i["n2"]), range(i["n1"]), range(i["n0"]))
        for at, (i2, i1, i0) in enumerate(product(*counts)):
            first = i["addr"] + i2 * i["s2"] + i1 * i["s1"] + i0 * i["s0"]
            self.arena[first : first + self.lanes] = self.out[i["plane"], i["src"] + at]

    # -------------------------------------------------------------------------- parameters

    def _entries(self, row: int, count: int) -> np.ndarray:
        """Return ``count`` 64-bit parameters from a parameter row on, as bytes."""
        return self.buffers["pbuf"].reshape(-1, 8)[row * self.lanes :][:count].view(np.uint8)

    @staticmethod
    def _signed(entries: np.ndarray, low: int, bits: int) -> np.ndarray:
        value = entries.copy().view("<u8").reshape(-1) >> np.uint64(low)
        value = (value & np.uint64((1 << bits) - 1)).astype(np.int64)
        return value - ((value >> (bits - 1)) << bits)

    @staticmethod
    def _unsigned(entries: np.ndarray, low: int, bits: int) -> np.ndarray:
        value = entries.copy().view("<u8").reshape(-1) >> np.uint64(low)
        return (value & np.uint64((1 << bits) - 1)).astype(np.int64)

    def epilogue(self, i: Instruction) -> None:
        self.e = i
        self.segments = self._entries(i["seg_base"], i["seg_count"]).copy()
        row = i["seg_base"] + -(-i["seg_count"] // self.lanes)
        entries = self._entries(row, -(-i["seg_cells"] // 8))
        self.map = entries.reshape(-1)[: i["seg_cells"]].astype(np.int64) % 64

    # -------------------------------------------------------------------------- array

    def _weights(self, i: Instruction, row: int) -> np.ndarray:
        block = self.buffers["wbuf"][row : row + self.lanes].astype(np.int64)
        return block.T if i["transpose"] else block

    def _x(self, i: Instruction, base: int, height: int, width: int, digit: int) -> np.ndarray:
        at = base + digit * i["x_half"]
        at = at + np.arange(height)[:, None] * i["x_m1"] + np.arange(width) * i["x_m0"]
        return self.buffers["ibuf"][at].astype(np.int64)

    def _operand(self, i: Instruction, base: int, height: int, width: int) -> np.ndarray:
        """Return the int16 value of x, for maxima."""
        x = self._x(i, base, height, width, 0)
        return int16(x, self._x(i, base, height, width, 1)) if i["x_wide"] else x

    def _gemm(self, i: Instruction, base: int, w: np.ndarray, digit: int) -> np.ndarray:
        """Accumulate one block of K: sums, or maxima over x whose weight is not 0."""
        if i["reduce"] == Reduce.ADD:
            return self._x(i, base, i["m1"], i["m0"], digit).reshape(-1, self.lanes) @ w
        x = self._operand(i, base, i["m1"], i["m0"]).reshape(-1, self.lanes)
        return np.where(w != 0, x[:, :, None], -(2**24)).max(1)

    def _window(self, i: Instruction, base: int, w: np.ndarray, digit: int) -> np.ndarray:
        """Run one tile of taps."""
        sh, sw, wh, ww = i["stride_h"], i["stride_w"], i["win_h"], i["win_w"]
        height, width = (i["m1"] - 1) * sh + wh, (i["m0"] - 1) * sw + ww
        add = i["reduce"] == Reduce.ADD
        if add:
            x = self._x(i, base, height, width, digit)
        else:
            x = self._operand(i, base, height, width)
        total = np.full((i["m1"], i["m0"], self.lanes), 0 if add else -(2**24), np.int64)
        for a, b in product(range(wh), range(ww)):
            tap = x[a : a + (i["m1"] - 1) * sh + 1 : sh, b : b + (i["m0"] - 1) * sw + 1 : sw]
            weight = w[a * ww + b]
            if add:
                total += tap * weight
            else:
                total = np.where(weight != 0, np.maximum(total, tap), total)
        return total.reshape(-1, self.lanes)

    def compute(self, i: Instruction) -> None:
        rows = slice(i["acc_base"], i["acc_base"] + i["m1"] * i["m0"])
        add = i["reduce"] == Reduce.ADD
        block = self._gemm if i["mode"] == Mode.GEMM else self._window
        for nb in range(i["nb"]):
            if i["first"]:
                self.acc[rows] = 0 if add else -(2**24)
            blocks = product(range(i["kh"]), range(i["kw"]), range(i["cb"]))
            for k, (kh, kw, cb) in enumerate(blocks):
                base = i["x_base"] + nb * i["x_nb"]
                base += kh * i["x_kh"] + kw * i["x_kw"] + cb * i["x_cb"]
                w_row = i["w_base"] + nb * i["w_nb"] + k * (1 + i["w_wide"]) * self.lanes
                if not add:
                    found = block(i, base, self._weights(i, w_row), 0)
                    self.acc[rows] = np.maximum(self.acc[rows], found)
                    continue
                for wd, xd in product(range(1 + i["w_wide"]), range(1 + i["x_wide"])):
                    w = self._weights(i, w_row + wd * self.lanes)
                    self.acc[rows] += block(i, base, w, xd) << (8 * (wd + xd))
            self.acc[rows] = wrap32(self.acc[rows])
            if i["last"]:
                self._finish(i, nb, self.acc[rows])

    # -------------------------------------------------------------------------- lanes

    def _rows(self, i: Instruction, name: str, nb: int) -> np.ndarray:
        """Return rows of t or u, one per output row."""
        e = self.e
        at = i[f"{name}_base"] + nb * e[f"{name}_nb"]
        at = at + np.arange(i["m1"])[:, None] * e[f"{name}_m1"]
        at = (at + np.arange(i["m0"]) * e[f"{name}_m0"]).reshape(-1)
        value = self.buffers[f"{name}_lo"][at].astype(np.int64)
        if e[f"{name}_wide"]:
            value = int16(value, self.buffers[f"{name}_hi"][at].astype(np.int64))
        return value

    def _index(self, x: np.ndarray) -> np.ndarray:
        e = self.e
        if e["seg_kind"] == SegKind.LOG:
            d = np.maximum(x - e["seg_x0"], 1)
            exponent = np.floor(np.log2(d)).astype(np.int64)
            f = e["seg_shift"]
            i = (exponent << f) + ((d << f) >> exponent) - (1 << f)
        else:
            i = (x - e["seg_x0"]) >> e["seg_shift"]
        if e["seg_cells"]:
            i = self.map[sat(i, 0, e["seg_cells"] - 1)]
        return sat(i, 0, e["seg_count"] - 1)

    def _finish(self, i: Instruction, nb: int, acc: np.ndarray) -> None:
        e = self.e
        entries = self._entries(i["p_base"] + nb * i["p_nb"], self.lanes)
        a = wrap32(acc + self._signed(entries, 0, 32))
        v = (a * self._signed(entries, 32, 24)) >> self._unsigned(entries, 56, 6)
        if e["t_en"]:
            v = v + self._rows(i, "t", nb) * e["mt"]
        x = sat16(round_half_even(v + e["off"], e["f_shift"]))
        if e["seg_kind"] != SegKind.NONE:
            entry = self.segments[self._index(x)]
            shape = x.shape
            b = self._signed(entry, 0, 32).reshape(shape)
            k = self._signed(entry, 32, 16).reshape(shape)
            x = sat16((x * k + b) >> self._unsigned(entry, 48, 5).reshape(shape))
        squares = (x * x + half(e["u_shift"])) >> e["u_shift"]
        if e["u_en"]:
            u = self._rows(i, "u", nb) - e["uz"]
            x = (x * u + half(e["u_shift"])) >> e["u_shift"]
        q = sat(x + e["zp"], e["lo"], e["hi"])
        self._write(i["o_base"] + nb * i["o_nb"], q)
        if e["stat"] != Stat.NONE:
            self._statistic(i, nb, q, squares)

    def _write(self, row: int, q: np.ndarray, int16: bool = False) -> None:
        low = ((q + 128) & 255) - 128
        self.out[0, row : row + len(q)] = low
        if self.e["out_wide"] or int16:
            self.out[1, row : row + len(q)] = (((q - low) >> 8) + 128 & 255) - 128

    def _statistic(self, i: Instruction, nb: int, q: np.ndarray, squares: np.ndarray) -> None:
        e, m = self.e, len(q)
        ends = i["stat_last"] and nb == i["nb"] - 1
        lanes = e["stat_lanes"] if ends and e["stat_lanes"] else self.lanes
        fresh = i["stat_first"] and nb == 0
        before = np.zeros((2, m), np.int64) if fresh else self.stat[:, :m]
        if e["stat"] == Stat.MAX:
            first = np.maximum(q[:, :lanes].max(1), -(2**15) if fresh else before[0])
        else:
            first = wrap32(before[0] + q[:, :lanes].sum(1))
        self.stat[:, :m] = first, wrap32(before[1] + squares[:, :lanes].sum(1))
        if ends:
            self._write_statistic(i, m)

    def _write_statistic(self, i: Instruction, m: int) -> None:
        e, (value, squares) = self.e, self.stat[:, :m].copy()
        if e["stat"] != Stat.MAX:
            value = (value + e["stat_off"]) * e["stat_m"] + half(e["stat_shift"])
            value = sat(value >> e["stat_shift"], -32640, 32639)
        is_int16 = e["stat"] != Stat.MAX
        self._write(i["r_base"], np.repeat(value[:, None], self.lanes, 1), is_int16)
        if e["stat"] == Stat.MOMENTS:
            squares = (squares * e["sq_m"] + half(e["sq_shift"])) >> e["sq_shift"]
            squares = sat(squares, 0, 32639)
            self._write(i["r_base"] + m, np.repeat(squares[:, None], self.lanes, 1), is_int16)


_UNIT = {
    Opcode.LOAD: Unit.LOAD,
    Opcode.STORE: Unit.STORE,
    Opcode.EPILOGUE: Unit.COMPUTE,
    Opcode.COMPUTE: Unit.COMPUTE,
}


def in_order(program: list[Instruction]) -> list[Instruction]:
    """Return the program with tokens that serialise all instructions, and END."""
    done = [dict(insn.values) for insn in program]
    units = [_UNIT[insn.opcode].name.lower() for insn in program]
    for k in range(1, len(program)):
        if units[k] != units[k - 1]:
            done[k - 1][f"signal_{units[k]}"] = 1
            done[k][f"wait_{units[k - 1]}"] = 1
    chained = [Instruction(i.opcode, v) for i, v in zip(program, done, strict=True)]
    return [*chained, Instruction(Opcode.END, {})]
