# SPDX-License-Identifier: Apache-2.0
"""Room of int8 tensors for what the samples miss.

In: ends of runs drawn from known distributions.  Out: factors.
"""

from __future__ import annotations

import numpy as np
import pytest
from neuralmatrix.quantization.tail_room import FEWEST, RARE, USUAL, tail_room


def ends(values: np.ndarray) -> list[tuple[float, float]]:
    return [(float(run.min()), float(run.max())) for run in values]


def test_fixed_bounds_and_few_runs_get_no_room() -> None:
    rng = np.random.default_rng(0)
    assert tail_room([(0.0, 255.0)] * 48) == (1.0, 1.0)
    assert tail_room(ends(rng.normal(size=(FEWEST - 1, 8)))) == (1.0, 1.0)
    assert tail_room([(0.5, 2.0 + i) for i in range(20)])[0] == 1.0  # no value below 0


@pytest.mark.parametrize("runs", [24, 96])
def test_new_runs_of_a_normal_distribution_seldom_go_beyond(runs: int) -> None:
    rng = np.random.default_rng(2)
    new = rng.normal(size=(4000, 8))
    within, beyond = [], []
    for _ in range(20):
        seen = rng.normal(size=(runs, 8))
        low, high = tail_room(ends(seen))
        assert 1.0 < high < USUAL.most
        within.append(np.mean((new.min(1) < seen.min()) | (new.max(1) > seen.max())))
        beyond.append(np.mean((new.min(1) < seen.min() * low) | (new.max(1) > seen.max() * high)))
    # an exponential tail gives 1 / e to 1 / e^2 of those without room, by the number of runs
    assert (
        np.mean(beyond) < np.mean(within) / 3
    )  # with fewer samples the room, and the share, is larger


def test_room_is_bounded() -> None:
    assert tail_room([(0.0, 0.0)] * 6 + [(0.0, 10.0), (-1.0, 9.0)]) == (USUAL.most, USUAL.most)


def test_more_room_where_answers_are_rare() -> None:
    seen = ends(np.random.default_rng(1).normal(size=(72, 8)))
    usual, rare = tail_room(seen), tail_room(seen, RARE)
    assert all(1.0 < a < b < RARE.most for a, b in zip(usual, rare, strict=True))
    assert tail_room([(0.0, 255.0)] * 48, RARE) == (1.0, 1.0)
