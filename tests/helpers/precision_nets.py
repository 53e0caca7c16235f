# SPDX-License-Identifier: Apache-2.0
"""Small networks with known weak spots, their calibration inputs and ranges.

In: nothing.  Out: MatGraphs, feeds, ranges, and the error in integers.
"""

from __future__ import annotations

import numpy as np
from blocks import Maker, feed
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph
from neuralmatrix.ir.matgraph.reference import run_float
from neuralmatrix.ir.points import Ranges
from neuralmatrix.ir.quantized_values import dequantize_array
from neuralmatrix.ir.types import Array, Function
from neuralmatrix.quantization.integer_reference import run_integer
from quantized import calibrated, quantized


def runs(mg: MatGraph, count: int = 4) -> list[dict[str, Array]]:
    return [{"x": feed(mg, seed)} for seed in range(count)]


def ranges(mg: MatGraph, method: str = "mse") -> Ranges:
    return calibrated(mg, runs(mg), method).ranges


def integer_error(
    mg: MatGraph, plain: MatGraph, bounds: Ranges, promoted: tuple[str, ...] = ()
) -> float:
    """Return the error of ``mg`` in integers against ``plain`` in float, on an unseen input."""
    q, x = quantized(mg, bounds, "int8", promoted), feed(mg, 99)
    y = run_float(plain, {"x": x})["y"]
    got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
    return float(np.linalg.norm(got - y) / np.linalg.norm(y))


def weak_spot() -> MatGraph:
    """Return a chain whose "b" has a channel 200 times larger that the next product ignores."""
    b = Maker()
    b.tensor("x", (1, 1, 40, 24))
    b.gemm("a", "x", 24, epilogue=Epilogue(activation=Function("relu")))
    scale = np.ones((1, 1, 24))
    scale[..., 5] = 200.0
    b.window("b", "a", weight=scale)
    b.gemm("c", "b", 24)
    weight = b.ops[-1].weight  # type: ignore[union-attr]
    weight[0, 0, 5] = 0.0
    b.gemm("y", "c", 10)
    return b.graph()
