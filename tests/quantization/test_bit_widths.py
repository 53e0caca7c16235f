# SPDX-License-Identifier: Apache-2.0
"""The int16 tensors, and those with a zero point of 0.

In: small MatGraphs.  Out: the form of every tensor.
"""

from __future__ import annotations

import numpy as np
import pytest
from blocks import Maker, attention, bounds, feed, layer_norm
from integer_checks import relative_error
from neuralmatrix.ir.matgraph.ops import Epilogue
from neuralmatrix.ir.matgraph.reference import run_float
from neuralmatrix.ir.quantized_values import dequantize_array
from neuralmatrix.quantization.integer_reference import run_integer
from neuralmatrix.quantization.scales import ACC_LIMIT
from quantized import quantized


def test_exponentials_that_are_multiplied_are_int8_and_symmetric() -> None:
    mg = attention()
    ranges = bounds(mg, feed(mg))
    low, high = (quantized(mg, ranges, precision).qparams for precision in ("int8", "int16"))
    for name in ("q", "k", "v", "e"):
        assert (low[name].int16, low[name].zero_point) == (False, 0)
        assert high[name].int16
    assert low["e"].scale == pytest.approx(1 / 127)
    assert low["s"].int16 and low["max"] == low["s"]
    assert low["sum"].int16 and low["inverse"].int16


@pytest.mark.parametrize("promoted", [(), ("q",), ("k",), ("q", "k"), ("e",), ("v",), ("e", "v")])
@pytest.mark.parametrize("p", [21, 700])
def test_every_mix_of_widths_is_proven(promoted: tuple[str, ...], p: int) -> None:
    mg = attention(heads=1, p=p, d=16)
    q = quantized(mg, bounds(mg, feed(mg)), "int8", promoted)
    for a, b, k in (("q", "k", 16), ("e", "v", p)):
        x, w = q.qparams[a], q.qparams[b]
        assert (x.int16, w.int16) == (a in promoted, b in promoted)
        assert k * max(-x.qmin, x.qmax) * max(-w.qmin, w.qmax) <= ACC_LIMIT
    y = run_float(mg, {"x": feed(mg)})["y"]
    got = dequantize_array(run_integer(q, {"x": feed(mg)})["y"], q.qparams["y"])
    # int8 noise of the operands that are not promoted
    assert np.linalg.norm(got - y) < 0.05 * np.linalg.norm(y)


def test_a_mean_shares_the_scale_it_is_subtracted_at() -> None:
    mg = layer_norm()
    q = quantized(mg, bounds(mg, feed(mg)), "int8").qparams
    assert q["g"].int16 and q["mean"] == q["g"]
    assert q["square"].int16 and q["square"] != q["g"]


def test_what_is_added_up_before_a_normalisation_is_int16() -> None:
    b = Maker()
    b.tensor("x", (1, 1, 9, 12))
    b.gemm("a", "x", 12)
    b.gemm("branch", "x", 12)
    b.window("total", "a", epilogue=Epilogue("branch"))
    b.window("copy", "total", epilogue=Epilogue(rows=b.rows((1, 1, 9, 12), ("square", "square"))))
    b.gemm("read", "branch", 12)
    b.window("y", "total", epilogue=Epilogue("read", hadamard="square"))
    q = quantized(b.graph(), bounds(b.graph(), feed(b.graph())), "int8").qparams
    assert q["a"].int16 and q["total"].int16
    assert not q["x"].int16 and not q["branch"].int16  # matrix products read them


def test_a_constant_left_side_is_int8_where_that_holds_it() -> None:
    b = Maker()
    b.tensor("x", (1, 1, 30, 4))
    even = (b.rng.random((1, 1, 9, 30)) > 0.8) * 0.25
    uneven = even * np.geomspace(1e-3, 1.0, 9).reshape(1, 1, 9, 1)
    for name, value in (("even", even), ("uneven", uneven)):
        b.constant(name, value)
        b.product(f"{name}.y", name, "x", 4)
    b.window("y", "even.y", epilogue=Epilogue("uneven.y"))
    mg = b.graph()
    x = feed(mg)
    q = quantized(mg, bounds(mg, x), "int8")
    assert not q.qparams["even"].int16 and q.qparams["uneven"].int16
    assert relative_error(mg, "int8", x) < 0.01  # int8 rounding of x
