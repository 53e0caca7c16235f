# SPDX-License-Identifier: Apache-2.0
"""Whole networks in both schedules of the emulation: the device's loops, as they are synthesized,
against the faster ones of a CPU.

In: programs of networks of every kind.  Out: arena, outputs, cycles, counters and timeline, all the
same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import neuralmatrix as nm
import numpy as np
import onnx
import pynq_networks
import pytest
from build_onnx import model, node
from neuralmatrix.errors import BadInput
from neuralmatrix.hardware.board import board_names, load_board
from neuralmatrix.hardware.instruction_columns import columns
from neuralmatrix.hardware.isa import Opcode
from neuralmatrix.program.host_io import write_input
from neuralmatrix.program.program import Program
from neuralmatrix.runtime.emulation.build import build
from neuralmatrix.runtime.emulation.emulator import Emulator, RunStats
from neuralmatrix.runtime.emulation.schedule import SCHEDULE_VARIABLE, SCHEDULES, chosen, config
from neuralmatrix.runtime.session import Session

pytestmark = [pytest.mark.gxx, pytest.mark.slow]


def pooled() -> onnx.ModelProto:
    """Compile two convolutions with a maximum after each."""
    rng = np.random.default_rng(3)
    weights = {"v": rng.normal(0, 0.3, (20, 3, 3, 3)), "w": rng.normal(0, 0.1, (7, 20, 3, 3))}
    nodes = [
        node("Conv", ["x", "v"], ["a"], pads=[1, 1, 1, 1]),
        node("MaxPool", ["a"], ["b"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Conv", ["b", "w"], ["c"]),
        node("MaxPool", ["c"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    constants = {name: value.astype(np.float32) for name, value in weights.items()}
    return model(nodes, {"x": (1, 3, 20, 20)}, ["y"], constants)


def pooled_program(precision: str, board: str = "pynq-z2") -> Program:
    x = np.random.default_rng(4).normal(0, 1.5, (4, 3, 20, 20)).astype(np.float32)
    return nm.compile(pooled(), board=board, calibration=[{"x": x}], precision=precision)


def lstm() -> Program:
    """Compile an unrolled LSTM of 12 steps with a classifier of its last state."""
    rng = np.random.default_rng(6)
    constants = {
        "w": rng.normal(0, 0.4, (1, 96, 8)),
        "r": rng.normal(0, 0.2, (1, 96, 24)),
        "c": rng.normal(0, 0.2, (24, 5)),
    }
    nodes = [
        node("LSTM", ["x", "w", "r"], ["", "h"], hidden_size=24),
        node("Squeeze", ["h"], ["s"], axes=[0]),
        node("MatMul", ["s", "c"], ["y"]),
    ]
    arrays = {name: value.astype(np.float32) for name, value in constants.items()}
    proto = model(nodes, {"x": (12, 1, 8)}, ["y"], arrays, opset=11)
    samples = [{"x": rng.standard_normal((12, 1, 8)).astype(np.float32)} for _ in range(8)]
    return nm.compile(proto, calibration=samples)


def transformer_int16() -> Program:
    images = np.random.default_rng(5).normal(0, 1.5, (8, 1, 8, 8)).astype(np.float32)
    source = pynq_networks.NETWORKS["transformer"].model()
    return nm.compile(source, calibration=[{"input": images}], precision="int16")


NETWORKS: dict[str, Callable[[], Program]] = {
    **{
        name: partial(pynq_networks.program, name)
        for name in ("cnn", "transformer", "gnn", "int16", "mixed", "large")
    },
    "lstm": lstm,
    "digits on ultra96-v2": partial(pynq_networks.program, "digits", "ultra96-v2"),
    "transformer on kv260": partial(pynq_networks.program, "transformer", "kv260"),
    "cnn on kv260": partial(pynq_networks.program, "cnn", "kv260"),
    "maxima on kv260": partial(pooled_program, "int16", "kv260"),
    "transformer in int16": transformer_int16,
    "maxima": partial(pooled_program, "int8"),
    "maxima in int16": partial(pooled_program, "int16"),
}


@lru_cache(maxsize=len(NETWORKS))
def program(name: str) -> Program:
    return NETWORKS[name]()


def run(program: Program, schedule: str) -> tuple[Emulator, RunStats]:
    p = program
    emulator = Emulator(
        p.array, p.timing, p.const, p.instructions, p.arena_bytes, schedule=schedule
    )
    feeds = pynq_networks.feeds(program)
    for port in program.inputs:
        write_input(port, feeds[port.name], emulator.arena)
    return emulator, emulator.run(timeline=True)


@pytest.mark.parametrize("name", NETWORKS)
def test_both_schedules_leave_the_same_bytes(name: str) -> None:
    (usual, wanted), (device, found) = (run(program(name), each) for each in SCHEDULES)
    assert np.count_nonzero(usual.arena) > usual.arena.nbytes // 10
    assert np.array_equal(device.arena, usual.arena)
    assert np.array_equal(found.timeline, wanted.timeline)
    for total in ("cycles", "busy", "dram_bytes", "checksum"):
        assert getattr(found, total) == getattr(wanted, total), total


@pytest.mark.parametrize("name", ("cnn", "transformer", "gnn", "lstm"))
def test_sessions_in_both_schedules(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As users choose a schedule: by the argument, or by the environment."""
    monkeypatch.delenv(SCHEDULE_VARIABLE, raising=False)
    feeds = pynq_networks.feeds(program(name))
    usual, device = Session(program(name)), Session(program(name), schedule="device")
    monkeypatch.setenv(SCHEDULE_VARIABLE, "device")
    named = Session(program(name))
    wanted = usual.run(feeds)
    assert usual.stats is not None and usual.device_info["schedule"] == "cpu"
    for session in (device, named):
        assert session.device_info["schedule"] == "device"
        found = session.run(feeds)
        assert {k: v.tobytes() for k, v in found.items()} == {
            k: v.tobytes() for k, v in wanted.items()
        }
        assert session.stats is not None
        for counter in ("cycles", "busy", "dram_bytes", "images", "saturated"):
            assert getattr(session.stats, counter) == getattr(usual.stats, counter), counter


