# SPDX-License-Identifier: Apache-2.0
"""The error of a small network in integers.

In: a MatGraph with one input "x".  Out: the relative error of its output "y".
"""

from __future__ import annotations

import numpy as np
from blocks import feed
from neuralmatrix.ir.matgraph.ops import MatGraph
from neuralmatrix.ir.matgraph.reference import run_float
from neuralmatrix.ir.quantized_values import dequantize_array
from neuralmatrix.ir.types import Array
from neuralmatrix.quantization.integer_reference import run_integer
from quantized import calibrated, quantized


def relative_error(mg: MatGraph, precision: str, x: Array | None = None) -> float:
    """Return the error of the integer result on one of two calibrated inputs."""
    x = feed(mg, seed=2) if x is None else x
    q = quantized(mg, calibrated(mg, [{"x": feed(mg)}, {"x": x}]).ranges, precision)
    y = run_float(mg, {"x": x})["y"]
    got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
    return float(np.linalg.norm(got - y) / np.linalg.norm(y))
