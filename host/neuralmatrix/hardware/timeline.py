# SPDX-License-Identifier: Apache-2.0
"""When each instruction starts and ends: units, their queues, tokens and the shared DRAM.

In: the costs of every instruction.  Out: a ``Timeline``, or ``Deadlock`` with its reasons.
The emulation's scheduler follows the same rules; a test holds both equal to the cycle.

An instruction takes its tokens together, when the last of them has come, and sends its own
together, when each has room.  Hardware may take or send one before the other, and in either order:
then each comes no later than here, so that a program which ends by these rules ends there too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import NeuralMatrixError
from .instruction_costs import Costs, constants
from .isa import INSN_BYTES, Unit
from .target import ArrayConfig, Timing

Array = npt.NDArray[Any]

WAITED_FOR = ("unit", "fetch", "token of load", "token of compute", "token of store")
_UNITS = range(len(Unit))
_BITS = tuple(tuple(u for u in _UNITS if mask >> u & 1) for mask in range(8))


class Deadlock(NeuralMatrixError):
    """No unit can continue; the message lists what each one waits for."""


@dataclass(frozen=True)
class Timeline:
    """Per instruction: unit (-1 END), start and end in cycles, and an index into ``WAITED_FOR``."""

    unit: Array
    start: Array
    end: Array
    waited_for: Array
    cycles: int


@dataclass
class _Channel:
    """Tokens from one unit to another: arrival times, and when they were popped."""

    arrived: list[int] = field(default_factory=list)
    popped: list[int] = field(default_factory=list)


@dataclass
class _Lane:
    """One unit: its queue and its progress."""

    pushed: list[tuple[int, int]] = field(default_factory=list)  # (instruction, time)
    starts: list[int] = field(default_factory=list)
    free: int = 0
    owed: list[int] = field(default_factory=list)  # units still to be sent a token
    last: int = -1
    ready: tuple[int, int] | None = None  # (start, reason) of the head once known


class _Machine:
    """Runs the event rules; one instance simulates one program once."""

    def __init__(self, costs: Costs, array: ArrayConfig, timing: Timing) -> None:
        k = constants()
        self.unit, self.cycles = costs.unit.tolist(), costs.cycles.tolist()
        self.dram_cycles, self.latency = costs.dram_cycles.tolist(), costs.latency.tolist()
        self.waits, self.signals = costs.waits.tolist(), costs.signals.tolist()
        self.queue_depth, self.token_depth = array.queue_depth, array.token_depth
        self.fetch_cost = -(-INSN_BYTES // timing.fetch_port_bytes) + k["FETCH_CYCLES_EXTRA"]
        self.hop = k["QUEUE_HOP"]
        self.fetched, self.fetch_free, self.end_fetched = 0, timing.dram_latency, 0
        self.lanes = [_Lane() for _ in _UNITS]
        self.channels = [[_Channel() for _ in _UNITS] for _ in _UNITS]
        self.dram_free = 0
        count = len(self.unit)
        self.start, self.end, self.reason = [0] * count, [0] * count, [0] * count

    def fetch(self) -> None:
        """Push instructions until a queue is full or END."""
        unit, cost = self.unit, self.fetch_cost
        while self.fetched < len(unit):
            done = self.fetch_free + cost
            u = unit[self.fetched]
            if u < 0:
                self.end_fetched = done
                self.fetched = len(unit)
                return
            lane = self.lanes[u]
            over = len(lane.pushed) - self.queue_depth
            if over >= len(lane.starts):
                return
            push = done if over < 0 else max(done, lane.starts[over])
            lane.pushed.append((self.fetched, push))
            self.fetch_free = push
            self.fetched += 1

    def send_owed(self, u: int) -> None:
        """Send the last instruction's tokens, all of them at once, when every one has room."""
        lane = self.lanes[u]
        arrival = self.end[lane.last]
        for q in lane.owed:
            channel = self.channels[u][q]
            over = len(channel.arrived) - self.token_depth
            if over >= len(channel.popped):
                return
            if over >= 0:
                arrival = max(arrival, channel.popped[over])
        for q in lane.owed:
            self.channels[u][q].arrived.append(arrival)
        lane.free = self.end[lane.last] = max(lane.free, arrival)
        lane.owed = []

    def head_ready(self, u: int) -> tuple[int, int] | None:
        """Return start and reason of the unit's next instruction; None while they are unknown."""
        lane = self.lanes[u]
        if lane.owed or len(lane.starts) >= len(lane.pushed):
            return None
        insn, push = lane.pushed[len(lane.starts)]
        start, reason = lane.free, 0
        if push + self.hop > start:
            start, reason = push + self.hop, 1
        for p in _BITS[self.waits[insn]]:
            channel = self.channels[p][u]
            if len(channel.popped) >= len(channel.arrived):
                return None
            arrival = channel.arrived[len(channel.popped)]
            if arrival > start:
                start, reason = arrival, 2 + p
        return start, reason

    def run(self, u: int, start: int, reason: int) -> None:
        """Run the head of one unit."""
        lane = self.lanes[u]
        insn = lane.pushed[len(lane.starts)][0]
        end = start + self.cycles[insn]
        if self.latency[insn]:
            self.dram_free = max(start, self.dram_free) + self.dram_cycles[insn]
            end = max(end, self.dram_free + self.latency[insn])
        for p in _BITS[self.waits[insn]]:
            self.channels[p][u].popped.append(start)
        lane.starts.append(start)
        self.start[insn], self.end[insn], self.reason[insn] = start, end, reason
        lane.free, lane.last, lane.ready = end, insn, None
        lane.owed = list(_BITS[self.signals[insn]])

    def step(self) -> bool:
        """Run the instruction that can start first; False when none can."""
        self.fetch()
        for u in _UNITS:
            if self.lanes[u].owed:
                self.send_owed(u)
        best, best_start = -1, 0
        for u in _UNITS:
            lane = self.lanes[u]
            if lane.ready is None:
                lane.ready = self.head_ready(u)
            if lane.ready is not None and (best < 0 or lane.ready[0] < best_start):
                best, best_start = u, lane.ready[0]
        if best < 0:
            return False
        ready = self.lanes[best].ready
        assert ready is not None
        self.run(best, *ready)
        return True

    def waiting(self) -> Iterator[str]:
        """Return one line per unit that cannot continue."""
        for u in _UNITS:
            lane, name = self.lanes[u], Unit(u).name
            if lane.owed:
                targets = ", ".join(Unit(q).name for q in self.full(u))
                yield f"{name} after instruction {lane.last} has no room for its token to {targets}"
            elif len(lane.starts) < len(lane.pushed):
                insn = lane.pushed[len(lane.starts)][0]
                missing = ", ".join(Unit(p).name for p in self.lacking(insn, u))
                yield f"{name} at instruction {insn} waits for a token of {missing}"
            else:
                yield f"{name} has an empty queue"
        if self.fetched < len(self.unit):
            full = Unit(self.unit[self.fetched]).name
            yield f"FETCH at instruction {self.fetched} waits for room in the queue of {full}"

    def full(self, u: int) -> Iterator[int]:
        for q in self.lanes[u].owed:
            channel = self.channels[u][q]
            if len(channel.arrived) - self.token_depth >= len(channel.popped):
                yield q

    def lacking(self, insn: int, u: int) -> Iterator[int]:
        for p in _BITS[self.waits[insn]]:
            channel = self.channels[p][u]
            if len(channel.popped) >= len(channel.arrived):
                yield p


def simulate(costs: Costs, array: ArrayConfig, timing: Timing) -> Timeline:
    """Run all instructions.  Deadlock: some can never start."""
    machine = _Machine(costs, array, timing)
    while machine.step():
        pass
    total = sum(unit >= 0 for unit in machine.unit)
    stuck = any(lane.owed for lane in machine.lanes)
    if stuck or sum(len(lane.starts) for lane in machine.lanes) < total:
        raise Deadlock("the program dead-locks: " + "; ".join(machine.waiting()))
    cycles = max([machine.end_fetched, *machine.end])
    arrays = (np.array(values, np.int64) for values in (machine.start, machine.end, machine.reason))
    start, end, reason = arrays
    return Timeline(costs.unit, start, end, reason, cycles)
