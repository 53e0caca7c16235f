# SPDX-License-Identifier: Apache-2.0
"""The jobs of the K loop: every sum is complete, and zero blocks are left out.

In: plans and runs of blocks.  Out: jobs.
"""

from __future__ import annotations

import numpy as np
import pytest
from neuralmatrix.scheduling.gemm_jobs import Chunk, Job, plan_jobs, runs_of
from neuralmatrix.scheduling.gemm_tiling import GemmPlan


@pytest.mark.parametrize(
    "used, gap, runs",
    [
        ("110011", 3, [(0, 6)]),
        ("110011", 2, [(0, 2), (4, 6)]),
        ("0010", 1, [(2, 3)]),
        ("000", 1, [(0, 1)]),
    ],
)
def test_runs_leave_out_zero_blocks(used: str, gap: int, runs: list[tuple[int, int]]) -> None:
    found = runs_of(np.array([c == "1" for c in used]), gap)
    assert [(run.start, run.stop) for run in found] == runs


class Counted:
    """Weights that only count their parts."""

    byte_planes = 1

    def __init__(self) -> None:
        self.count = 0

    def add(self, nb: range, chunk: Chunk) -> int:
        self.count += 1
        return self.count

    def version(self, image: int) -> int:
        return 0

    def load(self, job: Job, image: int, base: int) -> None:
        raise AssertionError("not loaded here")


@pytest.mark.parametrize("depth, gaps", [(4, False), (10, False), (4, True), (10, True)])
def test_jobs_complete_every_sum_once(depth: int, gaps: bool) -> None:
    """Five output blocks of ten input blocks have all products, one first and one last job each."""
    runs = [[range(b % 3, 4), range(6, 10)] if gaps else [range(10)] for b in range(5)]
    plan = GemmPlan((1, 8), 2, (1, 1, depth), False, False, depth < 10, 0.0)
    done: set[tuple[int, int]] = set()
    for group in plan_jobs(Counted(), plan, (1, 1), runs, 16):
        sums: dict[int, int] = {}
        for job in group:
            for nb in job.nb:
                assert job.first == (nb not in sums)
                assert sums.setdefault(nb, job.acc) == job.acc
                assert set(job.chunk.cb) <= set(job.serves.cb)
                assert not done & {(nb, cb) for cb in job.chunk.cb}
                done |= {(nb, cb) for cb in job.chunk.cb}
            assert job.first and job.last or len(job.nb) == 1
        assert sum(len(job.nb) for job in group if job.last) == len(sums)
        if depth < 10:
            assert len(set(sums.values())) == len(sums)
    assert done == {(nb, cb) for nb, all_ in enumerate(runs) for run in all_ for cb in run}
