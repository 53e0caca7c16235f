# SPDX-License-Identifier: Apache-2.0
"""The scalar functions of activations and piecewise-linear tables.

In: a function's name, its parameters and real numbers.  Out: float64 values; there are no overflow
warnings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt

from .expressions import ARITHMETIC, corners, is_expression, parsed
from .types import Array, Function

_LARGEST_EXP = 709.0  # exp of more than this overflows float64
# Rational approximations of erf on |x| <= 0.46875, and of exp(x^2) * (1 - erf x) from there to 4
# (W. J. Cody, Mathematics of Computation 23, 1969).  Constant terms come last.
_SMALL = 0.46875
_SMALL_TOP = (
    1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2,
    3.20937758913846947e3,
)  # fmt: skip
_SMALL_BOTTOM = (
    1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3,
    2.84423683343917062e3,
)  # fmt: skip
_LARGE_TOP = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1,
    2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
    1.23033935479799725e3,
)  # fmt: skip
_LARGE_BOTTOM = (
    1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
    1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3,
    1.23033935480374942e3,
)  # fmt: skip
_ONE = 6.0  # erf of more is 1 in float64
_BLOCK = 1 << 13  # values that fit the cache
LEAST_LOGARITHM = 1e-30  # log_floor of less is the logarithm of this


def _exp(x: Array) -> Array:
    return np.exp(np.minimum(x, _LARGEST_EXP))


def _sigmoid(x: Array) -> Array:
    decay = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, decay) / (1.0 + decay)


def _softplus(x: Array) -> Array:
    return np.logaddexp(0.0, x)


def erf(x: Array) -> Array:
    """Return the error function in float64, to the last bit or two (numpy has none)."""
    flat = np.asarray(x, np.float64).reshape(-1)
    found = np.empty_like(flat)
    for i in range(0, len(flat), _BLOCK):
        found[i : i + _BLOCK] = _erf(flat[i : i + _BLOCK])
    return found.reshape(np.shape(x))


def _erf(x: Array) -> Array:
    y = np.minimum(np.abs(x), _ONE)
    is_near = y <= _SMALL
    far, near = np.flatnonzero(~is_near), np.flatnonzero(is_near)
    found = np.empty_like(x)
    found[far] = _erf_of_large(x[far], y[far])
    x = x[near]
    square = x * x
    found[near] = x * (_polynomial(_SMALL_TOP, square) / _polynomial(_SMALL_BOTTOM, square))
    return found


def _erf_of_large(x: Array, y: Array) -> Array:
    """Return the error function of ``x``, whose magnitudes are ``y``."""
    found = _polynomial(_LARGE_TOP, y) / _polynomial(_LARGE_BOTTOM, y)
    return np.asarray(np.copysign(1.0 - np.exp(-y * y) * found, x))


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    """Return the polynomial; the coefficient of the highest power comes first."""
    found = coefficients[0] * x
    for coefficient in coefficients[1:-1]:
        found += coefficient
        found *= x
    found += coefficients[-1]
    return np.asarray(found)


def _hard_sigmoid(x: Array, alpha: float, beta: float) -> Array:
    return np.clip(alpha * x + beta, 0.0, 1.0)


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1.0 + erf(x / math.sqrt(2.0)))


def _gelu_tanh(x: Array) -> Array:
    # x*x*x overflows only where tanh is 1 already
    inner = np.clip(x, -1e6, 1e6)
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (inner + 0.044715 * inner**3)))


def _selu(x: Array, alpha: float, gamma: float) -> Array:
    return gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def _elu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0)))


def _celu(x: Array, alpha: float) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0.0) / alpha))


def _shrink(x: Array, lambd: float, bias: float) -> Array:
    return np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0.0))


def _log_floor(x: Array) -> Array:
    return np.log(np.maximum(x, LEAST_LOGARITHM))


FUNCTIONS: Mapping[str, Callable[..., Array]] = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0.0),
    "leaky_relu": lambda x, alpha: np.where(x >= 0, x, alpha * x),
    "clip": lambda x, lo, hi: np.clip(x, lo, hi),
    "elu": _elu,
    "selu": _selu,
    "celu": _celu,
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": lambda x: x * _hard_sigmoid(x, 1.0 / 6.0, 0.5),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "softplus": _softplus,
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "silu": lambda x: x * _sigmoid(x),
    "neg": np.negative,
    "abs": np.abs,
    "exp": _exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "reciprocal": np.reciprocal,
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "erf": erf,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "square": np.square,
    "sin": np.sin,
    "cos": np.cos,
    "triangle": lambda x: np.arcsin(np.sin(x)),  # -pi/2..pi/2, with the same sine as x
    "power": lambda x, exponent: np.power(x, exponent),
    "quick_gelu": lambda x, alpha: x * _sigmoid(alpha * x),
    "thresholded_relu": lambda x, alpha: np.where(x > alpha, x, 0.0),
    "shrink": _shrink,
    "tan": np.tan,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": lambda x: np.sinh(np.clip(x, -_LARGEST_EXP, _LARGEST_EXP)),
    "cosh": lambda x: np.cosh(np.clip(x, -_LARGEST_EXP, _LARGEST_EXP)),
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    # the arithmetic of logarithms; exp_part is exp(x + t) between d and 1, less d
    "log_floor": _log_floor,
    "log_share": _log_floor,  # of a part of a sum, where 0 is nothing and not a small value
    "log_above": lambda x, s: np.log(np.maximum(x, s) / s),
    "abs_below": lambda x, s: np.minimum(np.abs(x), s),
    "log_abs": lambda x: _log_floor(np.abs(x)),
    "log_sum": _softplus,
    "exp_wide": _exp,
    "exp_part": lambda x, t, d: np.maximum(_exp(np.minimum(x + t, 0.0)) - d, 0.0),
    # of integers: 1 where not 0
    "truth": lambda x: np.minimum(np.abs(x), 1.0),
    "sign": lambda x: np.where(x < 0.0, -1.0, 1.0),  # of 0 it is 1
}


_TABLE = {**FUNCTIONS, **ARITHMETIC}  # what expressions consist of

NEAR = 1e-6  # relative distance to a corner's sides

KINKS: Mapping[str, Callable[..., tuple[float, ...]]] = {
    "clip": lambda lo, hi: (lo, hi),
    "hard_sigmoid": lambda alpha, beta: (-beta / alpha, (1.0 - beta) / alpha),
    "hard_swish": lambda: (-3.0, 3.0),
    # the smallest pair; the others are its odd multiples
    "triangle": lambda: (-math.pi / 2.0, math.pi / 2.0),
    "truth": lambda: (-1.0, 1.0),
    "thresholded_relu": lambda alpha: (alpha,),
    "log_above": lambda s: (s,),
    "abs_below": lambda s: (-s, s),
    "exp_part": lambda t, d: (-t, math.log(d) - t) if d > 0 else (-t,),
    "shrink": lambda lambd, bias: (-lambd, lambd),
}


def kinks(function: Function) -> tuple[float, ...]:
    """Return the points other than 0 at which the slope is discontinuous, () if there are none.

    >>> kinks(Function("hard_swish"))
    (-3.0, 3.0)
    """
    if is_expression(function.name):
        return corners(function.name, _TABLE, KINKS)
    found = KINKS[function.name](*function.params) if function.name in KINKS else ()
    return tuple(corner for corner in found if math.isfinite(corner))


def is_jump(function: Function, corner: float) -> bool:
    """Return whether the values differ on both sides of a corner, and not the slope alone.

    >>> is_jump(Function("thresholded_relu", (1.0,)), 1.0), is_jump(Function("hard_swish"), 3.0)
    (True, False)
    """
    near = abs(corner) * NEAR
    below, above = evaluate(function, [corner - near, corner + near])
    size = max(abs(above), abs(below), abs(corner))
    return bool(abs(above - below) > size * math.sqrt(NEAR))


def pole_between(function: Function, lo: float, hi: float) -> float | None:
    """Return the first pole of a tangent from ``lo`` to ``hi``, None where there is none.

    The poles of reciprocals lie at 0, which tables hold.

    >>> pole_between(Function("tan"), -1.0, 2.0)
    1.5707963267948966
    """
    first = (math.ceil(lo / math.pi - 0.5) + 0.5) * math.pi
    return first if function.name == "tan" and first <= hi else None


def scalar(function: Function) -> Callable[[Array], Array]:
    """Return the function of one variable."""
    if is_expression(function.name):
        return partial(parsed(function.name), table=_TABLE)
    named = FUNCTIONS[function.name]
    return lambda x: named(x, *function.params)


def evaluate(function: Function, x: npt.ArrayLike) -> Array:
    """Return ``function`` of every element of ``x`` as float64.

    Outside a function's domain the result is IEEE's (log of 0 is -inf, of -1 is NaN).

    >>> evaluate(Function("leaky_relu", (0.5,)), [-2.0, 3.0])
    array([-1.,  3.])
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(scalar(function)(np.asarray(x, np.float64)))
