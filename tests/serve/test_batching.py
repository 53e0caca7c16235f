# SPDX-License-Identifier: Apache-2.0
"""Waiting requests run together, and each gets its own result.

In: runners that count, fail or wait.  Out: results, sizes of batches, refusals.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from neuralmatrix.errors import BadInput
from neuralmatrix.ir.types import Array
from neuralmatrix.serve.batching import Batcher, Limits
from neuralmatrix.serve.protocol import RequestRefused


@dataclass
class Doubling:
    """Doubles its input once the gate is open; fails on values below 0."""

    gate: threading.Event = field(default_factory=threading.Event)
    sizes: list[int] = field(default_factory=list)

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        assert self.gate.wait(20)
        x = feeds["x"]
        if (x < 0).any():
            raise BadInput("found a value below 0")
        self.sizes.append(len(x))
        return {"y": 2 * x, "all": np.arange(3)}


def x(value: float, count: int = 1) -> dict[str, Array]:
    return {"x": np.full((count, 2), value, np.float32)}


def worked(run: Doubling, use: Callable[[Batcher], Awaitable[Any]], batches: bool = True,
           **limits: Any) -> Any:  # fmt: skip
    """Return what ``use`` returns of a batcher at work."""

    async def main() -> Any:
        with ThreadPoolExecutor(1) as pool:
            batcher = Batcher(run, batches=batches, fixed=frozenset({"all"}),
                              limits=Limits(**limits), executor=pool)  # fmt: skip
            found = await use(batcher)
            run.gate.set()
            batcher.end()
            await batcher.ended()
            return found

    return asyncio.run(main())


async def queued(batcher: Batcher, *feeds: dict[str, Array]) -> list[asyncio.Future[Any]]:
    """Submit requests one by one: the first runs, the others wait."""
    tasks = []
    for one in feeds:
        try:
            tasks.append(batcher.submit(one, len(one["x"])))
        except RequestRefused as error:
            tasks.append(asyncio.get_running_loop().create_future())
            tasks[-1].set_exception(error)
        await asyncio.sleep(0.02)
    return tasks


def test_what_waits_runs_together_and_is_told_apart() -> None:
    run = Doubling()

    async def use(batcher: Batcher) -> list[Any]:
        tasks = await queued(batcher, x(0), x(1, 2), x(2), x(3, 4))
        assert batcher.waiting == 7
        run.gate.set()
        return await asyncio.gather(*tasks)

    found = worked(run, use, max_batch=4)
    assert run.sizes == [1, 3, 4]  # the last would have made 7
    assert found[1].run_s == found[2].run_s > 0, "of the run that both were part of"
    for value, count, one in zip(range(4), (1, 2, 1, 4), found, strict=True):
        outputs = one.outputs
        np.testing.assert_array_equal(outputs["y"], np.full((count, 2), 2 * value))
        np.testing.assert_array_equal(outputs["all"], [0, 1, 2])  # belongs to every one


def test_programs_without_a_batch_run_one_by_one() -> None:
    run = Doubling()

    async def use(batcher: Batcher) -> Any:
        tasks = await queued(batcher, x(0), x(1), x(2))
        run.gate.set()
        return await asyncio.gather(*tasks)

    worked(run, use, batches=False)
    assert run.sizes == [1, 1, 1]


def test_one_that_fails_does_not_spoil_its_batch() -> None:
    run = Doubling()

    async def use(batcher: Batcher) -> list[Any]:
        tasks = await queued(batcher, x(0), x(1), x(-1), x(2))
        run.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = worked(run, use)
    assert isinstance(found[2], BadInput)
    assert [f.outputs["y"][0, 0] for i, f in enumerate(found) if i != 2] == [0, 2, 4]
    assert run.sizes == [1, 1, 1], "x(-1) was with x(1) and x(2), then with x(2)"


def test_good_ones_stay_together_where_one_is_bad() -> None:
    run = Doubling()

    async def use(batcher: Batcher) -> list[Any]:
        tasks = await queued(batcher, x(0), *(x(1) for _ in range(8)), x(-1))
        run.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = worked(run, use)
    assert isinstance(found[-1], BadInput) and all(f.outputs["y"][0, 0] == 2 for f in found[1:-1])
    assert sorted(run.sizes) == [1, 1, 1, 2, 4], "halves, until the bad one is by itself"


def test_a_full_queue_refuses_and_a_large_request_alone_does_not() -> None:
    run = Doubling()

    async def use(batcher: Batcher) -> Any:
        tasks = await queued(batcher, x(0), x(1, 9), x(2))  # 9 of 8: nothing waited before it
        with pytest.raises(RequestRefused, match="9 inputs wait already, of at most 8") as caught:
            await tasks[2]
        run.gate.set()
        await asyncio.gather(*tasks[:2])
        return caught.value.status

    assert worked(run, use, max_queue=8) == 503 and run.sizes == [1, 9]


def test_who_goes_away_is_not_run() -> None:
    run = Doubling()

    async def use(batcher: Batcher) -> None:
        tasks = await queued(batcher, x(0), x(1), x(2))
        tasks[1].cancel()
        await asyncio.sleep(0.02)
        assert batcher.waiting == 1
        run.gate.set()
        await tasks[2]

    worked(run, use)
    assert run.sizes == [1, 1]


def test_the_end_refuses_what_waits_and_answers_what_runs() -> None:
    run = Doubling()

    async def use(batcher: Batcher) -> list[Any]:
        tasks = await queued(batcher, x(0), x(1))
        batcher.end()
        tasks += await queued(batcher, x(2))
        run.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = worked(run, use)
    assert found[0].outputs["y"][0, 0] == 0
    assert all(isinstance(f, RequestRefused) and f.status == 503 for f in found[1:])
    assert run.sizes == [1]
