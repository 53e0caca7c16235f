# SPDX-License-Identifier: Apache-2.0
"""Range reduction: functions that no single table approximates over a wide range.

In: a function's name and its argument.  Out: Windows that compute the function exactly in reals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ...ir.matgraph.ops import Epilogue
from ...ir.types import Function
from .builder import Builder, Direct

Curve = Callable[[Builder, Direct, str, str], Direct]


def _window(
    b: Builder,
    name: str,
    source: str,
    x: Direct,
    suffix: str = "",
    function: str | None = None,
    weight: float = 1.0,
    bias: float = 0.0,
    **operands: Any,
) -> Direct:
    activation = Function(function) if function else None
    epilogue = Epilogue(activation=activation, **operands)
    return b.window(x, name + suffix, source, weight=weight, bias=bias, epilogue=epilogue)


def _wave(phase: float) -> Curve:
    """Return the lowering of sin(x + phase): a triangle wave, then a sine over -pi/2..pi/2."""

    def lower(b: Builder, x: Direct, name: str, source: str) -> Direct:
        make = partial(_window, b, name, source)
        return make(make(x, ":folded", "triangle", bias=phase), function="sin")

    return lower


def _odd(function: str) -> Curve:
    """Return the lowering of f(|x|) * sign(x): the index of f's table counts octaves from 0."""

    def lower(b: Builder, x: Direct, name: str, source: str) -> Direct:
        make = partial(_window, b, name, source)
        size, sign = make(x, ":size", "abs"), make(x, ":sign", "sign")
        return make(size, function=function, hadamard=sign.tensor)

    return lower


def _arcsine(b: Builder, x: Direct, name: str, source: str) -> Direct:
    """Emit asin(x) = sign(x) * (pi/2 - 2 asin(sqrt((1 - |x|) / 2))): the root is steep at +-1."""
    make = partial(_window, b, name, source)
    size, sign = make(x, ":size", "abs"), make(x, ":sign", "sign")
    root = make(size, ":root", "sqrt", weight=-0.5, bias=0.5)
    angle = make(root, ":angle", "asin")
    return make(angle, weight=-2.0, bias=math.pi / 2.0, hadamard=sign.tensor)


def _arccosine(b: Builder, x: Direct, name: str, source: str) -> Direct:
    sine = _arcsine(b, x, f"{name}:sine", source)
    return _window(b, name, source, sine, weight=-1.0, bias=math.pi / 2.0)


def _area_tangent(b: Builder, x: Direct, name: str, source: str) -> Direct:
    """Emit atanh(x) = (log(1 + x) - log(1 - x)) / 2."""
    make = partial(_window, b, name, source)
    right = make(x, ":right", "log", bias=1.0)
    left = make(x, ":left", "log", weight=-1.0, bias=1.0)
    return make(right, weight=0.5, residual=left.tensor, residual_gain=-0.5)


def _truth(b: Builder, x: Direct, name: str, source: str) -> Direct:
    """Emit the truth value by a clip, exact in any range; a table would not resolve it near 0."""
    within = Epilogue(activation=Function("clip", (-1.0, 1.0)))
    small = b.window(x, f"{name}:small", source, epilogue=within)
    return _window(b, name, source, small, function="truth")


def _log_abs(b: Builder, x: Direct, name: str, source: str) -> Direct:
    """Emit log|x|: the index of the logarithm's table counts octaves from 0."""
    size = _window(b, name, source, x, ":size", "abs")
    return _window(b, name, source, size, function="log_floor")


def _exp_wide(b: Builder, x: Direct, name: str, source: str) -> Direct:
    """Emit exp(x / 2) squared: small results keep the relative precision of a table of roots."""
    root = _window(b, name, source, x, ":root", "exp", weight=0.5)
    return _window(b, name, source, root, hadamard=root.tensor)


def _square(b: Builder, x: Direct, name: str, source: str) -> Direct:
    """Emit x * x, which is exact up to one rounding; a table would not resolve small x."""
    return _window(b, name, source, x, hadamard=x.tensor)


CURVES: Mapping[str, Curve] = {
    "sin": _wave(0.0),
    "cos": _wave(math.pi / 2.0),
    "softsign": _odd("softsign"),
    "atan": _odd("atan"),
    "asinh": _odd("asinh"),
    "asin": _arcsine,
    "acos": _arccosine,
    "atanh": _area_tangent,
    "truth": _truth,
    "log_abs": _log_abs,
    "exp_wide": _exp_wide,
    "square": _square,
}
