# SPDX-License-Identifier: Apache-2.0
"""Times a program on a device: latency and its parts, throughput, cycles, power.

In: a ``Program`` and a device name.  Out: one dictionary with the basis of every number, and
the estimate of the cycles.
Numbers of an emulated device are never labelled measured on a board.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np

from .._version import __version__
from ..hardware.isa import UNITS
from ..jsonform import to_json
from ..program.data import ProgramPort
from ..program.estimate import Estimate
from ..program.program import Program
from ..program.report import batch_of, unit_of
from ..runtime.device import Origin
from ..runtime.session import Session
from .clock import SYSTEM, Clock
from .power_run import NOT_ASKED, PowerOptions, measure_power
from .provenance import CYCLES, ESTIMATED, LATENCY_PARTS, WALL
from .spread import spread

FORMAT = "neuralmatrix bench 1"
PARTS = ("host", "transfer", "array")
WARM_UP = 2  # runs: the first one builds, loads and allocates memory


class Runner(Protocol):
    """The part of a ``Session`` that a bench needs."""

    program: Program
    stats: Any

    @property
    def device_info(self) -> Mapping[str, Any]: ...

    def run(self, feeds: Mapping[str, Any]) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Options:
    """``batches``: images per call, for each of which throughput is timed ``repeats`` times."""

    batches: tuple[int, ...] = (1, 8, 32)
    repeats: int = 10
    power: PowerOptions | None = None
    clock: Clock = field(default=SYSTEM, compare=False)


def random_feeds(program: Program, images: int) -> dict[str, Any]:
    """Make seeded inputs over each port's whole range; ``images`` of them if the batch is 1."""
    rng = np.random.default_rng(0)
    ports = {port.name: port for port in program.inputs}
    feeds: dict[str, Any] = {}
    for shown in program.shown_inputs:
        sizes = shown.shape or ()
        shape = (images, *sizes[1:]) if sizes[:1] == (1,) else sizes
        values = _random(rng, ports.get(shown.name), shape)
        feeds[shown.name] = values if program.host is None else values.astype(shown.dtype)
    return feeds


def _random(rng: Any, port: ProgramPort | None, shape: tuple[int, ...]) -> Any:
    """Return values over a port's range, rows of its table, or 0 and 1 for the host."""
    if port is None:
        return rng.integers(2, size=shape)
    if port.table is not None:
        return rng.integers(len(port.table), size=shape)
    q = port.slot.qparams
    low, high = ((limit - q.zero_point) * q.scale for limit in (q.qmin, q.qmax))
    return rng.uniform(low, high, shape).astype(np.float32)


# ------------------------------------------------------------------------------ time


@dataclass(frozen=True)
class _Run:
    seconds: float
    stats: Any


def _timed(runner: Runner, feeds: Mapping[str, Any], repeats: int, clock: Clock) -> list[_Run]:
    runs = []
    for _ in range(repeats):
        began = clock.now()
        runner.run(feeds)
        runs.append(_Run(clock.now() - began, runner.stats))
    return runs


def split(run: _Run) -> dict[str, float]:
    """Split the seconds of one run; the host has the rest besides transfer and array."""
    transfer, array = run.stats.seconds["transfer"], run.stats.seconds["array"]
    return {"host": run.seconds - transfer - array, "transfer": transfer, "array": array}


def _latency(runs: Sequence[_Run], origin: Origin) -> dict[str, Any]:
    """Time runs of one image each."""
    splits = [split(run) for run in runs]
    parts = {f"{part}_s": to_json(spread(one[part] for one in splits)) for part in PARTS}
    total = to_json(spread(run.seconds for run in runs))
    return {
        "basis": WALL[origin],
        "parts_basis": LATENCY_PARTS[origin],
        "images": 1,
        "repeats": len(runs),
        "total_s": total,
        **parts,
    }


def _throughput(
    runner: Runner, batch: int, options: Options, origin: Origin, runs: Sequence[_Run] | None
) -> dict[str, Any]:
    if runs is None:
        feeds = random_feeds(runner.program, batch)
        runner.run(feeds)
        runs = _timed(runner, feeds, options.repeats, options.clock)
    rates = to_json(spread(batch / run.seconds for run in runs))
    return {"batch": batch, "basis": WALL[origin], "repeats": len(runs), "images_per_s": rates}


