# SPDX-License-Identifier: Apache-2.0
"""Code written for onnxruntime runs a program.

In: one network as a model of onnxruntime and as a program.  Out: the same names, types and shapes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import neuralmatrix as nm
import numpy as np
import pytest
from build_onnx import model, node
from programs import copy_program

onnxruntime = pytest.importorskip("onnxruntime")


def network() -> Any:
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(6, 4)).astype(np.float32)}
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Relu", ["h"], ["y"])]
    return model(nodes, {"x": (1, 6)}, ["h", "y"], weights)


def used(session: Any, x: Any) -> Any:
    """Use a session as code for onnxruntime does."""
    (given,), outputs = session.get_inputs(), session.get_outputs()
    kinds = [(arg.name, arg.type, list(arg.shape)) for arg in (given, *outputs)]
    both = session.run(None, {given.name: x})
    (y,) = session.run(["y"], {given.name: x})
    np.testing.assert_array_equal(y, both[1])
    return kinds, both


@pytest.mark.gxx
def test_it_is_used_as_onnxruntimes(tmp_path: Path) -> None:
    proto = network()
    x = np.random.default_rng(1).normal(size=(64, 6)).astype(np.float32)
    program = nm.compile(proto, calibration=[{"x": x[:32]}])
    program.save(tmp_path / "net.nmx")
    theirs = onnxruntime.InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    kinds, found = used(nm.InferenceSession(tmp_path / "net.nmx", None, ["any"], threads=1), x[:1])
    wanted_kinds, wanted = used(theirs, x[:1])
    assert kinds == wanted_kinds
    for one, right in zip(found, wanted, strict=True):  # int8: some steps of 1/128
        np.testing.assert_allclose(one, right, atol=0.05 * float(np.abs(right).max()))


def test_what_it_refuses(tmp_path: Path) -> None:
    session = nm.InferenceSession(copy_program())
    assert session.get_providers() == ["NeuralMatrixEmulationProvider"]
    assert session.session.program.outputs[0].name == "y"
    with pytest.raises(nm.BadInput, match="output_names: found 'q', allowed are y"):
        session.run(["q"], {})
    file = tmp_path / "net.onnx"
    file.write_bytes(network().SerializeToString())
    with pytest.raises(nm.NeuralMatrixError, match="net.onnx"):
        nm.InferenceSession(file)
