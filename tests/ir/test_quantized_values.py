# SPDX-License-Identifier: Apache-2.0
"""Quantisation of real values and back, as ONNX defines it.

In: floats, scales.  Out: onnxruntime's results; quantised values that survive the round trip.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from build_onnx import model, node
from neuralmatrix.ir.quantized_values import (
    dequantize_array,
    quantize_array,
    real_values,
    rounded,
    stored_values,
)
from neuralmatrix.ir.types import QParams, Units

INT8 = [QParams(0.05, 3), QParams(0.1, -128), QParams(1 / 3, 0), QParams(0.0078431377, 127)]
INT16 = [
    QParams(0.001, int16=True),
    QParams(1 / 3, int16=True),
    QParams(0.0001, int16=True, limit=99),
]


def halves(q: QParams) -> np.ndarray:
    """Return random values, and values halfway between two quantised ones."""
    between = (np.arange(-300, 300) + np.float32(0.5)) * np.float32(q.scale)
    return np.concatenate([between, np.random.default_rng(0).normal(size=400) * 60 * q.scale])


@pytest.mark.parametrize("q", INT8)
def test_codes_and_values_are_those_of_onnxruntime(q: QParams) -> None:
    x = halves(q).astype(np.float32)
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["c"]),
             node("DequantizeLinear", ["c", "s", "z"], ["y"])]  # fmt: skip
    constants = {"s": np.float32(q.scale), "z": np.int8(q.zero_point)}
    proto = model(nodes, {"x": x.shape}, ["y"], constants, opset=13)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (wanted,) = session.run(None, {"x": x})
    quantized_values = quantize_array(x, q)
    assert (
        quantized_values.dtype == np.int16
        and quantized_values.min() >= -128
        and quantized_values.max() <= 127
    )
    np.testing.assert_array_equal(dequantize_array(quantized_values, q), wanted)


@pytest.mark.parametrize("q", INT8 + INT16)
def test_rounded_values_are_codes_there_and_back(q: QParams) -> None:
    x = halves(q)
    np.testing.assert_array_equal(rounded(x, q), dequantize_array(quantize_array(x, q), q))
    every = np.arange(q.qmin, q.qmax + 1)
    np.testing.assert_array_equal(quantize_array(dequantize_array(every, q), q), every)


@pytest.mark.parametrize("q", INT8 + INT16)
def test_what_is_too_large_saturates(q: QParams) -> None:
    x = np.asarray([-np.inf, -1e38, 1e38, np.inf])
    np.testing.assert_array_equal(quantize_array(x, q), [q.qmin, q.qmin, q.qmax, q.qmax])


def test_no_number_stays_none() -> None:
    """Calibration refuses NaN; rounding to prescribed scales does not hide it."""
    assert np.isnan(rounded(np.asarray([np.nan, 1.0]), QParams(0.1))[0])


@pytest.mark.parametrize(("shape", "offset"), [((1, 1, 1, 3), ()), ((2, 1, 1, 1), (5.0, -7.0))])
def test_parts_in_units_of_their_own(shape: tuple[int, int, int, int], offset: Any) -> None:
    divisor = tuple(2.0**i for i in range(max(shape)))
    units = Units(shape, divisor, offset)
    x = np.arange(48, dtype=np.float32).reshape(2, 2, 2, 2, 3)  # two runs side by side
    shift = np.reshape(offset or (0.0,), shape if offset else (1, 1, 1, 1))
    stored = stored_values(x, units)
    np.testing.assert_array_equal(stored, (x - shift) / np.reshape(divisor, shape))
    np.testing.assert_array_equal(real_values(stored, units), x)
    assert stored.dtype == np.float32 and stored_values(x, None) is x and real_values(x, None) is x


def test_units_beyond_float32_saturate() -> None:
    units = Units((1, 1, 1, 1), (1e-30,))
    assert quantize_array(stored_values(np.full((1, 1, 1, 1), 1e20), units), INT8[0]).item() == 127
