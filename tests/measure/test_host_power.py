# SPDX-License-Identifier: Apache-2.0
"""RAPL's energy counters and nvidia-smi's output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neuralmatrix.measure.host_power import RaplSource, SmiSource, open_cpu, open_gpu
from neuralmatrix.measure.hwmon import Absent, SensorError
from neuralmatrix.measure.power import RailPower, analyse
from neuralmatrix.measure.power_windows import Plan, record
from power_world import FakeClock

RANGE_UJ = 262_143_328_850


def zone(root: Path, zone_name: str, name: str, energy_uj: int) -> Path:
    folder = root / "class" / "powercap" / zone_name
    folder.mkdir(parents=True)
    for file, value in (("name", name), ("energy_uj", energy_uj),
                        ("max_energy_range_uj", RANGE_UJ)):  # fmt: skip
        (folder / file).write_text(f"{value}\n")
    return folder / "energy_uj"


def packages(root: Path) -> tuple[Path, Path]:
    """Two packages; a zone within one, and one around both, that count the same energy again."""
    first = zone(root, "intel-rapl:0", "package-0", 1000)
    zone(root, "intel-rapl:0:0", "core", 1000)
    second = zone(root, "intel-rapl:1", "package-1", 5000)
    zone(root, "intel-rapl:2", "psys", 1000)
    return first, second


def opened(root: Path, clock: FakeClock) -> RaplSource:
    source = open_cpu(root, clock)
    assert isinstance(source, RaplSource)
    return source


def test_packages_are_added_and_their_parts_are_not(tmp_path: Path) -> None:
    first, second = packages(tmp_path)
    clock = FakeClock()
    source = opened(tmp_path, clock)
    assert source.sensor == "RAPL, 2 packages"
    clock.advance(2.0)
    first.write_text(str(1000 + 20_000_000))
    second.write_text(str(5000 + 4_000_000))
    assert source.watts() == 12.0
    clock.advance(1.0)
    with pytest.raises(SensorError, match="counters do not change"):
        source.watts()


def test_a_counter_wraps(tmp_path: Path) -> None:
    energy = zone(tmp_path, "intel-rapl:0", "package-0", RANGE_UJ - 3_000_000)
    clock = FakeClock()
    source = opened(tmp_path, clock)
    clock.advance(1.0)
    energy.write_text("1000000")
    assert source.watts() == 4.0


def test_only_root_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1)
    read = Path.read_text

    def refuse(path: Path, *arguments: Any, **options: Any) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    found = open_cpu(tmp_path)
    assert isinstance(found, Absent)
    assert "only root may read it; run as root, or let root allow it: chmod a+r" in found.reason


def test_no_rapl(tmp_path: Path) -> None:
    found = open_cpu(tmp_path)
    assert isinstance(found, Absent) and "no RAPL package" in found.reason


def test_known_power_gives_known_energy(tmp_path: Path) -> None:
    """20 W idle, 50 W loaded, 10 images in a tenth of a second; the counter wraps meanwhile."""
    energy = zone(tmp_path, "intel-rapl:0", "package-0", RANGE_UJ - 90_000_000)
    clock, state = FakeClock(), {"watts": 20.0, "uj": float(RANGE_UJ - 90_000_000)}
    rng = np.random.default_rng(6)

    def count(seconds: float) -> None:
        watts = state["watts"] + 0.01 * rng.normal()
        state["uj"] = (state["uj"] + 1e6 * seconds * watts) % RANGE_UJ
        energy.write_text(str(int(state["uj"])))

    clock.passing.append(count)

    def work() -> int:
        state["watts"] = 50.0
        clock.advance(0.1)
        state["watts"] = 20.0
        return 10

    source = opened(tmp_path, clock)
    recording = record(work, [source], Plan(2.0, 3), clock)
    rail = analyse(recording, recording.traces[0], "measured on this machine")
    assert isinstance(rail, RailPower)
    # noise of 10 mW over some 18 readings of 6 windows
    assert rail.loaded_w.mean == pytest.approx(50.0, abs=0.01)
    assert rail.joules_per_inference.mean == pytest.approx(0.5, abs=1e-4)
    assert rail.dynamic_w.mean == pytest.approx(30.0, abs=0.01)


# ------------------------------------------------------------------------------ nvidia-smi


def test_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    answers = iter(("NVIDIA T4, 26.10, 41\n", "NVIDIA T4, 61.25, 44\n"))
    asked = []

    def run(command: list[str]) -> str:
        asked.append(command)
        return next(answers)

    source = open_gpu(run, "nvidia-smi")
    assert isinstance(source, SmiSource) and source.sensor == "NVIDIA T4, power.draw"
    assert source.watts() == 61.25 and source.celsius() == 44.0
    assert asked[0] == asked[1] and asked[0][-2:] == ["-i", "2"]
    assert "--query-gpu=name,power.draw,temperature.gpu" in asked[0]
    assert "--format=csv,noheader,nounits" in asked[0]


@pytest.mark.parametrize(
    ("cards", "known"), (("NVIDIA T4\nNVIDIA T4\n", True), ("NVIDIA T4\nNVIDIA A10\n", False))
)
def test_cards_that_cuda_may_number_otherwise(
    cards: str, known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)

    def run(command: list[str]) -> str:
        return "NVIDIA T4, 26.10, 41\n" if "-i" in command else cards

    found = open_gpu(run, "nvidia-smi")
    assert isinstance(found, SmiSource) == known
    if isinstance(found, Absent):
        assert "NVIDIA A10, NVIDIA T4" in found.reason and "CUDA_DEVICE_ORDER" in found.reason
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8f2c")  # a card's own name
    assert isinstance(open_gpu(run, "nvidia-smi"), SmiSource)


@pytest.mark.parametrize("answer", ("NVIDIA GT 710, [N/A], 41\n", "", "Unable to determine\n"))
def test_a_card_without_a_sensor(answer: str) -> None:
    found = open_gpu(lambda command: answer, "nvidia-smi")
    assert isinstance(found, Absent) and "instead of watts" in found.reason


def test_a_program_that_fails(tmp_path: Path) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho no driver >&2\nexit 9\n")
    program.chmod(0o755)
    found = open_gpu(program=str(program))
    assert isinstance(found, Absent) and "no driver" in found.reason


def test_no_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = open_gpu()
    assert isinstance(found, Absent) and "no program nvidia-smi" in found.reason
