# SPDX-License-Identifier: Apache-2.0
"""A second output of a pool matters only where it is read.

In: MaxPools with Indices.  Out: graphs; a refusal that names the way out.
"""

from __future__ import annotations

import pytest
from build_onnx import model, node
from neuralmatrix.errors import UnsupportedModel
from neuralmatrix.frontend.onnx.import_onnx import import_onnx
from neuralmatrix.ir.graph.nodes import Pool, Unary
from onnx import TensorProto

POOL = node("MaxPool", ["x"], ["p", "indices"], kernel_shape=[2, 2])


def test_indices_that_nothing_reads_are_left_out() -> None:
    graph = import_onnx(model([POOL, node("Relu", ["p"], ["y"])], {"x": (1, 2, 6, 6)}, ["y"]))
    assert [type(one) for one in graph.nodes] == [Pool, Unary]


def test_indices_that_are_read_are_refused() -> None:
    unpool = node("MaxUnpool", ["p", "indices"], ["y"], kernel_shape=[2, 2], strides=[1, 1])
    for net in (
        model([POOL, unpool], {"x": (1, 2, 6, 6)}, ["y"]),
        model([POOL], {"x": (1, 2, 6, 6)}, ["p", "indices"], types={"indices": TensorProto.INT64}),
    ):
        with pytest.raises(UnsupportedModel, match=r"Indices output is used; .* outputs="):
            import_onnx(net)
