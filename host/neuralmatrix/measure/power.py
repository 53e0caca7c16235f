# SPDX-License-Identifier: Apache-2.0
"""Watts of idle and loaded windows, and joules per inference.

In: a ``Recording``.  Out: per rail, ``RailPower``, or ``Absent`` with the reason.
Rails are never added up: one may feed another, and no board measures them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..hardware.board import Board
from .hwmon import Absent
from .power_windows import LEAST_PAIRS, Recording, Trace, Window
from .spread import Mean, mean_of

LEAST_SAMPLES = 3  # per window, after the edges
SETTLE_INTERVALS = 2  # a value read just after a change still includes the time before it
MOST_FAILURES = 0.1  # share of readings
_FEW = f"at least {LEAST_PAIRS} are needed"


@dataclass(frozen=True)
class RailPower:
    """The power of one rail; ``dynamic`` is loaded minus idle of the same pair of windows."""

    name: str
    scope: str
    sensor: str
    basis: str
    idle_w: Mean
    loaded_w: Mean
    dynamic_w: Mean
    joules_per_inference: Mean  # total energy of the rail while loaded
    dynamic_joules_per_inference: Mean
    inferences: int
    seconds: float  # loaded
    samples: int
    interval_s: float
    interval_basis: str
    celsius: tuple[float, float] | None  # lowest and highest
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Level:
    """The mean of one window."""

    window: Window
    watts: float
    samples: int

    @property
    def joules(self) -> float:
        return self.watts * self.window.seconds


def _level(trace: Trace, window: Window) -> _Level | str:
    """Return the window's mean, or why it has none."""
    times = np.asarray(trace.times)
    watts = np.asarray(trace.watts)
    start, stop = np.searchsorted(times, (window.began, window.ended))
    settled = window.began + SETTLE_INTERVALS * trace.sampling.interval_s + trace.margin_s
    used = watts[slice(*np.searchsorted(times, (settled, window.ended - trace.margin_s)))]
    if len(used) < LEAST_SAMPLES:
        return _too_few(trace, len(used))
    if np.ptp(watts[max(start - 1, 0) : stop]) == 0:
        return "no new value: the sensor does not update or is too coarse"
    return _Level(window, float(used.mean()), len(used))


def _too_few(trace: Trace, used: int) -> str:
    """Say why readings do not suffice; a longer window gives more."""
    step = trace.sampling.interval_s
    edges = SETTLE_INTERVALS * step + 2 * trace.margin_s
    return (
        f"{used} readings, {LEAST_SAMPLES} are needed (one takes {step:.3g} s, and {edges:.3g} s "
        "at the window's edges are left out); choose longer windows by --seconds"
    )


def _pairs(
    levels: Iterable[tuple[Window, _Level | str]],
) -> tuple[list[tuple[_Level, _Level]], list[str]]:
    """Return (idle, loaded) of each complete pair, and why others are incomplete."""
    by_pair: dict[int, dict[str, _Level]] = {}
    problems = []
    for window, level in levels:
        if isinstance(level, str):
            problems.append(f"{window.kind} window of pair {window.pair + 1}: {level}")
        else:
            by_pair.setdefault(window.pair, {})[window.kind] = level
    complete = [pair for pair in by_pair.values() if len(pair) == 2]
    return [(pair["idle"], pair["loaded"]) for pair in complete], problems


def _failed(trace: Trace) -> str | None:
    tried = len(trace.times) + len(trace.failures)
    if not trace.failures or len(trace.failures) <= MOST_FAILURES * tried:
        return None
    return f"{len(trace.failures)} of {tried} readings failed, the last with {trace.failures[-1]}"


def _notes(trace: Trace, problems: Sequence[str]) -> tuple[str, ...]:
    backwards = sum(watts < 0 for watts in trace.watts)
    found = [f"left out: {problem}" for problem in problems]
    if trace.failures:
        found.append(f"{len(trace.failures)} readings failed: {trace.failures[-1]}")
    if backwards:
        found.append(f"{backwards} of {len(trace.watts)} readings are negative: check the wiring")
    return tuple(found)


def _ratio(joules: Sequence[float], pairs: Sequence[tuple[_Level, _Level]]) -> Mean:
    """Divide all joules by all inferences; the error is that of the pairs' ratios."""
    counts = [loaded.window.inferences for _, loaded in pairs]
    each = mean_of(j / n for j, n in zip(joules, counts, strict=True))
    return Mean(sum(joules) / sum(counts), each.standard_error, each.count)


def analyse(recording: Recording, trace: Trace, basis: str) -> RailPower | Absent:
    """Analyse one rail of a recording."""
    failed = _failed(trace)
    if failed:
        return Absent(trace.name, trace.scope, failed)
    pairs, problems = _pairs((w, _level(trace, w)) for w in recording.windows)
    if len(pairs) < LEAST_PAIRS:
        why = f": {problems[0]}" if problems else ""
        found = f"{len(pairs)} complete pairs of windows, {_FEW}{why}"
        return Absent(trace.name, trace.scope, found)
    return _rail(trace, basis, pairs, _notes(trace, problems))


def _rail(
    trace: Trace, basis: str, pairs: list[tuple[_Level, _Level]], notes: tuple[str, ...]
) -> RailPower:
    dynamic = [loaded.watts - idle.watts for idle, loaded in pairs]
    extra = [w * loaded.window.seconds for w, (_, loaded) in zip(dynamic, pairs, strict=True)]
    return RailPower(
        name=trace.name,
        scope=trace.scope,
        sensor=trace.sensor,
        basis=basis,
        idle_w=mean_of(idle.watts for idle, _ in pairs),
        loaded_w=mean_of(loaded.watts for _, loaded in pairs),
        dynamic_w=mean_of(dynamic),
        joules_per_inference=_ratio([loaded.joules for _, loaded in pairs], pairs),
        dynamic_joules_per_inference=_ratio(extra, pairs),
        inferences=sum(loaded.window.inferences for _, loaded in pairs),
        seconds=sum(loaded.window.seconds for _, loaded in pairs),
        samples=sum(idle.samples + loaded.samples for idle, loaded in pairs),
        interval_s=trace.sampling.interval_s,
        interval_basis=trace.sampling.basis,
        celsius=(min(trace.celsius), max(trace.celsius)) if trace.celsius else None,
        notes=notes,
    )


def widest(board: Board, rails: Sequence[RailPower]) -> RailPower | None:
    """Return the rail that represents the device: the only one, or the one feeding all others."""
    feeds = {rail.name: set(rail.feeds) for rail in board.power}
    for rail in rails:
        others = {other.name for other in rails} - {rail.name}
        if others <= feeds.get(rail.name, set()):
            return rail
    return None
