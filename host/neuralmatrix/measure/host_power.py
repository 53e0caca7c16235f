# SPDX-License-Identifier: Apache-2.0
"""Power of a PC's processor and graphics card.

In: sysfs (RAPL) and the nvidia-smi program.  Out: sources of watts, or why there are none.
RAPL counts energy in whole processor packages; memory, board and power supply are not in it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .clock import SYSTEM, Clock
from .hwmon import SYSFS, Absent, SensorError

CPU, GPU = "cpu", "gpu"
RAPL_SCOPE = "processor packages (RAPL); no memory, board or power supply"
GPU_SCOPE = "graphics card (nvidia-smi); the host is left out"
RAPL_INTERVAL_S = 0.1
# power.draw is the mean over a second on most cards
SMI_INTERVAL_S = 1.0
SMI_TIMEOUT_S = 10
_NAMES = ("--query-gpu=name", "--format=csv,noheader")
_QUERY = ("--query-gpu=name,power.draw,temperature.gpu", "--format=csv,noheader,nounits")


# ------------------------------------------------------------------------------ RAPL


@dataclass(frozen=True)
class _Package:
    """One zone intel-rapl:N; its counter wraps at ``range_uj``."""

    energy: Path
    range_uj: int

    def read(self) -> int:
        try:
            return int(self.energy.read_text(encoding="ascii"))
        except PermissionError:
            raise SensorError(
                f"{self.energy}: only root may read it; run as root, or let root allow it: "
                f"chmod a+r {self.energy}"
            ) from None
        except (OSError, ValueError) as error:
            raise SensorError(f"{self.energy}: {error}") from None


@dataclass
class RaplSource:
    """Reads the mean power since the previous reading."""

    packages: tuple[_Package, ...]
    clock: Clock
    name: str = CPU
    scope: str = RAPL_SCOPE
    update_s: float | None = RAPL_INTERVAL_S
    _before: list[int] = field(default_factory=list)
    _time: float = 0.0

    def __post_init__(self) -> None:
        self._before, self._time = [package.read() for package in self.packages], self.clock.now()

    @property
    def sensor(self) -> str:
        return f"RAPL, {len(self.packages)} package{'s' if len(self.packages) > 1 else ''}"

    def watts(self) -> float:
        energies, now = [package.read() for package in self.packages], self.clock.now()
        used = sum(map(_advance, self.packages, self._before, energies))
        seconds = now - self._time
        if seconds <= 0 or used == 0:
            raise SensorError("RAPL's energy counters do not change")
        self._before, self._time = energies, now
        return used * 1e-6 / seconds

    def celsius(self) -> float | None:
        return None


def _advance(package: _Package, before: int, now: int) -> int:
    return now - before if now >= before else now - before + package.range_uj


def _packages(root: Path) -> tuple[_Package, ...]:
    """List packages only: zones within them, and "psys" around them, count the same energy."""
    found = []
    for zone in sorted((root / "class" / "powercap").glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text(encoding="ascii").strip()
            limit = int((zone / "max_energy_range_uj").read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue
        if name.startswith("package-"):
            found.append(_Package(zone / "energy_uj", limit))
    return tuple(found)


def open_cpu(root: Path = SYSFS, clock: Clock = SYSTEM) -> RaplSource | Absent:
    """Open the processor's power source, or return why it cannot be read."""
    packages = _packages(root)
    if not packages:
        reason = "no RAPL package in /sys/class/powercap (a virtual machine, or another processor)"
        return Absent(CPU, RAPL_SCOPE, reason)
    try:
        return RaplSource(packages, clock)
    except SensorError as error:
        return Absent(CPU, RAPL_SCOPE, str(error))


# ------------------------------------------------------------------------------ nvidia-smi

Run = Callable[[list[str]], str]


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=SMI_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SensorError(f"{command[0]}: {error}") from None
    if done.returncode:
        raise SensorError(f"{command[0]}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _card() -> str:
    """Return the card that CUDA calls 0."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    return visible or "0"


def _check_order(run: Run, program: str) -> None:
    """Raise SensorError if the number may be another card's: CUDA counts the fastest card
    first unless configured otherwise, nvidia-smi counts along the bus."""
    if not _card().isdecimal() or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID":
        return
    names = {line.strip() for line in run([program, *_NAMES]).splitlines()}
    if len(names) > 1:
        raise SensorError(
            f"cards of different kinds ({', '.join(sorted(names))}), which CUDA and nvidia-smi "
            "number differently; set CUDA_DEVICE_ORDER=PCI_BUS_ID"
        )


def _fields(text: str) -> tuple[str, float, float | None]:
    """Parse name, watts and temperature; a card without a sensor reports [N/A]."""
    parts = [part.strip() for part in text.strip().splitlines()[0].split(",")] if text else []
    try:
        name, watts = ", ".join(parts[:-2]), float(parts[-2])
    except (IndexError, ValueError):
        raise SensorError(f"nvidia-smi: found {text.strip()!r} instead of watts") from None
    return name, watts, float(parts[-1]) if parts[-1].isdecimal() else None


@dataclass
class SmiSource:
    """Reads the power of one card."""

    sensor: str
    command: list[str]
    run: Run
    name: str = GPU
    scope: str = GPU_SCOPE
    update_s: float | None = SMI_INTERVAL_S
    _celsius: float | None = None

    def watts(self) -> float:
        _, watts, self._celsius = _fields(self.run(self.command))
        return watts

    def celsius(self) -> float | None:
        return self._celsius


def open_gpu(run: Run = _run, program: str | None = None) -> SmiSource | Absent:
    """Open the card's power source, or return why it cannot be read."""
    found = program or shutil.which("nvidia-smi")
    if not found:
        return Absent(GPU, GPU_SCOPE, "no program nvidia-smi; install NVIDIA's driver")
    command = [found, *_QUERY, "-i", _card()]
    try:
        _check_order(run, found)
        name, _, _ = _fields(run(command))
    except SensorError as error:
        return Absent(GPU, GPU_SCOPE, str(error))
    return SmiSource(f"{name}, power.draw", command, run)
