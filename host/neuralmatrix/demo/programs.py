# SPDX-License-Identifier: Apache-2.0
"""The demos' networks as programs for the board at hand, for notebooks.

In: a demo's name, a board.  Out: ``Program``: compiled, or as shipped if onnx is missing.
For 32-bit ARM no onnx can be installed, so ``data`` holds the programs of those boards
(``python -m neuralmatrix.demo.programs`` makes them again).
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from ..errors import ToolMissing
from ..hardware.board import Board, load_board
from ..hardware.overlay_folder import EMULATED_VARIABLE, board_of_device
from ..program.program import Program, load
from ..runtime.device import without_pynq
from .tasks import DATA, task

SHIPPED_FOR = "pynq-z2"
SHIPPED = ("digits", "transformer")


def _device_name() -> str:
    """Return pynq's name of this board.  ToolMissing: there is no board."""
    try:
        from ..runtime.pynq.fabric import active_device
    except ImportError as error:
        raise without_pynq(error) from None
    return str(active_device().name)


def board_here() -> Board:
    """Return the board that pynq sees, or the one that NEURALMATRIX_EMULATED_BOARD names."""
    if EMULATED_VARIABLE in os.environ:
        return load_board(os.environ[EMULATED_VARIABLE])
    device = _device_name()
    board = board_of_device(device)
    if board is None:
        raise ToolMissing(f"board {device!r} has no board file; see docs/add-a-board.md")
    return board


def shipped_path(name: str, board: Board) -> Path:
    """Return the path of a demo's program; boards with the same array share it."""
    return DATA / f"{name}.{board.array_name}.nmx"


def compile_demo(name: str, board: Board) -> Program:
    """Compile a demo's network; needs onnx."""
    from ..compiler import compile_model

    chosen = task(name)
    return compile_model(chosen.model, board=board, calibration=[chosen.load(None).calibration])


def demo_program(name: str, board: Board) -> Program:
    """Return a demo's program for a board, compiled where onnx is installed.

    >>> demo_program("digits", load_board("pynq-z2")).inputs[0].name
    'input'
    """
    if find_spec("onnx") is not None:
        return compile_demo(name, board)
    path = shipped_path(name, board)
    if not path.is_file():
        raise ToolMissing(
            f"onnx is not installed and no program of {name!r} for the array {board.array_name} "
            "is shipped; pip install onnx, or compile on a PC and copy the .nmx file"
        )
    return load(path)


def write_shipped() -> None:
    """Make the shipped programs again."""
    board = load_board(SHIPPED_FOR)
    for name in SHIPPED:
        compile_demo(name, board).save(shipped_path(name, board))


if __name__ == "__main__":
    write_shipped()
