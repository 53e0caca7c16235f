# SPDX-License-Identifier: Apache-2.0
"""What is counted over a data set, in sums that may be taken chunk by chunk.

In: outputs of a chunk, what is right.  Out: sums; of all chunks' sums, the metric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import fsum, sqrt

import numpy as np

from ..errors import BadInput
from ..files import Array

Sums = tuple[float, ...]


@dataclass(frozen=True)
class Metric:
    """``sums(y, truth)`` of one chunk; ``value(sums)`` of their totals; ``unit`` of the value."""

    sums: Callable[[Array, Array], Sums]
    value: Callable[[Sequence[float]], float]
    unit: str


def _scores(y: Array, truth: Array) -> tuple[Array, Array]:
    """Return rows of class scores, and one label for each."""
    rows = y.reshape(-1, y.shape[-1])
    if truth.dtype.kind not in "iu" or truth.size != len(rows):
        raise BadInput(
            f"labels: found {truth.dtype} {truth.shape} for outputs {y.shape}; allowed is one "
            "integer per row of class scores, which lie along the last axis"
        )
    return rows, truth.reshape(-1)


def _right(most: int, y: Array, truth: Array) -> Sums:
    """Count rows whose label is among the ``most`` largest scores; of equal scores the first."""
    rows, labels = _scores(y, truth)
    best = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :most]
    return int((best == labels[:, None]).any(1).sum()), len(rows)


def _squares(y: Array, truth: Array) -> Sums:
    """Sum the squares of the error and of what is right."""
    if truth.size != y.size:
        raise BadInput(f"labels: found {truth.shape} for outputs {y.shape}; allowed is that shape")
    wanted = truth.astype(np.float64).reshape(-1)
    error = y.astype(np.float64).reshape(-1) - wanted
    return float(error @ error), float(wanted @ wanted)


def _share(totals: Sequence[float]) -> float:
    return 100.0 * totals[0] / totals[1]


def _relative(totals: Sequence[float]) -> float:
    return 100.0 * sqrt(totals[0] / totals[1]) if totals[1] else float(totals[0] > 0) * 100.0


METRICS: dict[str, Metric] = {
    "top1": Metric(lambda y, truth: _right(1, y, truth), _share, "% right"),
    "top5": Metric(lambda y, truth: _right(5, y, truth), _share, "% right"),
    "relative": Metric(_squares, _relative, "% error"),
}


def metric_of(name: str) -> Metric:
    """Return a metric by name."""
    if name not in METRICS:
        raise BadInput(f"metric: found {name!r}, allowed are {', '.join(METRICS)}")
    return METRICS[name]


def totals(parts: Sequence[Sums]) -> tuple[float, ...]:
    """Add the chunks' sums: exactly, so that no order of addition changes them."""
    columns = zip(*parts, strict=True)
    return tuple(
        sum(column) if all(isinstance(n, int) for n in column) else fsum(column)
        for column in columns
    )
