# SPDX-License-Identifier: Apache-2.0
"""The cycle model: equal to what the kernels count, instruction by instruction."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from neuralmatrix.hardware.board import load_board
from neuralmatrix.hardware.instruction_columns import as_words
from neuralmatrix.hardware.instruction_costs import constants, costs
from neuralmatrix.hardware.isa import Opcode, Unit
from neuralmatrix.hardware.timeline import Deadlock, simulate
from neuralmatrix.paths import hls_dir
from neuralmatrix.program.data import LayerInfo
from neuralmatrix.program.program import Program
from programs import copy_instructions, copy_program, insn, make_program, random_program
from slow import slow_after

NAMES = (
    "FETCH_CYCLES_EXTRA", "LOAD_SETUP", "STORE_SETUP", "BURST_GAP", "STRIDED_EXTRA",
    "GATHER_CYCLES", "COMPUTE_SETUP", "COMPUTE_DEPTH", "STAT_BEATS", "EPILOGUE_SETUP", "QUEUE_HOP",
)  # fmt: skip


def test_constants_come_from_the_kernels() -> None:
    text = (hls_dir() / "include" / "nm" / "cost.h").read_text()
    assert set(NAMES) <= set(constants())
    for name, value in constants().items():
        assert re.search(rf"constexpr int {name} = {value};", text)


def test_one_copy_by_hand() -> None:
    """The copy program on pynq-z2 by the formulas of docs: 8 bytes per beat, bursts of 16 beats."""
    program = copy_program()
    cost = costs(program.instructions, program.array, program.timing)
    load, store, compute = 25 + 32, 22 + 32, 22 + 40 + 16 + 16
    assert cost.cycles.tolist() == [
        load + 32 + 2,  # 256 bytes: 32 beats, 2 bursts
        load + 32 + 2,
        load + 16 + 1,
        8,
        compute,
        store + 32 + 2,
        0,
    ]
    assert cost.dram_bytes.tolist() == [256, 256, 128, 0, 0, 256, 0]
    timeline = simulate(cost, program.array, program.timing)
    fetched = [32 + 10 * (i + 1) for i in range(7)]
    loaded = [fetched[0] + 1 + 91, fetched[0] + 1 + 2 * 91, fetched[0] + 1 + 2 * 91 + 74]
    assert timeline.start.tolist()[:4] == [43, loaded[0], loaded[1], fetched[3] + 1]
    assert timeline.end.tolist()[:3] == loaded
    assert timeline.start[4] == loaded[2] and timeline.start[5] == loaded[2] + compute
    assert timeline.cycles == loaded[2] + compute + 88


@pytest.mark.parametrize("board", ("pynq-z2", "zcu104", "ultra96-v2"))
def test_every_board_has_a_latency(board: str) -> None:
    estimate = copy_program(board).estimate()
    clock = load_board(board).clock_mhz
    assert estimate.latency_s == pytest.approx(estimate.cycles / (clock * 1e6), rel=1e-12)
    assert estimate.frames_per_s == pytest.approx(1 / estimate.latency_s, rel=1e-12)


def layered(seed: int) -> Program:
    """A random program cut into three layers, the last instructions belonging to none."""
    program = random_program(seed, 150)
    count = len(program.instructions)
    layer = np.minimum(np.arange(count) * 3 // count, 2).astype(np.int32)
    layer[-2:] = -1
    infos = tuple(LayerInfo(f"l{i}", "gemm", "", 1000 * (i + 1)) for i in range(3))
    return replace(program, insn_layer=layer, layers=infos)


@pytest.mark.parametrize("seed", range(4))
def test_layers_add_up(seed: int) -> None:
    program = layered(seed)
    estimate = program.estimate()
    assert sum(layer.cycles for layer in estimate.layers) == estimate.cycles
    assert all(0 <= layer.cycles and layer.cycles <= estimate.cycles for layer in estimate.layers)
    assert all(layer.span >= layer.array_cycles for layer in estimate.layers)
    assert estimate.macs == 6000
    assert estimate.utilization == pytest.approx(6000 / (estimate.cycles * 256), rel=1e-12)
    assert estimate.busy["compute"] == sum(layer.array_cycles for layer in estimate.layers)
    assert {layer.bound for layer in estimate.layers} <= {
        "array",
        "epilogue",
        "dram",
        "load",
        "store",
    }


@pytest.mark.parametrize("seed", range(4))
def test_timeline_is_possible(seed: int) -> None:
    """Units run in order without overlap, and no token is received before it is sent."""
    program = random_program(seed + 20, 300)
    cost = costs(program.instructions, program.array, program.timing)
    timeline = simulate(cost, program.array, program.timing)
    for unit in Unit:
        mine = np.flatnonzero(timeline.unit == unit)
        assert (timeline.start[mine][1:] >= timeline.end[mine][:-1]).all()
        assert (timeline.end[mine] - timeline.start[mine] >= cost.cycles[mine]).all()
        for other in Unit:
            sent = mine[(cost.signals[mine] >> other) & 1 == 1]
            taken = np.flatnonzero((timeline.unit == other) & ((cost.waits >> unit) & 1 == 1))
            ends = timeline.start[sent] + cost.cycles[sent]
            assert (timeline.start[taken] >= ends).all()


def test_shared_dram_slows_both_units() -> None:
    """A LOAD and a STORE in parallel move no more bytes than the DRAM's bandwidth allows."""
    load = dict(n2=1, n1=1, n0=1000, s0=16, lane_stride=1, region=1)
    store = dict(n2=1, n1=1, n0=1000, s0=16)
    program = make_program([insn(Opcode.LOAD, **load), insn(Opcode.STORE, **store)])
    program = replace(program, instructions=np.vstack([program.instructions, end_word()]))
    slow = replace(program.timing, ddr_bytes_per_256_cycles=256)
    cost = costs(program.instructions, program.array, slow)
    timeline = simulate(cost, program.array, slow)
    assert timeline.cycles >= 32000
    fast = replace(program.timing, ddr_bytes_per_256_cycles=1 << 20)
    free = simulate(costs(program.instructions, program.array, fast), program.array, fast)
    assert (free.end - free.start)[:2].tolist() == cost.cycles[:2].tolist()


