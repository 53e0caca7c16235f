# SPDX-License-Identifier: Apache-2.0
"""The board driver under the real pynq package: every output byte is the emulation's.

In: a CNN, a transformer, a graph network, on emulated boards.  Out: equal bytes, freed memory,
cycles of the hardware's counters.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import neuralmatrix as nm
import numpy as np
import pytest
from neuralmatrix.errors import BadInput, DeviceTimeout, WrongOverlay
from neuralmatrix.hardware.overlay_folder import read_info, write_info
from neuralmatrix.program.program import Program
from neuralmatrix.runtime.emulated_board.board import EmulatedBoard, Faults, from_environment
from neuralmatrix.runtime.pynq import waiting
from neuralmatrix.runtime.pynq.staging import Staging, is_cacheable
from neuralmatrix.runtime.session import Session
from parted_networks import PARTED
from programs import copy_program
from pynq_networks import feeds, program

pytestmark = [pytest.mark.pynq, pytest.mark.gxx]


@pytest.fixture(params=(True, False), ids=("interrupts", "no interrupts"))
def any_board(request: pytest.FixtureRequest) -> Iterator[EmulatedBoard]:
    with EmulatedBoard("pynq-z2", interrupts=request.param) as board:
        yield board


def assert_same_bytes(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes(), name


def emulated(made: Program, given: dict[str, Any]) -> dict[str, Any]:
    return Session(made, threads=1).run(given)


# ------------------------------------------------------------------------------ bytes


@pytest.mark.parametrize("images", (1, 8))
@pytest.mark.parametrize("name", ("cnn", "transformer", "gnn", "int16", "mixed"))
def test_bytes(any_board: EmulatedBoard, name: str, images: int) -> None:
    made = program(name)
    given = feeds(made, images)
    with Session(made, "pynq", overlay=any_board.overlay) as session:
        found = session.run(given)
        assert_same_bytes(found, emulated(made, given))
        assert_same_bytes(session.run(given), found)
    assert any_board.allocated == 0 and any_board.stray == 0


@pytest.mark.data
def test_bytes_of_trained_resnet8(board: EmulatedBoard) -> None:
    made = program("trained")
    given = feeds(made, 8)
    with Session(made, "pynq", overlay=board.overlay) as session:
        assert_same_bytes(session.run(given), emulated(made, given))


def test_a_large_program(board: EmulatedBoard) -> None:
    """The program has megabytes of weights and thousands of instructions."""
    made = program("large")
    given = feeds(made, 2)
    with Session(made, "pynq", overlay=board.overlay) as session:
        assert_same_bytes(session.run(given), emulated(made, given))


@pytest.mark.parametrize("cacheable", (True, False))
@pytest.mark.parametrize("name", ("digits", "gnn"))
def test_inside_and_outside_of_the_cache(
    board: EmulatedBoard, monkeypatch: pytest.MonkeyPatch, name: str, cacheable: bool
) -> None:
    from neuralmatrix.runtime.pynq import buffers

    monkeypatch.setattr(buffers, "is_cacheable", lambda *_: cacheable)
    made = program(name)
    with Session(made, "pynq", overlay=board.overlay) as session:
        for seed in range(3):
            given = feeds(made, 2, seed)
            assert_same_bytes(session.run(given), emulated(made, given))


def test_which_arena_is_cached() -> None:
    assert is_cacheable(8000, 1000) and not is_cacheable(8001, 1000)


@pytest.mark.parametrize(("name", "beyond"), (("ultra96-v2", False), ("kv260", True)))
def test_other_boards(name: str, beyond: bool) -> None:
    """KV260's buffers lie beyond 32-bit addresses."""
    made = program("digits", name)
    given = feeds(made, 3)
    with EmulatedBoard(name) as board, Session(made, "pynq", overlay=board.overlay) as session:
        assert (board.memory.base >> 32 > 0) == beyond
        assert_same_bytes(session.run(given), emulated(made, given))


