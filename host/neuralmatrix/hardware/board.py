# SPDX-License-Identifier: Apache-2.0
"""Boards and their parameters.

In: ``overlay/boards/*.json``.  Out: ``Board``, with its ``ArrayConfig`` and ``Timing``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..errors import BadInput
from ..jsonform import FormError, from_json
from ..paths import boards_dir
from .processing_system import Family, load_family
from .target import ArrayConfig, Target, Timing

BUFFERS = ("ibuf", "wbuf", "pbuf", "tbuf", "ubuf", "obuf", "acc")

"""The buffers that a board file may place in UltraRAM."""

CLOCK_MHZ = (1.0, 1000.0)  # MHz that a fabric's clock can have

SAME_OVERLAY = (
    "family",
    "part",
    "clock_mhz",
    "fallback_clock_mhz",
    "array_name",
    "uram_buffers",
    "ports",
)

"""The fields in which boards that load one bitstream must agree."""


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
    """The resources of the device."""

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
    sensor: str  # hwmon name of the chip, alone or with its reference designator: "ina260_u14"
    scope: str
    address: str = ""  # on its I2C bus, "0x43"; distinguishes chips of one name
    channel: str = ""  # label of the power reading, "pout1", where the chip measures several rails
    feeds: tuple[str, ...] = ()  # rails of this list that this one supplies: never add these to it


@dataclass(frozen=True)
class Cma:
    """Contiguous memory that the boot image sets aside for buffers; None where it is not known."""

    mbytes: int | None
    basis: str


@dataclass(frozen=True)
class Image:
    """A boot image, or an installation on one, that brings pynq."""

    name: str
    pynq: str
    python: str
    usable: bool  # False: users ask for it, but it does not exist or does not run
    basis: str


@dataclass(frozen=True)
class Board:
    """One board file, its array file resolved."""

    name: str
    title: str
    device_name: str  # pynq's device.name
    board_part: str  # of Vivado's board files
    board_files: str  # sources of these facts
    family: Literal["zynq7000", "zynqmp"]
    overlay: str  # the board whose bitstream it loads: its own name, or a twin's
    part: Part
    clock_mhz: float
    fallback_clock_mhz: float  # slower; the build takes it where timing is missed at clock_mhz
    pll_mhz: float  # of the PS clock's PLL, as the boot image sets it
    array_name: str
    array: ArrayConfig
    uram_buffers: tuple[str, ...]  # buffers placed in UltraRAM instead of block RAM
    ports: Ports
    burst_beats: int
    dram: Dram
    power: tuple[PowerRail, ...]
    notes: tuple[str, ...]
    cma: Cma = Cma(None, "not known")
    images: tuple[Image, ...] = ()

    @property
    def dram_bytes_per_s(self) -> float:
        """Bandwidth of a stream of long bursts."""
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

    @property
    def fallback(self) -> Board:
        """This board at its fallback clock; the array, and so every program, is the same."""
        return replace(self, clock_mhz=self.fallback_clock_mhz)

    @property
    def fallback_loss(self) -> float:
        """The share of frames/s that the fallback clock costs at most: that of the clock.

        Work that waits for DRAM loses less, because the memory keeps its own clock.
        """
        return 1 - self.fallback_clock_mhz / self.clock_mhz

    @property
    def target(self) -> Target:
        """The array and the timing of this board."""
        return Target(self.array, self.timing)


def board_names() -> tuple[str, ...]:
    """Return the boards that have a file, in alphabetical order."""
    return tuple(sorted(path.stem for path in boards_dir().glob("*.json")))


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not readable as JSON: {error}; restore or fix the file") from None
    if not isinstance(data, dict):
        raise BadInput(f"{path}: found a {type(data).__name__}, allowed is one JSON object")
    return data


def board_from_file(path: Path) -> Board:
    """Read one board file and the array file it names (``arrays/NAME.json``)."""
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
    _check_family(board, load_family(path.parent, board.family), path)
    if board.overlay != board.name:
        _check_twin(data, path)
    return board


def family_of(board: Board) -> Family:
    """Return the family of the board's processing system."""
    return load_family(boards_dir(), board.family)


