# SPDX-License-Identifier: Apache-2.0
"""Rows of attention in which no position is kept.

In: ai.onnx Attention with a boolean mask, constant or an input, and operands that are constants.
Out: zeros in those rows, onnxruntime's values in the others.
"""

from __future__ import annotations

import neuralmatrix as nm
import numpy as np
import pytest
from build_onnx import model, node, onnxruntime_outputs
from onnx import TensorProto

SHAPE, EMPTY = (1, 2, 8, 16), [2, 5]


def normal(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def mask() -> np.ndarray:
    kept = np.random.default_rng(9).random((1, 1, 8, 8)) > 0.3
    kept[..., 0] = True
    kept[:, :, EMPTY] = False
    return kept


@pytest.mark.parametrize("fixed", ["", "kv", "v", "q"])
@pytest.mark.parametrize("given", [False, True])
def test_rows_without_a_position_are_zero(fixed: str, given: bool) -> None:
    arrays = {name: normal(i) for i, name in enumerate("qkv")} | {"m": mask()}
    constants = {n: a for n, a in arrays.items() if n in fixed or (n == "m" and not given)}
    feeds = {n: a for n, a in arrays.items() if n not in constants}
    proto = model(
        [node("Attention", ["q", "k", "v", "m"], ["y"])],
        {n: a.shape for n, a in feeds.items()},
        ["y"],
        constants,
        opset=23,
        types={"m": TensorProto.BOOL},
    )
    found = nm.Session(nm.compile(proto, calibration=[feeds])).run(feeds)["y"]
    right = onnxruntime_outputs(proto, feeds)["y"]
    others = [row for row in range(8) if row not in EMPTY]
    assert np.abs(found[:, :, EMPTY]).max() == 0
    # int8 operands, weights and powers: a few percent of the largest value
    error = np.abs(found[:, :, others] - right[:, :, others]).max()
    assert error < 0.06 * np.abs(right[:, :, others]).max()
