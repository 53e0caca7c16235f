# SPDX-License-Identifier: Apache-2.0
"""Element-wise operations of the host, as ONNX defines them.

In: arrays and attributes.  Out: arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce

import numpy as np

from ..types import Array
from .limits import broadcast
from .types import ELEMENT_TYPES

Attributes = Mapping[str, int]
Function = Callable[..., Array]


def binary(function: Function) -> Function:
    """Return the evaluation of a function of two or more arrays that broadcast."""

    def evaluate(attributes: Attributes, *arrays: Array) -> Array:
        broadcast(*arrays)
        return np.asarray(reduce(function, arrays))

    return evaluate


def unary(function: Function) -> Function:
    """Return the evaluation of a function of one array, in the type of that array."""

    def evaluate(attributes: Attributes, x: Array) -> Array:
        return np.asarray(function(x))

    return evaluate


def _divided(a: Array, b: Array) -> Array:
    """Divide; integers are rounded towards 0."""
    if a.dtype.kind not in "iu":
        return np.asarray(a / b)
    quotient, rest = np.divmod(a, b)
    return np.asarray(quotient + ((rest != 0) & ((rest < 0) != (a < 0))), dtype=a.dtype)


def modulo(attributes: Attributes, a: Array, b: Array) -> Array:
    """Return the rest of a division, with the sign of the divisor, or of the dividend (fmod)."""
    broadcast(a, b)
    return np.asarray((np.fmod if attributes.get("fmod") else np.mod)(a, b))


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + e), e / (1 + e)), x.dtype)


def cast(attributes: Attributes, x: Array) -> Array:
    """Convert to another type; reals are truncated to integers."""
    return np.asarray(x.astype(ELEMENT_TYPES[attributes["to"]]))


def where(attributes: Attributes, condition: Array, a: Array, b: Array) -> Array:
    """Return a where the condition holds, else b."""
    broadcast(condition, a, b)
    return np.where(condition, a, b)


def clip(attributes: Attributes, x: Array, low: Array | None = None, high: Array | None = None
         ) -> Array:  # fmt: skip
    """Limit values; the upper bound wins."""
    x = x if low is None else np.maximum(x, low)
    return np.asarray(x if high is None else np.minimum(x, high))


UNARY: Mapping[str, Function] = {
    "Abs": np.abs,
    "Ceil": np.ceil,
    "Exp": np.exp,
    "Floor": np.floor,
    "Identity": np.array,
    "Log": np.log,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Reciprocal": np.reciprocal,
    "Relu": lambda x: np.maximum(x, x.dtype.type(0)),
    "Round": np.rint,
    "Sigmoid": _sigmoid,
    "Sign": np.sign,
    "Sqrt": np.sqrt,
    "Tanh": np.tanh,
}
BINARY: Mapping[str, Function] = {
    "Add": np.add,
    "And": np.logical_and,
    "Div": _divided,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Max": np.maximum,
    "Min": np.minimum,
    "Mul": np.multiply,
    "Or": np.logical_or,
    "Pow": lambda a, b: np.power(a, b).astype(a.dtype),
    "Sub": np.subtract,
    "Sum": np.add,
    "Xor": np.logical_xor,
}
VARIADIC = frozenset(("Max", "Min", "Sum"))