def _check(board: Board, path: Path) -> None:
    """Check values that the type alone does not restrict."""
    array = board.array
    low, high = CLOCK_MHZ
    if not low <= board.clock_mhz <= high:
        raise BadInput(
            f"{path}: impossible values: clock_mhz = {board.clock_mhz:g} (must be {low:g} to "
            f"{high:g}); see docs/add-a-board.md"
        )
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


def _port_faults(board: Board, family: Family) -> Iterator[str]:
    names = [port.name for port in vars(board.ports).values()]
    known = ", ".join(port.name for port in family.memory_ports)
    if len(set(names)) < len(names):
        yield f"ports = {', '.join(names)} (must differ: one unit per port)"
    for unit, port in vars(board.ports).items():
        if family.memory_port(port.name) is None:
            yield f"ports.{unit}.name = {port.name!r} (must be one of {known})"
        if port.bytes_per_cycle not in family.port_bytes:
            widths = ", ".join(map(str, family.port_bytes))
            yield f"ports.{unit}.bytes_per_cycle = {port.bytes_per_cycle} (must be one of {widths})"


def _clock_faults(board: Board, family: Family) -> Iterator[str]:
    for name in ("clock_mhz", "fallback_clock_mhz"):
        mhz = getattr(board, name)
        if family.divisors(board.pll_mhz, mhz) is None:
            below = family.nearest_clock(board.pll_mhz, mhz)
            yield (
                f"{name} = {mhz:g} (no dividers of 1 to {family.clock.largest_divisor} make it "
                f"from the PLL's {board.pll_mhz:g} MHz; the next below is {below:.9g})"
            )
    if not 0 < board.fallback_clock_mhz < board.clock_mhz:
        yield (
            f"fallback_clock_mhz = {board.fallback_clock_mhz:g} (must be above 0 and below "
            f"clock_mhz, {board.clock_mhz:g})"
        )


def _family_faults(board: Board, family: Family) -> Iterator[str]:
    yield from _port_faults(board, family)
    yield from _clock_faults(board, family)
    if board.burst_beats > family.burst_beats:
        yield f"burst_beats = {board.burst_beats} (must be at most {family.burst_beats})"
    if board.part.dsp_type != family.dsp_type:
        yield f"part.dsp_type = {board.part.dsp_type!r} (must be {family.dsp_type!r})"
    if board.part.uram and not family.uram:
        yield f"part.uram = {board.part.uram} (the family has none)"
    if board.uram_buffers and not board.part.uram:
        yield f"uram_buffers = {', '.join(board.uram_buffers)} (the part has no UltraRAM)"
    unknown = sorted(set(board.uram_buffers) - set(BUFFERS))
    if unknown:
        yield f"uram_buffers = {', '.join(unknown)} (must be among {', '.join(BUFFERS)})"


def _check_family(board: Board, family: Family, path: Path) -> None:
    """Check values against what the processing system supports."""
    bad = list(_family_faults(board, family))
    if bad:
        raise BadInput(
            f"{path}: values that {family.title} does not allow: {'; '.join(bad)}; "
            "see docs/add-a-board.md"
        )


def _check_twin(data: dict[str, Any], path: Path) -> None:
    """Check that a board loads another's bitstream only if the designs are equal."""
    name = data["overlay"]
    twin_path = path.parent / f"{name}.json"
    if Path(name).name != name or not os.path.isfile(twin_path):
        raise BadInput(f"{path}: overlay: found {name!r}, allowed is the name of a board file")
    twin = _read(twin_path)
    different = [key for key in SAME_OVERLAY if twin.get(key) != data[key]]
    if twin.get("overlay") != name:
        different.append("overlay")
    if different:
        raise BadInput(
            f"{path}: overlay: {name!r} has another {', '.join(different)}; a bitstream serves "
            "boards that agree in these, so name the board itself"
        )


def load_board(name: str) -> Board:
    """Load the board called ``name``, for example ``load_board("pynq-z2")``."""
    names = board_names()
    if name not in names:
        raise BadInput(f"unknown board {name!r}; allowed are {', '.join(names)}")
    return board_from_file(boards_dir() / f"{name}.json")
