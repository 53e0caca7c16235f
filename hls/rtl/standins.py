# SPDX-License-Identifier: Apache-2.0
"""Stand-ins: what HLS builds around the kernels' functions, as Verilog of our own.

In: ``modules/*.v``, ``control_registers``.  Out: ``STAND_INS``, and each one's Verilog and bench.
A bench holds a module against the kernels' own C++ where that states what the module does, and
against a model of its own where it does not.
"""

from __future__ import annotations

import re
from functools import cache, partial
from pathlib import Path

from neuralmatrix.hardware.block_design_cells import (
    INSTRUCTION_BYTES,
    SHALLOWEST_FIFO,
    TOKEN_BYTES,
)
from neuralmatrix.hardware.board import Board
from neuralmatrix.hardware.registers import KERNELS

from . import control_registers
from .llvm import RtlError
from .unit import StandIn

MODULES = Path(__file__).resolve().parent / "modules"
Parameters = dict[str, int]


def _none(b: Board) -> Parameters:
    return {}


def _port(unit: str, b: Board) -> Parameters:
    return {"BYTES": getattr(b.ports, unit).bytes_per_cycle}


def _load_loops(b: Board) -> Parameters:
    return {"ROWS": b.array.rows} | _port("load", b)


def _store_loops(b: Board) -> Parameters:
    return {"COLS": b.array.cols} | _port("store", b)


def _deep(depth: int) -> int:
    """The depth that the block design's FIFO has for it."""
    return max(SHALLOWEST_FIFO, 1 << (depth - 1).bit_length())


def _instructions(b: Board) -> Parameters:
    return {"WIDTH": 8 * INSTRUCTION_BYTES, "DEPTH": _deep(b.array.queue_depth)}


def _tokens(b: Board) -> Parameters:
    return {"WIDTH": 8 * TOKEN_BYTES, "DEPTH": _deep(b.array.token_depth)}


def _memory(sources: int, memories: int, words: int, width: int) -> Parameters:
    address = (words - 1).bit_length()
    return {"SOURCES": sources, "MEMORIES": memories, "ADDRESS": address, "WIDTH": width}


def _load_memories(b: Board) -> Parameters:
    """Padding, words of runs and gathered words, to one of seven buffers."""
    return _memory(3, 7, max(b.array.ibuf_words, b.array.wbuf_words), 8 * b.array.rows)


def _results(b: Board) -> Parameters:
    """Results and statistics, to both byte planes at once."""
    return _memory(2, 2, b.array.obuf_rows, 16 * b.array.cols)


def _parameter_rows(b: Board) -> Parameters:
    """Segments, cells and channels."""
    return _memory(3, 1, 8 * b.array.pbuf_rows, 1)


def _registers(kernel: str) -> StandIn:
    name = control_registers.module_name(kernel)
    return StandIn(
        f"{kernel}_registers", f"{kernel.upper()}'s s_axilite registers", name, "registers", _none
    )


MUX = ("memory_port", "memory_port")
STAND_INS = (
    StandIn("instruction_queue", "a queue of instructions", "queue", "queue", _instructions),
    StandIn("token_queue", "a queue of tokens", "queue", "queue", _tokens),
    StandIn("load_port", "LOAD's m_axi port", "maxi_read", "maxi_read", partial(_port, "load")),
    StandIn("store_port", "STORE's m_axi port", "maxi_write", "maxi_write",
            partial(_port, "store")),
    StandIn("fetch_port", "FETCH's m_axi port", "maxi_read", "maxi_read", partial(_port, "fetch")),
    *map(_registers, KERNELS),
    StandIn("sequencer", "a kernel's loop over instructions", "sequencer", "sequencer", _none),
    StandIn("fetch_loop", "FETCH's loop", "fetch_loop", "fetch", partial(_port, "fetch")),
    StandIn("load_loops", "LOAD's lines, padding and runs", "load_loops", "load", _load_loops),
    StandIn("store_loops", "STORE's lines and runs", "store_loops", "store", _store_loops),
    StandIn("load_memories", "choice of LOAD's buffer", *MUX, _load_memories),
    StandIn("result_memories", "COMPUTE's result port", *MUX, _results),
    StandIn("parameter_memory", "COMPUTE's parameter port", *MUX, _parameter_rows),
)  # fmt: skip


@cache
def texts() -> dict[str, str]:
    """Every module's Verilog by its name."""
    found = {path.stem: path.read_text(encoding="utf-8") for path in sorted(MODULES.glob("*.v"))}
    return found | {control_registers.module_name(k): control_registers.verilog(k) for k in KERNELS}


def _within(top: str) -> list[str]:
    """The modules that a module instantiates, itself first."""
    found: list[str] = []
    rest = [top]
    while rest:
        name = rest.pop()
        if name not in found:
            found.append(name)
            inner = re.findall(r"^\s+(\w+) (?:#\(|\w+ \()", texts()[name], re.M)
            rest += [module for module in inner if module in texts()]
    return found


def verilog(unit: StandIn, board: Board) -> str:
    """A stand-in with the board's parameters and its own name, and all that it instantiates."""
    top, *others = (texts()[name] for name in _within(unit.module))
    for name, value in unit.parameters(board).items():
        top, found = re.subn(rf"(parameter\s+{name}\s*=\s*)\d+", rf"\g<1>{value}", top)
        if found != 1:
            raise RtlError(f"{unit.module}.v has {found} parameters {name}; it must have one")
    return "\n".join([re.sub(rf"\bmodule {unit.module}\b", f"module {unit.name}", top), *others])


def bench_path(unit: StandIn) -> Path:
    return MODULES / f"{unit.bench}_bench.cpp"


def bench_head(unit: StandIn) -> str:
    """What a bench knows of its board's module besides the parameters."""
    kernel = unit.module.removeprefix("registers_")
    return control_registers.bench_table(kernel) if kernel in KERNELS else ""
