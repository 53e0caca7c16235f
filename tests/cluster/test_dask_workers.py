# SPDX-License-Identifier: Apache-2.0
"""Worker processes of Dask: the same counts, also where one of them is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from judged import (
    CLASSES,
    FEEDS,
    IMAGES,
    LABELS,
    OTHERS,
    PROGRAM,
    RIGHT,
    SAMPLES,
    two_layers,
)
from neuralmatrix.cluster import DataSet, Here, dask_workers, evaluate, on_dask, points_of, sweep
from neuralmatrix.cluster.dask_workers import Dask
from neuralmatrix.errors import BadInput, HostUnreachable, RemoteFailure, ToolMissing

pytestmark = [pytest.mark.gxx, pytest.mark.slow]


@pytest.fixture(scope="module")
def workers() -> Iterator[Dask]:
    pytest.importorskip("distributed")
    import dask

    few = {"distributed.scheduler.allowed-failures": 1}  # as the default of 3, in half the time
    with dask.config.set(few), on_dask(workers=2) as found:
        yield found


def test_counts_do_not_depend_on_the_workers(workers: Dask) -> None:
    for chunk in (1, 5, None):
        found = evaluate(PROGRAM, FEEDS, LABELS, chunk=chunk, workers=workers)
        assert found.sums == (RIGHT, LABELS.size)


def test_a_worker_that_is_killed_loses_nothing(workers: Dask) -> None:
    before = set(workers.client.run(os.getpid).values())
    ended: list[int] = []

    def kill_one(done: int, total: int) -> None:
        if not ended:
            os.kill(min(before), signal.SIGKILL)
        ended.append(done)

    found = evaluate(PROGRAM, FEEDS, LABELS, chunk=1, workers=workers, progress=kill_one)
    assert found.sums == (RIGHT, LABELS.size) and len(ended) == IMAGES
    workers.client.wait_for_workers(2, timeout=60)
    assert min(before) not in workers.client.run(os.getpid).values()


def test_a_worker_that_is_killed_in_mid_piece(workers: Dask, tmp_path: Path) -> None:
    mark = tmp_path / "died"

    def square(shared: int, item: int) -> int:
        if item == 3 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return shared * item**2

    found = dict(workers.each(square, 10, range(9)))
    assert found == {n: 10 * n**2 for n in range(9)} and mark.exists()


def test_a_piece_that_always_kills_is_named(workers: Dask) -> None:
    def kill(shared: None, item: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RemoteFailure, match="ended several workers, as too little memory would"):
        list(workers.each(kill, None, [0]))
    found = evaluate(PROGRAM, FEEDS, LABELS, workers=workers)
    assert found.sums == (RIGHT, LABELS.size), "the next work is done"


def test_an_error_of_a_piece_is_raised_here(workers: Dask) -> None:
    with pytest.raises(BadInput, match="one integer per row"):
        evaluate(PROGRAM, FEEDS, LABELS[:, :1], workers=workers)


def test_a_sweep_is_the_same(workers: Dask) -> None:
    points, data = points_of(["pynq-z2", "kv260"], ["int8", "int16"]), DataSet(OTHERS, CLASSES)
    found = sweep(two_layers(), points, SAMPLES, data=data, workers=workers)
    assert found == sweep(two_layers(), points, SAMPLES, data=data, workers=Here(1))
    assert all(row.score and row.score > 80 for row in found)


def test_a_scheduler_that_runs_already(workers: Dask) -> None:
    with on_dask(workers.client.scheduler.address, threads=2) as others:
        found = evaluate(PROGRAM, FEEDS, LABELS, workers=others)
    assert found.sums == (RIGHT, LABELS.size)


def test_workers_of_another_version(workers: Dask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_workers, "__version__", "0.0.0")
    with pytest.raises(BadInput, match="allowed is 0.0.0, as here"):
        dask_workers._check_versions(workers.client, "tcp://x")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense", "ftp://a:1"])
def test_no_scheduler(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(dask_workers, "CONNECT_SECONDS", 1)
    with pytest.raises(HostUnreachable, match="no scheduler of Dask.*dask scheduler"):
        with on_dask(address):
            pass


def test_without_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    missing: Any = None
    monkeypatch.setitem(sys.modules, "distributed", missing)
    with pytest.raises(ToolMissing, match=r"pip install 'neuralmatrix\[cluster\]'"):
        with on_dask():
            pass
