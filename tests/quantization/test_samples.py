# SPDX-License-Identifier: Apache-2.0
"""Samples: which are held back, which are spread, which are stacked.

In: numbered runs.  Out: every run once, on one of two sides.
"""

from __future__ import annotations

import numpy as np
import pytest
from blocks import Maker
from neuralmatrix.ir.matgraph.ops import MatGraph
from neuralmatrix.quantization.samples import MOST_HELD, Samples, chunks, spread


def graph() -> MatGraph:
    b = Maker()
    b.tensor("x", (1, 1, 1, 2))
    b.gemm("y", "x", 2)
    return b.graph()


def numbered(count: int) -> list[dict[str, np.ndarray]]:
    mg = graph()
    shape = mg.inputs[0].shape
    return [{mg.inputs[0].name: np.full(shape, i, np.float32)} for i in range(count)]


def numbers(runs) -> list[int]:  # type: ignore[no-untyped-def]
    return [int(next(iter(run.values())).flat[0]) for run in runs]


@pytest.mark.parametrize(
    ("count", "held"), [(1, 0), (7, 0), (8, 2), (9, 2), (16, 4), (64, 16), (256, MOST_HELD)]
)
def test_one_in_four_is_held_back(count: int, held: int) -> None:
    samples = Samples(numbered(count), 256, hold=True)
    back, kept = numbers(samples.held(graph())), numbers(samples.runs(graph()))
    assert len(back) == held
    assert sorted(back + kept) == list(range(count))
    assert numbers(samples.held(graph())) == back  # the same ones again


def test_held_back_ones_are_spread_without_a_period() -> None:
    back = numbers(Samples(numbered(64), 64, hold=True).held(graph()))
    assert [number // 4 for number in back] == list(range(16))
    assert len({number % 4 for number in back}) > 1


def test_nothing_is_held_back_unasked() -> None:
    samples = Samples(numbered(16), 256)
    assert samples.held(graph()) == () and len(list(samples.runs(graph()))) == 16


def test_a_generator_is_read_once_and_no_further_than_asked() -> None:
    read = []

    def endless():  # type: ignore[no-untyped-def]
        for run in numbered(100):
            read.append(run)
            yield run

    samples = Samples(endless(), 12, hold=True)
    assert len(samples.held(graph())) == 3 and len(list(samples.runs(graph()))) == 9
    assert len(read) == 12


def test_spread_takes_from_the_whole() -> None:
    assert numbers(spread(numbered(100), 4)) == [12, 37, 62, 87]
    assert numbers(spread(numbered(3), 8)) == [0, 1, 2]


def test_chunks_hold_every_run_once() -> None:
    found = list(chunks(graph(), numbered(37)))
    assert np.concatenate([c["x"] for c in found])[:, ..., 0].ravel().tolist() == list(range(37))
