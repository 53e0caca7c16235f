# SPDX-License-Identifier: Apache-2.0
"""Programs for tests, made by hand or at random.

In: seeds and sizes.  Out: instruction lists and whole ``Program`` values.
Everything made here passes the program verifier; tests then break one thing at a time.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from neuralmatrix.hardware.board import Board, load_board
from neuralmatrix.hardware.instruction_columns import as_words
from neuralmatrix.hardware.isa import MAP_CELLS, Buffer, Instruction, Opcode, Region, SegKind, Stat
from neuralmatrix.hardware.target import ArrayConfig
from neuralmatrix.hardware.tensor_layout import Blocked
from neuralmatrix.ir.types import QParams, ViewStep
from neuralmatrix.program.data import LayerInfo, ProgramPort, TensorSlot, Watchpoint, as_const
from neuralmatrix.program.program import Program

ARENA = 1 << 16
CONST = 1 << 14
UNITS = ("load", "compute", "store")
UNIT_NAME = {
    Opcode.LOAD: "load",
    Opcode.COMPUTE: "compute",
    Opcode.EPILOGUE: "compute",
    Opcode.STORE: "store",
}


def insn(opcode: Opcode, **values: int) -> Instruction:
    return Instruction(opcode, values)


def make_program(
    instructions: list[Instruction], board: Board | None = None, const: bytes = bytes(CONST), **more
) -> Program:
    """Return a program around an instruction list; one input at 0 and one output behind it."""
    board = board or load_board("pynq-z2")
    layout = Blocked(1, 4, 4, 5, board.array.cols)
    q = QParams(0.5, 3)
    steps = ((ViewStep("transpose", (0, 2, 3, 1)),), (ViewStep("transpose", (0, 3, 1, 2)),))
    slots = (TensorSlot("x", 0, layout, q, 3), TensorSlot("y", 4096, layout, q, 0))
    ports = [
        ProgramPort(s.name, (1, 5, 4, 4), "float32", s, v)
        for s, v in zip(slots, steps, strict=True)
    ]
    words = as_words(instructions)
    values = dict(
        board=board.name,
        array=board.array,
        timing=board.timing,
        clock_mhz=board.clock_mhz,
        instructions=words,
        insn_layer=np.zeros(len(words), np.int32),
        const=as_const(const),
        arena_bytes=ARENA,
        inputs=(ports[0],),
        outputs=(ports[1],),
        layers=(LayerInfo("copy", "gemm", "Identity_0", 16 * 5 * 5),),
    )
    return Program(**(values | more))


def copy_instructions(lanes: int) -> list[Instruction]:
    """Return y = x for one (1, 4, 4, lanes) int8 tensor, by identity weights on the array."""
    load = dict(n2=1, n1=1, s0=lanes, lane_stride=1)
    params = lanes * lanes
    return [
        insn(Opcode.LOAD, dest=Buffer.IBUF, region=Region.ARENA, n0=16, **load),
        insn(Opcode.LOAD, dest=Buffer.WBUF, n0=lanes, **load),
        insn(Opcode.LOAD, dest=Buffer.PBUF, addr=params, n0=8, signal_compute=1, **load),
        insn(Opcode.EPILOGUE, lo=-128, hi=127),
        insn(
            Opcode.COMPUTE,
            wait_load=1,
            signal_store=1,
            first=1,
            last=1,
            m1=4,
            m0=4,
            nb=1,
            cb=1,
            kh=1,
            kw=1,
            x_m1=4,
            x_m0=1,
        ),
        insn(Opcode.STORE, wait_compute=1, addr=4096, n2=1, n1=1, n0=16, s0=lanes),
        insn(Opcode.END),
    ]


def copy_const(lanes: int) -> bytes:
    """Return identity weights and parameters with multiplier 1."""
    weights = np.eye(lanes, dtype=np.int8).tobytes()
    return weights + np.full(lanes, 1 << 32, "<u8").tobytes()


def copy_program(board: str = "pynq-z2") -> Program:
    """Return a program that copies its input to its output."""
    loaded = load_board(board)
    lanes = loaded.array.cols
    program = make_program(copy_instructions(lanes), loaded, copy_const(lanes))
    watch = Watchpoint(program.outputs[0].slot, 0, 5)
    return replace(program, watchpoints=(watch,))


# ------------------------------------------------------------------------------ random streams


def _load(rng: np.random.Generator, array: ArrayConfig) -> dict[str, int]:
    n2, n1, n0 = (int(v) for v in rng.integers(1, (4, 7, 9)))
    pads = {f"pad_{side}": int(rng.integers(0, 3)) for side in ("top", "bottom", "left", "right")}
    if rng.random() < 0.5:
        pads = {}
    lanes = array.rows
    gather = rng.random() < 0.2
    s0 = int(rng.choice([lanes, lanes, 2 * lanes, -lanes, 3]))
    s1 = int(rng.choice([n0 * lanes, n0 * lanes, n0 * lanes + 32, 7]))
    return dict(
        dest=int(rng.integers(0, 7)),
        region=int(rng.integers(0, 2)),
        pad_value=int(rng.integers(-128, 128)),
        addr=int(rng.integers(4000, 6000)),
        dst=int(rng.integers(0, 100)),
        n2=n2,
        n1=n1,
        n0=n0,
        s2=int(rng.integers(-200, 200)),
        s1=s1,
        s0=s0,
        lane_stride=int(rng.integers(-9, 9)) if gather else 1,
        **pads,
    )


def _store(rng: np.random.Generator, array: ArrayConfig) -> dict[str, int]:
    n2, n1, n0 = (int(v) for v in rng.integers(1, (4, 7, 9)))
    return dict(
        plane=int(rng.integers(0, 2)),
        addr=array.cols * int(rng.integers(1200, 1900)),
        src=int(rng.integers(0, 200)),
        n2=n2,
        n1=n1,
        n0=n0,
        s2=array.cols * int(rng.integers(-30, 30)),
        s1=int(rng.choice([n0 * array.cols, 48])),
        s0=int(rng.choice([array.cols, 2 * array.cols, -array.cols])),
    )


def _epilogue(rng: np.random.Generator, array: ArrayConfig) -> dict[str, int]:
    seg_kind, stat = (int(v) for v in rng.integers(0, 4, 2))
    return dict(
        t_en=int(rng.integers(0, 2)),
        t_wide=int(rng.integers(0, 2)),
        u_en=int(rng.integers(0, 2)) if stat != Stat.MOMENTS else 0,
        seg_kind=seg_kind,
        seg_cells=int(rng.integers(1, MAP_CELLS + 1)) if seg_kind == SegKind.MAPPED else 0,
        stat=stat,
        f_shift=int(rng.integers(0, 8)),
        off=int(rng.integers(-1000, 1000)),
        mt=int(rng.integers(-1000, 1000)),
        lo=-128,
        hi=127,
        seg_base=int(rng.integers(0, 20)),
        seg_count=int(rng.integers(1, array.seg_entries + 1)) if seg_kind else 0,
        seg_shift=2,
        t_m1=int(rng.integers(0, 9)),
        t_m0=1,
        u_m0=1,
    )


def _compute(rng: np.random.Generator, array: ArrayConfig) -> dict[str, int]:
    window = int(rng.integers(0, 2))
    m1, m0 = (int(v) for v in rng.integers(1, (6, 9)))
    nb, cb, kh, kw = (int(v) for v in rng.integers(1, (3, 3, 3, 3)))
    win = [int(v) for v in rng.integers(1, array.win + 1, 2)] if window else [0, 0]
    stride = [int(v) for v in rng.integers(1, 3, 2)] if window else [0, 0]
    first, last = (1, 1) if nb > 1 else (int(v) for v in rng.integers(0, 2, 2))
    return dict(
        mode=window,
        reduce=int(rng.integers(0, 2)),
        first=first,
        last=last,
        stat_first=1,
        stat_last=int(rng.integers(0, 2)),
        transpose=int(rng.integers(0, 2)),
        x_wide=int(rng.integers(0, 2)),
        w_wide=int(rng.integers(0, 2)),
        win_h=win[0],
        win_w=win[1],
        stride_h=stride[0],
        stride_w=stride[1],
        m1=m1,
        m0=m0,
        nb=nb,
        cb=cb,
        kh=kh,
        kw=kw,
        x_base=int(rng.integers(0, 200)),
        x_m1=int(rng.integers(0, 20)),
        x_m0=1,
        x_kh=int(rng.integers(0, 20)),
        x_kw=1,
        x_cb=50,
        x_half=400,
        w_base=int(rng.integers(0, 64)),
        w_nb=32,
        p_nb=1,
        acc_base=int(rng.integers(0, 50)),
        o_base=int(rng.integers(0, 50)),
        o_nb=m1 * m0,
        r_base=200,
    )


_FIELDS = {
    Opcode.LOAD: _load,
    Opcode.STORE: _store,
    Opcode.EPILOGUE: _epilogue,
    Opcode.COMPUTE: _compute,
}
_KINDS = (Opcode.LOAD, Opcode.LOAD, Opcode.STORE, Opcode.EPILOGUE, Opcode.COMPUTE, Opcode.COMPUTE)


def _tokens(
    rng: np.random.Generator, opcode: Opcode, waiting: dict[tuple[str, str], int], most: int
) -> dict[str, int]:
    """Return random flags that never wait for a token that no earlier instruction sent.

    At most ``most`` tokens of a pair are under way, so that program order is a possible order and
    nothing deadlocks; with 0 the flags only wait.
    """
    me, flags = UNIT_NAME[opcode], {}
    for other in UNITS:
        if other == me:
            continue
        if waiting[other, me] and (not most or rng.random() < 0.6):
            waiting[other, me] -= 1
            flags[f"wait_{other}"] = 1
        if waiting[me, other] < most and rng.random() < 0.4:
            waiting[me, other] += 1
            flags[f"signal_{other}"] = 1
    return flags


def random_stream(seed: int, count: int, board: Board) -> list[Instruction]:
    """Return valid instructions of all kinds with balanced tokens, END last."""
    most = min(6, board.array.token_depth)
    rng, out = np.random.default_rng(seed), [insn(Opcode.EPILOGUE, lo=-128, hi=127)]
    waiting = {(p, q): 0 for p in UNITS for q in UNITS}
    for _ in range(count):
        opcode = _KINDS[int(rng.integers(len(_KINDS)))]
        values = _FIELDS[opcode](rng, board.array)
        out.append(insn(opcode, **values, **_tokens(rng, opcode, waiting, most)))
    while any(waiting.values()):
        for opcode in (Opcode.LOAD, Opcode.COMPUTE, Opcode.STORE):
            values = _FIELDS[opcode](rng, board.array)
            out.append(insn(opcode, **values, **_tokens(rng, opcode, waiting, 0)))
    return [*out, insn(Opcode.END)]


def random_program(seed: int, count: int, board: str = "pynq-z2", **array: int) -> Program:
    """Return a program around a random stream; ``array`` replaces parameters of the board's."""
    loaded = load_board(board)
    loaded = replace(loaded, array=replace(loaded.array, **array))
    rng = np.random.default_rng(seed + 1)
    const = rng.integers(0, 256, CONST, np.uint8).tobytes()
    return make_program(random_stream(seed, count, loaded), loaded, const)
