# SPDX-License-Identifier: Apache-2.0
"""Networks as TensorFlow and TFLite export them cost what their channels-first twins cost.

In: whole networks in several forms.  Out: estimated cycles, emulated results.
"""

from __future__ import annotations

import neuralmatrix as nm
import numpy as np
import pytest
from build_onnx import onnxruntime_outputs
from channels_last import FORMS, NETWORKS
from neuralmatrix.program.program import Program
from shuffles import shufflenet_v2


def image(model: object, last: bool) -> dict[str, np.ndarray]:
    """Return the same image for every form of a network."""
    size = model.graph.input[0].type.tensor_type.shape.dim[2].dim_value  # type: ignore[attr-defined]
    x = np.random.default_rng(1).uniform(-1, 1, (1, 3, size, size)).astype(np.float32)
    return {"image": np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if last else x}


def compiled(name: str, form: str, board: str) -> tuple[Program, float]:
    """Return the program, and its relative error where it is emulated."""
    model = NETWORKS[name](form)
    feeds = image(model, form != "channels_first")
    program = nm.compile(model, board, calibration=[feeds], accuracy=False)
    if board != "pynq-z2":
        return program, 0.0
    (right,), (found,) = (
        result.values()
        for result in (onnxruntime_outputs(model, feeds), nm.Session(program).run(feeds))
    )
    return program, float(np.linalg.norm(found - right) / np.linalg.norm(right))


@pytest.mark.gxx
@pytest.mark.parametrize("board", ["pynq-z2", "kv260"])
@pytest.mark.parametrize("name", NETWORKS)
def test_forms_of_tensorflow_cost_what_their_twins_cost(name: str, board: str) -> None:
    twin, error = compiled(name, "channels_first", board)
    most = 1.1 * twin.estimate().cycles
    for form in FORMS:
        program, other = compiled(name, form, board)
        assert program.estimate().cycles <= most
        assert other <= max(1.1 * error, 0.01)


@pytest.mark.slow
def test_a_shufflenet_uses_a_third_of_the_array() -> None:
    """ShuffleNetV2 1.0's second stage, for an image of 224 x 224."""
    model = shufflenet_v2(112, 232, 8)
    x = np.random.default_rng(1).normal(size=(1, 3, 112, 112)).astype(np.float32)
    program = nm.compile(model, calibration=[{"x": x}], accuracy=False)
    assert program.estimate().utilization >= 0.35
