# SPDX-License-Identifier: Apache-2.0
"""Scales of tensors: exact zeros, headroom, and a scale where everything is 0.

In: ranges.  Out: scales and quantised values.
"""

from __future__ import annotations

import numpy as np
import pytest
from neuralmatrix.ir.quantized_values import quantize_array
from neuralmatrix.quantization.scales import choose_qparams


@pytest.mark.parametrize("lo, hi", [(-1.0, 3.0), (0.0, 6.0), (-5.0, 0.0), (-0.1, 0.1)])
def test_int8_codes_span_the_range(lo: float, hi: float) -> None:
    qp = choose_qparams(lo, hi, int16=False)
    quantized_values = quantize_array(np.asarray([lo, 0.0, hi]), qp)
    assert quantized_values[0] == -128 and quantized_values[2] in (126, 127)
    assert quantized_values[1] == qp.zero_point  # 0 is exact: padding and ReLU rely on it


def test_int16_is_symmetric_with_head_room() -> None:
    qp = choose_qparams(-2.0, 1.0, int16=True)
    assert qp.zero_point == 0 and qp.int16
    assert quantize_array(np.asarray([-2.0]), qp)[0] == -32000
    assert quantize_array(np.asarray([-9.0]), qp)[0] == -32640


def test_a_tensor_that_is_always_zero_has_a_usable_scale() -> None:
    assert choose_qparams(0.0, 0.0, int16=False).scale == pytest.approx(2 / 255)
    assert choose_qparams(0.0, 0.0, int16=True).scale == pytest.approx(1 / 32000)
