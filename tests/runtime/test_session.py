# SPDX-License-Identifier: Apache-2.0
"""Sessions: checks of feeds, values through the device, several images together."""

from __future__ import annotations

import re
import sys
import threading
import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from neuralmatrix.errors import BadInput, ToolMissing
from neuralmatrix.hardware.tensor_layout import Blocked, Rows
from neuralmatrix.ir.quantized_values import dequantize_array, quantize_array
from neuralmatrix.ir.types import QParams, ViewStep
from neuralmatrix.jsonform import to_json
from neuralmatrix.program.data import ProgramPort, TensorSlot
from neuralmatrix.program.host_io import (
    check_feeds,
    read_output,
    read_slot,
    write_input,
    zero_feeds,
)
from neuralmatrix.program.program import Program
from neuralmatrix.runtime.device import Batch, Counted
from neuralmatrix.runtime.session import Session
from programs import copy_program, random_program

# ------------------------------------------------------------------------------ ports


@pytest.mark.parametrize(
    ("q", "x", "expected"),
    (
        (QParams(0.5, 3), [-1000, -0.25, 0, 0.25, 0.75, 1000], [-128, 3, 3, 3, 5, 127]),
        (QParams(1.0, -128), [-1, 0.5, 1.5, 2.5, 255, 256], [-128, -128, -126, -126, 127, 127]),
        (QParams(0.001, 0, True), [-99, -0.0005, 0.0015, 99], [-32640, 0, 2, 32639]),
    ),
)
def test_quantize(q: QParams, x: list[float], expected: list[int]) -> None:
    found = quantize_array(np.array(x, np.float32), q)
    assert found.tolist() == expected and found.dtype == np.int16


@pytest.mark.parametrize("int16", (False, True))
def test_codes_survive_the_real_numbers(int16: bool) -> None:
    q = QParams(0.0173, 0 if int16 else -5, int16)
    quantized_values = np.arange(q.qmin, q.qmax + 1)
    assert (quantize_array(dequantize_array(quantized_values, q), q) == quantized_values).all()


LAYOUTS = (
    (Blocked(1, 3, 5, 7, 16), QParams(0.1, 4), 4),
    (Blocked(1, 3, 5, 17, 16), QParams(0.1, 4), 0),
    (Blocked(1, 3, 5, 17, 16, int16=True), QParams(0.1, 0, True), 0),
    (Blocked(1, 3, 5, 1, 16, broadcast=True), QParams(0.1, -9), 0),
    (Rows(1, 7, 8, 3, 16, 2, 1, 3, 5, slack=9), QParams(0.1, 4), 4),
)


@pytest.mark.parametrize(("layout", "q", "fill"), LAYOUTS)
def test_input_and_output_are_inverse(layout: Any, q: QParams, fill: int) -> None:
    c = layout.c
    slot = TensorSlot("x", 32, layout, q, fill)
    to = (ViewStep("transpose", (0, 2, 3, 1)),)
    back = (ViewStep("transpose", (0, 3, 1, 2)), ViewStep("reshape", (c, 15)))
    arena = np.full(32 + layout.nbytes + 5, 99, np.int8)
    x = np.random.default_rng(0).normal(0, 5, (1, c, 3, 5)).astype(np.float32)
    write_input(ProgramPort("x", x.shape, "float32", slot, to), x, arena)
    y = read_output(ProgramPort("y", (c, 15), "float32", slot, back), arena)
    assert np.array_equal(y, dequantize_array(quantize_array(x, q), q).reshape(c, 15))
    assert y.dtype == np.float32
    assert (arena[:32] == 99).all() and (arena[-5:] == 99).all()


def argmax_port(q: QParams, select_last: bool, keepdims: bool) -> ProgramPort:
    slot = TensorSlot("y", 0, Blocked(1, 1, 1, 5, 16), q)
    steps = (ViewStep("reshape", (1, 5)),)
    shape = (1, 1) if keepdims else (1,)
    return ProgramPort("y", shape, "int64", slot, steps, (1, keepdims, select_last))


@pytest.mark.parametrize("keepdims", (False, True))
@pytest.mark.parametrize(("select_last", "expected"), ((False, 1), (True, 3)))
def test_argmax_on_the_host(select_last: bool, keepdims: bool, expected: int) -> None:
    arena = np.zeros(16, np.int8)
    arena[:5] = [-3, 7, 0, 7, 6]
    found = read_output(argmax_port(QParams(0.5), select_last, keepdims), arena)
    assert found.tolist() == ([[expected]] if keepdims else [expected])
    assert found.dtype == np.int64