def test_boards_with_one_array_share_programs() -> None:
    made = program("digits")
    with EmulatedBoard("pynq-z1") as board, Session(made, "pynq", overlay=board.overlay) as session:
        assert session.device_info["board"] == "pynq-z1"
        assert_same_bytes(session.run(feeds(made)), emulated(made, feeds(made)))


# ------------------------------------------------------------------------------ waiting


@pytest.mark.parametrize("wait", ("auto", "interrupt", "poll"))
@pytest.mark.parametrize("interrupts", (True, "bound"))
@pytest.mark.parametrize("run_s", (0.0, 0.02))
def test_ways_of_waiting(wait: str, interrupts: Any, run_s: float) -> None:
    made = copy_program()
    with EmulatedBoard("pynq-z2", interrupts=interrupts, run_s=run_s) as board:
        with Session(made, "pynq", overlay=board.overlay, wait=wait) as session:
            for seed in range(3):
                given = feeds(made, 2, seed)
                assert_same_bytes(session.run(given), emulated(made, given))


def test_no_interrupt_to_wait_for() -> None:
    made = copy_program()
    with EmulatedBoard("pynq-z2", interrupts=False) as board:
        session = Session(made, "pynq", overlay=board.overlay, wait="interrupt")
        with pytest.raises(BadInput, match="wait='interrupt': found no interrupt"):
            session.run(feeds(made))
        assert board.allocated == 0


