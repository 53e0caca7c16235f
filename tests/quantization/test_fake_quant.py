# SPDX-License-Identifier: Apache-2.0
"""Fake quantisation: rounded floats, evaluated again only where something changes.

In: small MatGraphs and a sample.  Out: values that follow the integers.
"""

from __future__ import annotations

import numpy as np
from blocks import attention
from neuralmatrix.ir.quantized_values import dequantize_array
from neuralmatrix.quantization.fake_quant import rerun, sample, with_rounded_weights
from neuralmatrix.quantization.integer_reference import run_integer
from precision_nets import ranges, runs, weak_spot
from quantized import quantized, scales


def test_only_what_depends_on_a_tensor_is_evaluated_again() -> None:
    mg = attention()
    seen = sample(mg, runs(mg))
    assert seen.images == 4
    q = scales(mg, ranges(mg))
    whole = rerun(mg, seen.values, {"v": q["v"]})
    part = rerun(mg, seen.values, {"v": q["v"]}, ("v",))
    assert part["e"] is seen.values["e"] and part["q"] is seen.values["q"]
    np.testing.assert_array_equal(part["y"], whole["y"])
    assert not np.array_equal(part["y"], seen.values["y"])


def test_rounded_floats_predict_the_integers() -> None:
    mg = weak_spot()
    bounds = ranges(mg)
    seen = sample(mg, runs(mg, 1))
    q = quantized(mg, bounds, "int8")
    found = rerun(with_rounded_weights(mg), seen.values, {n: q.qparams[n] for n in mg.tensors})
    got = dequantize_array(run_integer(q, runs(mg)[0])["y"], q.qparams["y"])
    # the last rounding of each tensor may differ at a half
    np.testing.assert_allclose(found["y"], got, atol=0.02 * np.abs(got).max())
