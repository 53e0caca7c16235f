# SPDX-License-Identifier: Apache-2.0
"""Scalar functions written as expressions of x: "where(greater(x,20),x,log(add(exp(x),1)))".

In: the text of an expression, and the table of named functions.  Out: what it computes, in float64,
and the points at which its slope is discontinuous.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np

from .types import Array

Scalar = Callable[..., Array]


def _where(condition: Array, first: Array, second: Array) -> Array:
    return np.asarray(np.where(np.asarray(condition) != 0, first, second))


ARITHMETIC: Mapping[str, Scalar] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "min": np.minimum,
    "max": np.maximum,
    "greater": lambda a, b: np.where(a > b, 1.0, 0.0),
    "greater_equal": lambda a, b: np.where(a >= b, 1.0, 0.0),
    "equal": lambda a, b: np.where(a == b, 1.0, 0.0),
    "where": _where,
}
_MEET = frozenset(("min", "max", "greater", "greater_equal", "equal"))  # corners where a = b
_BENT = frozenset(("relu", "leaky_relu", "abs", "elu", "celu", "selu", "sign"))  # corners at 0
_STEPS = 60  # of a bisection: to the last bit of float64
_POINTS = np.geomspace(1e-5, 1e5, 3001)
_GRID = np.concatenate((-_POINTS[::-1], _POINTS))


@dataclass(frozen=True)
class Term:
    """A function of terms; without arguments x itself, or a ``value``."""

    name: str
    terms: tuple[Term, ...] = ()
    value: float = 0.0

    def __call__(self, x: Array, table: Mapping[str, Scalar]) -> Array:
        if self.name == "x":
            return x
        if not self.terms:
            return np.asarray(self.value)
        return np.asarray(table[self.name](*(term(x, table) for term in self.terms)))

    def all(self) -> Iterator[Term]:
        """Return this term and all inside it."""
        yield self
        for term in self.terms:
            yield from term.all()


def is_expression(name: str) -> bool:
    """Return whether a function's name is an expression."""
    return "(" in name


@lru_cache(maxsize=256)
def parsed(text: str) -> Term:
    """Return the term that a text stands for.

    >>> parsed("add(x,1)")(np.asarray(2.0), ARITHMETIC)
    array(3.)
    """
    term, rest = _term(text)
    if rest:
        raise ValueError(f"{text!r} goes on with {rest!r} behind its end")
    return term


def _term(text: str) -> tuple[Term, str]:
    end = next((i for i, sign in enumerate(text) if sign in "(),"), len(text))
    name, rest = text[:end], text[end:]
    if not rest.startswith("("):
        return (Term("x") if name == "x" else Term("", value=float(name))), rest
    terms = []
    while rest[0] != ")":
        term, rest = _term(rest[1:])
        terms.append(term)
    return Term(name, tuple(terms)), rest[1:]


def corners(
    text: str, table: Mapping[str, Scalar], kinks: Mapping[str, Callable[..., tuple[float, ...]]]
) -> tuple[float, ...]:
    """Return the points, between 1e-5 and 1e5 on both sides of 0, at which a part of the expression
    turns or jumps."""
    found: set[float] = set()
    for term in parsed(text).all():
        for zero_of in _differences(term, table, kinks):
            found.update(_zeros(zero_of))
    return tuple(sorted(found))


def _differences(
    term: Term, table: Mapping[str, Scalar], kinks: Mapping[str, Callable[..., tuple[float, ...]]]
) -> Iterator[Callable[[Array], Array]]:
    """Return functions that are 0 where a term, but not its arguments, has a corner."""
    if not term.terms:
        return
    first, *others = term.terms
    levels: list[float] = [0.0] if term.name in _BENT else []
    if term.name in kinks:
        levels += kinks[term.name](*(other.value for other in others))
    meets = [Term("", value=level) for level in levels]
    meets += others if term.name in _MEET else []
    for other in meets:
        yield partial(Term("sub", (first, other)), table=table)


def _zeros(function: Callable[[Array], Array]) -> list[float]:
    with np.errstate(all="ignore"):
        above = np.broadcast_to(function(_GRID), _GRID.shape) > 0
        at = np.flatnonzero(above[1:] != above[:-1])
        low, high, first = _GRID[at], _GRID[at + 1], above[at]
        for _ in range(_STEPS):
            middle = (low + high) / 2
            same = (function(middle) > 0) == first
            low, high = np.where(same, middle, low), np.where(same, high, middle)
    # constants of models are float32: a bisection ends beside them
    return [float(np.float32(x)) for x in high if abs(x) > _POINTS[0]]
