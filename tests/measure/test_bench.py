# SPDX-License-Identifier: Apache-2.0
"""Benches: times, their labels, and power."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from conftest import ROOT
from neuralmatrix.errors import BadInput
from neuralmatrix.measure.bench import FORMAT, Options, bench_program, bench_session
from neuralmatrix.measure.clock import SYSTEM
from neuralmatrix.measure.power_run import PowerOptions, read_result, with_meter
from neuralmatrix.measure.power_windows import Plan
from neuralmatrix.measure.provenance import (
    CYCLES,
    LATENCY_PARTS,
    RUN,
    SHORT,
    WALL,
    provenance_label,
)
from neuralmatrix.measure.text_tables import bench_lines
from neuralmatrix.program.program import Program
from neuralmatrix.runtime.device import Origin
from neuralmatrix.runtime.session import Stats
from power_world import Board, FakeClock, Sensor, ina2xx, writer

ORIGINS = get_args(Origin)
TRANSFER_S, ARRAY_S = 0.001, 0.006  # seconds per image; a run takes 0.04 s for any number of images
PLAN = Plan(1.0, 3, 1)


class FakeRunner:
    """A session on the world's clock: 5 % more cycles than estimated in COMPUTE."""

    def __init__(self, program: Program, origin: Any, clock: FakeClock) -> None:
        self.program, self.origin, self.board = program, origin, Board(clock)
        self.device_info: dict[str, Any] = {"origin": origin, "board": program.board}
        self.batches: list[int] = []
        self.stats: Any = None

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        images, estimate = len(next(iter(feeds.values()))), self.program.estimate()
        self.batches.append(images)
        self.board.work()
        busy = {**estimate.busy, "compute": round(1.05 * estimate.busy["compute"])}
        seconds = {"host": 0.0, "transfer": images * TRANSFER_S, "array": images * ARRAY_S}
        self.stats = Stats(images, 1, 0.04, estimate.cycles + 21, busy, 5, 50.0, self.origin,
                           seconds)  # fmt: skip
        return {}


def bench(program: Program, origin: str, **options: Any) -> tuple[dict[str, Any], FakeRunner]:
    clock = options.pop("clock", None) or FakeClock()
    runner = FakeRunner(program, origin, clock)
    wanted = {"batches": (8, 1), "repeats": 5, **options}
    return bench_session(runner, Options(**wanted, clock=clock)), runner


@pytest.mark.parametrize("origin", ORIGINS)
def test_numbers(program: Program, origin: str) -> None:
    result, runner = bench(program, origin)
    latency = result["latency"]
    # times of the fake clock are sums of binary fractions
    assert latency["total_s"]["median"] == pytest.approx(0.04)
    assert latency["host_s"]["median"] == pytest.approx(0.04 - TRANSFER_S - ARRAY_S)
    assert latency["transfer_s"]["median"] == TRANSFER_S
    assert latency["array_s"]["highest"] == ARRAY_S and latency["total_s"]["count"] == 5
    rates = {row["batch"]: row["images_per_s"]["median"] for row in result["throughput"]}
    assert rates == pytest.approx({1: 25.0, 8: 200.0})
    assert runner.batches == [1] * 7 + [8] * 6  # warm-up, then repeats; no repeats twice


@pytest.mark.parametrize("origin", ORIGINS)
def test_cycles_beside_the_estimate(program: Program, origin: str) -> None:
    result, estimate = bench(program, origin)[0], program.estimate()
    busy, array = result["cycles"]["busy"], result["array"]
    assert busy["load"]["difference_percent"] == 0.0
    # COMPUTE's cycles are integers
    assert busy["compute"]["difference_percent"] == pytest.approx(5.0, abs=1.0)
    assert result["cycles"]["total"]["counted"] == estimate.cycles + 21
    assert array["seconds"] == pytest.approx((estimate.cycles + 21) / 50e6)
    assert array["clock_mhz"] == 50.0 and array["estimated"]["clock_mhz"] == 100.0
    assert array["utilization"] < array["estimated"]["utilization"] == estimate.utilization