# ------------------------------------------------------------------------------ tables


def table_port(name: str = "ids", rows: int = 6, int16: bool = False) -> ProgramPort:
    """Make a port of indices (1, 4) into a table of ``rows`` rows of 5 values."""
    slot = TensorSlot(name, 0, Blocked(1, 1, 4, 5, 16, int16), QParams(0.5, 0, int16))
    quantized_values = np.arange(rows * 5).reshape(rows, 5) - 7
    steps = (ViewStep("reshape", (1, 1, 4, 5)),)
    dtype = np.int16 if int16 else np.int8
    return ProgramPort(name, (1, 4), "int64", slot, steps, None, quantized_values.astype(dtype))


@pytest.mark.parametrize("int16", (False, True))
def test_row_numbers_pick_rows(int16: bool) -> None:
    port = table_port(int16=int16)
    arrays, images = check_feeds((port,), {"ids": np.array([[3, 0, 5, -1]])})
    arena = np.zeros(port.slot.layout.nbytes, np.int8)
    write_input(port, arrays["ids"], arena)
    assert images == 1
    assert port.table is not None
    assert np.array_equal(read_slot(port.slot, arena)[0, 0], port.table[[3, 0, 5, 5]])


@pytest.mark.parametrize(
    ("ids", "text"),
    (
        ([[0, 1, 6, 2]], "input 'ids': found 6, allowed are integers -6..5, the rows of its"),
        ([[0, 1, 2, -7]], "found -7, allowed are integers -6..5"),
        ([[0, 1.5, 2, 3]], "found 1.5, allowed are integers"),
        ([[0, np.nan, 2, 3]], "found NaN"),
        ([[0, 1, 2]], "found shape (1, 3), allowed is (1, 4)"),
    ),
)
def test_bad_row_numbers(ids: Any, text: str) -> None:
    with pytest.raises(BadInput, match=re.escape(text)):
        check_feeds((table_port(),), {"ids": ids})


def test_several_ports_may_read_one_input() -> None:
    """Two tables have the same indices, and the smaller one sets the limit."""
    ports = (table_port(), replace(table_port(rows=3), shape=(1, 4)))
    arrays, _ = check_feeds(ports, {"ids": np.array([[0.0, 1.0, 2.0, 0.0]] * 2)})
    assert arrays["ids"].dtype == np.int64 and arrays["ids"].shape == (2, 4)
    assert zero_feeds(ports)["ids"].dtype == np.int64
    with pytest.raises(BadInput, match="-3..2"):
        check_feeds(ports, {"ids": np.array([[0, 1, 3, 0]])})


# ------------------------------------------------------------------------------ feeds

X = np.zeros((1, 5, 4, 4), np.float32)


@pytest.mark.parametrize(
    ("feeds", "text"),
    (
        ([X], "feeds: found a list, allowed is {input name: array}"),
        ({}, "feeds: found inputs [], allowed is exactly ['x']; use the names of the source"),
        ({"y": X}, "found inputs ['y'], allowed is exactly ['x']"),
        ({"x": X, "y": X}, "found inputs ['x', 'y'], allowed is exactly ['x']"),
        ({"x": X[0]}, "found shape (5, 4, 4), allowed is (1, 5, 4, 4) or (N, 5, 4, 4)"),
        ({"x": X[:0]}, "found shape (0, 5, 4, 4)"),
        ({"x": np.float32(3)}, "found shape ()"),
        ({"x": X.astype(complex)}, "found dtype complex128, allowed are bool, integer and float"),
        ({"x": X.astype(str)}, "found dtype <U32"),
        # Ragged lists are an error in numpy 1.24 and later, and objects before.
        ({"x": [[1], [2, 3]]}, "input 'x': found "),
        ({"x": np.array([{}])}, "found dtype object"),
        ({"x": X + np.nan}, "found NaN, infinity"),
        ({"x": X.astype(np.float64) + 1e300}, "or a value beyond float32"),
    ),
)
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_bad_feeds(program: Program, feeds: Any, text: str) -> None:
    with pytest.raises(BadInput, match=re.escape(text)):
        check_feeds(program.inputs, feeds)


