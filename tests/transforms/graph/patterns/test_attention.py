# SPDX-License-Identifier: Apache-2.0
"""Decomposed forms of attention, as exporters write them.

In: ONNX models of one form each.  Out: one Attention, and onnxruntime's values; near misses stay.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from build_onnx import signed
from onnx_attention import QKV, attend, attention_of
from onnx_forms import Form, checked, kinds


@pytest.mark.parametrize("split", [False, True])
def test_attention(split: bool) -> None:
    form = Form()
    attend(form, lambda scores: scores, split)
    assert len(attention_of(checked(form.model(QKV))).inputs) == 3


def test_bias_between_reshapes() -> None:
    """Shifted windows add their mask to scores of another shape."""
    form = Form()
    mask = np.where(np.arange(2 * 5 * 7).reshape(2, 1, 1, 5, 7) % 3 > 0, 0.0, -100.0)

    def masked(scores: str) -> str:
        expanded = form.op("Reshape", scores, np.array([1, 2, 3, 1, 5, 7]))
        return form.op("Reshape", form.op("Add", expanded, mask.reshape(1, 2, 1, 1, 5, 7)),
                       np.array([2, 3, 5, 7]))  # fmt: skip

    attend(form, masked)
    graph = checked(form.model(QKV))
    assert graph.constants[attention_of(graph).inputs[3]].shape == (2, 1, 5, 7)


NEAR_ATTENTIONS: dict[str, Callable[[Form], str]] = {
    "other axis": lambda f: f.op(
        "MatMul", f.op("Softmax", f.op("MatMul", "q", f.op("Transpose", "k", perm=[0, 1, 3, 2])),
                       axis=2), "v"),
    "constant keys": lambda f: f.op(
        "MatMul", f.op("Softmax", f.op("MatMul", "q", signed((2, 3, 8, 7), 4)), axis=-1), "v"),
    "a function between": lambda f: f.op(
        "MatMul", f.op("Softmax", f.op("Tanh", f.op(
            "MatMul", "q", f.op("Transpose", "k", perm=[0, 1, 3, 2]))), axis=-1), "v"),
}  # fmt: skip


@pytest.mark.parametrize("name", NEAR_ATTENTIONS)
def test_what_only_looks_like_attention_stays(name: str) -> None:
    form = Form()
    NEAR_ATTENTIONS[name](form)
    inputs = {n: s for n, s in QKV.items() if n != "k" or name != "constant keys"}
    assert "Attention" not in kinds(checked(form.model(inputs)))
