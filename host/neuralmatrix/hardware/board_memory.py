# SPDX-License-Identifier: Apache-2.0
"""Whether a program fits a board's memory, and what its user can do where it does not.

In: a board, bytes that a program needs.  Out: nothing, or DoesNotFit with advice; "a larger board"
is advised only where a board file describes one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from numbers import Integral

from ..errors import BadInput, DoesNotFit
from .board import Board, Cma, board_names, load_board
from .target import ArrayConfig

MIB = 2**20


def with_cma(board: Board, mbytes: int | None) -> Board:
    """Return the board with as much contiguous memory as its user has set aside; None keeps it."""
    if mbytes is None:
        return board
    if not isinstance(mbytes, Integral) or not 0 < mbytes <= board.dram.mbytes:
        raise BadInput(
            f"cma_mbytes: found {mbytes!r}, allowed are 1 to {board.dram.mbytes}, the DRAM of "
            f"{board.title}"
        )
    return replace(board, cma=Cma(mbytes, "given"))


def check_memory(board: Board, const: int, arena: int, instructions: int) -> None:
    """Raise DoesNotFit if a program's buffers exceed the DRAM, or the contiguous memory that the
    board's image sets aside for buffers."""
    need = const + arena + instructions
    _check_dram(board, need)
    _check_cma(board, need, f" (weights and parameters {_mib(const)}, activations {_mib(arena)}, "
               f"instructions {_mib(instructions)})")  # fmt: skip


def check_least_memory(board: Board, need: int, what: str) -> None:
    """Raise the same before a program is made; ``what`` needs at least as many bytes."""
    _check_dram(board, need, "over ", f" ({what})")
    _check_cma(board, need, f" for {what} alone")


def _check_dram(board: Board, need: int, over: str = "", what: str = "") -> None:
    if need > board.dram.mbytes * MIB:
        raise DoesNotFit(
            f"the network needs {over}{_mib(need)} MiB of DRAM{what}, {board.title} has "
            f"{board.dram.mbytes} MiB; {memory_advice(need)}"
        )


def _check_cma(board: Board, need: int, what: str) -> None:
    have, more = board.cma.mbytes, -(-need // MIB)
    if have is not None and more > have:
        raise DoesNotFit(
            f"the network needs {_mib(need)} MiB of contiguous memory{what}, the image of "
            f"{board.title} sets aside {have} MiB (CMA); enlarge it at boot (cma={more}M or more "
            "on the kernel's command line, docs/on-a-board.md) and compile with "
            f"cma_mbytes={more} (--cma-mbytes {more}), or {memory_advice(need)}"
        )


def memory_advice(need: int) -> str:
    """Say what to try where ``need`` bytes of memory are missing."""
    return _advice(lambda board: (board.cma.mbytes or board.dram.mbytes) * MIB >= need, "input")


def buffer_advice(array: ArrayConfig) -> str:
    """Say what to try where a layer exceeds the buffers of an array."""
    sizes = ("win", "ibuf_words", "wbuf_words", "pbuf_rows", "line_words", "acc_rows", "obuf_rows")

    def is_larger(board: Board) -> bool:
        return any(getattr(board.array, size) > getattr(array, size) for size in sizes)

    return _advice(is_larger, "layer")


def _advice(is_larger: Callable[[Board], bool], smaller: str) -> str:
    larger = any(is_larger(load_board(name)) for name in board_names())
    return f"choose a larger board or a smaller {smaller}" if larger else f"use a smaller {smaller}"


def _mib(size: int) -> str:
    return f"{size / MIB:.0f}" if size >= MIB else f"{size / MIB:.2g}"


__all__ = ["buffer_advice", "check_least_memory", "check_memory", "memory_advice", "with_cma"]
