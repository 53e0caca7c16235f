# SPDX-License-Identifier: Apache-2.0
"""Power sensors of the kernel's hwmon drivers.

In: a board's rails and the root of sysfs.  Out: one ``HwmonSource`` per rail that has a sensor
here, and for each other rail the reason why it has none.
Layouts, from the drivers: ina2xx (in0 shunt mV, in1 bus mV, curr1 mA, power1 uW, update_interval
ms on some chips), iio-hwmon (counts from in1; the name is the node's), pmbus (labels vin, vout1,
iout1, pout1; no update_interval).  The numbers of hwmonN change from boot to boot.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import NeuralMatrixError
from ..hardware.board import Board, PowerRail

SYSFS = Path("/sys")
FAMILIES = {"ina2xx": ("ina219", "ina220", "ina226", "ina230", "ina231", "ina260", "ina2xx")}
# Chips may also be bound to the generic PMBus driver; their address then identifies them.
GENERIC = "pmbus"
_INTERVAL_MS = re.compile("[1-9][0-9]{0,6}")
_I2C = re.compile(r"\d+-([0-9a-f]{4})")
_LEAST_CHECKED_W = 0.2  # below this, rounding of volts and amperes dominates the ratio
_MOST_RATIO = 3.0  # power and volts x amperes are read at two moments


class SensorError(NeuralMatrixError):
    """A sensor is missing, unreadable, or reports an impossible value."""


@dataclass(frozen=True)
class Absent:
    """A rail without a number, and the reason."""

    name: str
    scope: str
    reason: str


@dataclass(frozen=True)
class Chip:
    """One hwmon folder."""

    folder: Path
    name: str
    label: str
    address: str  # "0x40"; empty where the chip is on no I2C bus

    @property
    def text(self) -> str:
        """The chip's name and address for messages."""
        at = f" at {self.address}" if self.address else ""
        return f"{self.label or self.name}{at}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _address(folder: Path) -> str:
    match = _I2C.fullmatch(Path(os.path.realpath(folder / "device")).name)
    return f"0x{int(match[1], 16):02x}" if match else ""


def chips(root: Path = SYSFS) -> tuple[Chip, ...]:
    """List all hwmon chips, in an order that does not depend on their numbers."""
    found = (
        Chip(folder, _text(folder / "name"), _text(folder / "label"), _address(folder))
        for folder in (root / "class" / "hwmon").glob("hwmon*")
    )
    return tuple(sorted(found, key=lambda chip: (chip.name, chip.label, chip.address)))


# ------------------------------------------------------------------------------ which chip


def _is_called(wanted: str, found: str) -> bool:
    wanted, found = wanted.replace("-", "_"), found.replace("-", "_")
    return found == wanted or found.startswith(wanted + "_")


def _fits(rail: PowerRail, chip: Chip) -> bool:
    if rail.address and chip.address and rail.address != chip.address:
        return False
    if chip.name == GENERIC:
        return bool(rail.address) and rail.address == chip.address
    wanted = FAMILIES.get(rail.sensor, (rail.sensor,))
    return any(_is_called(name, found) for name in wanted for found in (chip.name, chip.label))


def _chip_of(rail: PowerRail, found: tuple[Chip, ...]) -> Chip:
    fitting = [chip for chip in found if _fits(rail, chip)]
    if len(fitting) == 1:
        return fitting[0]
    wanted = rail.sensor + (f" at {rail.address}" if rail.address else "")
    if fitting:
        names = ", ".join(chip.text for chip in fitting)
        raise SensorError(f"{len(fitting)} hwmon sensors fit {wanted}: {names}")
    here = ", ".join(chip.text for chip in found) or "none"
    raise SensorError(f"no hwmon sensor {wanted}; sensors here: {here}")


# ------------------------------------------------------------------------------ which files


@dataclass(frozen=True)
class _Files:
    """The files of a rail; either power, or volts and amperes, may be missing."""

    power: Path | None
    volts: Path | None
    amps: Path | None


def _labeled(folder: Path, kind: str, label: str) -> Path | None:
    for path in sorted(folder.glob(f"{kind}*_label")):
        if _text(path) == label:
            return path.with_name(path.name.replace("_label", "_input"))
    return None


def _bus_voltage(folder: Path) -> Path | None:
    """Find the bus voltage: in1 if in0 is the shunt; with iio-hwmon, counting from 1, the last."""
    inputs = sorted(folder.glob("in*_input"))
    native = (folder / "in0_input").exists()
    found = folder / "in1_input" if native else (inputs[-1] if inputs else None)
    return found if found is not None and found.exists() else None


