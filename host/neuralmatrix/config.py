# SPDX-License-Identifier: Apache-2.0
"""Board and array parameters.

In: ``overlay/boards/*.json``.  Out: ``ArrayConfig`` (what the kernels are built with), ``Timing``
(what the cycle model needs besides) and ``Board``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from math import isqrt
from pathlib import Path
from typing import Any, Literal

from .errors import BadInput
from .isa import ISA_VERSION
from .jsonform import FormError, from_json
from .paths import boards_dir


@dataclass(frozen=True)
class ArrayConfig:
    """What decides what a bitstream computes; boards with equal arrays share programs."""

    rows: int  # PEs along K; bytes per word
    cols: int  # PEs along N; equal to rows
    ibuf_words: int
    wbuf_words: int
    pbuf_rows: int  # rows of cols 64-bit parameters
    acc_rows: int
    obuf_rows: int
    tbuf_rows: int
    ubuf_rows: int
    seg_entries: int  # segments the lanes can hold
    line_words: int  # widest input row (with padding) in WINDOW mode
    queue_depth: int  # instructions waiting per unit
    token_depth: int  # tokens waiting per unit pair

    @property
    def win(self) -> int:
        """WINDOW mode handles win x win taps per pass."""
        return isqrt(self.rows)

    @property
    def fingerprint(self) -> str:
        """16 hex digits that name this array and instruction set."""
        text = json.dumps({"isa": ISA_VERSION, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Timing:
    """What the cycle model needs besides the array: integers, so that all models agree exactly."""

    load_port_bytes: int  # bytes per cycle of the LOAD port
    store_port_bytes: int
    fetch_port_bytes: int
    ddr_bytes_per_256_cycles: int  # effective DRAM bandwidth shared by all ports
    burst_beats: int  # longest burst
    dram_latency: int  # cycles from request to first beat


@dataclass(frozen=True)
class PsPort:
    """A port between the fabric and the processor's DRAM controller."""

    name: str
    bytes_per_cycle: int


@dataclass(frozen=True)
class Ports:
    """Which port each unit's m_axi interface is wired to."""

    load: PsPort
    store: PsPort
    fetch: PsPort


@dataclass(frozen=True)
class Dram:
    """DRAM as the fabric sees it."""

    peak_bytes_per_s: int
    efficiency: float  # of the controller, on bursts
    latency_cycles: int  # from request to first beat, at the board's clock
    mbytes: int
    basis: str


@dataclass(frozen=True)
class Part:
    """What the device holds."""

    name: str
    lut: int
    ff: int
    dsp: int
    bram36: int
    uram: int
    dsp_type: Literal["DSP48E1", "DSP48E2"]


@dataclass(frozen=True)
class PowerRail:
    """A rail that the board can measure; ``scope`` says what it feeds."""

    name: str
    sensor: str
    scope: str


@dataclass(frozen=True)
class Board:
    """One board file, its array file resolved."""

    name: str
    title: str
    device_name: str  # pynq's device.name
    board_part: str  # of Vivado's board files; empty where there is none
    family: Literal["zynq7000", "zynqmp"]
    part: Part
    clock_mhz: float
    array_name: str
    array: ArrayConfig
    macs_per_dsp: Literal[1, 2]  # 2: GEMM products packed; WINDOW takes every second one from LUTs
    uram_buffers: tuple[str, ...]  # buffers placed in UltraRAM instead of block RAM
    ports: Ports
    burst_beats: int
    dram: Dram
    power: tuple[PowerRail, ...]
    notes: tuple[str, ...]

    @property
    def dram_bytes_per_s(self) -> float:
        """Bandwidth a well-formed burst stream gets."""
        return self.dram.peak_bytes_per_s * self.dram.efficiency

    @property
    def timing(self) -> Timing:
        """The cycle model's view of this board."""
        return Timing(
            load_port_bytes=self.ports.load.bytes_per_cycle,
            store_port_bytes=self.ports.store.bytes_per_cycle,
            fetch_port_bytes=self.ports.fetch.bytes_per_cycle,
            ddr_bytes_per_256_cycles=int(self.dram_bytes_per_s * 256 / (self.clock_mhz * 1e6)),
            burst_beats=self.burst_beats,
            dram_latency=self.dram.latency_cycles,
        )


def board_names() -> tuple[str, ...]:
    """The boards that have a file, in alphabetical order."""
    return tuple(sorted(path.stem for path in boards_dir().glob("*.json")))


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: not readable as JSON: {error}; restore or fix the file") from None
    if not isinstance(data, dict):
        raise BadInput(f"{path}: found a {type(data).__name__}, allowed is one JSON object")
    return data


def board_from_file(path: Path) -> Board:
    """Read one board file and the array file it names (``arrays/NAME.json`` beside it)."""
    data = _read(path)
    array_name = data.get("array_name")
    if not isinstance(array_name, str) or Path(array_name).name != array_name:
        raise BadInput(f"{path}: array_name: found {array_name!r}, allowed is a name in arrays/")
    array = _read(path.parent / "arrays" / f"{array_name}.json")
    try:
        board = from_json(Board, {**data, "array": array}, path.name)
    except FormError as error:
        raise BadInput(f"{error}; see docs/add-a-board.md") from None
    _check(board, path)
    return board


def _check(board: Board, path: Path) -> None:
    """Values whose type alone does not say that they are possible."""
    array = board.array
    positive = {**asdict(array), **asdict(board.timing), "clock_mhz": board.clock_mhz}
    positive |= {"part.lut": board.part.lut, "part.ff": board.part.ff, "part.dsp": board.part.dsp}
    bad = [f"{name} = {value}" for name, value in positive.items() if value <= 0]
    if board.name != path.stem:
        bad.append(f"name = {board.name!r} in a file called {path.name}")
    if array.rows != array.cols or array.rows & (array.rows - 1):
        bad.append(f"rows x cols = {array.rows} x {array.cols} (must be equal powers of two)")
    if not 0 < board.dram.efficiency <= 1:
        bad.append(f"dram.efficiency = {board.dram.efficiency} (must be above 0 and at most 1)")
    if bad:
        raise BadInput(f"{path}: impossible values: {'; '.join(bad)}; see docs/add-a-board.md")


def load_board(name: str) -> Board:
    """The board called ``name``, for example ``load_board("pynq-z2")``."""
    names = board_names()
    if name not in names:
        raise BadInput(f"unknown board {name!r}; allowed are {', '.join(names)}")
    return board_from_file(boards_dir() / f"{name}.json")
