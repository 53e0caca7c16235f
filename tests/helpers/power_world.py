# SPDX-License-Identifier: Apache-2.0
"""A board that draws known power, sensors that write sysfs files as drivers do, and their clock.

In: nothing of the machine: time goes on only where ``advance`` says so.  Out: trees of files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

WALL = 1_900_000_000.0  # seconds since 1970 at the fake clock's zero
IMAGES, RUN_S = 4, 0.04  # of one call of the work: 100 images per second


@dataclass
class _Repeated:
    due: float
    seconds: float
    call: Callable[[], None]


class FakeClock:
    """A clock that runs due events in order while time is advanced."""

    def __init__(self) -> None:
        self.time, self.wall_step = 100.0, 0.0
        self.repeated: list[_Repeated] = []
        self.passing: list[Callable[[float], None]] = []  # called with the time that passes

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return WALL + self.time + self.wall_step

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        end = self.time + seconds
        while self.repeated:
            first = min(self.repeated, key=lambda one: one.due)
            if first.due > end:
                break
            self._pass(first.due)
            first.due += first.seconds
            first.call()
        self._pass(end)

    def _pass(self, until: float) -> None:
        for tell in self.passing:
            tell(until - self.time)
        self.time = until

    @contextmanager
    def every(self, seconds: float, call: Callable[[], None]) -> Iterator[None]:
        self.repeated.append(_Repeated(self.time, seconds, call))
        try:
            yield
        finally:
            self.repeated = [one for one in self.repeated if one.call is not call]


@dataclass
class Board:
    """Draws ``idle_w``, ``loaded_w`` while it works, and ``drift_w_per_s`` more as time goes on."""

    clock: FakeClock
    idle_w: float = 5.0
    loaded_w: float = 8.0
    drift_w_per_s: float = 0.0
    working: bool = False
    joules: float = 0.0

    def __post_init__(self) -> None:
        self.clock.passing.append(self._draw)

    def _draw(self, seconds: float) -> None:
        self.joules += seconds * self.watts()

    def watts(self) -> float:
        base = self.loaded_w if self.working else self.idle_w
        return base + self.drift_w_per_s * self.clock.time

    def work(self) -> int:
        self.working = True
        self.clock.advance(RUN_S)
        self.working = False
        return IMAGES


@dataclass
class Sensor:
    """Writes a new value every ``seconds``: the mean since the last one, with noise.

    ``stalls(time)``: it writes nothing.
    """

    board: Board
    write: Callable[[float], None]
    seconds: float = 0.07
    noise_w: float = 0.01
    stalls: Callable[[float], bool] = lambda time: False
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(3))
    shown_w: list[float] = field(default_factory=list)
    joules: float = 0.0

    def start(self) -> Sensor:
        self.write(self.board.watts())
        self.board.clock.repeated.append(
            _Repeated(self.board.clock.time + self.seconds, self.seconds, self._show)
        )
        return self

    def _show(self) -> None:
        watts = (self.board.joules - self.joules) / self.seconds
        self.joules = self.board.joules
        if not self.stalls(self.board.clock.time):
            self.shown_w.append(watts + self.noise_w * self.rng.normal())
            self.write(self.shown_w[-1])


# ------------------------------------------------------------------------------ trees of files


def hwmon(root: Path, number: int, files: Mapping[str, object], i2c: str = "") -> Path:
    """hwmonN with its ``device`` link, as the kernel lays it out; ``i2c`` "5-0040" or nothing."""
    parent = root / "devices" / (f"i2c-{i2c}/{i2c}" if i2c else f"platform/{files['name']}")
    folder = parent / "hwmon" / f"hwmon{number}"
    folder.mkdir(parents=True)
    (folder / "device").symlink_to("../..")
    for name, value in files.items():
        (folder / name).write_text(f"{value}\n")
    (root / "class" / "hwmon").mkdir(parents=True, exist_ok=True)
    (root / "class" / "hwmon" / f"hwmon{number}").symlink_to(folder)
    return folder


def ina_files(watts: float, volts: float) -> dict[str, int]:
    """Power is a register without a sign, current one with."""
    return {
        "in1_input": round(1e3 * volts),
        "curr1_input": round(1e3 * watts / volts),
        "power1_input": round(1e6 * abs(watts)),
    }


def ina2xx(
    root: Path, number: int, i2c: str, watts: float = 5.0, volts: float = 12.0, **more: object
) -> Path:
    """Driver ina2xx: in0 shunt, in1 bus, curr1, power1, shunt_resistor, update_interval."""
    fixed = {"name": "ina226", "in0_input": 2, "shunt_resistor": 5000, "update_interval": 70}
    return hwmon(root, number, {**fixed, **ina_files(watts, volts), **more}, i2c)


def iio_ina260(root: Path, number: int, watts: float = 5.0, **more: object) -> Path:
    """iio-hwmon: no address, no update_interval, the node's name."""
    return hwmon(root, number, {"name": "ina260_u14", **ina_files(watts, 5.0), **more})


def pmbus(
    root: Path, number: int, i2c: str, pages: tuple[float, ...], inputs: int = 1, **more: object
) -> Path:
    """Driver irps5401: vin and pin of ``inputs`` pages, then vout, iout and pout of each page."""
    files: dict[str, object] = {"name": "irps5401", "temp1_input": 41500, **more}
    for i in range(inputs):
        suffix = str(i + 1) if inputs > 1 else ""
        _channel(files, i + 1, (f"vin{suffix}", f"iin{suffix}", f"pin{suffix}"), 12.0, 9.0)
    for i, watts in enumerate(pages):
        labels = (f"vout{i + 1}", f"iout{i + 1}", f"pout{i + 1}")
        _channel(files, inputs + i + 1, labels, 0.85, watts)
    return hwmon(root, number, files, i2c)


def _channel(
    files: dict[str, object], index: int, labels: tuple[str, ...], volts: float, watts: float
) -> None:
    values = (round(1e3 * volts), round(1e3 * watts / volts), round(1e6 * watts))
    for kind, label, value in zip(("in", "curr", "power"), labels, values, strict=True):
        files[f"{kind}{index}_input"], files[f"{kind}{index}_label"] = value, label


def writer(folder: Path, volts: float = 12.0) -> Callable[[float], None]:
    """Keeps an INA's files at given values.

    It writes in place, padded with blanks: truncating and refilling files is slow on some disks.
    """
    open_files = {name: (folder / name).open("r+") for name in ina_files(1.0, volts)}

    def write(watts: float) -> None:
        for name, value in ina_files(watts, volts).items():
            open_files[name].seek(0)
            open_files[name].write(f"{value:<12}\n")
            open_files[name].flush()

    return write
