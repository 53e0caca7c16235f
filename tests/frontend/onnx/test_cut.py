# SPDX-License-Identifier: Apache-2.0
"""Parts of a model between its values, run by onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx
from build_onnx import model, node, onnxruntime_outputs
from neuralmatrix.frontend.onnx.cut import cut

WEIGHT = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)


def chain() -> onnx.ModelProto:
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("Split", ["r"], ["a", "b"], axis=1),
        node("Add", ["a", "b"], ["y"]),
        node("Mul", ["a", "z"], ["other"]),
    ]
    return model(nodes, {"x": (1, 4), "z": (1, 2)}, ["y", "other"], {"w": WEIGHT})


def test_both_parts_together_are_the_model() -> None:
    feeds = {"x": np.ones((1, 4), np.float32), "z": np.full((1, 2), 3, np.float32)}
    whole = onnxruntime_outputs(chain(), feeds)
    front = cut(chain(), {"x": feeds["x"]}, ["r"])
    assert [value.name for value in front.graph.input] == ["x"]
    values = onnxruntime_outputs(front, {"x": feeds["x"]})
    behind = cut(chain(), values, ["y", "other"])
    assert "MatMul" not in {node.op_type for node in behind.graph.node}
    found = onnxruntime_outputs(behind, {**values, "z": feeds["z"]})
    assert all(np.array_equal(found[name], whole[name]) for name in whole)


def test_the_whole_is_not_copied() -> None:
    proto = chain()
    assert cut(proto, {"x": np.ones((1, 4), np.float32)}, ["y", "other"]) is proto


def test_values_that_a_branch_reads_are_kept() -> None:
    then = onnx.helper.make_graph([node("Neg", ["h"], ["t"])], "then", [], [
        onnx.helper.make_tensor_value_info("t", 1, None)])  # fmt: skip
    other = onnx.helper.make_graph([node("Abs", ["h"], ["o"])], "else", [], [
        onnx.helper.make_tensor_value_info("o", 1, None)])  # fmt: skip
    nodes = [
        node("Relu", ["x"], ["h"]),
        node("If", ["c"], ["i"], then_branch=then, else_branch=other),
        node("Neg", ["i"], ["y"]),
    ]
    proto = model(nodes, {"x": (1, 4)}, ["y"], {"c": np.array(True)})
    found = cut(proto, {}, ["i"])
    assert [one.op_type for one in found.graph.node] == ["Relu", "If"]
    x = np.ones((1, 4), np.float32)
    assert np.array_equal(onnxruntime_outputs(found, {"x": x})["i"], -x)
