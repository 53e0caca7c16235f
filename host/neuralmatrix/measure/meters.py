# SPDX-License-Identifier: Apache-2.0
"""The log of an external power meter, for boards without sensors.

In: a CSV file with one header row.  Out: seconds since 1970 and watts; aligned with the windows of
a ``Recording``, a ``Trace``.

Columns are found by their header, in any order; others are ignored:
  time     "time", "timestamp", "datetime", "date", "unix", "epoch": ISO 8601 (without an offset:
           this machine's time zone), or seconds, ms or us since 1970; or seconds from the log's
           start with a unit ("time (s)") and ``start``
  power    "power (W)", "power_mw", "watts": with its unit
  or both  "voltage (V)", "volts", "mV" and "current (mA)", "amps": with their units
A unit that the header does not name is refused, not guessed.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadInput
from .power_windows import Recording, Sampling, Trace

Array = npt.NDArray[Any]

SCOPE = "board supply, at the meter"
_HEADER_WITHIN = 50  # rows that loggers may write before the header
_LATEST_S = 2.5e11  # the year 9892; calendars end with 9999
_MOST_W = 1000.0  # more than any board draws
_MOST_RATIO = 1.5
_MOST_CLOCK_STEP_S = 0.2
MARGIN_S = 0.25  # allowed difference of the meter's and the board's clocks
_ISO = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d([.,]\d+)?(Z|[+-]\d\d:?\d\d)?")


@dataclass(frozen=True)
class _Quantity:
    """The header words of a quantity, and its units with factors; most units suffice alone."""

    words: frozenset[str]
    units: Mapping[str, float]


_TIME = _Quantity(
    frozenset(("time", "timestamp", "datetime", "date", "unix", "epoch")),
    {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6},
)
_QUANTITIES = {
    "power": _Quantity(
        frozenset(("power", "p")),
        {"w": 1.0, "watt": 1.0, "watts": 1.0, "mw": 1e-3, "milliwatts": 1e-3, "uw": 1e-6},
    ),
    "voltage": _Quantity(
        frozenset(("voltage", "u")), {"v": 1.0, "volt": 1.0, "volts": 1.0, "mv": 1e-3}
    ),
    "current": _Quantity(
        frozenset(("current", "i")),
        {"a": 1.0, "amp": 1.0, "amps": 1.0, "ampere": 1.0, "amperes": 1.0, "ma": 1e-3, "ua": 1e-6},
    ),
}
# Least seconds since 1970 in each unit that a log of this century can hold.
_SINCE_1970 = ((1e15, 1e-6), (1e12, 1e-3), (1e9, 1.0))


@dataclass(frozen=True)
class Log:
    """A meter's readings; ``times`` in seconds since 1970, rising."""

    name: str
    times: Array
    watts: Array
    columns: tuple[str, ...]


@dataclass(frozen=True)
class _Column:
    index: int
    header: str
    unit: str  # empty if the header names none


def _words(header: str) -> list[str]:
    return re.findall("[a-z]+", header.lower().replace("µ", "u").replace("μ", "u"))


def _find(header: Sequence[str], quantity: _Quantity, self_naming: bool) -> _Column | None:
    for index, text in enumerate(header):
        words = _words(text)
        unit = words[-1] if words and words[-1] in quantity.units else ""
        if quantity.words & set(words) or (self_naming and unit and len(words) == 1):
            return _Column(index, text.strip(), unit)
    return None


# ------------------------------------------------------------------------------ rows