def bases(value: Any) -> Iterator[str]:
    """Every basis in a result, at any depth."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from [item] if key.endswith("basis") else bases(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from bases(item)


@pytest.mark.parametrize("origin", ORIGINS)
def test_nothing_emulated_is_called_measured_on_a_board(program: Program, origin: Any) -> None:
    result, _ = bench(program, origin)
    found = [*bases(result), *bench_lines(result)]
    on_board = [text for text in found if "measured on the board" in text or "hardware" in text]
    assert bool(on_board) == (origin == "board")
    for words in (WALL, CYCLES, LATENCY_PARTS, SHORT, RUN):
        assert set(words) == set(ORIGINS)
    assert ("measured by the hardware" in RUN[origin]) == (origin == "board")
    assert ("measured" in provenance_label(origin, "pynq-z2")) == (origin == "board")
    if origin != "board":
        assert "measured on this machine" in result["latency"]["basis"]
        assert result["cycles"]["basis"].startswith("emulated")


def test_a_program_whose_run_is_no_image(program: Program) -> None:
    ports = [replace(p, shape=(5, 4, 4)) for p in (*program.inputs, *program.outputs)]
    result, runner = bench(replace(program, inputs=(ports[0],), outputs=(ports[1],)), "board")
    assert [row["batch"] for row in result["throughput"]] == [1] and result["unit"] == "run"


# ------------------------------------------------------------------------------ power


def powered(
    program: Program,
    origin: str,
    root: Path | None,
    kind: type[FakeRunner] = FakeRunner,
    **options: Any,
) -> tuple[dict[str, Any], FakeRunner]:
    """A bench of a ZCU104 whose INA226 lives under ``root``."""
    clock = FakeClock()
    runner = kind(replace(program, board="zcu104"), origin, clock)
    if root is not None:
        Sensor(runner.board, writer(ina2xx(root, 1, "5-0040"))).start()
    wanted = PowerOptions(PLAN, sysfs=root, **options)
    return bench_session(runner, Options((1, 2, 4), 3, wanted, clock)), runner


class SlowWithMany(FakeRunner):
    """Four images at once take longer than four runs."""

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        found = super().run(feeds)
        self.board.clock.advance(1.0 if self.batches[-1] == 4 else 0.0)
        return found


def test_power_is_of_the_batch_with_the_most_images_per_second(
    program: Program, tmp_path: Path
) -> None:
    result, runner = powered(program, "board", tmp_path, kind=SlowWithMany)
    rates = {row["batch"]: row["images_per_s"]["median"] for row in result["throughput"]}
    assert rates[2] > rates[1] and rates[2] > rates[4]
    assert set(runner.batches[-5:]) == {2} and result["power"]["batch"] == 2
    rail = result["power"]["rails"][0]
    per_joule = rates[2] / rail["loaded_w"]["mean"]
    # windows end with the run in progress
    assert 1 / rail["joules_per_inference"]["mean"] == pytest.approx(per_joule, rel=0.01)


@pytest.mark.parametrize("origin", ORIGINS)
def test_another_sysfs_is_simulated(program: Program, origin: str, tmp_path: Path) -> None:
    result, _ = powered(program, origin, tmp_path)
    (rail,), (missing,) = result["power"]["rails"], result["power"]["absent"]
    assert rail["basis"] == f"simulated: sensor files under {tmp_path}, no board"
    # noise of 10 mW over some 12 readings of 6 windows; 4 images in 0.04 s
    assert rail["joules_per_inference"]["mean"] == pytest.approx(0.08, abs=2e-4)
    assert rail["scope"] == "board input" and result["power"]["widest"] == "12V"
    assert missing["name"] == "INT" and "no hwmon sensor irps5401 at 0x43" in missing["reason"]
    text = "\n".join(bench_lines(result))
    number = r"(2\.99|3\.00|29\.9|30\.0)\d* \+- 0\.0\d+"
    assert re.search(rf"dynamic +{number} W +{number} mJ per image", text)
    assert "no power of INT (VCCINT)" in text


@pytest.mark.parametrize("origin", ("emulation", "emulated board"))
def test_this_machines_sensors_are_not_read_for_an_emulated_board(
    program: Program, origin: str
) -> None:
    result, runner = powered(program, origin, None)
    (missing,) = result["power"]["absent"]
    assert "nothing ran on a ZCU104: this machine's sensors do not measure it" in missing["reason"]
    assert not result["power"]["rails"] and not result["power"]["windows"]


def test_power_is_absent_where_nobody_asked(program: Program) -> None:
    assert bench(program, "board")[0]["power"]["absent"][0]["reason"].startswith("not requested")


def test_too_few_pairs(program: Program) -> None:
    with pytest.raises(BadInput, match="--pairs: found 2, allowed is at least 3"):
        bench(program, "board", power=PowerOptions(Plan(1.0, 2)))


# ------------------------------------------------------------------------------ a meter's log


def meter_log(path: Path, runner: FakeRunner) -> Path:
    """Make the log of a meter at 20 Hz from the windows of the saved result."""
    rng, rows = np.random.default_rng(2), ["epoch (s),power (W)"]
    result = json.loads(path.read_text())
    loaded = [w for w in result["power"]["windows"] if w["kind"] == "loaded"]
    began = result["power"]["windows"][0]["began_wall"] - 1
    for i in range(20 * 12):
        time = began + i / 20
        on = any(w["began_wall"] <= time < w["ended_wall"] for w in loaded)
        rows.append(f"{time!r},{(8 if on else 5) + 0.01 * rng.normal()}")
    (path.parent / "log.csv").write_text("\n".join(rows))
    return path.parent / "log.csv"


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_log_that_is_copied_later(program: Program, origin: str, tmp_path: Path) -> None:
    """A board without sensors has a meter that logs on another machine."""
    result, runner = powered(
        program, origin, None, sensors=False, meter=tmp_path / "not there yet.csv"
    )
    (missing,) = result["power"]["absent"]
    assert missing["name"] == "meter" and "bench NET.nmx --from RESULT.json" in missing["reason"]
    saved = tmp_path / "bench.json"
    saved.write_text(json.dumps(result))
    joined = with_meter(read_result(saved, FORMAT), meter_log(saved, runner), None)
    (rail,) = joined["power"]["rails"]
    # noise of 10 mW over some 18 readings of 6 windows
    assert rail["loaded_w"]["mean"] == pytest.approx(8.0, abs=0.02)
    assert not joined["power"]["absent"] and joined["power"]["widest"] == "meter"
    assert ("not a board's power" in rail["basis"]) == (origin != "board")
    assert "log.csv" in "\n".join(bench_lines(json.loads(json.dumps(joined))))


@pytest.mark.parametrize(
    ("change", "problem"),
    (
        ({"format": "other"}, "found format 'other', allowed is 'neuralmatrix bench 1'"),
        ({"power": {"windows": [{"kind": "idle"}]}}, "no readable windows"),
        ({"power": {"windows": []}}, "has no windows; measure again with --meter"),
        ({"power": None}, "no readable windows"),
    ),
)
def test_a_saved_result_that_does_not_do(
    program: Program, tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    saved = tmp_path / "bench.json"
    saved.write_text(json.dumps({**bench(program, "board")[0], **change}))
    with pytest.raises(BadInput, match=problem):
        with_meter(read_result(saved, FORMAT), tmp_path / "log.csv", None)


# ------------------------------------------------------------------------------ real clocks


@pytest.mark.gxx
def test_the_emulation(program: Program) -> None:
    result = bench_program(program, options=Options((1, 3), 3))
    assert result["origin"] == "emulation" and result["format"] == FORMAT
    pairs = (*result["cycles"]["busy"].values(), result["cycles"]["total"])
    assert all(pair["counted"] == pair["estimated"] for pair in pairs)
    assert result["latency"]["array_s"]["lowest"] > 0
    json.dumps(result, allow_nan=False)


def test_numpy_is_all_that_measuring_imports() -> None:
    names = ("bench", "charts", "compare", "host_power", "power_run", "text_tables")
    code = "import sys\n" + "".join(f"import neuralmatrix.measure.{name}\n" for name in names)
    code += (
        "bad = {'onnx', 'onnxruntime', 'rich', 'typer', 'plotly', 'pynq'} & set(sys.modules)\n"
        "assert not bad, bad\n"
    )
    env = {"PYTHONPATH": str(ROOT / "host")}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)


def test_the_machines_clock_repeats_until_the_body_ends() -> None:
    calls, enough = [], threading.Event()

    def call() -> None:
        calls.append(SYSTEM.now())
        if len(calls) >= 3:
            enough.set()

    with SYSTEM.every(0.001, call):
        assert enough.wait(60)
    count = len(calls)
    SYSTEM.sleep(0.01)
    assert len(calls) == count and calls == sorted(calls)
