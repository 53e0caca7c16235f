# SPDX-License-Identifier: Apache-2.0
"""Parametrizations of which the quick run uses only some values.

In: values.  Out: the same for ``pytest.mark.parametrize``, the others marked ``slow``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import pytest

PARAM = type(pytest.param())


def slow_after(count: int, values: Iterable[Any]) -> list[Any]:
    """Return values of one argument; those after the first ``count`` are slow."""
    return [value if i < count else _slow(value) for i, value in enumerate(values)]


def slow_repeats(values: Iterable[Any], kind: Callable[[Any], Hashable]) -> list[Any]:
    """Return values of one argument; all but the first of every kind are slow."""
    seen: set[Hashable] = set()
    marked = []
    for value in values:
        marked.append(_slow(value) if kind(value) in seen else value)
        seen.add(kind(value))
    return marked


def _slow(value: Any) -> Any:
    """Return a value, or a ``pytest.param`` of one, with the mark."""
    if not isinstance(value, PARAM):
        return pytest.param(value, marks=pytest.mark.slow)
    return pytest.param(*value.values, marks=[*value.marks, pytest.mark.slow], id=value.id)
