# SPDX-License-Identifier: Apache-2.0
"""Decomposed forms of activations, as exporters write them.

In: ONNX models of one form each.  Out: one Unary, and onnxruntime's values; near misses stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from build_onnx import signed
from neuralmatrix.ir.graph.nodes import Unary
from onnx_forms import Form, checked, kinds


def gelu_erf(form: Form, order: int) -> str:
    gate = form.op("Add", form.op("Erf", form.op("Div", "x", math.sqrt(2))), 1.0)
    if order == 0:
        return form.op("Mul", form.op("Mul", "x", gate), 0.5)
    if order == 1:
        return form.op("Mul", form.op("Mul", "x", 0.5), gate)
    return form.op("Mul", "x", form.op("Mul", 0.5, gate))


def gelu_tanh(form: Form, order: int) -> str:
    slope = math.sqrt(2 / math.pi)
    if order == 0:
        cube = form.op("Mul", form.op("Pow", "x", 3.0), 0.044715)
        inner = form.op("Mul", form.op("Add", "x", cube), slope)
    elif order == 1:
        square = form.op("Mul", form.op("Mul", "x", "x"), 0.044715 * slope)
        inner = form.op("Mul", "x", form.op("Add", square, slope))
    else:
        cube = form.op("Mul", "x", form.op("Mul", "x", "x"))
        inner = form.op("Mul", slope, form.op("Add", "x", form.op("Mul", 0.044715, cube)))
    gate = form.op("Add", 1.0, form.op("Tanh", inner))
    return form.op("Mul", form.op("Mul", 0.5, "x"), gate)


@pytest.mark.parametrize("order", range(3))
@pytest.mark.parametrize("make, name", [(gelu_erf, "gelu"), (gelu_tanh, "gelu_tanh")])
def test_gelu(make: Callable[[Form, int], str], name: str, order: int) -> None:
    form = Form()
    make(form, order)
    (unary,) = checked(form.model({"x": (2, 5, 12)})).nodes
    assert isinstance(unary, Unary) and unary.function.name == name


def test_almost_gelu_stays() -> None:
    form = Form()
    gate = form.op("Add", form.op("Erf", form.op("Mul", "x", 0.9)), 1.0)
    form.op("Mul", form.op("Mul", "x", gate), 0.5)
    graph = checked(form.model({"x": (2, 12)}))
    assert not any(isinstance(n, Unary) and n.function.name == "gelu" for n in graph.nodes)


@pytest.mark.parametrize("slope", [1.0, 1.702, -0.7])
def test_swish_is_silu(slope: float) -> None:
    """The slope of CLIP's activation is fused; the factor behind it is folded into weights."""
    form = Form()
    gated = form.op("Mul", "x", form.op("Sigmoid", form.op("Mul", "x", slope)))
    form.op("MatMul", gated, signed((12, 4), 5))
    graph = checked(form.model({"x": (3, 12)}))
    assert any(isinstance(n, Unary) and n.function.name == "silu" for n in graph.nodes)
    assert kinds(graph)[-2:] == ["Unary", "MatMul"]


@pytest.mark.parametrize("numerator", ["x", "one"])
def test_exponential_quotients(numerator: str) -> None:
    form = Form()
    divisor = form.op("Add", form.op("Exp", form.op("Neg", "x")), 1.0)
    form.op("Div", "x" if numerator == "x" else 1.0, divisor)
    (unary,) = checked(form.model({"x": (2, 12)})).nodes
    assert isinstance(unary, Unary)
    assert unary.function.name == {"x": "silu", "one": "sigmoid"}[numerator]
