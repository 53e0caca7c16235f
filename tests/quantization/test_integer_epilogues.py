# SPDX-License-Identifier: Apache-2.0
"""The requantise constants of epilogues.

In: real factors.  Out: multipliers of 24 bits and shifts.
"""

from __future__ import annotations

import numpy as np
import pytest
from neuralmatrix.quantization.integer_epilogues import INT24, multipliers


@pytest.mark.parametrize("f_shift", [0, 7, 20])
def test_multipliers_are_precise_to_23_bits(f_shift: int) -> None:
    real = np.concatenate([10.0 ** np.linspace(-9, 0.9, 500), -(10.0 ** np.linspace(-6, 0, 50))])
    real = real[np.abs(real) * 2.0**f_shift <= INT24]
    m, s = multipliers(real, f_shift)
    assert np.abs(m).max() <= INT24 and s.max() <= 55
    got = m / 2.0 ** s.astype(float) / 2.0**f_shift
    # below 2^-32 of a step the shift is at its limit, and the absolute error counts
    np.testing.assert_allclose(got, real, rtol=2.0**-22, atol=2.0**-55)


def test_multiplier_of_almost_a_power_of_two_does_not_overflow() -> None:
    m, s = multipliers(np.asarray([1.0 - 2.0**-30, -1.0 + 2.0**-30]), 0)
    np.testing.assert_allclose(m / 2.0 ** s.astype(float), [1.0, -1.0], rtol=2.0**-22)
