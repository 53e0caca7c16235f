# SPDX-License-Identifier: Apache-2.0
"""Sums of a metric: chunk by chunk they give what the whole gives."""

from __future__ import annotations

import numpy as np
import pytest
from neuralmatrix.cluster.metrics import metric_of, totals
from neuralmatrix.errors import BadInput

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(23, 7)).astype(np.float32)
LABELS = RNG.integers(0, 7, 23)


@pytest.mark.parametrize("most", [1, 5])
def test_classes_are_counted(most: int) -> None:
    metric = metric_of(f"top{most}")
    best = np.argsort(-SCORES, axis=1)[:, :most]
    right = sum(label in row for label, row in zip(LABELS, best, strict=True))
    found = metric.sums(SCORES, LABELS)
    assert found == (right, 23) and 0 < right < 23
    assert metric.value(found) == 100 * right / 23


def test_of_equal_scores_the_first_counts() -> None:
    assert metric_of("top1").sums(np.zeros((2, 3)), np.array([0, 1])) == (1, 2)


def test_relative_error() -> None:
    truth = SCORES + 0.1
    metric = metric_of("relative")
    wanted = np.linalg.norm(SCORES - truth) / np.linalg.norm(truth)
    assert metric.value(metric.sums(SCORES, truth)) == pytest.approx(100 * wanted, rel=1e-6)
    assert metric.value((0.0, 0.0)) == 0.0 and metric.value((1.0, 0.0)) == 100.0


@pytest.mark.parametrize("name, truth", [("top1", LABELS), ("relative", SCORES + 0.1)])
def test_no_order_of_chunks_changes_totals(name: str, truth: np.ndarray) -> None:
    metric = metric_of(name)
    parts = [metric.sums(SCORES[i : i + 5], truth[i : i + 5]) for i in range(0, 23, 5)]
    assert totals(parts) == totals(parts[::-1]) == totals([parts[2], *parts[:2], *parts[3:]])
    assert totals(parts) == pytest.approx(metric.sums(SCORES, truth))


@pytest.mark.parametrize(
    "name, truth, words",
    [
        ("top1", LABELS[:22], "one integer per row of class scores"),
        ("top5", LABELS.astype(float), "found float64"),
        ("relative", LABELS, "allowed is that shape"),
    ],
)
def test_labels_that_do_not_fit(name: str, truth: np.ndarray, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        metric_of(name).sums(SCORES, truth)


def test_a_metric_that_is_none() -> None:
    with pytest.raises(BadInput, match="found 'f1', allowed are top1, top5, relative"):
        metric_of("f1")
