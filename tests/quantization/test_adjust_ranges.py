# SPDX-License-Identifier: Apache-2.0
"""Adjusted ranges: without masked scores, with whole gather tables.

In: small MatGraphs, calibrated.  Out: scales.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from blocks import Maker, attention, feed
from neuralmatrix.ir.matgraph.ops import Port
from neuralmatrix.ir.matgraph.reference import run_float, verify_matgraph
from neuralmatrix.ir.points import Point
from neuralmatrix.ir.quantized_values import dequantize_array
from neuralmatrix.quantization.integer_reference import run_integer
from quantized import calibrated, quantized


def test_masked_scores_do_not_widen_the_range() -> None:
    mg = attention(mask="add", p=12)
    found = calibrated(mg, [{"x": feed(mg)}])
    scores = run_float(mg, {"x": feed(mg)})["s"]
    lowest = scores[scores > -5000].min()
    assert found.ranges[Point("s")][0] == pytest.approx(lowest - 20.0)
    q = quantized(mg, found.ranges).qparams
    assert q["added"].scale * 32640 < 60 and q["s"].scale * 32640 < 40


def test_a_look_up_table_counts_whole() -> None:
    table = np.random.default_rng(0).standard_normal((50, 6)).astype(np.float32)
    table[17] *= 20
    b = Maker()
    b.tensor("x", (1, 1, 3, 6))
    b.gemm("y", "x", 4)
    mg = b.graph()
    mg = verify_matgraph(replace(mg, inputs=(Port("ids", (1, 1, 3), "x", (), table=table),)))
    ids = np.array([[[3, 0, 49]]])
    found = calibrated(mg, [{"ids": ids}])
    assert found.ranges[Point("x")][1] == max(table.max(), 0)
    q = quantized(mg, found.ranges)
    got = dequantize_array(run_integer(q, {"ids": ids})["x"], q.qparams["x"])
    np.testing.assert_allclose(got[0], table[ids[0]], atol=q.qparams["x"].scale)
    assert run_float(mg, {"ids": ids})["y"].shape == (1, 1, 3, 4)