def test_the_schedules_are_two_libraries() -> None:
    """The two builds differ; otherwise the tests above would compare a build with itself."""
    array = load_board("pynq-z2").array
    usual, device = (build(array, schedule) for schedule in SCHEDULES)
    assert device != usual and device.read_bytes() != usual.read_bytes()


@pytest.mark.parametrize("name", board_names())
def test_the_device_schedule_has_the_boards_ports_and_packing(name: str) -> None:
    board = load_board(name)
    text = config(board.array, "device")
    assert f"LOAD_PORT_BYTES = {board.ports.load.bytes_per_cycle};" in text
    assert f"STORE_PORT_BYTES = {board.ports.store.bytes_per_cycle};" in text
    assert f"MACS_PER_DSP = {board.array.macs_per_dsp};" in text


@pytest.mark.parametrize("named", ("Device", "hardware", " "))
def test_unknown_schedules_are_one_error(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = "allowed are 'cpu', 'device'"
    with pytest.raises(BadInput, match=f"^schedule: found '{named}', {allowed}$"):
        Session(program("gnn"), schedule=named)
    monkeypatch.setenv(SCHEDULE_VARIABLE, named)
    with pytest.raises(BadInput, match=f"^{SCHEDULE_VARIABLE}: found '{named}', {allowed}$"):
        Session(program("gnn"))
    monkeypatch.setenv(SCHEDULE_VARIABLE, "")
    assert chosen() == "cpu"


def test_a_board_takes_no_schedule() -> None:
    with pytest.raises(BadInput, match="schedule: found one for device 'pynq'"):
        Session(program("gnn"), "pynq", schedule="device")


USED = {
    Opcode.COMPUTE: {"mode": 2, "reduce": 2, "x_wide": 2, "w_wide": 2, "transpose": 2},
    Opcode.EPILOGUE: {"seg_kind": 4, "stat": 4, "t_en": 2, "t_wide": 2, "u_en": 2, "u_wide": 2},
}


@pytest.mark.parametrize("opcode", USED, ids=lambda opcode: opcode.name)
def test_the_networks_use_all_that_the_array_can_do(opcode: Opcode) -> None:
    """The programs cover every mode, reduction, width, table and statistic."""
    for field, kinds in USED[opcode].items():
        found = set()
        for name in NETWORKS:
            found |= set(columns(program(name).instructions, opcode).fields[field].tolist())
        assert found == set(range(kinds)), field
