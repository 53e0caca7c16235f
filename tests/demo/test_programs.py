# SPDX-License-Identifier: Apache-2.0
"""Programs for notebooks: the shipped ones compute the same as a fresh compilation."""

from __future__ import annotations

import numpy as np
import pytest
from neuralmatrix.demo import programs
from neuralmatrix.demo.tasks import load_digits
from neuralmatrix.errors import ToolMissing
from neuralmatrix.hardware.board import load_board
from neuralmatrix.hardware.overlay_folder import EMULATED_VARIABLE
from neuralmatrix.program.program import load
from neuralmatrix.runtime.session import Session
from slow import slow_after


@pytest.fixture
def no_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "find_spec", lambda name: None)


@pytest.mark.gxx
@pytest.mark.parametrize("name", slow_after(1, programs.SHIPPED))
def test_shipped_program_is_the_compiled_one(name: str) -> None:
    pytest.importorskip("onnx")
    board = load_board(programs.SHIPPED_FOR)
    shipped = load(programs.shipped_path(name, board))
    fresh = programs.compile_demo(name, board)
    feeds = {"input": load_digits(32).x}
    ours, theirs = (Session(p).run(feeds)["logits"] for p in (shipped, fresh))
    assert shipped.array == board.array
    # numpy's versions add up the calibration's floats in their own order, which moves the scales
    assert np.abs(ours - theirs).max() < 0.02 * np.abs(theirs).max(), "stale: run 'make generated'"
    assert np.array_equal(ours.argmax(1), theirs.argmax(1))


@pytest.mark.parametrize("board", ("pynq-z1", "pynq-z2"))
def test_32_bit_boards_need_no_onnx(board: str, no_onnx: None) -> None:
    program = programs.demo_program("digits", load_board(board))
    assert program.array.fingerprint == load_board(board).array.fingerprint


def test_other_boards_are_told_to_install_onnx(no_onnx: None) -> None:
    with pytest.raises(ToolMissing, match="pip install onnx, or compile on a PC"):
        programs.demo_program("digits", load_board("kv260"))


def test_board_here_is_the_emulated_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(EMULATED_VARIABLE, "zcu104")
    assert programs.board_here().name == "zcu104"


def test_board_here_without_pynq(monkeypatch: pytest.MonkeyPatch, no_onnx: None) -> None:
    monkeypatch.delenv(EMULATED_VARIABLE, raising=False)
    with pytest.raises(ToolMissing, match="set NEURALMATRIX_EMULATED_BOARD=pynq-z2"):
        programs.board_here()