def _existing(path: Path) -> Path | None:
    return path if path.exists() else None


def _files(rail: PowerRail, chip: Chip) -> _Files:
    folder = chip.folder
    if not rail.channel:
        power, amps = _existing(folder / "power1_input"), _existing(folder / "curr1_input")
        files = _Files(power, _bus_voltage(folder), amps)
    else:
        page = rail.channel.removeprefix("p")  # pout1 goes with vout1 and iout1
        files = _Files(
            _labeled(folder, "power", rail.channel),
            _labeled(folder, "in", "v" + page),
            _labeled(folder, "curr", "i" + page),
        )
    if files.power is None and (files.volts is None or files.amps is None):
        what = f"no power labelled {rail.channel}" if rail.channel else "no power1_input"
        raise SensorError(f"{chip.text} has {what}, nor volts and amperes to multiply")
    return files


# ------------------------------------------------------------------------------ reading


def _number(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except OSError as error:
        raise SensorError(f"{path.name}: {error.strerror or error}") from None
    except ValueError as error:
        raise SensorError(f"{path.name}: found no integer ({error})") from None


def _product(files: _Files) -> float | None:
    if files.volts is None or files.amps is None:
        return None
    return _number(files.volts) * 1e-3 * _number(files.amps) * 1e-3


def _check_units(files: _Files) -> None:
    """Raise SensorError if power and volts x amperes have different units."""
    product = _product(files)
    if files.power is None or product is None or abs(product) < _LEAST_CHECKED_W:
        return
    watts = _number(files.power) * 1e-6
    if not abs(product) / _MOST_RATIO <= abs(watts) <= abs(product) * _MOST_RATIO:
        raise SensorError(
            f"{files.power.name} in uW says {watts:.3g} W, but volts x amperes say "
            f"{product:.3g} W: one of the driver's units is not what hwmon prescribes"
        )


@dataclass(frozen=True)
class HwmonSource:
    """Reads one rail's power, with the sign of the current, as the power register has none."""

    name: str
    scope: str
    sensor: str
    files: _Files
    temperatures: tuple[Path, ...]
    update_s: float | None  # None: the driver does not say

    def watts(self) -> float:
        """Read the power.  SensorError: the sensor cannot be read."""
        if self.files.power is None:
            product = _product(self.files)
            assert product is not None
            return product
        watts = _number(self.files.power) * 1e-6
        backwards = self.files.amps is not None and _number(self.files.amps) < 0
        return -abs(watts) if backwards else watts

    def celsius(self) -> float | None:
        """Return the highest of the chip's temperatures, None if it has none."""
        found = []
        for path in self.temperatures:
            try:
                found.append(_number(path) * 1e-3)
            except SensorError:
                continue
        return max(found, default=None)


def _update_s(chip: Chip) -> float | None:
    text = _text(chip.folder / "update_interval")
    return int(text) * 1e-3 if _INTERVAL_MS.fullmatch(text) else None


def open_rail(rail: PowerRail, found: tuple[Chip, ...]) -> HwmonSource:
    """Open a rail's sensor.  SensorError: none, several, unreadable, or of wrong units."""
    chip = _chip_of(rail, found)
    files = _files(rail, chip)
    temperatures = tuple(sorted(chip.folder.glob("temp*_input")))
    source = HwmonSource(rail.name, rail.scope, chip.text, files, temperatures, _update_s(chip))
    source.watts()
    _check_units(files)
    return source


def _open_all(board: Board, found: tuple[Chip, ...]) -> Iterator[HwmonSource | Absent]:
    for rail in board.power:
        try:
            yield open_rail(rail, found)
        except SensorError as error:
            yield Absent(rail.name, rail.scope, str(error))


def open_board(
    board: Board, root: Path = SYSFS
) -> tuple[tuple[HwmonSource, ...], tuple[Absent, ...]]:
    """Open the readable rails of a board, and list the others with the reason."""
    if not board.power:
        reason = (
            f"the board file of {board.title} names no power sensor; use an external meter "
            "(--meter log.csv)"
        )
        return (), (Absent("board", "whole board", reason),)
    rails = tuple(_open_all(board, chips(root)))
    sources = tuple(rail for rail in rails if isinstance(rail, HwmonSource))
    return sources, tuple(rail for rail in rails if isinstance(rail, Absent))
