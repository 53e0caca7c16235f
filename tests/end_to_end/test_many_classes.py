# SPDX-License-Identifier: Apache-2.0
"""A softmax over many classes, of which the calibration inputs show few as the largest.

In: a classifier's last layers, inputs near one class each.  Out: probabilities of other inputs,
beside onnxruntime's.
"""

from __future__ import annotations

import neuralmatrix as nm
import numpy as np
import pytest
from build_onnx import model, node, onnxruntime_outputs
from neuralmatrix.runtime.session import Session

CHANNELS, ROWS = 32, 8


@pytest.mark.gxx
@pytest.mark.slow
@pytest.mark.parametrize("precision", ["int8", "int16"])
@pytest.mark.parametrize("sure", [0.5, 1.5])
@pytest.mark.parametrize("classes", [200, 1000])
def test_classes_that_calibration_did_not_show(classes: int, sure: float, precision: str) -> None:
    """30 dB: what the 64 segments of the exponential leave at these precisions, with room."""
    rng = np.random.default_rng(0)
    weights = np.float32(rng.normal(size=(CHANNELS, classes)) / np.sqrt(CHANNELS))

    def inputs(count: int) -> np.ndarray:
        near = weights.T[rng.integers(0, classes, (count, ROWS))] * np.sqrt(CHANNELS)
        return np.float32(rng.normal(size=(count, ROWS, CHANNELS)) + 1.5 * sure * near)

    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Softmax", ["a"], ["y"], axis=-1)]
    proto = model(nodes, {"x": (1, ROWS, CHANNELS)}, ["y"], {"w": weights})
    program = nm.compile(
        proto, calibration=[{"x": inputs(16)}], precision=precision, method="mse", refine=False
    )
    fresh = inputs(16)
    found = Session(program, threads=1).run({"x": fresh})["y"]
    wanted = np.concatenate([onnxruntime_outputs(proto, {"x": x[None]})["y"] for x in fresh])
    assert wanted.max() > 0.3, "a test of unsure rows alone shows nothing"
    error = np.linalg.norm(found.reshape(wanted.shape) - wanted) / np.linalg.norm(wanted)
    assert error < 10 ** (-30 / 20)
