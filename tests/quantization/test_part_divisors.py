# SPDX-License-Identifier: Apache-2.0
"""Divisors of parts: equal ranges, shared labels, silent parts, and room for later values.

In: peaks by label.  Out: a divisor for each.
"""

from __future__ import annotations

import numpy as np
import pytest
from blocks import Maker
from neuralmatrix.ir.matgraph.ops import Move
from neuralmatrix.quantization.part_divisors import (
    CHANNEL_ROOM,
    INT16_ROOM,
    Group,
    channel_rooms,
    label_weights,
    part_divisors,
)


def group(peaks: dict[int, float], int16: bool = False) -> Group:
    return Group(("x",), np.array(list(peaks)), np.array(list(peaks.values())), int16)


def test_parts_of_a_group_get_equal_ranges() -> None:
    found = part_divisors([group({1: 4.0, 2: 0.5, 3: 100.0})], {}, [], 1.0)
    assert [found[k] for k in (1, 2, 3)] == pytest.approx([0.04, 0.005, 1.0])


def test_the_fixed_label_keeps_its_unit() -> None:
    found = part_divisors([group({0: 4.0, 2: 0.5})], {}, [], 1.0)
    assert found == pytest.approx({0: 1.0, 2: 0.125})


def test_labels_of_several_groups_have_one_divisor() -> None:
    found = part_divisors([group({1: 1.0, 2: 1000.0}), group({2: 3.0, 3: 30.0})], {}, [], 1.0)
    assert [found[k] for k in (1, 2, 3)] == pytest.approx([1e-3, 1.0, 10.0])


def test_products_share_the_difference_with_their_weights() -> None:
    found = part_divisors([group({1: 1.0, 2: 16.0})], {1: 1.0, 2: 1.0}, [], 0.5)
    assert found[2] / found[1] == pytest.approx(4.0)


def test_silent_parts_take_the_largest_divisor_within_their_weights() -> None:
    weights = {1: 1.0, 2: 0.01, 3: 0.5}
    found = part_divisors([group({1: 1.0, 2: 100.0, 3: 0.0})], weights, [], 1.0)
    assert found[3] == pytest.approx(0.01 / 0.5)  # the heaviest is 0.01 * 1
    assert part_divisors([group({1: 1.0, 2: 100.0, 3: 0.0})], {}, [], 1.0)[3] == 1.0


def test_overflow_on_the_samples_decides_nothing() -> None:
    assert group({1: 1.0, 2: np.inf, 3: np.nan}).spread == 1.0


def test_small_parts_of_int16_tensors_have_room() -> None:
    peaks = {1: 1e-3, 2: 0.5, 3: 1.0}
    found = part_divisors([group(peaks, int16=True)], {}, [], 1.0)
    assert [found[k] for k in peaks] == pytest.approx([INT16_ROOM * 1e-3, 1.0, 1.0])
    # but not where a product would have to take it into its int8 weights
    assert part_divisors([group(peaks, int16=True)], {1: 1.0}, [], 1.0)[1] == pytest.approx(1e-3)


def test_channels_alike_keep_a_part_of_the_largest_divisor() -> None:
    found = part_divisors([group({1: 1e-3, 2: 0.5, 3: 100.0})], {}, [[1, 2]], 1.0)
    assert [found[k] for k in (1, 2)] == pytest.approx([CHANNEL_ROOM * 0.005, 0.005])


def test_channels_are_alike_where_one_product_makes_them_for_the_same_readers() -> None:
    b = Maker()
    b.tensor("x", (1, 1, 2, 3))
    b.gemm("g", "x", 4)
    b.ops.append(Move("m", ("g",), np.array([0, 1]).reshape(1, 1, 1, 2)))
    b.tensor("m", (1, 1, 1, 2))
    b.gemm("y", "m", 2)
    mg = b.graph()
    labels = {"x": np.array([1, 2, 3]), "g": np.array([4, 5, 6, 7]), "m": np.array([4, 5])}
    labels = {n: a.reshape(1, 1, 1, -1) for n, a in {**labels, "y": np.array([8, 9])}.items()}
    assert channel_rooms(mg, labels) == [[6, 7], [4, 5]]
    weights = label_weights(mg, labels)
    assert set(weights) == {1, 2, 3, 4, 5}
    largest = np.abs(np.asarray(mg.ops[0].weight)).max((0, 1, 3))  # type: ignore[attr-defined]
    np.testing.assert_allclose([weights[k] for k in (1, 2, 3)], largest)
