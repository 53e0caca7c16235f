# SPDX-License-Identifier: Apache-2.0
"""Logs of external meters: columns, units, clocks, and errors."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from neuralmatrix.errors import BadInput
from neuralmatrix.measure.meters import lay_beside, read_log, start_time
from neuralmatrix.measure.power import RailPower, analyse
from neuralmatrix.measure.power_windows import Plan, Recording, record
from power_world import WALL, Board, FakeClock

START = 1_769_860_800.0  # 2026-01-31T12:00:00Z


def saved(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def log(tmp_path: Path, text: str) -> Path:
    return saved(tmp_path / "log.csv", text)


@pytest.mark.parametrize(
    "text",
    (
        "time,watts\n2026-01-31T12:00:00Z,2.5\n2026-01-31T12:00:01Z,2.5\n",
        "Timestamp,Power (W)\n2026-01-31 13:00:00+01:00,2.5\n2026-01-31 13:00:01+01:00,2.5\n",
        "epoch,power_mw\n1769860800,2500\n1769860801,2500\n",
        "timestamp;Power [mW];Energy [mWh]\n1769860800000;2500,0;1\n1769860801000;2500,0;2\n",
        "unix\tVoltage (V)\tCurrent (mA)\n1769860800\t5\t500\n1769860801\t5\t500\n",
        "time,volts,amps,watts\n1769860800,5,0.5,2.5\n1769860801,5,0.5,2.5\n",
        "Meter 7\nserial 12\nmA,V,datetime\n500,5,2026-01-31T12:00:00.5Z\n500,5,"
        "2026-01-31T12:00:01.5Z\n",
        "# a comment\ntime,current (µA),voltage (mV)\n1769860800,5e5,5000\n1769860801,5e5,5000\n",
    ),
)
def test_columns_and_units(tmp_path: Path, text: str) -> None:
    found = read_log(log(tmp_path, text))
    assert found.watts == pytest.approx([2.5, 2.5])
    assert found.times[0] == pytest.approx(START, abs=0.51) and np.diff(found.times) == [1.0]


def test_a_time_without_an_offset_is_this_machines(tmp_path: Path) -> None:
    found = read_log(log(tmp_path, "time,watts\n2026-01-31T12:00:00,1\n2026-01-31T12:00:01,2\n"))
    assert found.times[0] == datetime(2026, 1, 31, 12).timestamp()


@pytest.mark.parametrize(("unit", "step"), (("s", 2.0), ("ms", 0.002)))
def test_times_from_the_logs_start(tmp_path: Path, unit: str, step: float) -> None:
    path = log(tmp_path, f"time ({unit}),watts\n0,1\n2,1\n")
    found = read_log(path, start_time("2026-01-31T12:00:00Z"))
    assert found.times == pytest.approx([START, START + step], abs=1e-6)
    with pytest.raises(BadInput, match="say with --meter-start when the log began"):
        read_log(path)


@pytest.mark.parametrize(
    ("text", "problem"),
    (
        ("", "found no header with time and power"),
        ("time,energy (Wh)\n1769860800,1\n", "found no header with time and power"),
        ("watts\n3\n", "found no header"),
        ("time,voltage (V)\n1769860800,5\n", "found no header"),
        ("time,power\n1769860800,3\n", "column 'power' names no unit, allowed are w, watt"),
        ("time,voltage,current\n1769860800,5,1\n", "'voltage' names no unit"),
        ("time,watts\n", "found a header and no rows"),
        ("time,watts\n1769860800,three\n", "watts: found 'three', allowed are finite numbers"),
        ("time,watts\n1769860800,nan\n", "allowed are finite numbers"),
        ("time,watts\n12,3\n13,3\n", "not a time since 1970"),
        ("time,watts\n1769860801,3\n1769860800,3\n", "times that do not rise"),
        ("time,watts\n31/01/2026 12:00,3\n", "allowed are finite numbers"),
        ("time,watts\n1e300,3\n2e300,3\n", "since 1970, which is not plausible"),
        ("time,watts\n9999-99-99T00:00:00,3\n", "use ISO 8601"),
        (f'time,watts\n1769860800,"{"3" * 200_000}"\n', "found no readable rows"),
        ("time,watts\n1769860800,-2500\n", "which no board draws; check the unit"),
        ("time,watts\n1769860800,2500\n", "which no board draws; check the unit"),
        ("time,V,A,W\n1769860800,5,500,2.5\n", "one of the headers names a wrong unit"),
        ("time,V,A,W\n1769860800,5,0.5,0.0025\n", "one of the headers names a wrong unit"),
    ),
)
def test_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(BadInput, match=problem):
        read_log(log(tmp_path, text))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="name the meter's CSV"):
        read_log(tmp_path / "none.csv")


@pytest.mark.parametrize("text", ("noon", "", "nan", "inf", "-5", "1e300", "2026-02-30T00:00:00"))
def test_a_start_that_is_no_time(text: str) -> None:
    """NaN and infinity are rejected, too."""
    with pytest.raises(BadInput, match=f"--meter-start: found '{text}'"):
        start_time(text)


# ------------------------------------------------------------------------------ logs and windows


def metered(before: float = 3.0, after: float = 3.0) -> tuple[Recording, list[tuple[float, float]]]:
    """Record windows without sensors, and make the readings of a meter at 10 Hz."""
    clock = FakeClock()
    board, rows, rng = Board(clock), [], np.random.default_rng(4)
    with clock.every(0.1, lambda: rows.append((clock.wall(), board.watts() + 0.01 * rng.normal()))):
        clock.sleep(before)
        recording = record(board.work, (), Plan(2.0, 4, 1), clock)
        clock.sleep(after)
    return recording, rows


def as_iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()


@pytest.mark.parametrize("form", (repr, as_iso))
def test_known_power_gives_known_energy(tmp_path: Path, form: Callable[[float], str]) -> None:
    recording, rows = metered()
    text = "time,power (mW)\n" + "".join(f"{form(t)},{1e3 * w}\n" for t, w in rows)
    trace = lay_beside(read_log(log(tmp_path, text)), recording)
    rail = analyse(recording, trace, "measured")
    assert isinstance(rail, RailPower)
    assert trace.sampling.interval_s == pytest.approx(0.1)
    # noise of 10 mW over some 18 readings of 8 windows
    assert rail.loaded_w.mean == pytest.approx(8.0, abs=0.01)
    assert rail.dynamic_joules_per_inference.mean == pytest.approx(0.03, abs=2e-4)
    assert rail.samples == 8 * 13  # 2 s less two readings and twice the margin
    assert rail.scope == "board supply, at the meter" and "power (mW)" in rail.sensor


@pytest.mark.parametrize("shift", (-0.2, 0.2))
def test_clocks_a_little_apart(tmp_path: Path, shift: float) -> None:
    recording, rows = metered()
    text = "time,watts\n" + "".join(f"{t + shift!r},{w}\n" for t, w in rows)
    rail = analyse(recording, lay_beside(read_log(log(tmp_path, text)), recording), "measured")
    # noise of 10 mW, as above
    assert isinstance(rail, RailPower) and rail.dynamic_w.mean == pytest.approx(3.0, abs=0.02)


@pytest.mark.parametrize(("before", "after", "shift"), ((0, 3, 0), (3, 0, 0), (3, 3, 3600)))
def test_a_log_beside_other_times(
    tmp_path: Path, before: float, after: float, shift: float
) -> None:
    recording, rows = metered(before, after)
    rows = rows[1:]  # a log that begins with the windows lacks their first moment
    text = "time,watts\n" + "".join(f"{t + shift!r},{w}\n" for t, w in rows)
    with pytest.raises(BadInput, match="the windows ran .*let the log begin before and end after"):
        lay_beside(read_log(log(tmp_path, text)), recording)


def test_a_clock_that_is_set_meanwhile(tmp_path: Path) -> None:
    clock = FakeClock()
    board = Board(clock)
    work = board.work

    def stepping() -> int:
        clock.wall_step = 5.0
        return work()

    recording = record(stepping, (), Plan(0.5, 3, 1), clock)
    text = "".join(f"{WALL + t!r},{t % 7}\n" for t in range(90, 130))
    with pytest.raises(BadInput, match="clock was set by 5.0 s while the windows ran"):
        lay_beside(read_log(log(tmp_path, "time,watts\n" + text)), recording)