def end_word() -> np.ndarray:
    return as_words([insn(Opcode.END)])


def test_deadlock_lists_every_unit() -> None:
    instructions = copy_instructions(16)
    instructions[4] = insn(Opcode.COMPUTE, wait_store=1, m1=1, m0=1, nb=1, cb=1, kh=1, kw=1)
    program = make_program(instructions)
    with pytest.raises(Deadlock, match="LOAD has .*COMPUTE at instruction 4 waits .*STORE"):
        program.estimate()


@pytest.mark.gxx
@pytest.mark.parametrize("depths", slow_after(1, ((64, 64), (3, 2))))
@pytest.mark.parametrize("seed", range(5))
def test_equal_to_the_emulation(seed: int, depths: tuple[int, int]) -> None:
    """Start, end and total equal what the kernels count, also with short queues."""
    from neuralmatrix.runtime.emulation.emulator import Emulator

    queue, token = depths
    program = random_program(seed + 40, 120, queue_depth=queue, token_depth=token)
    cost = costs(program.instructions, program.array, program.timing)
    expected = simulate(cost, program.array, program.timing)
    emulator = Emulator(
        program.array, program.timing, program.const, program.instructions, program.arena_bytes
    )
    found = emulator.run(timeline=True)
    assert found.cycles == expected.cycles
    assert found.dram_bytes == int(cost.dram_bytes.sum())
    units = [int(cost.cycles[cost.unit == unit].sum()) for unit in Unit]
    assert [found.busy[unit.name.lower()] for unit in Unit] == units
    assert np.array_equal(found.timeline["unit"], expected.unit)
    ran = expected.unit >= 0
    for name in ("start", "end"):
        assert np.array_equal(found.timeline[name][ran], getattr(expected, name)[ran]), name
    assert np.array_equal(found.timeline["reason"][ran], expected.waited_for[ran])
