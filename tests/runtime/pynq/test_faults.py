# SPDX-License-Identifier: Apache-2.0
"""Every fault of a board gives its named error in time, the memory is freed, and the next run
works.

In: an emulated board with faults.  Out: errors by class and text; bytes as before.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from neuralmatrix.errors import (
    DeviceFault,
    DeviceTimeout,
    DoesNotFit,
    NeuralMatrixError,
    OverlayMissing,
    WrongClock,
    WrongOverlay,
)
from neuralmatrix.hardware.board import load_board
from neuralmatrix.hardware.isa import SLOTS, Opcode
from neuralmatrix.hardware.overlay_folder import BIT, SELFTEST, read_info, write_info
from neuralmatrix.program.program import Program
from neuralmatrix.runtime.emulated_board.board import EmulatedBoard, Faults
from neuralmatrix.runtime.pynq import board_thread
from neuralmatrix.runtime.session import Session
from programs import copy_program
from pynq_networks import feeds, program

pytestmark = [pytest.mark.pynq, pytest.mark.gxx]

TIMEOUT_S = 0.5
# Seconds beyond the time-out for loading the overlay and the self-test on a busy machine.
PATIENCE_S = 20.0
PAD_VALUE = SLOTS[Opcode.LOAD]["pad_value"]
PAD_VALUE_BYTE = 4 * PAD_VALUE.word + PAD_VALUE.shift // 8  # no other instruction depends on it
ADDR_BYTE = 4 * SLOTS[Opcode.LOAD]["addr"].word + 3  # its highest bit: an address far outside


def assert_works(session: Session) -> None:
    made, given = session.program, feeds(session.program, 3, 11)
    wanted = Session(made, threads=1).run(given)
    for name, array in session.run(given).items():
        assert array.tobytes() == wanted[name].tobytes()


# Class and text of the error that each fault of a run ends in.
RUN_FAULTS: dict[str, tuple[Faults, type[NeuralMatrixError], str]] = {
    "never done": (
        Faults(never_done=True, times=1),
        DeviceTimeout,
        "not done after 0.5 s: still running: compute, store.*loaded again",
    ),
    "early done": (Faults(early_done=True, times=1), DeviceFault, "ended early: found .* the prog"),
    "refused access": (
        Faults(refused_access=True, times=1),
        DeviceFault,
        "load stopped with fault 0x1: an access outside of its region was refused",
    ),
    "zeros for instructions": (
        Faults(dma_error="fetch", times=1),
        DeviceFault,
        "fetch read instructions that differ from the program's: found checksum 0x00000000",
    ),
    "zeros for data": (
        Faults(dma_error="load", times=1),
        DeviceFault,
        "load read constants that differ from the program's: found checksum 0x00000000",
    ),
}


@pytest.mark.parametrize("wait", ("poll", "interrupt"))
@pytest.mark.parametrize("made", (copy_program(), None), ids=("copy", "digits"))
@pytest.mark.parametrize("name", RUN_FAULTS)
def test_fault_of_a_run(board: EmulatedBoard, name: str, made: Program | None, wait: str) -> None:
    faults, error, text = RUN_FAULTS[name]
    made = made or program("digits")
    with Session(made, "pynq", overlay=board.overlay, timeout_s=TIMEOUT_S, wait=wait) as session:
        assert_works(session)
        downloads = board.downloads
        board.faults = faults
        began = time.monotonic()
        with pytest.raises(error, match=text):
            session.run(feeds(made))
        assert time.monotonic() - began < TIMEOUT_S + PATIENCE_S
        assert board.allocated == 0 and board.stray == 0
        assert board.downloads == downloads + 1
        assert_works(session)
    assert board.allocated == 0 and board.stray == 0


@pytest.mark.parametrize(
    ("part", "byte", "text"),
    (
        ("instructions", PAD_VALUE_BYTE, "fetch read instructions"),
        ("instructions", ADDR_BYTE, "fetch read instructions"),  # and a LOAD was refused
        ("const", 0, "load read constants"),
    ),
)
def test_one_bit_of_the_program_that_something_else_overwrote(
    board: EmulatedBoard, part: str, byte: int, text: str
) -> None:
    made = program("digits")
    with Session(made, "pynq", overlay=board.overlay) as session:
        assert_works(session)
        memory = board.memory.view(board.memory.base, 1 << 22)
        assert memory is not None
        at = memory.tobytes().find(getattr(made, part).tobytes())
        memory[at + byte] ^= 1
        with pytest.raises(DeviceFault, match=text):
            session.run(feeds(made))
        assert board.allocated == 0 and board.stray == 0
        assert_works(session)


def test_wrong_activations_go_unnoticed(board: EmulatedBoard) -> None:
    """Of what a run itself writes and reads again, no sum is known: outputs alone are wrong."""
    made = program("digits")
    given, wanted = feeds(made), Session(made, threads=1).run(feeds(made))
    with Session(made, "pynq", overlay=board.overlay) as session:
        board.faults = Faults(dma_error="activations", times=1)
        found = session.run(given)
        assert any(found[name].tobytes() != array.tobytes() for name, array in wanted.items())
        assert_works(session)
    assert board.allocated == 0 and board.stray == 0


SEVERAL = ("never done", "zeros for instructions", "zeros for data")


@pytest.mark.parametrize("failing", (0, 1, 3))
@pytest.mark.parametrize("name", SEVERAL)
def test_fault_in_a_batch(board: EmulatedBoard, name: str, failing: int) -> None:
    """The images behind the one that failed are not run."""
    made, (faults, error, text) = copy_program(), RUN_FAULTS[name]
    with Session(made, "pynq", overlay=board.overlay, timeout_s=TIMEOUT_S) as session:
        board.faults = replace(faults, after=failing)
        before = board.runs
        with pytest.raises(error, match=text):
            session.run(feeds(made, 6))
        board_thread.run(lambda: None)  # what was queued behind it has had its turn
        assert board.runs == before + failing + 1
        assert board.allocated == 0 and board.stray == 0
        assert_works(session)


@pytest.mark.parametrize("name", SEVERAL)
def test_fault_while_another_session_waits(board: EmulatedBoard, name: str) -> None:
    """The overlay is loaded again under it; it opens afresh by itself."""
    made, other, (faults, error, text) = copy_program(), program("digits"), RUN_FAULTS[name]
    with (
        Session(made, "pynq", overlay=board.overlay, timeout_s=TIMEOUT_S) as a,
        Session(other, "pynq", overlay=board.overlay) as b,
    ):
        board.faults = faults
        with pytest.raises(error, match=text):
            a.run(feeds(made))
        assert_works(b)
        assert_works(a)
    assert board.allocated == 0 and board.stray == 0


# ------------------------------------------------------------------------------ opening

OPEN_FAULTS: dict[str, tuple[Faults, type[NeuralMatrixError], str]] = {
    "never done": (Faults(never_done=True), DeviceTimeout, "during the self-test the array was"),
    "early done": (Faults(early_done=True), DeviceFault, "ended early"),
    "refused access": (Faults(refused_access=True), DeviceFault, "load stopped with fault 0x1"),
    "zeros for data": (
        Faults(dma_error="load"),
        DeviceFault,
        "load read constants that differ from the program's",
    ),
    "zeros for activations": (
        Faults(dma_error="activations"),
        DeviceFault,
        "self-test failed: .* found .* of .* bytes differ from the emulation",
    ),
    "zeros for instructions": (Faults(dma_error="fetch"), DeviceFault, "fetch read instructions"),
    "fingerprint": (
        Faults(wrong_fingerprint=True),
        WrongOverlay,
        "the array on the board says [0-9a-f]{16}, overlay.json says",
    ),
    "clock": (
        Faults(clock_mhz=125.0),
        WrongClock,
        "clock is 125.000 MHz, the overlay's timing is met up to 100.000",
    ),
    "memory": (Faults(allocation_failure=True), DoesNotFit, "no contiguous buffer of .* cma=256M"),
}


@pytest.mark.parametrize("name", OPEN_FAULTS)
def test_fault_while_opening(board: EmulatedBoard, name: str) -> None:
    faults, error, text = OPEN_FAULTS[name]
    made = copy_program()
    board.faults = faults
    with pytest.raises(error, match=text):
        Session(made, "pynq", overlay=board.overlay, timeout_s=TIMEOUT_S)
    assert board.allocated == 0 and board.stray == 0
    board.faults = Faults()
    with Session(made, "pynq", overlay=board.overlay) as session:
        assert_works(session)
    assert board.allocated == 0


@pytest.mark.parametrize("closed_mhz", (99.95, 99.85))
def test_how_much_faster_a_clock_may_be(board: EmulatedBoard, closed_mhz: float) -> None:
    """The emulated clock is 100 MHz; crystals and dividers account for a thousandth."""
    write_info(board.overlay, replace(read_info(board.overlay), clock_mhz=closed_mhz))
    if closed_mhz * 1.001 > 100:
        Session(copy_program(), "pynq", overlay=board.overlay).close()
    else:
        with pytest.raises(WrongClock, match="clock is 100.000 MHz, .* met up to 99.850"):
            Session(copy_program(), "pynq", overlay=board.overlay)


def test_a_slower_clock_is_no_error(board: EmulatedBoard) -> None:
    board.faults = Faults(clock_mhz=50.0)
    with Session(copy_program(), "pynq", overlay=board.overlay) as session:
        assert_works(session)
        assert session.stats is not None
        assert session.stats.clock_mhz == session.device_info["clock_mhz"] == 50.0


def test_the_clock_is_that_of_the_built_overlay() -> None:
    """Timing was missed, and the overlay built at the fallback clock; the program is the same."""
    made = program("digits")
    slow = load_board("pynq-z2").fallback
    with EmulatedBoard(slow) as board, Session(made, "pynq", overlay=board.overlay) as session:
        session.run(feeds(made))
        assert session.stats is not None and made.clock_mhz == 100
        assert session.stats.clock_mhz == pytest.approx(83.333333, rel=1e-4)
        assert session.device_info["clock_mhz"] == session.stats.clock_mhz


@pytest.mark.parametrize("allocation", range(4))
def test_memory_runs_out_half_way(board: EmulatedBoard, allocation: int) -> None:
    """What was allocated before is given back."""
    first, second = copy_program(), program("digits")
    with Session(first, "pynq", overlay=board.overlay) as session:
        held = board.allocated
        board.faults = Faults(allocation_failure=True, after=allocation, times=1)
        with pytest.raises(DoesNotFit, match="the program needs [0-9]+ bytes in all") as caught:
            Session(second, "pynq", overlay=board.overlay)
        # The error keeps what it passed through alive: nothing is left to the garbage collector.
        assert board.allocated == held and caught.tb
        assert_works(session)


def test_a_program_beyond_the_boards_memory() -> None:
    made = program("large")
    with EmulatedBoard("pynq-z2", cma_bytes=1 << 20) as board:
        with pytest.raises(DoesNotFit, match="or compile for a smaller input"):
            Session(made, "pynq", overlay=board.overlay)
        assert board.allocated == 0
        with Session(copy_program(), "pynq", overlay=board.overlay) as session:
            assert_works(session)


@pytest.mark.parametrize(
    ("text", "found"),
    (
        ("CmaTotal:  131072 kB\nCmaFree:   512 kB\n", "CmaTotal 128.0 MiB, CmaFree 0.5 MiB"),
        ("MemTotal: 1 kB\n", "/proc/meminfo names no CMA"),
        (None, "/proc/meminfo names no CMA"),
    ),
)  # fmt: skip
def test_what_the_kernel_says_of_cma(tmp_path: Path, text: str | None, found: str) -> None:
    from neuralmatrix.runtime.pynq.buffers import cma_text

    if text is not None:
        (tmp_path / "meminfo").write_text(text)
    assert cma_text(tmp_path / "meminfo").startswith(found)


@pytest.mark.parametrize("name", (BIT, SELFTEST))
def test_damaged_files(board: EmulatedBoard, name: str) -> None:
    path = board.overlay / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(OverlayMissing, match=f"{name}: damaged: its SHA-256 begins"):
        Session(copy_program(), "pynq", overlay=board.overlay)
    assert board.downloads == 0


def test_the_overlay_cannot_be_loaded_again(
    board: EmulatedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The array may still write into the buffers, so nobody else gets them until it can."""
    made = copy_program()
    session = Session(made, "pynq", overlay=board.overlay, timeout_s=TIMEOUT_S)
    held = board.allocated
    board.faults = Faults(never_done=True, times=1)

    def refuse(*_: object) -> None:
        raise OSError("no FPGA manager")

    monkeypatch.setattr(board.device, "download", refuse)
    with pytest.raises(NeuralMatrixError, match="could not be loaded again .*restart the board"):
        session.run(feeds(made))
    assert board.allocated == held
    monkeypatch.undo()
    assert_works(session)
    session.close()
    assert board.allocated == 0 and board.stray == 0
