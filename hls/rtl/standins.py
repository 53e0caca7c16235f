# SPDX-License-Identifier: Apache-2.0
"""Stand-ins: what HLS builds around the kernels' functions, as Verilog of our own.

In: ``modules/`` and ``control_registers``.  Out: per stand-in and board its cells, and the number of
checks that its bench made.  A bench holds a module against the kernel's own C++ where that states
what the module does, and against a model in the bench where it does not.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from neuralmatrix.hardware.block_design_cells import (
    INSTRUCTION_BYTES,
    SHALLOWEST_FIFO,
    TOKEN_BYTES,
)
from neuralmatrix.hardware.board import Board
from neuralmatrix.hardware.registers import KERNELS

from . import control_registers, sources, tools
from .delays import fabric_of
from .llvm import RtlError
from .simulate import GXX, verilated
from .synthesize import CELLS, cells
from .unit import BOARDS

VERILOG = sources.HERE / "modules"
Parameters = dict[str, int]
Entry = dict[str, Any]
SCRIPT = (
    "read_verilog {files}; {chparam} synth_xilinx -family {family} -flatten -noiopad -noclkbuf "
    "-top {top}; tee -o {stat} stat -tech xilinx"
)


@dataclass(frozen=True)
class StandIn:
    """A module with the parameters that a board gives it; ``bench`` is the one that checks it."""

    name: str
    title: str
    top: str
    parameters: Callable[[Board], Parameters] = field(repr=False)
    bench: str
    boards: tuple[str, ...] = BOARDS


@dataclass(frozen=True)
class Bench:
    """A bench, the modules that it drives, and the kernels' sources that it compares with."""

    name: str
    models: tuple[str, ...]
    parameters: Callable[[Board], Parameters] = field(repr=False)
    kernels: tuple[str, ...] = ()

    @property
    def source(self) -> Path:
        return VERILOG / f"{self.name.partition('/')[0]}_bench.cpp"


def _none(b: Board) -> Parameters:
    return {}


def _small_queue(b: Board) -> Parameters:
    return {"WIDTH": 16, "DEPTH": 16}


def _small_memory(b: Board) -> Parameters:
    return {"ADDRESS": 16, "WIDTH": 16}


def _load_port(b: Board) -> Parameters:
    return {"BYTES": b.ports.load.bytes_per_cycle}


def _store_port(b: Board) -> Parameters:
    return {"BYTES": b.ports.store.bytes_per_cycle}


def _fetch_port(b: Board) -> Parameters:
    return {"BYTES": b.ports.fetch.bytes_per_cycle}


def _load_walk(b: Board) -> Parameters:
    return {"ROWS": b.array.rows}


def _load_run(b: Board) -> Parameters:
    return _load_walk(b) | _load_port(b)


def _store_walk(b: Board) -> Parameters:
    return {"COLS": b.array.cols} | _store_port(b)


def _deep(depth: int) -> int:
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


def _weights(b: Board) -> Parameters:
    """The first block of weights and the next one."""
    return _memory(2, 1, b.array.wbuf_words, 1)


def _parameter_rows(b: Board) -> Parameters:
    """Segments, cells, the first block's channels and the next one's."""
    return _memory(4, 1, 8 * b.array.pbuf_rows, 1)


BENCHES = {
    bench.name: bench
    for bench in (
        Bench("queue", ("queue",), _small_queue),
        Bench("memory_port", ("memory_port",), _small_memory),
        Bench("maxi_read", ("maxi_read",), _load_port),
        Bench("maxi_write", ("maxi_write",), _store_port),
        Bench("sequencer", ("sequencer",), _none),
        Bench("fetch", ("fetch_loop",), _fetch_port, ("fetch",)),
        Bench("load", ("load_walk", "load_run"), _load_run, ("load",)),
        Bench("store", ("store_walk",), _store_walk, ("store",)),
        *(Bench(f"registers/{k}", (control_registers.module_name(k),), _none) for k in KERNELS),
    )
}

