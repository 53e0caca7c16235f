# SPDX-License-Identifier: Apache-2.0
"""Sessions that end in unusual ways: by Ctrl-C, by a fork, without being closed.

In: an emulated board, also one that hangs.  Out: control returns soon, no memory is held, and
the next run works.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neuralmatrix.errors import BadInput, NeuralMatrixError, OverlayMissing
from neuralmatrix.hardware.overlay_folder import BIT, HWH, INFO, hash_files, read_info, write_info
from neuralmatrix.runtime.emulated_board.board import EmulatedBoard, Faults
from neuralmatrix.runtime.pynq import board_thread
from neuralmatrix.runtime.session import Session
from programs import copy_program
from pynq_networks import feeds

pytestmark = [pytest.mark.pynq, pytest.mark.gxx]

MADE = copy_program()
HANGS_S = 600.0  # the time-out of a run that hangs; no test may wait that long
SOON_S = 60.0  # much less, and enough for a busy machine


@pytest.fixture
def board() -> Iterator[EmulatedBoard]:
    with EmulatedBoard("pynq-z2") as board:
        yield board


def assert_works(session: Session) -> None:
    given = feeds(MADE, 3, 5)
    wanted = Session(MADE, threads=1).run(given)
    found = session.run(given)
    assert all(found[name].tobytes() == array.tobytes() for name, array in wanted.items())


class Leave(Exception):
    """The exception that a signal raises in the main thread, like KeyboardInterrupt."""


@contextmanager
def interrupted_once(happened: Any) -> Iterator[None]:
    """Send a signal to the main thread as soon as ``happened()`` is true."""
    main = threading.main_thread().ident
    assert main is not None

    def leave(number: int, frame: object) -> None:
        raise Leave

    def watch() -> None:
        until = time.monotonic() + SOON_S
        while not happened() and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(0.05)  # the main thread waits at this point
        signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, leave)
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        watcher.join()
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("wait", ("poll", "interrupt"))
@pytest.mark.parametrize("images", (1, 6))
def test_left_while_the_board_hangs(board: EmulatedBoard, wait: str, images: int) -> None:
    """Closing waits until the given-up run ends, not for its time-out."""
    began = time.monotonic()
    with Session(MADE, "pynq", overlay=board.overlay, timeout_s=HANGS_S, wait=wait) as session:
        runs = board.runs
        board.faults = Faults(never_done=True, times=1)
        with interrupted_once(lambda: board.runs > runs), pytest.raises(Leave):
            session.run(feeds(MADE, images))
    assert time.monotonic() - began < SOON_S
    assert board.allocated == 0 and board.stray == 0
    assert board.runs == runs + 1
    with Session(MADE, "pynq", overlay=board.overlay) as session:
        assert_works(session)
    assert board.allocated == 0 and board.stray == 0


def test_left_while_a_session_opens(board: EmulatedBoard) -> None:
    began = time.monotonic()
    board.faults = Faults(never_done=True, times=1)
    with interrupted_once(lambda: board.runs > 0), pytest.raises(Leave):
        Session(MADE, "pynq", overlay=board.overlay, timeout_s=HANGS_S)
    board_thread.run(lambda: None)
    assert time.monotonic() - began < SOON_S
    gc.collect()
    assert board.allocated == 0 and board.stray == 0
    with Session(MADE, "pynq", overlay=board.overlay) as session:
        assert_works(session)


def test_left_while_a_batch_runs_well() -> None:
    """The run on the array ends normally; nothing is loaded again."""
    with EmulatedBoard("pynq-z2", run_s=0.02) as board:
        with Session(MADE, "pynq", overlay=board.overlay) as session:
            before, downloads = board.runs, board.downloads
            with interrupted_once(lambda: board.runs > before + 2), pytest.raises(Leave):
                session.run(feeds(MADE, 2000))
            board_thread.run(lambda: None)
            assert board.runs < before + 1000 and board.downloads == downloads
            assert_works(session)
        assert board.allocated == 0 and board.stray == 0


@pytest.mark.parametrize("runs", (0, 1))
def test_dropped_without_being_closed(board: EmulatedBoard, runs: int) -> None:
    for _ in range(3):
        session = Session(MADE, "pynq", overlay=board.overlay)
        for _ in range(runs):
            session.run(feeds(MADE))
        assert board.allocated > 0
        del session
        gc.collect()
        assert board.allocated == 0
    assert board.stray == 0


# ------------------------------------------------------------------------------ forks


def _child(session: Session, folder: Path, results: Any) -> None:
    try:
        session.run(feeds(MADE))
        results.put("ran")
    except NeuralMatrixError as error:
        results.put(f"{type(error).__name__}: {error}")
    session.close()
    with Session(MADE, "pynq", overlay=folder) as own:
        results.put(bool(np.isfinite(next(iter(own.run(feeds(MADE)).values()))).all()))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_fork_opens_sessions_of_its_own(board: EmulatedBoard) -> None:
    """The child cannot use the parent's session; the parent can."""
    context = multiprocessing.get_context("fork")
    with Session(MADE, "pynq", overlay=board.overlay) as session:
        assert_works(session)
        results = context.Queue()
        child = context.Process(target=_child, args=(session, board.overlay, results))
        child.start()
        try:
            said = results.get(timeout=SOON_S)
            assert said.startswith(f"BadInput: session: found one that process {os.getpid()} ")
            assert results.get(timeout=SOON_S) is True
            child.join(SOON_S)
            assert child.exitcode == 0
        finally:
            child.kill()
        assert_works(session)
    assert board.allocated == 0 and board.stray == 0


