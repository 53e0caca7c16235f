# SPDX-License-Identifier: Apache-2.0
"""Operators of opsets that onnxruntime does not run yet.

In: models of one node.  Out: the values of onnx's own reference.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from build_onnx import model, node, signed
from neuralmatrix.frontend.onnx.import_onnx import import_onnx
from neuralmatrix.ir.graph.operators import run_graph
from onnx.reference import ReferenceEvaluator

FEEDS = {"x": signed((3, 7)), "z": signed((3, 7), 1), "i": signed((1, 3, 4, 6))}
CASES = {
    "Swish": (node("Swish", ["x"], ["y"]), 24),
    "Swish of slope 1.7": (node("Swish", ["x"], ["y"], alpha=1.7), 24),
    "SwiGLU": (node("SwiGLU", ["x", "z"], ["y"]), 28),
    "CastLike an input": (node("CastLike", ["x", "z"], ["y"]), 19),
    "CastLike a constant": (node("CastLike", ["x", "h"], ["y"]), 19),
    "CastLike of a constant": (
        [node("CastLike", ["h", "x"], ["c"]), node("Add", ["x", "c"], ["y"])],
        19,
    ),
    "SpaceToDepth": (node("SpaceToDepth", ["i"], ["y"], blocksize=2, mode="CRD"), 28),
    "Relu": (node("Relu", ["x"], ["y"]), 26),
    "Celu": (node("Celu", ["x"], ["y"], alpha=0.5), 28),
}


@pytest.mark.parametrize("name", CASES)
def test_values_are_those_of_onnx(name: str) -> None:
    made, opset = CASES[name]
    nodes = made if isinstance(made, list) else [made]
    read = {value for one in nodes for value in one.input}
    if opset > onnx.defs.onnx_opset_version():
        pytest.skip(f"the onnx package knows no opset {opset}")
    feeds = {name: a for name, a in FEEDS.items() if name in read}
    constants = {"h": np.zeros(1, np.float16)} if "h" in read else {}
    proto = model(nodes, {n: a.shape for n, a in feeds.items()}, ["y"], constants, opset=opset)
    (wanted,) = ReferenceEvaluator(proto).run(None, feeds)
    found = run_graph(import_onnx(proto), feeds)["y"]
    np.testing.assert_allclose(found, wanted, rtol=2e-3 if constants else 1e-5, atol=1e-6)
