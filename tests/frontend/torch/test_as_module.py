# SPDX-License-Identifier: Apache-2.0
"""A session as a torch module.

In: a torch module and its program.  Out: the session's outputs as tensors.
"""

from __future__ import annotations

import builtins

import numpy as np
import pytest
from neuralmatrix.compiler import compile_model
from neuralmatrix.errors import BadInput, ToolMissing
from neuralmatrix.runtime.session import Session
from neuralmatrix.torch import as_module


@pytest.fixture
def session():
    helper = pytest.importorskip("onnx").helper
    value = [helper.make_tensor_value_info(n, 1, [1, 8]) for n in ("x", "y")]
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    graph = helper.make_graph([node], "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    x = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
    return Session(compile_model(model, calibration=[{"x": x}])), x


@pytest.mark.gxx
def test_a_session_is_called_as_a_module(session):
    torch = pytest.importorskip("torch")
    session, x = session
    module = as_module(session)
    wanted = session.run({"x": x})["y"]
    for found in (module(torch.from_numpy(x)), module(x=torch.from_numpy(x))):
        assert isinstance(found, torch.Tensor) and np.array_equal(found.numpy(), wanted)
    assert not module.training and not list(module.parameters())
    with pytest.raises(BadInput, match="2 inputs are given"):
        module(torch.from_numpy(x), torch.from_numpy(x))


@pytest.mark.gxx
def test_without_torch_the_error_names_the_extra(session, monkeypatch):
    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name.split(".")[0] == "torch" and not (args and args[-1]):
            raise ImportError("no torch")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ToolMissing, match=r"extra \[torch\]"):
        as_module(session[0])