def _rows(path: Path) -> Iterator[list[str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: found no readable text ({error}); name the meter's CSV") from None
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    counts = {mark: sum(line.count(mark) for line in lines[:_HEADER_WITHIN]) for mark in ";\t,"}
    mark = ";" if counts[";"] else "\t" if counts["\t"] else ","
    try:
        yield from csv.reader(lines, delimiter=mark)
    except csv.Error as error:
        raise BadInput(f"{path}: found no readable rows ({error}); name the meter's CSV") from None


def _split(path: Path) -> tuple[list[str], list[list[str]], dict[str, _Column]]:
    rows = list(_rows(path))
    for i, row in enumerate(rows[:_HEADER_WITHIN]):
        time = _find(row, _TIME, self_naming=False)
        others = {name: _find(row, q, True) for name, q in _QUANTITIES.items()}
        found = {name: column for name, column in others.items() if column is not None}
        if time is not None and ("power" in found or {"voltage", "current"} <= set(found)):
            return row, rows[i + 1 :], {"time": time, **found}
    shown = ", ".join(rows[0]) if rows else "an empty file"
    raise BadInput(
        f"{path}: found no header with time and power, or time, voltage and current, in {shown!r}; "
        "name the columns as in 'timestamp,power (W)'"
    )


def _value(path: Path, text: str, header: str) -> float:
    try:
        number = float(text.strip().replace(",", "."))
    except ValueError:
        number = float("nan")
    if not isfinite(number):
        raise BadInput(f"{path}: {header}: found {text!r}, allowed are finite numbers")
    return number


def _scaled(path: Path, rows: list[list[str]], name: str, column: _Column) -> Array:
    units = _QUANTITIES[name].units
    if not column.unit:
        raise BadInput(
            f"{path}: column {column.header!r} names no unit, allowed are {', '.join(units)}; "
            f"rename it, for example to '{name} ({next(iter(units)).upper()})'"
        )
    values = (_value(path, row[column.index], column.header) for row in rows)
    return np.fromiter(values, float, len(rows)) * units[column.unit]


# ------------------------------------------------------------------------------ time


def _iso(text: str) -> float:
    """Parse to seconds since 1970; a time without an offset is in this machine's time zone."""
    return datetime.fromisoformat(text.replace("Z", "+00:00").replace(",", ".")).timestamp()


def _padded(text: str) -> str:
    """Pad a second's fraction to six digits, as Python 3.10 requires."""
    return re.sub(r"[.,](\d+)", lambda match: "." + match[1][:6].ljust(6, "0"), text)


def _numeric_times(path: Path, values: Array, column: _Column, start: float | None) -> Array:
    for least, factor in _SINCE_1970:
        if values[0] >= least:
            return values * factor
    if start is None or not column.unit:
        raise BadInput(
            f"{path}: column {column.header!r}: found {values[0]:g}, not a time since 1970; "
            "log date and time, or name the unit as in 'time (s)' and say with --meter-start when "
            "the log began"
        )
    return start + values * _TIME.units[column.unit]


def _times(path: Path, rows: list[list[str]], column: _Column, start: float | None) -> Array:
    texts = [row[column.index].strip() for row in rows]
    if _ISO.fullmatch(texts[0]):
        try:
            times = np.array([_iso(_padded(text)) for text in texts])
        except (ValueError, OverflowError, OSError) as error:
            raise BadInput(f"{path}: {column.header}: {error}; use ISO 8601") from None
    else:
        values = np.array([_value(path, text, column.header) for text in texts])
        times = _numeric_times(path, values, column, start)
    if not (times.min() >= 0 and times.max() <= _LATEST_S):
        raise BadInput(
            f"{path}: {column.header}: found {times.min():g} to {times.max():g} s since 1970, "
            "which is not plausible; check the column and --meter-start"
        )
    if len(times) > 1 and (np.diff(times) <= 0).any():
        raise BadInput(f"{path}: {column.header}: found times that do not rise; sort the log")
    return times


# ------------------------------------------------------------------------------ the log


def _watts(path: Path, rows: list[list[str]], columns: Mapping[str, _Column]) -> Array:
    found = {
        name: _scaled(path, rows, name, columns[name]) for name in _QUANTITIES if name in columns
    }
    product = found["voltage"] * found["current"] if {"voltage", "current"} <= set(found) else None
    if "power" not in found:
        assert product is not None
        return product
    power = found["power"]
    if product is not None and not _agree(power, product):
        raise BadInput(
            f"{path}: power says {power.mean():.3g} W, volts x amperes say {product.mean():.3g} W; "
            "one of the headers names a wrong unit"
        )
    return power


def _agree(power: Array, product: Array) -> bool:
    low, high = sorted((abs(float(power.mean())), abs(float(product.mean()))))
    return high <= _MOST_RATIO * low


def read_log(path: Path, start: float | None = None) -> Log:
    """Read a meter's log.  BadInput: no columns, no units, or impossible values."""
    header, rows, columns = _split(path)
    rows = [row for row in rows if len(row) >= len(header)]
    if not rows:
        raise BadInput(f"{path}: found a header and no rows; let the meter log during the windows")
    times = _times(path, rows, columns["time"], start)
    watts = _watts(path, rows, columns)
    if abs(watts.mean()) > _MOST_W:
        raise BadInput(
            f"{path}: found {watts.mean():.3g} W on average, which no board draws; check the unit "
            "in the header"
        )
    return Log(path.name, times, watts, tuple(c.header for c in columns.values()))


def start_time(text: str) -> float:
    """Parse ``--meter-start``: ISO 8601 or seconds since 1970."""
    try:
        start = _iso(_padded(text.strip())) if _ISO.fullmatch(text.strip()) else float(text)
    except (ValueError, OverflowError, OSError):
        start = -1.0
    if not 0 <= start <= _LATEST_S:
        raise BadInput(
            f"--meter-start: found {text!r}, allowed is 2026-01-31T12:00:00 or seconds since 1970"
        )
    return start


def lay_beside(log: Log, recording: Recording) -> Trace:
    """Convert the log to the recording's clock.  BadInput: it does not cover the windows."""
    windows = recording.windows
    steps = [window.began - window.began_wall for window in windows]
    if max(steps) - min(steps) > _MOST_CLOCK_STEP_S:
        raise BadInput(
            f"this machine's clock was set by {max(steps) - min(steps):.1f} s while the windows "
            "ran; wait until its time is synchronised and measure again"
        )
    times = log.times + float(np.median(steps))
    if times[0] > windows[0].began or times[-1] < windows[-1].ended:
        raise BadInput(
            f"{log.name}: found {_span(log.times[0], log.times[-1])}, the windows ran "
            f"{_span(windows[0].began_wall, windows[-1].ended_wall)}; let the log begin before and "
            "end after, and check both clocks"
        )
    interval = float(np.median(np.diff(times)))
    sampling = Sampling(interval, "measured: median distance of the log's rows")
    sensor = f"external meter, {log.name}: {', '.join(log.columns)}"
    return Trace(
        "meter", SCOPE, sensor, sampling, times.tolist(), log.watts.tolist(), margin_s=MARGIN_S
    )


def _span(began: float, ended: float) -> str:
    texts = (
        datetime.fromtimestamp(t).astimezone().isoformat(" ", "seconds") for t in (began, ended)
    )
    return " to ".join(texts)
