# SPDX-License-Identifier: Apache-2.0
"""Energy and errors from known power, and messages about sensors that do not keep up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from neuralmatrix.hardware.board import PowerRail, load_board
from neuralmatrix.measure.hwmon import Absent, HwmonSource, open_board
from neuralmatrix.measure.power import RailPower, analyse, widest
from neuralmatrix.measure.power_windows import (
    Kind,
    Plan,
    Recording,
    Sampling,
    Trace,
    Window,
    orders,
    probe,
    record,
)
from power_world import Board, FakeClock, Sensor, ina2xx, writer

PLAN = Plan(seconds=2.0, pairs=4, seed=1)
RATE = 100.0  # images per second of the world's work


class Setup:
    """A board, one sensor of it, and the source that reads the sensor's files."""

    def __init__(self, root: Path, **sensor: Any) -> None:
        self.clock = FakeClock()
        self.board = Board(self.clock)
        self.folder = ina2xx(root, 4, "5-0040")
        self.sensor = Sensor(self.board, writer(self.folder), **sensor).start()
        (source,) = open_board(load_board("zcu104"), root)[0]
        self.source: HwmonSource = source

    def record(self, plan: Plan = PLAN) -> Recording:
        return record(self.board.work, [self.source], plan, self.clock)

    def measure(self, plan: Plan = PLAN) -> RailPower:
        recording = self.record(plan)
        rail = analyse(recording, recording.traces[0], "simulated")
        assert isinstance(rail, RailPower), rail.reason
        return rail

    def reason(self, plan: Plan = PLAN) -> str:
        recording = self.record(plan)
        rail = analyse(recording, recording.traces[0], "simulated")
        assert isinstance(rail, Absent)
        return rail.reason


def test_known_power_gives_known_energy(tmp_path: Path) -> None:
    rail = Setup(tmp_path).measure()
    # noise of 10 mW over some 25 readings of 8 windows
    assert rail.idle_w.mean == pytest.approx(5.0, abs=0.01)
    assert rail.loaded_w.mean == pytest.approx(8.0, abs=0.01)
    assert rail.dynamic_w.mean == pytest.approx(3.0, abs=0.01)
    assert rail.joules_per_inference.mean == pytest.approx(8.0 / RATE, abs=1e-4)
    assert rail.dynamic_joules_per_inference.mean == pytest.approx(3.0 / RATE, abs=1e-4)
    assert rail.inferences == pytest.approx(RATE * rail.seconds)
    assert (rail.name, rail.scope, rail.basis) == ("12V", "board input", "simulated")
    assert rail.dynamic_w.count == PLAN.pairs and not rail.notes


def test_the_standard_error_covers_the_noise(tmp_path: Path) -> None:
    """Twelve pairs of noisy windows: the true value lies within four standard errors."""
    setup = Setup(tmp_path, noise_w=1.0)
    rail = setup.measure(Plan(2.0, 12, 5))
    error = rail.dynamic_w.standard_error
    assert error is not None and 0.01 < error < 0.3
    assert abs(rail.dynamic_w.mean - 3.0) < 4 * error


