# SPDX-License-Identifier: Apache-2.0
"""onnxruntime as a judge of the float network: agreement, a fault, no judge.

In: small models and outputs, right and wrong.  Out: what the judge says of them.
"""

from __future__ import annotations

import sys

import neuralmatrix as nm
import numpy as np
import pytest
from build_onnx import model, node, onnxruntime_outputs
from neuralmatrix.frontend.onnx.judge import judged
from onnx import TensorProto

WEIGHT = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
NET = model([node("MatMul", ["x", "w"], ["y"])], {"x": (1, 4)}, ["y"], {"w": WEIGHT})
FEEDS = [{"x": np.random.default_rng(i).normal(size=(1, 4)).astype(np.float32)} for i in range(3)]


def test_right_outputs_agree() -> None:
    found = judged(NET, None, FEEDS, [onnxruntime_outputs(NET, feed) for feed in FEEDS])
    assert found.agrees and found.by.startswith("onnxruntime ") and found.difference == 0.0
    assert found.to_text().endswith(", within 0 %")


def test_one_wrong_run_is_found() -> None:
    outputs = [onnxruntime_outputs(NET, feed) for feed in FEEDS]
    outputs[1] = {"y": 1.01 * outputs[1]["y"]}
    found = judged(NET, None, FEEDS, outputs)
    assert not found.agrees and found.output == "y"
    assert found.difference == pytest.approx(0.01, rel=1e-3)


def test_bound_constants_and_types() -> None:
    nodes = [node("Gather", ["t", "ids"], ["g"]), node("MatMul", ["g", "w"], ["y"])]
    types = {"ids": TensorProto.INT64}
    net = model(nodes, {"ids": (1, 2), "w": (4, 3)}, ["y"], {"t": WEIGHT.repeat(2, 0) @ WEIGHT.T},
                types=types)  # fmt: skip
    feeds = [{"ids": np.array([[1.0, 3.0]], np.float32)}]
    wanted = onnxruntime_outputs(net, {"ids": np.array([[1, 3]]), "w": WEIGHT})
    assert judged(net, {"w": WEIGHT}, feeds, [wanted]).agrees


def test_other_indices_count_by_their_share() -> None:
    net = model([node("ArgMax", ["x"], ["y"], axis=1)], {"x": (1, 4)}, ["y"],
                types={"y": TensorProto.INT64})  # fmt: skip
    outputs = [onnxruntime_outputs(net, feed) for feed in FEEDS]
    assert judged(net, None, FEEDS, outputs).agrees
    assert judged(net, None, FEEDS, [{"y": out["y"] + 1} for out in outputs]).difference == 1.0


def test_there_may_be_no_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    custom = model([node("Odd", ["x"], ["y"], domain="own")], {"x": (1, 4)}, ["y"], domains=["own"])
    assert judged(custom, None, FEEDS, [{}] * 3).by == ""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert judged(NET, None, FEEDS, [{}] * 3).to_text() == ""


def test_a_fault_of_the_front_end_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    feeds = {"x": np.random.default_rng(9).normal(size=(16, 4)).astype(np.float32)}
    good = nm.compile(NET, calibration=[feeds])
    assert good.accuracy.judge.startswith("onnxruntime ")
    assert not any("differs" in line for line in good.accuracy.warnings)
    other = model([node("MatMul", ["x", "w"], ["y"])], {"x": (1, 4)}, ["y"], {"w": 1.1 * WEIGHT})
    monkeypatch.setattr("neuralmatrix.compiler.import_model", _instead(other))
    with pytest.warns(nm.AccuracyWarning, match="differs from the model as onnxruntime .* 10 %"):
        bad = nm.compile(NET, calibration=[feeds])
    assert "do not use the program" in bad.accuracy.warnings[0]


def _instead(other):  # type: ignore[no-untyped-def]
    from neuralmatrix.frontend.onnx.host_edges import import_model

    return lambda model, *more: import_model(other, *more)
