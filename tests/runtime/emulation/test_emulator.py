# SPDX-License-Identifier: Apache-2.0
"""The emulation against the numpy model, on random instructions.

In: seeds.  Out: the arena's bytes, equal.
"""

from __future__ import annotations

import numpy as np
import pytest
from kernel_model import Model, in_order
from kernel_randoms import (
    ARENA_BYTES,
    CONST_BYTES,
    LANES,
    Case,
    compute_case,
    extreme_bytes,
    fill,
    gemm,
    insn,
    random_epilogue,
    window,
)
from neuralmatrix.hardware.board import load_board
from neuralmatrix.hardware.instruction_columns import as_words
from neuralmatrix.hardware.instruction_costs import costs
from neuralmatrix.hardware.isa import (
    Buffer,
    Instruction,
    Mode,
    Opcode,
    Reduce,
    Region,
    SegKind,
    Stat,
)
from neuralmatrix.hardware.timeline import simulate
from neuralmatrix.runtime.emulation.emulator import Emulator, RunStats
from slow import slow_after

pytestmark = pytest.mark.gxx
TIMING = load_board("pynq-z2").timing


def emulate(case: Case) -> tuple[np.ndarray, RunStats]:
    words = as_words(in_order(case.program))
    emulator = Emulator(case.array, TIMING, case.const, words, case.arena.nbytes)
    emulator.arena[:] = case.arena
    return emulator.arena, emulator.run(timeline=True)


def check(case: Case) -> None:
    """Check that bytes equal the numpy model's and cycles the estimate's."""
    found, stats = emulate(case)
    wanted = Model(case.array, case.const, case.arena).run(case.program)
    different = np.flatnonzero(found != wanted)
    assert not len(different), f"first difference at byte {different[:1]} of {len(different)}"
    words = as_words(in_order(case.program))
    cost = costs(words, case.array, TIMING)
    timeline = simulate(cost, case.array, TIMING)
    assert stats.cycles == timeline.cycles
    assert stats.dram_bytes == cost.dram_bytes.sum()
    for unit, name in enumerate(("load", "compute", "store")):
        assert stats.busy[name] == cost.cycles[cost.unit == unit].sum()
    assert stats.busy["dram"] == cost.dram_cycles.sum()
    for name in ("unit", "start", "end"):
        assert np.array_equal(stats.timeline[name], getattr(timeline, name)), name
    assert np.array_equal(stats.timeline["reason"], timeline.waited_for)


@pytest.mark.parametrize("seed", slow_after(10, range(40)))
def test_gemm(seed: int) -> None:
    rng = np.random.default_rng(seed)
    check(compute_case(rng, [random_epilogue(rng), gemm(rng)]))


@pytest.mark.parametrize("seed", range(15))
def test_gemm_max(seed: int) -> None:
    rng = np.random.default_rng(seed)
    check(compute_case(rng, [random_epilogue(rng), gemm(rng, reduce=Reduce.MAX)]))


@pytest.mark.parametrize("reduce", Reduce)
@pytest.mark.parametrize("seed", slow_after(8, range(25)))
def test_window(seed: int, reduce: Reduce) -> None:
    rng = np.random.default_rng(seed)
    check(compute_case(rng, [random_epilogue(rng), window(rng, reduce=reduce)]))


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("reduce", Reduce)
def test_k_split_over_several_computes(mode: Mode, reduce: Reduce) -> None:
    rng = np.random.default_rng(7)
    one = (gemm if mode == Mode.GEMM else window)(rng, reduce=reduce, nb=1, m1=5, m0=7)
    parts = [
        Instruction(
            Opcode.COMPUTE, {**one.values, "first": k == 0, "last": k == 2, "w_base": 9 * k}
        )
        for k in range(3)
    ]
    check(compute_case(rng, [random_epilogue(rng), *parts]))