@pytest.mark.parametrize("dtype", (bool, np.uint8, np.int64, np.float16, np.float64))
def test_numeric_feeds_become_float32(program: Program, dtype: Any) -> None:
    arrays, images = check_feeds(program.inputs, {"x": np.ones((3, 5, 4, 4), dtype)})
    assert images == 3 and arrays["x"].dtype == np.float32 and (arrays["x"] == 1).all()


def test_feeds_must_agree_on_the_number_of_images(program: Program) -> None:
    other = replace(program.inputs[0], name="z")
    with pytest.raises(BadInput, match="different numbers of images {'x': 2, 'z': 3}"):
        check_feeds((program.inputs[0], other), {"x": np.tile(X, (2, 1, 1, 1)),
                                                 "z": np.tile(X, (3, 1, 1, 1))})  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "text"),
    (
        ({"device": "gpu"}, "device: found 'gpu', allowed are 'emulation', 'pynq'"),
        ({"device": ["pynq"]}, r"device: found \['pynq'\], allowed are"),
        ({"threads": 0}, "threads: found 0, allowed is an integer of at least 1"),
        ({"threads": "4"}, "threads: found '4', allowed is an integer of at least 1"),
        ({"threads": 1.5}, "threads: found 1.5, allowed is an integer of at least 1"),
        ({"timeout_s": 0}, "timeout_s: found 0, allowed is a number of seconds above 0"),
        ({"timeout_s": float("nan")}, "timeout_s: found nan, allowed is a number"),
        ({"timeout_s": float("inf")}, "timeout_s: found inf, allowed is a number"),
        ({"timeout_s": "5"}, "timeout_s: found '5', allowed is a number"),
        ({"timeout_s": 10**400}, "timeout_s: found 10+, allowed is .* at most 1e\\+06"),
        ({"wait": "sleep"}, "wait: found 'sleep', allowed are 'auto', 'interrupt', 'poll'"),
        ({"overlay": "folder"}, "overlay: found one for device 'emulation'"),
        ({"overlay": 5}, "overlay: found 5, allowed is a folder's name"),
        ({"program": "net.nmx"}, "program: found a str, allowed is a Program; load"),
    ),
)
def test_bad_sessions(program: Program, arguments: Any, text: str) -> None:
    with pytest.raises(BadInput, match=text):
        Session(**{"program": program, **arguments})


