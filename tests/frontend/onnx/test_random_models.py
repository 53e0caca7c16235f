# SPDX-License-Identifier: Apache-2.0
"""Random ONNX networks, imported, simplified and lowered, against onnxruntime in float.

In: the generator of the bit-exactness test.  Out: equal outputs, before anything is quantised.
"""

from __future__ import annotations

import numpy as np
import pytest
from build_onnx import onnxruntime_outputs
from neuralmatrix.frontend.onnx.import_onnx import import_onnx
from neuralmatrix.ir.graph.operators import run_graph
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float
from neuralmatrix.transforms.graph.simplify import simplify
from random_models import random_model
from targets import lower


@pytest.mark.parametrize("first", range(1000, 1100, 20))
def test_random_models_in_float(first: int) -> None:
    for seed in range(first, first + 20):
        proto, feed = random_model(seed)
        one = {"x": feed["x"][:1]}
        wanted = onnxruntime_outputs(proto, one)
        simple = simplify(import_onnx(proto))
        lowered = lower(simple)
        for found in (run_graph(simple, one), port_outputs(lowered, run_float(lowered, one))):
            for name, y in wanted.items():
                assert found[name].shape == y.shape
                # float32 sums in another order, grown by up to eight layers
                scale = max(1.0, float(np.abs(y).max()))
                np.testing.assert_allclose(found[name], y, rtol=0, atol=2e-4 * scale)
