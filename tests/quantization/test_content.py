# SPDX-License-Identifier: Apache-2.0
"""Digests of values, and values as bytes.

In: values of all kinds that compiling knows.  Out: digests that tell them apart, and equal values.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from neuralmatrix.hardware.isa import SegKind
from neuralmatrix.quantization.content import digest_of, from_bytes, to_bytes


@dataclass(frozen=True)
class Pair:
    """Two values."""

    a: Any
    b: Any = None


CLASSES = {"Pair": Pair, "SegKind": SegKind}
VALUES = [
    None, True, 1, 1.0, -0.0, 0.0, float("inf"), 0.1, "1", "", (), (1,), (1, (2,)), ((1, 2),),
    {"a": 1}, {"a": 1, "b": 2}, {"b": 2, "a": 1}, SegKind.LOG, SegKind.MAPPED, Pair(1), Pair(1, 1),
    np.float32(0.1), np.float64(0.1), np.int64(1), np.zeros(3, np.float32), np.zeros(3, np.int32),
    np.zeros((3, 1), np.float32), np.zeros((0, 3)), np.arange(3), np.arange(6)[::2],
    [1, 2], Pair({"x": (np.arange(2), -1.5)}, ["s"]),
]  # fmt: skip


def test_digests_differ() -> None:
    for a, b in combinations(VALUES, 2):
        assert digest_of(a) != digest_of(b), (a, b)
    assert digest_of(1, 2) != digest_of((1, 2))


def test_equal_values_have_equal_digests() -> None:
    assert digest_of(np.arange(6)[::2]) == digest_of(np.array([0, 2, 4]))
    assert digest_of(Pair((1, 2))) == digest_of(Pair((1, 2)))
    assert digest_of({3, 1, 2}) == digest_of({2, 3, 1})


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_there_and_back(value: Any) -> None:
    found = from_bytes(to_bytes(value), CLASSES)
    assert type(found) is type(value) and digest_of(found) == digest_of(value)


def test_what_has_no_digest() -> None:
    for made in (digest_of, to_bytes):
        with pytest.raises(TypeError, match="a object"):
            made((1, object()))


@pytest.mark.parametrize(
    "data",
    [
        b"[", b'["class","Path",{}]', b'["class","Pair",{"c":1}]', b'["code","1"]', b"[]",
        b'["array","<f8",[9],"AA=="]',
    ],
)  # fmt: skip
def test_damaged_bytes(data: bytes) -> None:
    with pytest.raises((ValueError, KeyError, TypeError, IndexError)):
        from_bytes(data, CLASSES)