def test_without_pynq(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynq", None)
    monkeypatch.delitem(sys.modules, "neuralmatrix.runtime.pynq.device", raising=False)
    with pytest.raises(ToolMissing, match=r"needs the package pynq, .*neuralmatrix\[pynq\]"):
        Session(program, "pynq")


def test_a_pynq_that_cannot_be_imported(
    program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """pynq is installed without a package that it imports."""
    (tmp_path / "pynq").mkdir()
    (tmp_path / "pynq" / "__init__.py").write_text("import pkg_resources_of_old\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("pynq", "neuralmatrix.runtime.pynq.device"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ToolMissing, match="but incomplete: No module named 'pkg_resources_of_old'"):
        Session(program, "pynq")


# ------------------------------------------------------------------------------ runs


@pytest.mark.gxx
@pytest.mark.parametrize("images", (1, 7))
def test_copy(images: int) -> None:
    program = copy_program()
    x = np.random.default_rng(2).normal(0, 20, (images, 5, 4, 4)).astype(np.float32)
    seen: list[tuple[int, int]] = []
    session = Session(program, threads=2)
    found = session.run({"x": x}, progress=lambda done, total: seen.append((done, total)))
    q = program.inputs[0].slot.qparams
    assert np.array_equal(found["y"], dequantize_array(quantize_array(x, q), q))
    assert seen == [(i + 1, images) for i in range(images)]
    assert session.stats is not None
    assert session.stats.cycles == program.estimate().cycles
    assert session.stats.images == images and session.stats.threads == min(images, 2)


@pytest.mark.gxx
def test_a_session_runs_again_and_again() -> None:
    session, rng = Session(copy_program(), threads=1), np.random.default_rng(3)
    for _ in range(3):
        x = rng.integers(-60, 60, X.shape).astype(np.float32)
        assert np.array_equal(session.run({"x": x})["y"], x)


@pytest.mark.gxx
def test_closing_while_another_thread_runs() -> None:
    """The run continues with new arrays."""
    session, x = Session(copy_program(), threads=2), np.ones((8, 5, 4, 4), np.float32)
    # Daemon threads, so that a run that never ends does not keep the tests from ending.
    runners = [threading.Thread(target=session.run, args=({"x": x},), daemon=True) for _ in "12345"]
    until = time.monotonic() + 60
    for runner in runners:
        runner.start()
    while any(runner.is_alive() for runner in runners) and time.monotonic() < until:
        session.close()
        time.sleep(1e-4)
    assert not any(runner.is_alive() for runner in runners)


@pytest.mark.gxx
def test_a_session_closes_and_opens_again() -> None:
    with Session(copy_program(), threads=1) as session:
        assert np.array_equal(session.run({"x": X + 1})["y"], X + 1)
    session.close()
    assert np.array_equal(session.run({"x": X + 2})["y"], X + 2)


@pytest.mark.gxx
@pytest.mark.parametrize("images", (1, 5))
def test_where_numbers_come_from(images: int) -> None:
    program = copy_program()
    session = Session(program, threads=1)
    session.run({"x": np.tile(X, (images, 1, 1, 1))})
    stats = session.stats
    assert stats is not None and stats.origin == session.device_info["origin"] == "emulation"
    assert session.device_info["fingerprint"] == program.array.fingerprint
    assert set(stats.seconds) == {"host", "transfer", "array"}
    assert stats.seconds["transfer"] == 0 and min(stats.seconds.values()) >= 0
    # One thread, so that the timed parts do not overlap.
    assert sum(stats.seconds.values()) <= stats.host_seconds
    assert to_json(stats)["seconds"] == stats.seconds


@pytest.mark.gxx
def test_checking_and_joining_are_the_hosts_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session reads the clock four times, each time one second later."""
    ticks = SimpleNamespace(perf_counter=count().__next__)
    session = Session(copy_program(), threads=1)
    monkeypatch.setattr("neuralmatrix.runtime.session.time", ticks)
    session.run({"x": X})
    assert session.stats is not None and session.stats.host_seconds == 3
    assert session.stats.seconds["host"] >= 2


def test_the_run_with_the_median_number_of_cycles() -> None:
    runs = [Counted(cycles, {}, 0) for cycles in (50, 10, 30)]
    assert Batch([{}] * 3, runs, 1, {}).typical.cycles == 30


@pytest.mark.gxx
def test_several_images_need_a_batch_of_one_at_the_output() -> None:
    program = copy_program()
    port = program.outputs[0]
    flat = replace(port, shape=(80,), steps=(*port.steps, ViewStep("reshape", (80,))))
    session = Session(replace(program, outputs=(flat,)))
    assert session.run({"x": X})["y"].shape == (80,)
    with pytest.raises(BadInput, match="does not begin with a batch of 1"):
        session.run({"x": np.tile(X, (2, 1, 1, 1))})


@pytest.mark.gxx
def test_watchpoint_sees_the_output() -> None:
    from neuralmatrix.runtime.emulation.emulator import Emulator

    program = copy_program()
    emulator = Emulator(
        program.array, program.timing, program.const, program.instructions, program.arena_bytes
    )
    x = np.arange(80, dtype=np.float32).reshape(1, 5, 4, 4) / 2
    write_input(program.inputs[0], x, emulator.arena)
    emulator.run()
    quantized_values = read_slot(program.watchpoints[0].tensor, emulator.arena)
    assert np.array_equal(
        quantized_values.transpose(0, 3, 1, 2), quantize_array(x, QParams(0.5, 3))
    )


@pytest.mark.gxx
@pytest.mark.parametrize("seed", range(3))
def test_random_programs_are_deterministic(seed: int) -> None:
    """Two devices with the same input hold the same arena, and CONST is as before."""
    from neuralmatrix.runtime.emulation.emulator import Emulator

    program = random_program(seed + 90, 80)
    before = program.const.copy()
    arenas = []
    for _ in range(2):
        emulator = Emulator(
            program.array, program.timing, program.const, program.instructions, program.arena_bytes
        )
        emulator.run()
        arenas.append(emulator.arena.copy())
    assert np.array_equal(arenas[0], arenas[1])
    assert np.array_equal(program.const, before)