def best_of(throughput: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the batch size with the most images per second."""
    return max(throughput, key=lambda one: one["images_per_s"]["median"])


# ------------------------------------------------------------------------------ cycles


def _beside(counted: float, estimated: int) -> dict[str, Any]:
    difference = 100.0 * (counted - estimated) / estimated if estimated else None
    return {"counted": counted, "estimated": estimated, "difference_percent": difference}


def _cycles(runs: Sequence[_Run], estimate: Estimate, origin: Origin) -> dict[str, Any]:
    """Collect the counters of single runs, and their median with the cycle model's numbers."""
    busy = {unit: median(int(run.stats.busy[unit]) for run in runs) for unit in UNITS}
    total = median(int(run.stats.cycles) for run in runs)
    return {
        "basis": CYCLES[origin],
        "estimate_basis": "estimated by the cycle model",
        "total": _beside(total, estimate.cycles),
        "busy": {unit: _beside(busy[unit], estimate.busy[unit]) for unit in UNITS},
    }


def _array(
    cycles: Mapping[str, Any], program: Program, estimate: Estimate, clock_mhz: float
) -> dict[str, Any]:
    """Return the array's time alone, from counted cycles at the device's clock and estimated."""
    counted, peak = cycles["total"]["counted"], program.array.rows * program.array.cols
    seconds = counted / (clock_mhz * 1e6)
    return {
        "basis": cycles["basis"] + ", at the clock, without the host's work",
        "clock_mhz": clock_mhz,
        "seconds": seconds,
        "runs_per_s": 1 / seconds,
        "utilization": estimate.macs / (counted * peak),
        "estimated": {
            "basis": ESTIMATED,
            "clock_mhz": estimate.clock_mhz,
            "seconds": estimate.latency_s,
            "runs_per_s": estimate.frames_per_s,
            "utilization": estimate.utilization,
        },
    }


# ------------------------------------------------------------------------------ the whole bench


def bench_session(runner: Runner, options: Options = Options()) -> dict[str, Any]:
    """Bench an open session."""
    program, single = runner.program, random_feeds(runner.program, 1)
    for _ in range(WARM_UP):
        runner.run(single)
    runs = _timed(runner, single, options.repeats, options.clock)
    origin: Origin = runner.stats.origin
    estimate, batch = program.estimate(), batch_of(program)
    batches = sorted(set(options.batches)) if batch == 1 else [1]
    cycles = _cycles(runs, estimate, origin)
    throughput = [
        _throughput(runner, n, options, origin, runs if n == 1 else None) for n in batches
    ]
    return {
        "format": FORMAT,
        "versions": {"neuralmatrix": __version__, "python": platform.python_version()},
        "machine": platform.machine(),
        "board": program.board,
        "fingerprint": program.array.fingerprint,
        "precision": program.precision,
        "macs": estimate.macs,
        "batch": batch,
        "unit": unit_of(batch, [port.shape or () for port in program.shown_inputs]),
        "origin": origin,
        "device": to_json(dict(runner.device_info)),
        "threads": runner.stats.threads,
        "latency": _latency(runs, origin),
        "throughput": throughput,
        "cycles": cycles,
        "array": _array(cycles, program, estimate, runner.stats.clock_mhz),
        "power": _power(runner, best_of(throughput)["batch"], options, origin),
    }


def _power(runner: Runner, batch: int, options: Options, origin: Origin) -> dict[str, Any]:
    """Measure power in windows of one batch size, so that the watts belong to known work."""
    if options.power is None:
        return NOT_ASKED
    feeds = random_feeds(runner.program, batch)

    def work() -> int:
        runner.run(feeds)
        return batch

    found = measure_power(runner.program.board, work, origin, options.power, options.clock)
    return {**found, "batch": batch}


def bench_program(
    program: Program,
    device: str = "emulation",
    options: Options = Options(),
    *,
    threads: int | None = None,
    overlay: str | Path | None = None,
) -> dict[str, Any]:
    """Open a session, bench it, close it."""
    with Session(program, device, threads, overlay=overlay) as session:
        return bench_session(session, options)