@pytest.fixture
def interrupts_came(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Record for each wait by interrupt whether the interrupt arrived."""
    from neuralmatrix.runtime.pynq import kernels as device_kernels

    came: list[bool] = []

    def noted(*asked: Any) -> tuple[bool, bool]:
        done, comes = waiting.by_interrupt(*asked)
        came.append(comes)
        return done, comes

    monkeypatch.setattr(waiting, "INTERRUPT_SLICE", 0.05)
    monkeypatch.setattr(device_kernels, "by_interrupt", noted)
    return came


def assert_runs(session: Session, runs: int = 4) -> None:
    for seed in range(runs):
        given = feeds(session.program, 1, seed)
        assert_same_bytes(session.run(given), emulated(session.program, given))


def test_interrupts_come(interrupts_came: list[bool]) -> None:
    with EmulatedBoard("pynq-z2", interrupts="bound", run_s=0.01) as board:
        with Session(copy_program(), "pynq", overlay=board.overlay, wait="interrupt") as session:
            assert_runs(session)
    assert interrupts_came == [True] * 4


def test_interrupts_that_another_loop_has(interrupts_came: list[bool]) -> None:
    """The loop that loaded an overlay first has the UIO device; one run waits in vain."""
    import pynq

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        with EmulatedBoard("pynq-z2", interrupts="bound", run_s=0.01) as board:
            other = pynq.Overlay(str(board.overlay / "neuralmatrix.bit"))
            assert other.store_0.wired
            made = copy_program()
            with Session(made, "pynq", overlay=board.overlay, wait="interrupt") as session:
                assert_runs(session)
    finally:
        loop.close()
        asyncio.set_event_loop(None)
    assert interrupts_came == [False]


def test_interrupts_that_pynq_loses(interrupts_came: list[bool]) -> None:
    """After a run that hung, pynq's controller of the earlier overlay receives the interrupts."""
    made = copy_program()
    with EmulatedBoard("pynq-z2", interrupts="bound", run_s=0.01) as board:
        options = {"overlay": board.overlay, "wait": "interrupt", "timeout_s": 0.3}
        with Session(made, "pynq", **options) as session:
            board.faults = Faults(never_done=True, times=1)
            with pytest.raises(DeviceTimeout):
                session.run(feeds(made))
            assert_runs(session)
    assert interrupts_came[0] and interrupts_came.count(False) <= 1


@pytest.mark.parametrize("wait", ("interrupt", "poll"))
def test_inside_a_running_loop(board: EmulatedBoard, wait: str) -> None:
    """A notebook's cell runs inside a loop; the session does not affect the loop's other tasks."""
    made = copy_program()

    async def cell() -> dict[str, Any]:
        await asyncio.sleep(0)
        with Session(made, "pynq", overlay=board.overlay, wait=wait) as session:
            return session.run(feeds(made, 3))

    assert_same_bytes(asyncio.run(cell()), emulated(made, feeds(made, 3)))


# ------------------------------------------------------------------------------ sharing


def test_sessions_share_the_overlay(board: EmulatedBoard) -> None:
    """Two programs alternate on one array, which is loaded once."""
    first, second = copy_program(), program("digits")
    with (
        Session(first, "pynq", overlay=board.overlay) as a,
        Session(second, "pynq", overlay=board.overlay) as b,
    ):
        for seed in range(3):
            for session in (a, b):
                given = feeds(session.program, 2, seed)
                assert_same_bytes(session.run(given), emulated(session.program, given))
        a.close()
        given = feeds(second, 1, 9)
        assert_same_bytes(b.run(given), emulated(second, given))
    assert board.downloads == 1 and board.allocated == 0


def test_threads_share_the_board(board: EmulatedBoard) -> None:
    """Simultaneous runs are executed one after the other."""
    made = program("digits")
    with Session(made, "pynq", overlay=board.overlay) as session, ThreadPoolExecutor(3) as pool:
        asked = [feeds(made, 2, seed) for seed in range(6)]
        for given, found in zip(asked, pool.map(session.run, asked), strict=True):
            assert_same_bytes(found, emulated(made, given))


def test_another_overlay_was_loaded_meanwhile(board: EmulatedBoard) -> None:
    """After an overlay is loaded by hand, the session loads its own again, with the self-test."""
    import pynq

    made = copy_program()
    with Session(made, "pynq", overlay=board.overlay) as session:
        session.run(feeds(made))
        pynq.Overlay(str(board.overlay / "neuralmatrix.bit"))
        given = feeds(made, 2, 5)
        assert_same_bytes(session.run(given), emulated(made, given))
    assert board.downloads == 3 and board.allocated == 0


def test_another_process_had_the_board(
    board: EmulatedBoard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The registers hold its addresses: this process would read its results without a reload."""
    from neuralmatrix.runtime.pynq import fabric

    lock, made = tmp_path / "lock", copy_program()
    monkeypatch.setattr(fabric, "lock_file", lambda: lock)
    with Session(made, "pynq", overlay=board.overlay) as session:
        assert_runs(session, 2)
        assert board.downloads == 1
        lock.write_text("1 another")
        assert_runs(session, 2)
        assert board.downloads == 2
    assert board.allocated == 0


def test_another_folder_is_another_overlay(board: EmulatedBoard, tmp_path: Path) -> None:
    made, copied = copy_program(), Path(shutil.copytree(board.overlay, tmp_path / "copy"))
    with Session(made, "pynq", overlay=board.overlay) as session:
        session.run(feeds(made))
    with Session(made, "pynq", overlay=copied) as session:
        assert session.device_info["overlay"] == str(copied.resolve())
        assert_same_bytes(session.run(feeds(made)), emulated(made, feeds(made)))
    assert board.downloads == 2


def test_another_board_took_its_place(board: EmulatedBoard) -> None:
    """The overlay is still on the first board, but pynq works with the second one."""
    made = copy_program()
    with Session(made, "pynq", overlay=board.overlay) as session, EmulatedBoard("pynq-z2") as other:
        assert_same_bytes(session.run(feeds(made)), emulated(made, feeds(made)))
        assert (board.downloads, other.downloads) == (1, 1)


def test_a_closed_session_opens_again(board: EmulatedBoard) -> None:
    made = copy_program()
    session = Session(made, "pynq", overlay=board.overlay)
    assert board.allocated > 0
    session.close()
    session.close()
    assert board.allocated == 0
    assert_same_bytes(session.run(feeds(made)), emulated(made, feeds(made)))
    session.close()
    assert board.allocated == 0


def test_the_next_image_is_packed_while_one_is_on_the_array(
    board: EmulatedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    pack = Staging.pack

    def noted(self: Staging, given: Any) -> Any:
        seen.append("packed")
        return pack(self, given)

    monkeypatch.setattr(Staging, "pack", noted)
    made = copy_program()
    with Session(made, "pynq", overlay=board.overlay) as session:
        session.run(feeds(made, 4), progress=lambda done, total: seen.append("done"))
    assert seen == ["packed", *["packed", "done"] * 3, "done"]


# ------------------------------------------------------------------------------ numbers


def test_numbers(board: EmulatedBoard) -> None:
    """The counters' cycles are those that the emulation counts: both follow the kernels."""
    made = program("digits")
    direct = Session(made, threads=1)
    direct.run(feeds(made))
    seen: list[tuple[int, int]] = []
    with Session(made, "pynq", overlay=board.overlay) as session:
        session.run(feeds(made, 4), progress=lambda done, total: seen.append((done, total)))
        stats, info = session.stats, session.device_info
    assert stats is not None and direct.stats is not None
    assert stats.cycles == direct.stats.cycles
    assert stats.dram_bytes == direct.stats.dram_bytes
    assert stats.busy == {unit: direct.stats.busy[unit] for unit in ("load", "compute", "store")}
    assert stats.origin == info["origin"] == "emulated board"
    assert (stats.images, stats.threads, stats.clock_mhz) == (4, 1, 100.0)
    assert set(stats.seconds) == {"host", "transfer", "array"}
    assert all(s > 0 for s in stats.seconds.values())
    assert sum(stats.seconds.values()) <= stats.host_seconds
    assert seen == [(i + 1, 4) for i in range(4)]
    assert info["fingerprint"] == made.array.fingerprint
    assert info["overlay"] == str(board.overlay.resolve())


def test_an_overlay_of_vivado_on_an_emulated_board_measures_nothing(board: EmulatedBoard) -> None:
    write_info(board.overlay, replace(read_info(board.overlay), origin="vivado"))
    with Session(copy_program(), "pynq", overlay=board.overlay) as session:
        assert session.device_info["origin"] == "emulated board"


def test_program_of_another_array(board: EmulatedBoard) -> None:
    """The error comes before anything is loaded."""
    with pytest.raises(WrongOverlay, match="the program needs .*compile it for board='pynq-z2'"):
        Session(copy_program("ultra96-v2"), "pynq", overlay=board.overlay)
    assert board.downloads == 0


def test_overlay_of_another_board(board: EmulatedBoard) -> None:
    with EmulatedBoard("ultra96-v2") as other:
        with pytest.raises(WrongOverlay, match="found an overlay for pynq-z1, pynq-z2, but this"):
            Session(copy_program(), "pynq", overlay=board.overlay)
        assert other.downloads == 0


def test_the_environment_names_an_emulated_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURALMATRIX_EMULATED_BOARD", "pynq-z2")
    made = copy_program()
    with Session(made, "pynq") as session:
        assert session.device_info["origin"] == "emulated board"
        assert_same_bytes(session.run(feeds(made, 2)), emulated(made, feeds(made, 2)))
    board = from_environment()
    assert board is not None
    board.close()


def test_numpy_bytes_that_are_not_flushed_would_be_seen(board: EmulatedBoard) -> None:
    """The emulated board's memory has two sides; otherwise none of these tests could fail."""
    import pynq

    pynq.Overlay(str(board.overlay / "neuralmatrix.bit"))
    buffer = pynq.allocate((64,), "u1", cacheable=1)
    np.asarray(buffer)[:] = 7
    buffer.invalidate()
    assert not (np.asarray(buffer) == 7).any()
    buffer.freebuffer()


@pytest.mark.parametrize("kind", ["state along the first axis", "head"])
def test_units_of_ports(board: EmulatedBoard, kind: str) -> None:
    """The board's staging converts parts of ports as the emulation's host does."""
    net = PARTED[kind](300.0)
    made = nm.compile(net.proto, calibration=net.feeds)
    assert any(port.units for port in (*made.inputs, *made.outputs))
    with Session(made, "pynq", overlay=board.overlay) as session:
        for feed in net.feeds[:2]:
            assert_same_bytes(session.run(feed), emulated(made, dict(feed)))
