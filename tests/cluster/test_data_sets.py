# SPDX-License-Identifier: Apache-2.0
"""Data sets in this process: the counts, and what is refused before any run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from judged import FEEDS, LABELS, PROGRAM, RIGHT, X
from neuralmatrix.cluster import Here, evaluate
from neuralmatrix.errors import BadInput


@pytest.mark.gxx
@pytest.mark.parametrize("chunk", [None, 1, 3, 1000])
def test_counts_are_those_of_one_run(chunk: int | None) -> None:
    steps: list[tuple[int, int]] = []
    found = evaluate(
        PROGRAM, FEEDS, LABELS, chunk=chunk, workers=Here(1), progress=lambda *n: steps.append(n)
    )
    assert found.sums == (RIGHT, LABELS.size) and found.images == len(X)
    assert found.value == 100 * RIGHT / LABELS.size
    assert steps[-1] == (len(X), len(X)) and found.output == "y"
    assert found.to_dict()["sums"] == [RIGHT, LABELS.size]


@pytest.mark.gxx
def test_relative_error_of_a_copy_is_its_rounding() -> None:
    found = evaluate(PROGRAM, FEEDS, X, "relative", chunk=4, workers=Here(1))
    assert 0 < found.value < 5 and found.unit == "% error"


@pytest.mark.parametrize(
    "change, words",
    [
        ({"truth": LABELS[1:]}, "for 12 inputs"),
        ({"truth": ["a"] * 12}, "allowed are numbers"),
        ({"feeds": {"z": X}}, r"found inputs \['z'\]"),
        ({"metric": "best"}, "metric: found 'best'"),
        ({"output": "z"}, "output: found 'z', allowed is one of 'y'"),
    ],
)
def test_what_is_refused_before_any_run(change: dict[str, Any], words: str) -> None:
    given: dict[str, Any] = {"feeds": FEEDS, "truth": LABELS, **change}
    with pytest.raises(BadInput, match=words):
        evaluate(PROGRAM, given.pop("feeds"), given.pop("truth"), **given)


def test_one_input_is_a_data_set() -> None:
    found = evaluate(PROGRAM, {"x": X[:1]}, LABELS[:1], workers=Here(1))
    assert found.images == 1 and found.sums[1] == np.size(LABELS[:1])
