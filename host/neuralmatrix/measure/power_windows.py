# SPDX-License-Identifier: Apache-2.0
"""Idle and loaded windows, interleaved and shuffled, while every power source is sampled.

In: work to run, sources of watts, lengths and numbers of windows.  Out: a ``Recording``.
A source is read no faster than it updates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from random import Random
from typing import Literal, Protocol

from .clock import Clock
from .hwmon import SensorError

Kind = Literal["idle", "loaded"]
FASTEST_S = 0.02  # seconds between two readings
PROBE_S, PROBE_READINGS_S = 3.0, 0.01
SLOWEST_S = 1.0  # interval of a sensor that does not update while it is probed
LEAST_PAIRS = 3  # fewer give no standard error


class Source(Protocol):
    """A source of watts."""

    @property
    def name(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def sensor(self) -> str: ...
    @property
    def update_s(self) -> float | None: ...

    def watts(self) -> float:
        """Read the power.  SensorError: it cannot be read now."""

    def celsius(self) -> float | None: ...


@dataclass(frozen=True)
class Window:
    """One stretch of time in which the device was idle, or ran ``inferences`` images."""

    kind: Kind
    pair: int
    began: float
    ended: float
    began_wall: float  # seconds since 1970
    ended_wall: float
    inferences: int

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(frozen=True)
class Sampling:
    """The interval at which a source is read, and its basis."""

    interval_s: float
    basis: str


@dataclass
class Trace:
    """The readings of one source."""

    name: str
    scope: str
    sensor: str
    sampling: Sampling
    times: list[float] = field(default_factory=list)
    watts: list[float] = field(default_factory=list)
    celsius: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    margin_s: float = 0.0  # left out at both ends of a window: uncertainty of the source's clock


@dataclass(frozen=True)
class Recording:
    """Windows and traces on one clock."""

    windows: tuple[Window, ...]
    traces: tuple[Trace, ...]


@dataclass(frozen=True)
class Plan:
    """``pairs`` idle and as many loaded windows of ``seconds``."""

    seconds: float = 10.0
    pairs: int = 6
    seed: int = 0


def orders(plan: Plan) -> list[tuple[Kind, Kind]]:
    """Shuffle pairs, half beginning idle, half loaded, so that a drift cancels."""
    idle_first: tuple[Kind, Kind] = ("idle", "loaded")
    loaded_first: tuple[Kind, Kind] = ("loaded", "idle")
    order = [(idle_first, loaded_first)[i % 2] for i in range(plan.pairs)]
    Random(plan.seed).shuffle(order)
    return order


# ------------------------------------------------------------------------------ sampling


def probe(source: Source, clock: Clock) -> Sampling:
    """Determine how often the source updates: as its driver says, else counted."""
    if source.update_s is not None:
        return Sampling(max(source.update_s, FASTEST_S), "the driver's update_interval")
    values, began = [], clock.now()
    while clock.now() - began < PROBE_S:
        try:
            values.append(source.watts())
        except SensorError:
            break
        clock.sleep(PROBE_READINGS_S)
    changes = sum(a != b for a, b in zip(values, values[1:], strict=False))
    seconds = clock.now() - began
    if changes < 2:
        return Sampling(SLOWEST_S, f"assumed: {changes} new values in {seconds:.1f} s")
    interval = min(max(seconds / changes, FASTEST_S), SLOWEST_S)
    return Sampling(interval, f"measured: {changes} new values in {seconds:.1f} s")


def _reader(source: Source, trace: Trace, clock: Clock) -> Callable[[], None]:
    def read() -> None:
        try:
            watts = source.watts()
        except SensorError as error:
            trace.failures.append(str(error))
            return
        trace.times.append(clock.now())
        trace.watts.append(watts)
        celsius = source.celsius()
        if celsius is not None:
            trace.celsius.append(celsius)

    return read


# ------------------------------------------------------------------------------ windows


def _window(kind: Kind, pair: int, work: Callable[[], int], plan: Plan, clock: Clock) -> Window:
    """Run one window; a loaded one ends after the run during which its time expires."""
    began, began_wall, inferences = clock.now(), clock.wall(), 0
    if kind == "idle":
        clock.sleep(plan.seconds)
    else:
        while inferences == 0 or clock.now() - began < plan.seconds:
            inferences += work()
    return Window(kind, pair, began, clock.now(), began_wall, clock.wall(), inferences)


def record(
    work: Callable[[], int], sources: Sequence[Source], plan: Plan, clock: Clock
) -> Recording:
    """Run the windows; ``work`` runs some images and returns how many."""
    traces = [
        Trace(source.name, source.scope, source.sensor, probe(source, clock)) for source in sources
    ]
    windows = []
    with ExitStack() as stack:
        for source, trace in zip(sources, traces, strict=True):
            reader = _reader(source, trace, clock)
            stack.enter_context(clock.every(trace.sampling.interval_s, reader))
        for pair, kinds in enumerate(orders(plan)):
            windows += [_window(kind, pair, work, plan, clock) for kind in kinds]
    return Recording(tuple(windows), tuple(traces))