@pytest.mark.parametrize("seed", range(10))
def test_many_rows_and_several_epilogues(seed: int) -> None:
    """There are more rows than in one run of the CPU's schedule, and lanes change in between."""
    rng = np.random.default_rng(seed)
    body = []
    for _ in range(3):
        m1 = int(rng.integers(1, 20))
        shape = dict(m1=m1, m0=int(rng.integers(1, 200 // m1)), nb=1, t_nb=0, u_nb=0)
        steps = dict(t_m1=1, t_m0=1, u_m1=1, u_m0=1)
        body.append(random_epilogue(rng, **steps))
        body.append(gemm(rng, **{k: shape[k] for k in ("m1", "m0", "nb")}))
    check(compute_case(rng, body))


@pytest.mark.parametrize("stat", [Stat.SUM, Stat.MAX, Stat.MOMENTS])
@pytest.mark.parametrize("seed", range(6))
def test_statistics_run_across_computes(stat: Stat, seed: int) -> None:
    """Several COMPUTEs make column blocks, with unfinished rows in between and changed lanes."""
    rng = np.random.default_rng(seed)
    shape = dict(m1=int(rng.integers(1, 8)), m0=int(rng.integers(1, 12)))
    count = int(rng.integers(2, 5))
    fixed = dict(stat=stat, u_en=0, stat_lanes=int(rng.integers(1, LANES + 1)))
    body = []
    for k in range(count):
        ends = dict(stat_first=int(k == 0), stat_last=int(k == count - 1))
        part = gemm(rng, **shape, **ends)
        left_out = gemm(rng, **shape, nb=1, last=0, stat_first=1, stat_last=1)
        body += [random_epilogue(rng, **fixed), part, *([left_out] if seed % 2 else [])]
    check(compute_case(rng, body))


@pytest.mark.parametrize("stat", [Stat.SUM, Stat.MAX, Stat.MOMENTS])
def test_a_statistic_of_many_rows(stat: Stat) -> None:
    rng = np.random.default_rng(int(stat))
    shape = dict(m1=15, m0=20, o_nb=10, r_base=390)
    steps = dict(t_m1=1, t_m0=1, t_nb=0, u_en=0)
    check(compute_case(rng, [random_epilogue(rng, stat=stat, **steps), gemm(rng, **shape)]))


@pytest.mark.parametrize("cells", [1, 8, 129, 256])
@pytest.mark.parametrize("count", [1, 16, 17, 64])
def test_mapped_segments(cells: int, count: int) -> None:
    """The map's row follows the segments' rows; its cells are limited to the table."""
    rng = np.random.default_rng(cells + count)
    kind = dict(seg_kind=SegKind.MAPPED, seg_count=count, seg_cells=cells)
    spread = dict(f_shift=0, seg_x0=-(2**15), seg_shift=int(rng.integers(7, 12)))
    check(compute_case(rng, [random_epilogue(rng, **kind, **spread), gemm(rng, m1=8, m0=11)]))


@pytest.mark.parametrize("stat", [Stat.NONE, Stat.MOMENTS])
def test_difference_of_two_tensors(stat: Stat) -> None:
    """x - minus of int16: a K loop of two taps, -1 on the words of minus, +1 on those of x."""
    rng = np.random.default_rng(5)
    one = dict(win_h=1, win_w=1, stride_h=1, stride_w=1, kh=2, kw=1, nb=1, cb=1)
    place = dict(m1=4, m0=9, x_m1=9, x_m0=1, x_half=36, x_wide=1, w_wide=0, w_base=0)
    body = [random_epilogue(rng, stat=stat, u_en=0)]
    for block in range(3):
        ends = dict(stat_first=int(block == 0), stat_last=int(block == 2))
        rows = dict(x_base=0, x_kh=72 * (1 + block), o_base=40 * block, r_base=500)
        body.append(window(rng, **one, **place, **rows, **ends))
    case = compute_case(rng, body)
    weights = np.zeros((2 * LANES, LANES), np.int8)
    weights[0], weights[LANES] = -1, 1
    case.const[CONST_BYTES - weights.size :] = weights.reshape(-1).view(np.uint8)
    load = fill(Buffer.WBUF, 2 * LANES, CONST_BYTES - weights.size)
    at = next(k for k, i in enumerate(case.program) if i.opcode == Opcode.EPILOGUE)
    check(Case(case.array, [*case.program[:at], load, *case.program[at:]], case.const, case.arena))


@pytest.mark.parametrize("seed", range(8))
def test_two_run_time_tensors(seed: int) -> None:
    """Weights are an int16 tensor in memory order, transposed, with two byte planes; x is int16."""
    rng = np.random.default_rng(seed)
    int16 = dict(transpose=1, w_wide=1, x_wide=seed % 2)
    check(compute_case(rng, [random_epilogue(rng), gemm(rng, **int16, m1=8, m0=9)]))


def test_a_single_row_needs_a_whole_block_of_steps() -> None:
    rng = np.random.default_rng(3)
    check(compute_case(rng, [random_epilogue(rng), gemm(rng, m1=1, m0=1)]))


def random_load(rng: np.random.Generator, **fixed: int) -> Instruction:
    n2, n1, n0 = (int(v) for v in rng.integers(1, 6, 3))
    values = dict(
        dest=rng.choice(list(Buffer)),
        region=Region.ARENA,
        pad_value=rng.integers(-128, 128),
        addr=rng.integers(100000, 110000),
        dst=rng.integers(20),
        n2=n2,
        n1=n1,
        n0=n0,
        s2=rng.integers(-9000, 9000),
        s1=rng.choice([n0 * LANES, int(rng.integers(-500, 500))]),
        s0=rng.choice([LANES, LANES, int(rng.integers(-50, 50))]),
        lane_stride=rng.choice([1, 1, 1, int(rng.integers(-60, 60))]),
    )
    pads = {f"pad_{side}": rng.integers(4) for side in ("top", "bottom", "left", "right")}
    return insn(Opcode.LOAD, **{**values, **(pads if rng.random() < 0.6 else {}), **fixed})


@pytest.mark.parametrize("seed", slow_after(10, range(40)))
def test_load(seed: int) -> None:
    """Loaded words are read back by copying them through the array."""
    rng = np.random.default_rng(seed)
    loads = [random_load(rng, dest=Buffer.IBUF, dst=k * 600) for k in range(2)]
    identity = np.eye(LANES, dtype=np.int8).reshape(-1).view(np.uint8)
    const = np.concatenate([identity, np.zeros(LANES * 8, np.uint8)])
    const[LANES * LANES :].view("<u8")[:] = 1 << 32  # m = 1
    copy = gemm(
        rng,
        **dict.fromkeys(("transpose", "x_wide", "w_wide", "w_base", "acc_base", "o_base"), 0),
        **dict.fromkeys(("m1", "nb", "cb", "kh", "kw", "x_m0"), 1),
        **dict(m0=800, x_base=0, p_base=0),
    )
    plain = insn(Opcode.EPILOGUE, lo=-128, hi=127)
    program = [
        fill(Buffer.WBUF, LANES, 0),
        fill(Buffer.PBUF, 8, LANES * LANES),
        *loads,
        plain,
        copy,
        Instruction(Opcode.COMPUTE, {**copy.values, "x_base": 400, "o_base": 0}),
        insn(Opcode.STORE, addr=0, n2=1, n1=1, n0=800, s0=LANES),
    ]
    program.insert(6, insn(Opcode.STORE, addr=12800, n2=1, n1=1, n0=800, s0=LANES))
    check(Case(_array(), program, const, extreme_bytes(rng, ARENA_BYTES)))


@pytest.mark.parametrize("seed", slow_after(10, range(20)))
def test_store(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n2, n1, n0 = (int(v) for v in rng.integers(1, 6, 3))
    word = LANES
    store = insn(
        Opcode.STORE,
        plane=rng.integers(2),
        addr=word * rng.integers(5000, 6000),
        src=rng.integers(100),
        n2=n2,
        n1=n1,
        n0=n0,
        s2=word * rng.integers(-500, 500),
        s1=rng.choice([n0 * word, word * int(rng.integers(-30, 30))]),
        s0=rng.choice([word, word, word * int(rng.integers(-9, 9))]),
    )
    case = compute_case(rng, [random_epilogue(rng, out_wide=1), gemm(rng)])
    check(Case(case.array, [*case.program, store], case.const, case.arena))


@pytest.mark.parametrize("seed", range(12))
def test_every_operand_buffer(seed: int) -> None:
    """LOADs with padding, strides and gathers also fill T, U and PBUF."""
    rng = np.random.default_rng(100 + seed)
    dest = (Buffer.T_LO, Buffer.T_HI, Buffer.U_LO, Buffer.U_HI, Buffer.PBUF, Buffer.WBUF)
    more = [random_load(rng, dest=d, pad_top=1, s0=LANES, n0=3, n1=2, n2=2) for d in dest]
    lanes = random_epilogue(rng, t_en=1, u_en=1, stat=Stat.MAX)
    case = compute_case(rng, [lanes, gemm(rng, m1=3, m0=4)])
    check(Case(case.array, [*case.program[:7], *more, *case.program[7:]], case.const, case.arena))


def _array():
    return load_board("pynq-z2").array
