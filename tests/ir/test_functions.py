# SPDX-License-Identifier: Apache-2.0
"""The scalar functions: known values, symmetries, no overflow.

In: FUNCTIONS.  Out: float64 values.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from neuralmatrix.ir.functions import FUNCTIONS, erf, evaluate
from neuralmatrix.ir.types import Function

PARAMS = {
    "leaky_relu": (0.1,),
    "clip": (-1.0, 6.0),
    "elu": (0.7,),
    "selu": (1.67, 1.05),
    "celu": (0.5,),
    "hard_sigmoid": (0.2, 0.5),
    "power": (1.7,),
    "quick_gelu": (1.702,),
    "thresholded_relu": (1.0,),
    "shrink": (0.5, 0.25),
    "exp_part": (1.0, 0.25),
    "log_above": (0.5,),
    "abs_below": (1.25,),
}

# value of each function at 1.5, from the textbook definition in plain floats
SIGMOID = 1 / (1 + math.exp(-1.5))
SOFTPLUS = math.log(1 + math.exp(1.5))
AT_1_5 = {
    "identity": 1.5,
    "relu": 1.5,
    "leaky_relu": 1.5,
    "clip": 1.5,
    "elu": 1.5,
    "selu": 1.5 * 1.05,
    "celu": 1.5,
    "sigmoid": SIGMOID,
    "tanh": math.tanh(1.5),
    "hard_sigmoid": 0.8,
    "hard_swish": 1.5 * 4.5 / 6,
    "mish": 1.5 * math.tanh(SOFTPLUS),
    "softplus": SOFTPLUS,
    "softsign": 0.6,
    "silu": 1.5 * SIGMOID,
    "neg": -1.5,
    "abs": 1.5,
    "exp": math.exp(1.5),
    "log": math.log(1.5),
    "sqrt": math.sqrt(1.5),
    "reciprocal": 1 / 1.5,
    "rsqrt": 1 / math.sqrt(1.5),
    "erf": math.erf(1.5),
    "gelu": 0.75 * (1 + math.erf(1.5 / math.sqrt(2))),
    "gelu_tanh": 0.75 * (1 + math.tanh(math.sqrt(2 / math.pi) * (1.5 + 0.044715 * 1.5**3))),
    "square": 2.25,
    "power": math.exp(1.7 * math.log(1.5)),
    "quick_gelu": 1.5 / (1 + math.exp(-1.702 * 1.5)),
    "thresholded_relu": 1.5,
    "shrink": 1.25,
    "sin": math.sin(1.5),
    "cos": math.cos(1.5),
    "triangle": 1.5,
    "tan": math.tan(1.5),
    "asin": math.nan,
    "acos": math.nan,
    "atan": math.atan(1.5),
    "sinh": math.sinh(1.5),
    "cosh": math.cosh(1.5),
    "asinh": math.asinh(1.5),
    "acosh": math.acosh(1.5),
    "atanh": math.nan,
    "truth": 1.0,
    "sign": 1.0,
    "log_floor": math.log(1.5),
    "log_share": math.log(1.5),
    "log_abs": math.log(1.5),
    "log_sum": SOFTPLUS,
    "log_above": math.log(3.0),
    "abs_below": 1.25,
    "exp_wide": math.exp(1.5),
    "exp_part": 0.75,
}
AT_HALF = {"asin": math.asin(0.5), "acos": math.acos(0.5), "atanh": math.atanh(0.5)}
# and at -1.5, for functions whose branches differ
AT_MINUS_1_5 = {
    "sign": -1.0,
    "relu": 0.0,
    "leaky_relu": -0.15,
    "clip": -1.0,
    "elu": 0.7 * (math.exp(-1.5) - 1),
    "selu": 1.05 * 1.67 * (math.exp(-1.5) - 1),
    "celu": 0.5 * (math.exp(-3) - 1),
    "sigmoid": 1 - SIGMOID,
    "hard_sigmoid": 0.2,
    "hard_swish": -1.5 * 1.5 / 6,
    "softplus": SOFTPLUS - 1.5,
    "silu": -1.5 * (1 - SIGMOID),
    "abs": 1.5,
    "erf": -math.erf(1.5),
    "square": 2.25,
    "thresholded_relu": 0.0,
    "shrink": -1.25,
    "sin": -math.sin(1.5),
    "cos": math.cos(1.5),
    "sinh": -math.sinh(1.5),
    "cosh": math.cosh(1.5),
    "asinh": -math.asinh(1.5),
    "triangle": -1.5,
    "truth": 1.0,
    "log_floor": math.log(1e-30),
    "log_abs": math.log(1.5),
    "log_above": 0.0,
    "abs_below": 1.25,
    "log_sum": SOFTPLUS - 1.5,
    "exp_part": math.exp(-0.5) - 0.25,
}
_POSITIVE_ONLY = {"log", "sqrt", "rsqrt", "power"}
_BOUNDED = {"asin", "acos", "acosh", "atanh"}  # no reals outside a part of the axis


def _function(name: str) -> Function:
    return Function(name, PARAMS.get(name, ()))


def test_every_function_is_tested() -> None:
    assert set(AT_1_5) == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values(name: str) -> None:
    # rounding of float64
    np.testing.assert_allclose(evaluate(_function(name), [1.5]), [AT_1_5[name]], rtol=1e-14)
    if name in AT_MINUS_1_5:
        found = evaluate(_function(name), [-1.5])
        np.testing.assert_allclose(found, [AT_MINUS_1_5[name]], rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("name", AT_HALF)
def test_values_within_one(name: str) -> None:
    np.testing.assert_allclose(evaluate(_function(name), [0.5]), [AT_HALF[name]], rtol=1e-14)
    assert np.isnan(evaluate(_function(name), [1.5])).all()


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - _BOUNDED))
@pytest.mark.filterwarnings("error")
def test_nothing_overflows(name: str) -> None:
    far = np.asarray([1e4, 1e3, 88.0, 1.0, 1e-3])
    x = far if name in _POSITIVE_ONLY else np.concatenate([far, -far])
    y = evaluate(_function(name), x)
    assert y.dtype == np.float64
    assert np.isfinite(y).all()


def test_shapes_and_types_are_free() -> None:
    x = np.asarray([[1, -2], [3, 0]], np.int8)
    np.testing.assert_array_equal(evaluate(Function("relu"), x), [[1, 0], [3, 0]])
    assert evaluate(Function("erf"), np.float32(0)).shape == ()


def test_erf_equals_the_systems_to_the_last_bits() -> None:
    x = np.concatenate([np.linspace(-7, 7, 20001), [0.46875, 1e-300, 1e10, np.inf, -np.inf]])
    wanted = np.array([math.erf(value) for value in x])
    # three roundings of float64 between the polynomials and the result
    np.testing.assert_allclose(erf(x), wanted, rtol=3 * 2.0**-52, atol=0)
    assert np.signbit(erf(np.array([-0.0, 0.0]))).tolist() == [True, False]
    assert np.isnan(erf(np.array([np.nan])))[0]