TABLE = (
    StandIn("instruction_queue", "a queue of instructions", "queue", _instructions, "queue"),
    StandIn("token_queue", "a queue of tokens", "queue", _tokens, "queue"),
    StandIn("load_port", "LOAD's m_axi port", "maxi_read", _load_port, "maxi_read"),
    StandIn("store_port", "STORE's m_axi port", "maxi_write", _store_port, "maxi_write"),
    StandIn("fetch_port", "FETCH's m_axi port", "maxi_read", _fetch_port, "maxi_read"),
    *(
        StandIn(
            f"{kernel}_registers",
            f"{kernel.upper()}'s s_axilite registers",
            control_registers.module_name(kernel),
            _none,
            f"registers/{kernel}",
        )
        for kernel in KERNELS
    ),
    StandIn("sequencer", "a kernel's loop over instructions", "sequencer", _none, "sequencer"),
    StandIn("fetch_loop", "FETCH without its port", "fetch_loop", _fetch_port, "fetch"),
    StandIn("load_walk", "LOAD's blocks, lines and padding", "load_walk", _load_walk, "load"),
    StandIn("load_run", "a run of LOAD, or a gathered word", "load_run", _load_run, "load"),
    StandIn("store_walk", "STORE's blocks, lines and words", "store_walk", _store_walk, "store"),
    StandIn("load_memories", "LOAD's choice of a buffer", "memory_port", _load_memories, "memory_port"),
    StandIn("result_memories", "COMPUTE's result port", "memory_port", _results, "memory_port"),
    StandIn("weight_memory", "COMPUTE's weight port", "memory_port", _weights, "memory_port"),
    StandIn(
        "parameter_memory", "COMPUTE's parameter port", "memory_port", _parameter_rows, "memory_port"
    ),
)  # fmt: skip

STANDINS = {standin.name: standin for standin in TABLE}

# ---------------------------------------------------------------- texts


@cache
def texts() -> dict[str, str]:
    """Every module's Verilog by its name."""
    found = {path.stem: path.read_text(encoding="utf-8") for path in sorted(VERILOG.glob("*.v"))}
    return found | {control_registers.module_name(k): control_registers.verilog(k) for k in KERNELS}


def modules(top: str) -> list[str]:
    """A module and all that it instantiates, by name."""
    found, rest = [], [top]
    while rest:
        name = rest.pop()
        if name not in found:
            found.append(name)
            rest += [m for m in re.findall(r"^\s+(\w+) #\(", texts()[name], re.M) if m in texts()]
    return sorted(found)


