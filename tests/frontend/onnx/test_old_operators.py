# SPDX-License-Identifier: Apache-2.0
"""Operators on constants give what the version that the model names gives.

In: operators whose meaning or form changed between versions, on constants, in every version.
Out: onnxruntime's values, shapes and types.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from build_onnx import model, node, onnxruntime_outputs
from neuralmatrix.frontend.onnx.constant_folding import evaluate_node
from neuralmatrix.frontend.onnx.load import plain_call
from onnx import TensorProto

RNG = np.random.default_rng(0)
FLAT = RNG.normal(size=(1, 3, 1, 4)).astype(np.float32)
IMAGE = RNG.normal(size=(1, 3, 4, 4)).astype(np.float32)
MATRIX = RNG.normal(size=(3, 4)).astype(np.float32)
FOUR = RNG.normal(size=(1, 4, 3, 3)).astype(np.float32)
DOUBLE, ODD = np.float32([1, 1, 2, 2]), np.float32([1, 1, 1.5, 0.5])
NEWEST = 22


def to(first: int, last: int) -> range:
    return range(first, last + 1)


Case = tuple[str, range, Sequence[np.ndarray], dict[str, Any]]
CASES: list[Case] = [
    ("Unsqueeze", to(7, 12), [FLAT], {"axes": [0]}),
    ("Unsqueeze", to(11, 12), [FLAT], {"axes": [-1, 0]}),
    ("Unsqueeze", to(13, NEWEST), [FLAT, np.array([0, 2])], {}),
    ("Squeeze", to(7, 12), [FLAT], {"axes": [0]}),
    ("Squeeze", to(7, 12), [FLAT], {"axes": [2]}),
    ("Squeeze", to(7, NEWEST), [FLAT], {}),
    ("Squeeze", to(13, NEWEST), [FLAT, np.array([2])], {}),
    *((op, to(7, NEWEST), [x], attrs)
      for op in ("Softmax", "LogSoftmax", "Hardmax")
      for x, attrs in ((FLAT, {}), (FLAT, {"axis": 0}), (FLAT, {"axis": 1}), (IMAGE, {"axis": 2}))),
    *((op, to(11, NEWEST), [IMAGE], {"axis": -2}) for op in ("Softmax", "LogSoftmax", "Hardmax")),
    *((op, to(7, 12 if op == "ReduceSum" else 17), [np.abs(FLAT) + 1], {"axes": [1], "keepdims": k})
      for op in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp")
      for k in (0, 1)),
    ("GatherElements", to(11, NEWEST), [IMAGE, np.array([[[[2, -1]], [[0, 1]], [[1, 0]]]])],
     {"axis": 2}),
    ("GatherElements", to(11, NEWEST), [FLAT.repeat(9).reshape(1, -1), np.arange(50)[None]],
     {"axis": 1}),
    ("Clip", to(7, 10), [FLAT], {"min": 0.0, "max": 0.5}),
    ("Clip", to(7, 10), [FLAT], {"min": 0.0}),
    ("Clip", to(7, 10), [FLAT], {"max": 0.0}),
    ("Clip", to(7, 10), [FLAT], {}),
    ("Clip", to(11, NEWEST), [FLAT, np.float32(0), np.float32(0.5)], {}),
    ("Slice", to(7, 9), [FLAT], {"axes": [1], "starts": [1], "ends": [3]}),
    ("Pad", to(7, 10), [FLAT], {"pads": [0, 0, 0, 1, 0, 0, 0, 1], "value": 2.5}),
    ("Pad", to(7, 10), [IMAGE], {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "mode": "reflect"}),
    ("Dropout", to(7, NEWEST), [FLAT], {}),
    ("Dropout", to(7, 11), [FLAT], {"ratio": 0.5}),
    *(("Upsample", to(7, 8), [IMAGE], {"scales": list(DOUBLE), "mode": mode})
      for mode in ("nearest", "linear")),
    ("Upsample", to(9, 9), [IMAGE, DOUBLE], {"mode": "nearest"}),
    ("Upsample", to(9, 9), [IMAGE, DOUBLE], {"mode": "linear"}),
    *(("Resize", to(10, 10), [IMAGE, scales], {"mode": mode})
      for mode in ("nearest", "linear") for scales in (DOUBLE, ODD)),
    ("TopK", to(7, 9), [FLAT], {"k": 2, "axis": 1}),
    ("TopK", to(10, NEWEST), [FLAT, np.array([2])], {}),
    ("Split", to(7, 12), [FLAT], {"axis": 3, "split": [1, 3]}),
    ("Scatter", to(9, 10), [MATRIX, np.array([[0, 1, 2, 0]]), MATRIX[:1]], {"axis": 0}),
    ("Gelu", to(20, NEWEST), [FLAT], {}),
    ("Gelu", to(20, NEWEST), [FLAT], {"approximate": "tanh"}),
    ("GroupNormalization", to(18, 20), [FOUR, FOUR[0, :2, 0, 0], FOUR[0, 2:, 0, 0]],
     {"num_groups": 2}),
    ("GroupNormalization", to(21, NEWEST), [FOUR, FOUR[0, :, 0, 0], FOUR[0, :, 0, 1]],
     {"num_groups": 2}),
    ("LRN", to(7, NEWEST), [IMAGE], {"size": 3, "alpha": 0.5}),
    ("LRN", to(13, 13), [FOUR], {"size": 1, "alpha": 0.5, "bias": 2.0}),
]  # fmt: skip
OUTPUTS = {"TopK": 2, "Split": 2}


@pytest.mark.parametrize(
    ("op", "version", "arrays", "attrs"),
    [(op, version, arrays, attrs) for op, versions, arrays, attrs in CASES for version in versions],
)
def test_the_version_of_the_model(
    op: str, version: int, arrays: Sequence[np.ndarray], attrs: dict[str, Any]
) -> None:
    names = [f"x{i}" for i in range(len(arrays))]
    outputs = [f"y{i}" for i in range(OUTPUTS.get(op, 1))]
    proto = node(op, names, outputs, **attrs)
    feeds = {name: np.asarray(array) for name, array in zip(names, arrays, strict=True)}
    kinds = {n: TensorProto.INT64 for n, a in feeds.items() if a.dtype == np.int64}
    kinds |= {"y1": TensorProto.INT64} if op == "TopK" else {}
    shapes = {n: a.shape for n, a in feeds.items()}
    whole = model([proto], shapes, outputs, opset=version, types=kinds)
    right = onnxruntime_outputs(whole, feeds)
    found = evaluate_node(plain_call(proto, 0, version), feeds)
    for name, array in zip(outputs, found, strict=True):
        assert array.dtype == right[name].dtype
        assert array.shape == right[name].shape
        np.testing.assert_allclose(array, right[name], rtol=1e-4, atol=1e-5)


def test_both_outputs_of_dropout() -> None:
    for version in (7, 10):
        proto = node("Dropout", ["x"], ["y", "mask"])
        y, mask = evaluate_node(plain_call(proto, 0, version), {"x": FLAT})
        assert np.array_equal(y, FLAT)
        assert mask.dtype == (np.float32 if version == 7 else bool)
