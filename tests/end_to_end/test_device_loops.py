# SPDX-License-Identifier: Apache-2.0
"""Whole networks with the loops that the device runs, against the faster ones of the emulation.

In: programs of networks of every kind.  Out: the arena, the cycles and the timeline, all the same.
``-DNM_DEVICE_LOOPS`` builds the emulation with what is synthesized: one step of the array per
iteration, packed products, one row of the lanes at once, a copy of the tables for every lane.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from functools import lru_cache, partial

import neuralmatrix as nm
import numpy as np
import onnx
import pynq_networks
import pytest
from build_onnx import model, node
from neuralmatrix.hardware.board import load_board
from neuralmatrix.hardware.instruction_columns import columns
from neuralmatrix.hardware.isa import Opcode
from neuralmatrix.program.host_io import write_input
from neuralmatrix.program.program import Program
from neuralmatrix.runtime.emulation.build import build, compiler
from neuralmatrix.runtime.emulation.emulator import Emulator, RunStats, library

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


def pooled_program(precision: str) -> Program:
    x = np.random.default_rng(4).normal(0, 1.5, (4, 3, 20, 20)).astype(np.float32)
    return nm.compile(pooled(), calibration=[{"x": x}], precision=precision)


def transformer_int16() -> Program:
    images = np.random.default_rng(5).normal(0, 1.5, (8, 1, 8, 8)).astype(np.float32)
    source = pynq_networks.NETWORKS["transformer"].model()
    return nm.compile(source, calibration=[{"input": images}], precision="int16")


NETWORKS: dict[str, Callable[[], Program]] = {
    **{
        name: partial(pynq_networks.program, name)
        for name in ("cnn", "transformer", "gnn", "int16", "mixed", "large")
    },
    "digits on ultra96-v2": partial(pynq_networks.program, "digits", "ultra96-v2"),
    "transformer on kv260": partial(pynq_networks.program, "transformer", "kv260"),
    "transformer in int16": transformer_int16,
    "maxima": partial(pooled_program, "int8"),
    "maxima in int16": partial(pooled_program, "int16"),
}


@lru_cache(maxsize=len(NETWORKS))
def program(name: str) -> Program:
    return NETWORKS[name]()


@pytest.fixture
def device_loops(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let emulators made after this run the device's loops."""
    monkeypatch.setenv("CXX", shlex.join([*compiler(), "-DNM_DEVICE_LOOPS"]))
    library.cache_clear()
    yield
    library.cache_clear()


def made(program: Program) -> Emulator:
    p = program
    return Emulator(p.array, p.timing, p.const, p.instructions, p.arena_bytes)


def run(emulator: Emulator, program: Program) -> RunStats:
    feeds = pynq_networks.feeds(program)
    for port in program.inputs:
        write_input(port, feeds[port.name], emulator.arena)
    return emulator.run(timeline=True)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_devices_loops_leave_the_same_bytes(name: str, request: pytest.FixtureRequest) -> None:
    usual = made(program(name))
    wanted = run(usual, program(name))
    request.getfixturevalue("device_loops")
    device = made(program(name))
    found = run(device, program(name))
    assert np.count_nonzero(usual.arena) > usual.arena.nbytes // 10
    assert np.array_equal(device.arena, usual.arena)
    assert np.array_equal(found.timeline, wanted.timeline)
    for total in ("cycles", "busy", "dram_bytes", "checksum"):
        assert getattr(found, total) == getattr(wanted, total), total


def test_the_flag_makes_another_library(request: pytest.FixtureRequest) -> None:
    """The two builds differ; otherwise the test above would compare a build with itself."""
    array = load_board("pynq-z2").array
    usual = build(array)
    request.getfixturevalue("device_loops")
    device = build(array)
    assert device != usual and device.read_bytes() != usual.read_bytes()


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