def _hash(parts: Iterator[str] | list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def digest(standin: StandIn, board: Board) -> str:
    """SHA-256 of a stand-in's Verilog and parameters."""
    given = [f"{name}={value}" for name, value in sorted(standin.parameters(board).items())]
    return _hash([standin.top, *given, *(texts()[name] for name in modules(standin.top))])


def sources_digest(bench: Bench, board: Board) -> str:
    """SHA-256 of all that a bench is made of; it needs no tool."""
    made = [sources.file_digest(path, board) for path in _cpp(bench)]
    given = [f"{name}={value}" for name, value in sorted(bench.parameters(board).items())]
    kept = [texts()[name] for top in bench.models for name in modules(top)]
    return _hash([*made, *given, *kept, _table(bench)])


def _cpp(bench: Bench) -> list[Path]:
    return [bench.source, *(sources.HLS / "src" / f"{name}.cpp" for name in bench.kernels)]


def _table(bench: Bench) -> str:
    kernel = bench.name.partition("/")[2]
    return control_registers.bench_table(kernel) if kernel else ""


# ---------------------------------------------------------------- tools


def write_modules(folder: Path, names: list[str]) -> list[Path]:
    """The modules as files of a build folder."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.v" for name in names]
    for path in paths:
        path.write_text(texts()[path.stem], encoding="utf-8")
    return paths


def synthesize(standin: StandIn, board: Board, family: str, build: Path) -> dict[str, int]:
    """The cells of a stand-in with a board's parameters."""
    folder = build / board.name / "standins"
    files = write_modules(folder, modules(standin.top))
    given = standin.parameters(board).items()
    script = SCRIPT.format(
        files=" ".join(path.name for path in files),
        chparam="".join(f"chparam -set {name} {value} {standin.top}; " for name, value in given),
        family=family,
        top=standin.top,
        stat=f"{standin.name}.stat",
    )
    tools.run([tools.yosys(), "-q", "-p", script], folder / f"{standin.name}.yosys.log", folder)
    return cells((folder / f"{standin.name}.stat").read_text(encoding="utf-8"))


def _model(bench: Bench, top: str, board: Board, folder: Path) -> Path:
    """Verilator's archive of one module."""
    files = write_modules(folder, modules(top))
    wanted = [name for name in bench.parameters(board).items() if name[0] in texts()[top]]
    given = [f"-G{name}={value}" for name, value in wanted]
    command = ["verilator", "--cc", "--build", "-Wno-fatal", "-Wno-lint", "--top-module", top]
    tools.verilator()
    tools.run([*command, *given, "--Mdir", folder / top, *files], folder / f"{top}.verilator.log")
    return folder / top / f"V{top}__ALL.a"


def check(bench: Bench, board: Board, build: Path) -> int:
    """The number of checks that a bench made; an error with its words where one failed."""
    folder = build / board.name / "benches" / bench.name
    archives = [_model(bench, top, board, folder) for top in bench.models]
    if table := _table(bench):
        (folder / "registers_table.h").write_text(table, encoding="utf-8")
    library = tools.verilator()
    folders = [folder, VERILOG, *(folder / top for top in bench.models), library, library / "vltstd"]
    include = [f"-I{path}" for path in folders]
    include += sources.include_folders(board, build, device=False)
    parts = [*_cpp(bench), *archives, *verilated(build), "-lpthread"]
    program = folder / "bench"
    tools.run([tools.gxx(), *GXX, "-O1", *include, *parts, "-o", program], folder / "gxx.log")
    said = tools.run([program], folder / "bench.log")
    found = re.match(r"(\d+) ", said)
    if found is None:
        raise RtlError(f"{bench.name}: the bench printed {said!r}, not a number of checks")
    return int(found.group(1))


# ---------------------------------------------------------------- the counts file


@dataclass(frozen=True)
class Before:
    """What an earlier run with the same tools found, by what it depends on."""

    cells: dict[tuple[str, str], dict[str, int]]  # (Verilog, family)
    checks: dict[str, int]  # sources


def before(entries: Iterator[Entry]) -> Before:
    """Collect what the entries of a counts file say of stand-ins."""
    found = Before({}, {})
    for entry in entries:
        if "stand_in" in entry:
            kept = {key: value for key, value in entry.items() if key in ("lut", *CELLS)}
            found.cells[entry["verilog"], entry["family"]] = kept
            found.checks[entry["sources"]] = entry["checks"]
    return found


def count(standin: StandIn, board: Board, build: Path, known: Before, checks: dict[str, int]) -> Entry:
    """What the counts file says of a stand-in on a board; ``checks`` is filled on the way."""
    bench, family = BENCHES[standin.bench], fabric_of(board).family
    text, made_of = digest(standin, board), sources_digest(bench, board)
    if made_of not in checks:
        checks[made_of] = known.checks.get(made_of) or check(bench, board, build)
    if (text, family) not in known.cells:
        known.cells[text, family] = synthesize(standin, board, family, build)
    return {
        "family": family,
        "stand_in": True,
        **known.cells[text, family],
        "checks": checks[made_of],
        "sources": made_of,
        "verilog": text,
    }
