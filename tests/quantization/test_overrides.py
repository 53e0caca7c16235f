# SPDX-License-Identifier: Apache-2.0
"""The user's choices for single layers, in Python and in the shell; nm.trace.

In: the demo's CNN.  Out: which tensors are int16, which weights have two digits.
"""

from __future__ import annotations

import numpy as np
import pytest
from neuralmatrix.compiler import compile_model
from neuralmatrix.demo.tasks import MODEL, load_digits
from neuralmatrix.errors import BadInput
from neuralmatrix.quantization.overrides import overrides_of, parse_override
from neuralmatrix.verification import trace

pytest.importorskip("onnx")


def compiled(**settings):
    digits = load_digits(limit=4)
    feeds = [{"input": digits.calibration}]
    return compile_model(MODEL, calibration=feeds, accuracy=False, **settings)


def test_layers_are_promoted_and_widened_by_name():
    plain = compiled()
    program = compiled(overrides={"residual.*": "int16", "stem": {"weights": "wide"}})
    assert not plain.recipe.promoted and not plain.recipe.widened
    assert len(program.recipe.promoted) >= 2
    assert all(name.startswith("residual") for name in program.recipe.promoted)
    assert len(program.recipe.widened) == 1 and program.recipe.widened[0].startswith("stem")
    held = {point.tensor.name: point.tensor for point in program.watchpoints}
    assert all(held[name].qparams.int16 for name in program.recipe.promoted if name in held)
    assert program.estimate().cycles > plain.estimate().cycles


@pytest.mark.parametrize(("given", "text"), [
    ({"no.such.layer": "int16"}, "no layer"),
    ({"stem": "int32"}, "allowed are 'int16'"),
    ({"stem": {"biases": "wide"}}, "allowed are 'int16'"),
    (["stem"], "allowed is a dict"),
])  # fmt: skip
def test_overrides_that_name_nothing_are_refused(given, text):
    with pytest.raises(BadInput, match=text):
        compiled(overrides=given)


def test_mixed_chooses_its_weights_itself():
    with pytest.raises(BadInput, match="overrides of weights with precision mixed"):
        compiled(overrides={"stem": "wide"}, precision="mixed")


def test_the_shell_says_the_same():
    assert parse_override("layer3.*=int16") == ("layer3.*", {"activations": "int16"})
    assert overrides_of(dict([parse_override("a=b=wide")]))[0].pattern == "a=b"
    for text in ("stem", "=int16"):
        with pytest.raises(BadInput, match="LAYER=int16"):
            parse_override(text)


@pytest.mark.gxx
def test_trace_returns_every_tensor_in_three_forms():
    program = compiled()
    x = load_digits(limit=4).x[:3]
    found = trace(MODEL, program, {"input": x})
    assert list(found) == [point.tensor.name for point in program.watchpoints]
    for tensor in found.values():
        assert tensor.device.shape[0] == len(x)
        assert np.array_equal(tensor.integer, tensor.device)
        steps = tensor.device / tensor.scale
        assert np.allclose(steps, np.rint(steps), atol=1e-3)
        if tensor.real is not None:
            assert np.linalg.norm(tensor.real - tensor.device) < 0.1 * np.linalg.norm(tensor.real)
    assert sum(tensor.real is not None for tensor in found.values()) > len(found) / 2
