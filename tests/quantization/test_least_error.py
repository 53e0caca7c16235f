# SPDX-License-Identifier: Apache-2.0
"""Rounding with error feedback: against the nearest integers, and against all integers.

In: random weights and inputs.  Out: errors of the products, by numpy in float64.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from neuralmatrix.ir.types import Array
from neuralmatrix.quantization.least_error import least_error


def correlated(seed: int, groups: int, rows: int, count: int, rank: int) -> Array:
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((groups, rows, rank)) @ rng.standard_normal((groups, rank, count))
    return np.asarray(mixed + 0.1 * rng.standard_normal((groups, rows, count)))


def weights(seed: int, *shape: int) -> Array:
    weight = np.random.default_rng(seed).standard_normal(shape)
    return np.asarray(weight / np.abs(weight).max(1, keepdims=True) * 127)


def moments(x: Array) -> Array:
    return np.asarray(x.swapaxes(1, 2) @ x)


def loss(x: Array, error: Array) -> float:
    return float(np.linalg.norm(x @ error))


@pytest.mark.parametrize(
    ("groups", "count", "columns"), [(1, 9, 1), (1, 300, 20), (3, 40, 7), (64, 9, 1), (2, 1, 5)]
)
def test_integers_are_near_and_in_range(groups: int, count: int, columns: int) -> None:
    x, weight = correlated(1, groups, 500, count, 3), weights(2, groups, count, columns)
    found = least_error(weight, moments(x))
    assert found.shape == weight.shape and found.dtype == np.int32
    assert np.abs(found).max() <= 127 and np.abs(found - np.rint(weight)).max() <= 1


@pytest.mark.parametrize(("groups", "count"), [(1, 300), (1, 64), (4, 36)])
def test_errors_of_correlated_inputs_cancel(groups: int, count: int) -> None:
    x, weight = correlated(3, groups, 2000, count, count // 8), weights(4, groups, count, 16)
    found = least_error(weight, moments(x[:, :1500]))
    unseen = x[:, 1500:]
    assert loss(unseen, weight - found) < 0.5 * loss(unseen, weight - np.rint(weight))


def test_independent_inputs_have_the_nearest_integers() -> None:
    weight = weights(5, 2, 200, 8)
    same = np.stack([np.eye(200), np.diag(np.arange(200.0) + 1)])
    np.testing.assert_array_equal(least_error(weight, same), np.rint(weight))


def test_zeros_stay() -> None:
    x, weight = correlated(12, 1, 300, 40, 3), weights(13, 1, 40, 8)
    weight[:, ::3] = 0.0
    weight[:, :, 2] = 0.0
    found = least_error(weight, moments(x))
    assert not found[weight == 0].any() and (found != np.rint(weight)).any()


def test_inputs_that_are_always_zero_have_the_nearest_integers() -> None:
    weight, x = weights(6, 1, 20, 8), correlated(7, 1, 200, 20, 3)
    x[..., [3, 7]] = 0.0
    found = least_error(weight, moments(x))
    np.testing.assert_array_equal(found[:, [3, 7]], np.rint(weight)[:, [3, 7]])
    np.testing.assert_array_equal(least_error(weight, np.zeros((1, 20, 20))), np.rint(weight))


def test_the_best_integers_are_hardly_better() -> None:
    """Judge: all 3^6 choices within 1 of the nearest integers."""
    ratios = []
    for seed in range(20):
        x, weight = correlated(seed, 1, 100, 6, 2), weights(seed, 1, 6, 1)
        nearest = np.rint(weight)
        every = np.array(list(product((-1, 0, 1), repeat=6)))[:, :, None] + nearest
        best = min(loss(x[0], weight[0] - choice) for choice in every if abs(choice).max() <= 127)
        found = loss(x, weight - least_error(weight, moments(x)))
        plain = loss(x, weight - nearest)
        assert best <= found + 1e-9
        ratios.append((best / plain, found / plain))
    best_ratio, ratio = np.exp(np.log(ratios).mean(0))
    # a greedy method: halfway, in decibels, from the nearest integers to the best
    assert ratio < best_ratio**0.5 < 0.8


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = correlated(8, 1, 500, 50, 5), weights(9, 1, 50, 4)
    whole = least_error(weight, moments(x))
    monkeypatch.setattr("neuralmatrix.quantization.least_error.BLOCK", 7)
    np.testing.assert_array_equal(least_error(weight, moments(x)), whole)


def test_moments_of_one_overwhelming_input_have_a_factor() -> None:
    """Float32 sums of such moments need not be positive definite."""
    x = correlated(10, 1, 400, 600, 2).astype(np.float32)
    x[..., 0] *= 1e6
    x[..., 1] = x[..., 0]
    found = least_error(weights(11, 1, 600, 3), moments(x))
    assert np.abs(found).max() <= 127
