# SPDX-License-Identifier: Apache-2.0
"""Masks and biases that are added to, or selected between, the scores of attention.

In: ONNX models of one form each.  Out: the mask and bias of one Attention; onnxruntime's values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from build_onnx import signed
from onnx import TensorProto
from onnx_attention import LOWEST, QKV, TRIANGLE, attend, attention_of
from onnx_forms import Form, checked

CONSTANT_MASKS: dict[str, Callable[[Form, str], str]] = {
    "added": lambda f, s: f.op("Add", s, np.where(TRIANGLE, 0.0, -1e4)),
    "added-lowest": lambda f, s: f.op("Add", np.where(TRIANGLE, 0.0, LOWEST), s),
    "selected": lambda f, s: f.op("Where", TRIANGLE, s, np.float32(LOWEST)),
    "selected-else": lambda f, s: f.op("Where", ~TRIANGLE, np.float32(-np.inf), s),
    "two": lambda f, s: f.op("Add", f.op("Where", TRIANGLE, s, np.float32(-1e9)),
                             np.where(np.arange(7) != 1, 0.0, -1e9)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONSTANT_MASKS)
def test_constant_masks(name: str) -> None:
    form = Form()
    attend(form, lambda scores: CONSTANT_MASKS[name](form, scores))
    graph = checked(form.model(QKV))
    mask = graph.constants[attention_of(graph).inputs[3]]
    assert set(np.unique(mask)) == {0.0, 1.0}
    assert mask.sum() == (15 if name != "two" else 11)


INPUT_MASKS: dict[str, Callable[[Form, str], str]] = {
    "one-minus": lambda f, s: f.op(
        "Add", s, f.op("Mul", f.op("Sub", 1.0, f.op("Cast", "m", to=1)), -1e4)),
    "lowest": lambda f, s: f.op(
        "Add", s, f.op("Mul", f.op("Sub", 1.0, f.op("Cast", "m", to=1)), LOWEST)),
    "affine": lambda f, s: f.op(
        "Add", s, f.op("Sub", f.op("Mul", f.op("Cast", "m", to=1), 1e4), 1e4)),
    "select-of-itself": lambda f, s: _masked_fill(f, s),
    "selected": lambda f, s: f.op("Where", f.op("Cast", "m", to=9), s, np.float32(-np.inf)),
    "select-zero": lambda f, s: f.op(
        "Add", s, f.op("Where", f.op("Cast", "m", to=9), np.float32(0), np.float32(LOWEST))),
    "and-causal": lambda f, s: f.op(
        "Add", f.op("Where", TRIANGLE, s, np.float32(LOWEST)),
        f.op("Mul", f.op("Sub", 1.0, f.op("Cast", "m", to=1)), -1e4)),
}  # fmt: skip


def _masked_fill(form: Form, scores: str) -> str:
    """Add (1 - m).masked_fill((1 - m) is true, lowest), on an expanded mask."""
    expanded = form.op("Expand", "m", np.array([2, 1, 5, 7]))
    inverse = form.op("Sub", 1.0, form.op("Cast", expanded, to=1))
    filled = form.op("Where", form.op("Cast", inverse, to=9), np.float32(LOWEST), inverse)
    return form.op("Add", scores, filled)


@pytest.mark.parametrize("name", INPUT_MASKS)
def test_masks_from_an_input(name: str) -> None:
    form = Form()
    attend(form, lambda scores: INPUT_MASKS[name](form, scores))
    proto = form.model({**QKV, "m": (2, 1, 1, 7)}, m=TensorProto.INT64)
    feeds = {n: signed(s, 5 + i) for i, (n, s) in enumerate(QKV.items())}
    feeds["m"] = np.array([[1, 1, 1, 1, 0, 0, 0], [1, 0, 1, 1, 1, 1, 1]])[:, None, None]
    graph = checked(proto, feeds)
    attention = attention_of(graph)
    assert len(attention.inputs) == 4
    if name not in ("and-causal", "selected", "select-zero"):
        assert attention.inputs[3] == "m"


def test_finite_addend_is_a_bias() -> None:
    form = Form()
    bias = signed((3, 5, 7), 9)
    attend(form, lambda scores: form.op("Add", scores, bias))
    graph = checked(form.model(QKV))
    mask, name = attention_of(graph).inputs[3:]
    assert mask == "" and np.array_equal(graph.constants[name], bias)


def test_bias_and_mask_in_one_constant_are_parted() -> None:
    form = Form()
    bias = np.where(TRIANGLE, signed((3, 5, 7), 9), -np.float32(1e9))
    attend(form, lambda scores: form.op("Add", scores, bias))
    graph = checked(form.model(QKV))
    mask, name = attention_of(graph).inputs[3:]
    assert np.abs(graph.constants[name]).max() < 100 and graph.constants[mask].shape[-2:] == (5, 7)


BIAS = signed((3, 5, 7), 9)
INSIDE: dict[str, Callable[[Form, str], str]] = {
    "selected-constant-bias": lambda f, s: f.op(
        "Add", s, f.op("Where", f.op("Cast", "m", to=9), BIAS, np.float32(LOWEST))),
    "selected-else": lambda f, s: f.op(
        "Add", f.op("Where", f.op("Not", f.op("Cast", "m", to=9)), np.float32(-1e9), BIAS), s),
    "selected-computed-bias": lambda f, s: f.op(
        "Add", s, f.op("Where", f.op("Cast", "m", to=9), f.op("Tanh", "p"), np.float32(-1e4))),
    "summed-before": lambda f, s: f.op(
        "Add", s, f.op("Add", f.op("Tanh", "p"), f.op(
            "Mul", f.op("Sub", 1.0, f.op("Cast", "m", to=1)), LOWEST))),
    "two-terms": lambda f, s: f.op(
        "Add", s, f.op("Add", BIAS, f.op("Where", f.op("Cast", "m", to=9), f.op("Tanh", "p"),
                                         np.float32(LOWEST)))),
}  # fmt: skip


@pytest.mark.parametrize("name", INSIDE)
def test_a_mask_inside_a_bias_is_taken_apart(name: str) -> None:
    form = Form()
    attend(form, lambda scores: INSIDE[name](form, scores))
    inputs = {**QKV, "m": (2, 1, 1, 7)}
    inputs |= {"p": (2, 3, 5, 7)} if name not in ("selected-constant-bias", "selected-else") else {}
    proto = form.model(inputs, m=TensorProto.INT64)
    feeds = {n: signed(s, 5 + i) for i, (n, s) in enumerate(inputs.items())}
    feeds["m"] = np.array([[1, 1, 1, 1, 0, 0, 0], [1, 0, 1, 1, 1, 1, 1]])[:, None, None]
    graph = checked(proto, feeds)
    attention = attention_of(graph)
    assert len(attention.inputs) == 5
    assert all(np.abs(array).max() < 1e3 for array in graph.constants.values())