def test_a_drift_does_not_pass_for_load(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    setup.board.drift_w_per_s = 0.02  # 0.3 W over the windows
    rail = setup.measure(Plan(2.0, 8, 0))
    error = rail.dynamic_w.standard_error
    assert error is not None and abs(rail.dynamic_w.mean - 3.0) < 4 * error
    # of one pair alone, a window's length of drift
    assert error < 0.04


def test_no_faster_than_the_sensor(tmp_path: Path) -> None:
    recording = Setup(tmp_path).record()
    trace, windows = recording.traces[0], recording.windows
    seconds = windows[-1].ended - windows[0].began
    assert trace.sampling.interval_s == 0.07
    assert trace.sampling.basis == "the driver's update_interval"
    assert len(trace.times) <= seconds / 0.07 + 1


@pytest.mark.parametrize(("seconds", "wanted"), ((0.15, 0.15), (0.6, 0.6), (5.0, 1.0)))
def test_an_unknown_rate_is_measured(tmp_path: Path, seconds: float, wanted: float) -> None:
    """Drivers such as iio-hwmon and pmbus have no update_interval."""
    setup = Setup(tmp_path, seconds=seconds)
    (setup.folder / "update_interval").unlink()
    (source,) = open_board(load_board("zcu104"), tmp_path)[0]
    sampling = probe(source, setup.clock)
    # the three seconds of probing hold an integer number of values, plus or minus one
    assert sampling.interval_s == pytest.approx(wanted, rel=0.35)
    assert sampling.basis.startswith("assumed" if seconds > 1 else "measured")


def test_windows_too_short_for_the_sensor(tmp_path: Path) -> None:
    setup = Setup(tmp_path, seconds=1.0)
    (setup.folder / "update_interval").write_text("1000\n")
    (setup.source,) = open_board(load_board("zcu104"), tmp_path)[0]
    reason = setup.reason(Plan(3.0, 4))
    assert "0 complete pairs of windows, at least 3 are needed" in reason
    assert "one takes 1 s" in reason and "2 s at the window's edges" in reason
    assert "--seconds" in reason


# ------------------------------------------------------------------------------ what goes wrong


def test_a_sensor_that_stands_still(tmp_path: Path) -> None:
    assert (
        "no new value: the sensor does not update"
        in Setup(tmp_path, stalls=lambda time: True).reason()
    )


def test_a_pair_without_new_values_is_left_out(tmp_path: Path) -> None:
    """The sensor stops within the second pair, for the time of one pair."""
    setup = Setup(tmp_path, stalls=lambda time: 105.0 < time < 109.5)
    rail = setup.measure(Plan(2.0, 6, 1))
    assert rail.dynamic_w.count < 6 and any("left out" in note for note in rail.notes)
    # a window that is half stale remains, so the result is less exact
    assert rail.loaded_w.mean == pytest.approx(8.0, abs=0.1)


def test_a_file_that_vanishes(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    work, runs = setup.board.work, iter(range(10**6))

    def vanish() -> int:
        if next(runs) == 60:
            (setup.folder / "power1_input").unlink()
            setup.sensor.write = lambda watts: None
        return work()

    setup.board.work = vanish  # type: ignore[method-assign]
    assert "readings failed, the last with power1_input: No such file" in setup.reason()


def test_a_few_failures_are_noted(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    good, path = setup.sensor.write, setup.folder / "power1_input"

    def sometimes(watts: float) -> None:
        good(watts)
        if len(setup.sensor.shown_w) % 40 == 7:
            path.write_text("")

    setup.sensor.write = sometimes
    rail = setup.measure()
    assert any("readings failed: power1_input: found no integer" in n for n in rail.notes)
    assert rail.loaded_w.mean == pytest.approx(8.0, abs=0.01)  # noise, as above


def test_power_that_flows_back_is_noted(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    setup.board.idle_w = -1.0
    rail = setup.measure()
    assert rail.idle_w.mean == pytest.approx(-1.0, abs=0.01)  # noise, as above
    assert any("are negative: check the wiring" in note for note in rail.notes)


# ------------------------------------------------------------------------------ windows, rails


def test_orders_are_balanced_shuffled_and_seeded() -> None:
    found = [order[0] for order in orders(Plan(1.0, 10, 3))]
    assert found.count("idle") == found.count("loaded") == 5
    assert found == [order[0] for order in orders(Plan(1.0, 10, 3))]
    assert len({tuple(o[0] for o in orders(Plan(1.0, 10, seed))) for seed in range(9)}) > 4


def test_a_loaded_window_holds_at_least_one_run(tmp_path: Path) -> None:
    setup = Setup(tmp_path)
    windows = setup.record(Plan(0.001, 3)).windows
    assert [w.inferences for w in windows if w.kind == "loaded"] == [4] * 3
    assert all(w.inferences == 0 for w in windows if w.kind == "idle")


@pytest.mark.parametrize(
    ("feeds", "measured", "wanted"),
    (
        ({"a": ("b",), "b": ()}, "ab", "a"),
        ({"a": ("b",), "b": ()}, "b", "b"),
        ({"a": (), "b": ()}, "ab", None),
        ({"a": ("b",), "b": (), "c": ()}, "abc", None),
        ({"a": ()}, "", None),
    ),
)
def test_only_a_rail_that_feeds_all_others_stands_for_them(
    tmp_path: Path,
    feeds: dict[str, tuple[str, ...]],
    measured: str,
    wanted: str | None,
) -> None:
    rail = Setup(tmp_path).measure(Plan(1.0, 3))
    power = tuple(PowerRail(name, "ina226", name, feeds=below) for name, below in feeds.items())
    board = replace(load_board("zcu104"), power=power)
    found = widest(board, [replace(rail, name=name) for name in measured])
    assert (found.name if found else None) == wanted


def test_energy_is_all_joules_over_all_inferences() -> None:
    """Pairs are weighted by the images in their windows."""
    windows, trace = [], Trace("x", "x", "x", Sampling(0.1, "the driver's update_interval"))
    for i, inferences in enumerate((0, 2, 0, 6, 0, 8)):
        kind: Kind = "loaded" if i % 2 else "idle"
        windows.append(Window(kind, i // 2, i, i + 1.0, i, i + 1.0, inferences))
        trace.times += [i + 0.05 + 0.1 * k for k in range(10)]
        trace.watts += [5.0 + 3.0 * (i % 2) + 0.5 * (k == 0) for k in range(10)]
    rail = analyse(Recording(tuple(windows), (trace,)), trace, "simulated")
    assert isinstance(rail, RailPower)
    assert rail.joules_per_inference.mean == pytest.approx(3 * 8.0 / (2 + 6 + 8))
    assert rail.dynamic_joules_per_inference.mean == pytest.approx(3 * 3.0 / (2 + 6 + 8))


def test_a_coarse_sensor_counts_where_each_window_brings_a_new_value() -> None:
    windows, trace = [], Trace("x", "x", "x", Sampling(0.1, "the driver's update_interval"))
    for i in range(6):
        kind: Kind = "loaded" if i % 2 else "idle"
        windows.append(Window(kind, i // 2, i, i + 1.0, i, i + 1.0, 4 * (i % 2)))
        trace.times += [i + 0.05 + 0.1 * k for k in range(10)]
        trace.watts += [8.0 if i % 2 else 5.0] * 10
    rail = analyse(Recording(tuple(windows), (trace,)), trace, "simulated")
    # all windows but the first, before which nothing was read, have new values
    assert isinstance(rail, Absent) and rail.reason.startswith("2 complete pairs")
    trace.times.insert(0, -0.05)
    trace.watts.insert(0, 5.1)
    rail = analyse(Recording(tuple(windows), (trace,)), trace, "simulated")
    assert isinstance(rail, RailPower) and rail.dynamic_w.mean == 3.0
