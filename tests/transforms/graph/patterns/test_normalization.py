# SPDX-License-Identifier: Apache-2.0
"""Decomposed forms of normalisation, as exporters write them.

In: ONNX models of one form each.  Out: one Normalize, and onnxruntime's values; near misses stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from build_onnx import signed
from neuralmatrix.ir.graph.nodes import Normalize
from onnx_forms import Form, checked, kinds, layer_norm

GAMMA, BETA = 1 + signed((12,), 1) / 8, signed((12,), 2)


@pytest.mark.parametrize("square", ["pow", "mul", "twice"])
@pytest.mark.parametrize("divide", ["div", "reciprocal", "one-over", "pow"])
def test_layer_norm(square: str, divide: str) -> None:
    form = Form()
    normal = layer_norm(form, "x", square, divide)
    form.op("Add", form.op("Mul", GAMMA, normal), BETA)
    (norm,) = checked(form.model({"x": (2, 5, 12)})).nodes
    assert isinstance(norm, Normalize) and len(norm.inputs) == 3
    assert norm.centered and norm.axes == (2,) and math.isclose(norm.epsilon, 1e-5, rel_tol=1e-6)


@pytest.mark.parametrize("gain", [False, True])
def test_layer_norm_as_batch_normalisation(gain: bool) -> None:
    """Return x * s + (beta - mean * s), as Keras and tf2onnx write it."""
    form = Form()
    mean = form.mean("x")
    difference = form.op("Sub", "x", mean)
    variance = form.mean(form.op("Mul", difference, difference))
    scale = form.op("Reciprocal", form.op("Sqrt", form.op("Add", variance, 1e-3)))
    if gain:
        scale = form.op("Mul", scale, GAMMA)
    shift = form.op("Sub", BETA, form.op("Mul", mean, scale))
    form.op("Add", form.op("Mul", "x", scale), shift)
    (norm,) = checked(form.model({"x": (2, 5, 12)})).nodes
    assert isinstance(norm, Normalize) and norm.centered


def test_layer_norm_over_a_reshaped_map() -> None:
    """Return Keras's fused form: each row is a one-channel image, averaged by GlobalAveragePool."""
    form = Form()
    x = form.op("Reshape", "x", np.array([1, 10, 12, 1]))
    centered = form.op("Sub", x, form.op("GlobalAveragePool", x))
    variance = form.op("GlobalAveragePool", form.op("Mul", centered, centered))
    inverse = form.op("Reciprocal", form.op("Sqrt", form.op("Add", variance, 1e-3)))
    normal = form.op("Reshape", form.op("Mul", centered, inverse), np.array([2, 5, 12]))
    form.op("Add", form.op("Mul", normal, GAMMA), BETA)
    graph = checked(form.model({"x": (2, 5, 12)}))
    assert kinds(graph).count("Normalize") == 1 and "Reduce" not in kinds(graph)


@pytest.mark.parametrize("form_name", ["rsqrt-pow", "sqrt", "sum", "no-epsilon"])
def test_rms_norm(form_name: str) -> None:
    form = Form()
    square = form.op("Pow", "x", 2.0)
    mean = form.mean(square)
    if form_name == "sum":
        mean = form.op("Mul", form.op("ReduceSum", square, np.array([-1]), keepdims=1), 1 / 12)
    shifted = mean if form_name == "no-epsilon" else form.op("Add", mean, 1e-6)
    if form_name == "rsqrt-pow":
        normal = form.op("Mul", "x", form.op("Pow", shifted, -0.5))
    else:
        normal = form.op("Div", "x", form.op("Sqrt", shifted))
    form.op("Mul", GAMMA, normal)
    (norm,) = checked(form.model({"x": (2, 5, 12)})).nodes
    assert isinstance(norm, Normalize) and not norm.centered and len(norm.inputs) == 2


@pytest.mark.parametrize("bound", ["clip", "max", "sum"])
def test_l2_normalisation(bound: str) -> None:
    form = Form()
    if bound == "sum":
        total = form.op("ReduceSum", form.op("Mul", "x", "x"), np.array([1]), keepdims=1)
        root = form.op("Sqrt", form.op("Add", total, 1e-6))
    else:
        size = form.op("ReduceL2", "x", axes=[1], keepdims=1)
        root = form.op("Clip", size, 1e-12) if bound == "clip" else form.op("Max", size, 1e-12)
        root = form.op("Expand", root, np.array([3, 9]))
    form.op("Div", "x", root)
    norm = checked(form.model({"x": (3, 9)})).nodes[0]
    assert isinstance(norm, Normalize) and norm.kind == ("variance" if bound == "sum" else "l2")


NEAR_NORMS: dict[str, Callable[[Form], str]] = {
    "other axes": lambda f: f.op(
        "Div", f.op("Sub", "x", f.mean("x", (1,))),
        f.op("Sqrt", f.mean(f.op("Pow", f.op("Sub", "x", f.mean("x")), 2.0)))),
    "other tensor": lambda f: f.op(
        "Div", "x", f.op("Sqrt", f.op("Add", f.mean(f.op("Pow", f.op("Tanh", "x"), 2.0)), 1.0))),
    "computed epsilon": lambda f: f.op(
        "Div", "x", f.op("Sqrt", f.op("Add", f.mean(f.op("Mul", "x", "x")),
                                      f.op("Sigmoid", f.mean("x"))))),
}  # fmt: skip


@pytest.mark.parametrize("name", NEAR_NORMS)
def test_what_only_looks_like_a_norm_stays(name: str) -> None:
    form = Form()
    NEAR_NORMS[name](form)
    assert "Normalize" not in kinds(checked(form.model({"x": (2, 5, 12)}), tolerance=1e-4))
