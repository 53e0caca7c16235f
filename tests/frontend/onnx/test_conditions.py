# SPDX-License-Identifier: Apache-2.0
"""Comparisons of real values that choose between functions of one tensor.

In: what exporters write for activations, and choices that cannot be tables.
Out: one Unary, with onnxruntime's values; on the array within some steps of int8; refusals.
"""

from __future__ import annotations

from collections.abc import Callable

import neuralmatrix as nm
import numpy as np
import onnx
import pytest
from build_onnx import onnxruntime_outputs, signed
from neuralmatrix.errors import UnsupportedModel
from neuralmatrix.frontend.onnx.import_onnx import import_onnx
from neuralmatrix.ir.functions import evaluate, kinks
from neuralmatrix.ir.graph.nodes import Binary, Unary
from neuralmatrix.ir.graph.operators import run_graph
from neuralmatrix.ir.types import Function
from neuralmatrix.transforms.graph.simplify import simplify
from onnx_forms import Form

SHAPE = (6, 8)


def softplus(f: Form, x: str) -> str:
    plain = f.op("Log", f.op("Add", f.op("Exp", x), 1.0))
    return f.op("Where", f.op("Greater", x, 3.0), x, plain)


def threshold(f: Form, x: str) -> str:
    return f.op("Where", f.op("LessOrEqual", x, 0.1), 0.0, x)


def smooth_l1(f: Form, x: str) -> str:
    size = f.op("Abs", x)
    inner = f.op("Mul", f.op("Mul", x, x), 0.5)
    return f.op("Where", f.op("Less", size, 1.0), inner, f.op("Sub", size, 0.5))


def soft_shrink(f: Form, x: str) -> str:
    moved = f.op("Sub", x, f.op("Mul", f.op("Sign", x), 0.3))
    return f.op("Where", f.op("Greater", f.op("Abs", x), 0.3), moved, 0.0)


def kept_between(f: Form, x: str) -> str:
    inside = f.op("And", f.op("GreaterOrEqual", x, -1.0), f.op("Not", f.op("Greater", x, 0.5)))
    return f.op("Mul", f.op("Cast", inside, to=1), x)


ACTIVATIONS = {f.__name__: f for f in (softplus, threshold, smooth_l1, soft_shrink, kept_between)}


def built(write: Callable[[Form, str], str]) -> onnx.ModelProto:
    """Return the activation of a product."""
    f = Form()
    write(f, f.op("MatMul", "x", signed((8, 5), 3) / 8))
    return f.model({"x": SHAPE})


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_choice_by_one_tensor_is_one_table(name: str) -> None:
    proto, feeds = built(ACTIVATIONS[name]), {"x": signed(SHAPE)}
    graph = simplify(import_onnx(proto))
    assert [type(node) for node in graph.nodes][1:] == [Unary]
    (right,) = onnxruntime_outputs(proto, feeds).values()
    (found,) = run_graph(graph, feeds).values()
    np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-5)


@pytest.mark.gxx
@pytest.mark.parametrize("name", ["softplus", "smooth_l1", "soft_shrink"])
def test_the_table_runs(name: str) -> None:
    """These have no jump, so that a rounded input moves the output by no more."""
    proto, feeds = built(ACTIVATIONS[name]), {"x": signed(SHAPE)}
    program = nm.compile(proto, calibration=[feeds])
    (right,) = onnxruntime_outputs(proto, feeds).values()
    (found,) = nm.Session(program, threads=1).run(feeds).values()
    assert np.abs(found - right).max() < 0.02 * np.abs(right).max()


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("op", ["Greater", "Less", "LessOrEqual"])
def test_a_choice_of_the_compared_tensors_is_an_extreme(op: str, swap: bool) -> None:
    f = Form()
    other = f.op("Neg", "z")
    first, second = ("x", other) if swap else (other, "x")
    f.op("Where", f.op(op, "x", other), first, second)
    proto = f.model({"x": SHAPE, "z": SHAPE})
    feeds = {"x": signed(SHAPE), "z": signed(SHAPE, 5)}
    graph = import_onnx(proto)
    assert any(isinstance(n, Binary) and n.kind in ("max", "min") for n in graph.nodes)
    (right,) = onnxruntime_outputs(proto, feeds).values()
    (found,) = run_graph(graph, feeds).values()
    np.testing.assert_array_equal(found, right)


def no_nan(f: Form, x: str, d: str) -> str:
    return f.op("Where", f.op("Equal", d, 0.0), 0.0, f.op("Div", x, d))


def safe_divisor(f: Form, x: str, d: str) -> str:
    safe = f.op("Where", f.op("Equal", d, 0.0), 1.0, d)
    return f.op("Where", f.op("Greater", d, 0.0), f.op("Div", x, safe), [0.0])


def gate(f: Form, x: str, d: str) -> str:
    return f.op("Where", f.op("Less", d, 0.5), 0.0, f.op("Mul", d, x))


def shared(write: Callable[[Form, str, str], str]) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Return x and a computed divisor d, 0 in the second row, in a choice."""
    f = Form()
    d = f.op("Relu", f.op("MatMul", "d", np.ones((4, 1), np.float32)))
    write(f, f.op("MatMul", "x", signed((8, 8), 5) / 4), d)
    feeds = {"x": signed(SHAPE), "d": np.abs(signed((6, 4), 2)) + np.float32(0.5)}
    feeds["d"][1] = 0
    return f.model({"x": SHAPE, "d": (6, 4)}), feeds


@pytest.mark.parametrize("write", [no_nan, safe_divisor, gate])
def test_a_share_is_a_product_with_a_table(write: Callable[[Form, str, str], str]) -> None:
    proto, feeds = shared(write)
    graph = simplify(import_onnx(proto))
    assert not any(isinstance(node, Binary) and node.kind == "div" for node in graph.nodes)
    (right,) = onnxruntime_outputs(proto, feeds).values()
    (found,) = run_graph(graph, feeds).values()
    np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-5)
    assert not found[1].any() and right[0].any()


@pytest.mark.gxx
@pytest.mark.parametrize("write", [no_nan, safe_divisor])
def test_a_quotient_runs_and_is_0_where_its_divisor_is(
    write: Callable[[Form, str, str], str],
) -> None:
    proto, feeds = shared(write)
    program = nm.compile(proto, calibration=[feeds])
    (right,) = onnxruntime_outputs(proto, feeds).values()
    (found,) = nm.Session(program, threads=1).run(feeds).values()
    assert not found[1].any()
    assert np.abs(found - right).max() < 0.02 * np.abs(right).max()


def test_other_choices_are_refused() -> None:
    f = Form()
    f.op("Where", f.op("Greater", "x", 0.5), "x", "z")
    with pytest.raises(UnsupportedModel, match="chooses between different tensors"):
        import_onnx(f.model({"x": SHAPE, "z": SHAPE}))
    f = Form()
    f.op("Add", f.op("Cast", f.op("Greater", "x", 0.5), to=1), "x")
    with pytest.raises(UnsupportedModel, match="compares real values"):
        import_onnx(f.model({"x": SHAPE}))


def test_corners_of_expressions_are_found() -> None:
    text = "where(greater_equal(abs(x),0.5),sub(abs(x),clip(x,-4,9)),mul(x,x))"
    assert kinks(Function(text)) == pytest.approx((-4, -0.5, 0.5, 9))
    np.testing.assert_allclose(evaluate(Function(text), [-5, 0.25, 0.5]), [9, 0.0625, 0])
