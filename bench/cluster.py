# SPDX-License-Identifier: Apache-2.0
"""A data set on two workers against one process: the same count, and how much sooner.

In: the data folder's ResNet-8 and its 10,000 images of CIFAR-10.  Out: accuracy of one process, of
two worker processes, and of two of which one is killed, each with one thread of emulation; speed as
a multiple of the one process's, the median of rounds in turn.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np
from common import TASKS, Row, Task, calibration, compile_for, report

ROUNDS = 3
WARM = slice(0, 2000)
LEAST_GAIN = 1.7


class Counts:
    """Right answers and images over the parts of a task."""

    def __init__(self, program: Any, task: Task) -> None:
        self.program, self.task = program, task
        self.sums = np.zeros(2)

    def add(self, part: slice, workers: Any, **more: Any) -> float:
        """Evaluate a part; return its seconds."""
        from neuralmatrix.cluster import evaluate

        began = time.perf_counter()
        x, y = self.task.x[part], self.task.y[part].astype(np.int64)
        found = evaluate(self.program, {self.task.input: x}, y, workers=workers, **more)
        self.sums += found.sums
        return time.perf_counter() - began

    @property
    def accuracy(self) -> float:
        """Top-1 in percent."""
        return 100 * float(self.sums[0] / self.sums[1])


def main() -> None:
    from neuralmatrix.cluster import Here, on_dask

    task = TASKS["resnet8"]()
    program = compile_for(task.path, task.input, task.x[:1].shape, calibration(task))
    alone, pair, killed = (Counts(program, task) for _ in range(3))
    gains = []
    with on_dask(workers=2) as workers:
        for part in (WARM, *[slice(None)] * ROUNDS):
            alone.sums[:] = pair.sums[:] = 0
            one = alone.add(part, Here(threads=1))
            gains.append(one / pair.add(part, workers))
        pids = sorted(workers.client.run(os.getpid).values())

        def kill(done: int, total: int) -> None:
            if done >= total // 3 and pids:
                os.kill(pids.pop(), signal.SIGKILL)
                pids.clear()

        killed.add(slice(None), workers, progress=kill)
    report("cluster", [
        Row("ResNet-8, images", float(alone.sums[1]), "", "emulated"),
        Row("ResNet-8, one process", alone.accuracy, "% top-1", "emulated"),
        *(
            Row(f"ResNet-8, {what}: images counted otherwise",
                float(abs(alone.sums - counts.sums).sum()), "", "emulated", at_most=0)
            for what, counts in (("two workers", pair), ("one of them killed", killed))
        ),
        Row("ResNet-8, two workers over one process", float(np.median(gains[1:])), "x", "measured",
            at_least=LEAST_GAIN),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