# ------------------------------------------------------------------------------ callbacks


class Odd(Exception):
    pass


def test_an_error_in_a_callback(board: EmulatedBoard) -> None:
    def refuse(done: int, total: int) -> None:
        raise Odd

    with Session(MADE, "pynq", overlay=board.overlay) as session:
        with pytest.raises(Odd):
            session.run(feeds(MADE, 6), refuse)
        assert_works(session)
    assert board.allocated == 0 and board.stray == 0


def test_a_callback_that_runs_and_closes(board: EmulatedBoard) -> None:
    session = Session(MADE, "pynq", overlay=board.overlay)

    def again(done: int, total: int) -> None:
        session.run(feeds(MADE))
        session.close()

    session.run(feeds(MADE, 3), again)
    session.close()
    assert board.allocated == 0 and board.stray == 0


# ------------------------------------------------------------------------------ odd files


def stated_as_built(folder: Path, name: str, data: bytes) -> None:
    """Replace a file, and its hash in ``overlay.json``."""
    (folder / name).write_bytes(data)
    info = read_info(folder)
    fields = {**vars(info), "files": hash_files(folder)}
    write_info(folder, type(info)(**fields))


@pytest.mark.parametrize("data", (b"", b"hello\n" * 9, bytes(5000), b"\xff" * 5000))
@pytest.mark.parametrize("name", (BIT, HWH))
def test_files_that_pynq_cannot_read(board: EmulatedBoard, name: str, data: bytes) -> None:
    """All errors of pynq's parsers become one error."""
    stated_as_built(board.overlay, name, data)
    with pytest.raises(OverlayMissing, match=f"{BIT}: pynq .* could not load it .*copy the over"):
        Session(MADE, "pynq", overlay=board.overlay)
    assert board.allocated == 0


def test_a_pipe_is_not_waited_for(board: EmulatedBoard) -> None:
    (board.overlay / INFO).unlink()
    os.mkfifo(board.overlay / INFO)
    with pytest.raises(OverlayMissing, match=f"{INFO}: found no regular file"):
        Session(MADE, "pynq", overlay=board.overlay)


def test_the_environment_names_no_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURALMATRIX_EMULATED_BOARD", "../pynq-z2")
    with pytest.raises(BadInput, match="NEURALMATRIX_EMULATED_BOARD: found '../pynq-z2', allowed"):
        Session(MADE, "pynq")
