# SPDX-License-Identifier: Apache-2.0
"""Rows of a comparison for this machine: onnxruntime on its processor and graphics card.

In: an open ``Runtime`` and feeds.  Out: a ``Row`` with images per second at the best batch size,
and watts where RAPL or nvidia-smi reports them.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..jsonform import to_json
from .clock import SYSTEM, Clock
from .comparison_rows import Row, with_watts
from .host_power import open_cpu, open_gpu
from .hwmon import SYSFS, Absent
from .onnxruntime_bench import CPU, CUDA, Runtime, seconds_per_run
from .power import RailPower, analyse
from .power_windows import Plan, Source, record
from .spread import spread

Array = npt.NDArray[Any]

MEASURED = "measured on this machine"


@dataclass(frozen=True)
class HostOptions:
    """With ``threads`` 0 onnxruntime chooses the number of threads."""

    batches: tuple[int, ...] = (1, 8, 32)
    repeats: int = 10
    threads: int = 0
    power: bool = True
    plan: Plan = Plan()
    sysfs: Path = SYSFS
    constants: Mapping[str, Array] = field(default_factory=dict)
    clock: Clock = field(default=SYSTEM, compare=False)


@dataclass(frozen=True)
class _Best:
    batch: int
    images_per_s: float
    feeds: Mapping[str, Array]


def _repeated(
    feeds: Mapping[str, Array], batch: int, constants: Mapping[str, Array]
) -> dict[str, Array]:
    """Repeat the same image ``batch`` times."""

    def fit(x: Array) -> Array:
        return np.resize(x, (batch, *x.shape[1:]))

    return {name: x if name in constants else fit(x) for name, x in feeds.items()}


def _best(runtime: Runtime, one: Mapping[str, Array], options: HostOptions) -> _Best:
    """Return the batch size with the most images per second, of those that the model accepts."""
    found = []
    for batch in options.batches if runtime.many else (1,):
        feeds = _repeated(one, batch, options.constants) if runtime.many else one
        seconds = seconds_per_run(runtime, feeds, options.repeats, options.clock)
        found.append(_Best(batch, batch / spread(seconds).median, feeds))
    return max(found, key=lambda best: best.images_per_s)


def _source(provider: str, options: HostOptions) -> Source | Absent:
    if not options.power:
        return Absent("any rail", "", "not requested (--no-power)")
    if provider == CUDA:
        return open_gpu()
    return open_cpu(options.sysfs, options.clock)


def _host_power(runtime: Runtime, best: _Best, options: HostOptions) -> RailPower | Absent:
    source = _source(runtime.provider, options)
    if isinstance(source, Absent):
        return source

    def work() -> int:
        runtime.run(best.feeds)
        return best.batch

    recording = record(work, [source], options.plan, options.clock)
    return analyse(recording, recording.traces[0], MEASURED)


def _host_name(runtime: Runtime) -> str:
    kind = "CPU" if runtime.provider == CPU else "CUDA"
    return f"onnxruntime {runtime.version}, {kind}"


def _host_notes(runtime: Runtime) -> tuple[str, ...]:
    threads = runtime.threads or "onnxruntime's choice of"
    notes = [f"{platform.machine()}, {os.cpu_count()} cores, {threads} threads"]
    if not runtime.many:
        notes.append("the model fixes its batch")
    return tuple(notes)


def host_row(runtime: Runtime, one: Mapping[str, Array], options: HostOptions) -> Row:
    """Make this machine's row; ``one``: the inputs of one run, in the model's types."""
    alone = seconds_per_run(runtime, one, options.repeats, options.clock)
    best = _best(runtime, one, options)
    row = Row(
        device=_host_name(runtime),
        precision="as in the model",
        source="measured",
        basis=MEASURED,
        batch=best.batch,
        images_per_s=best.images_per_s,
        latency_s=spread(alone).median,
        notes=_host_notes(runtime),
    )
    power = _host_power(runtime, best, options)
    return with_watts(row, power.reason if isinstance(power, Absent) else to_json(power))
