# SPDX-License-Identifier: Apache-2.0
"""Reorders the instructions of LOAD.

In: instructions in the order they were emitted, what each must wait for, what each costs.  Out: an
order in which a few later LOADs, such as the next tile's input, come before one that must wait; the
other units keep their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..hardware.isa import Unit

WINDOW = 24  # LOADs that may come before one that waits
NEVER = 1 << 62


@dataclass(frozen=True)
class Task:
    """One instruction: its unit, cycles, and the earlier tasks that must have finished."""

    unit: Unit
    cycles: int
    after: tuple[int, ...]


@dataclass
class _State:
    """A simulated run of all tasks: times at which tasks are ``ready``, unfinished waits in
    ``open``, and the ``end`` of those that ran.
    """

    tasks: Sequence[Task]
    open: list[int]
    ready: list[int]
    start: list[int]
    followers: list[list[int]]
    queues: dict[Unit, list[int]] = field(default_factory=dict)
    free: dict[Unit, int] = field(default_factory=lambda: dict.fromkeys(Unit, 0))

    def candidate(self, unit: Unit) -> tuple[int, int]:
        """Return start and queue place of the task that a unit can begin first."""
        best = (NEVER, 0)
        reach = WINDOW if unit == Unit.LOAD else 1
        for place, task in enumerate(self.queues[unit][:reach]):
            if not self.open[task]:
                start = max(self.free[unit], self.ready[task])
                if start < best[0]:
                    best = (start, place)
                if start == self.free[unit]:
                    break
        return best

    def run(self, unit: Unit, start: int, place: int) -> None:
        task = self.queues[unit].pop(place)
        self.start[task] = start
        self.free[unit] = end = start + self.tasks[task].cycles
        for follower in self.followers[task]:
            self.open[follower] -= 1
            self.ready[follower] = max(self.ready[follower], end)


def prefetched(tasks: Sequence[Task]) -> list[int]:
    """Order the tasks by the time at which they begin, which obeys every ``after``."""
    count = len(tasks)
    followers: list[list[int]] = [[] for _ in tasks]
    for i, task in enumerate(tasks):
        for earlier in task.after:
            followers[earlier].append(i)
    state = _State(tasks, [len(t.after) for t in tasks], [0] * count, [0] * count, followers)
    state.queues = {unit: [i for i, t in enumerate(tasks) if t.unit == unit] for unit in Unit}
    for _ in tasks:
        found = {unit: state.candidate(unit) for unit in Unit}
        unit = min(found, key=lambda u: found[u][0])
        state.run(unit, *found[unit])
    return sorted(range(count), key=lambda i: (state.start[i], i))
