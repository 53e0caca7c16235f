# SPDX-License-Identifier: Apache-2.0
"""Rotary embeddings, as exporters write them.

In: an ONNX model.  Out: a product with a constant matrix, and onnxruntime's values.
"""

from __future__ import annotations

import numpy as np
from build_onnx import signed
from onnx_forms import Form, checked, kinds


def test_rotation_is_a_product() -> None:
    """concat(-x2, x1), the partner of every element, becomes a matrix product."""
    form = Form()
    low = form.op("Slice", "x", np.array([0]), np.array([8]), np.array([3]))
    high = form.op("Slice", "x", np.array([8]), np.array([16]), np.array([3]))
    partner = form.op("Concat", form.op("Neg", high), low, axis=-1)
    form.op("Add", form.op("Mul", "x", signed((5, 16), 1)),
            form.op("Mul", partner, signed((5, 16), 2)))  # fmt: skip
    graph = checked(form.model({"x": (1, 2, 5, 16)}))
    assert "MatMul" in kinds(graph) and "Concat" not in kinds(graph)
