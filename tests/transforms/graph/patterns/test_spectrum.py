# SPDX-License-Identifier: Apache-2.0
"""Sums of squares in front of a logarithm, a root or a power, as networks with a spectrum have.

In: ONNX models of one form each.  Out: arithmetic of logarithms, and onnxruntime's values; what
has no spectrum stays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from build_onnx import signed
from neuralmatrix.ir.graph.nodes import Graph, Normalize, Unary
from onnx_forms import Form, checked, kinds
from spectra import FRONT_ENDS, SAMPLES, speech


def transformed(f: Form, m: int = 6) -> str:
    return f.op("MatMul", "x", signed((12, m), 5))


def functions(graph: Graph) -> set[str]:
    return {node.function.name for node in graph.nodes if isinstance(node, Unary)}


FORMS: dict[str, Callable[[Form, str], str]] = {
    "log": lambda f, a: f.op("Log", f.op("Add", f.op("Pow", a, 2.0), 1e-3)),
    "log of magnitudes": lambda f, a: f.op("Log", f.op("Max", f.op("Abs", a), 1e-2)),
    "fourth power": lambda f, a: f.op("Log", f.op("Add", f.op("Pow", a, 4.0), 1e-3)),
    "root": lambda f, a: f.op("Sqrt", f.op("ReduceSum", f.op("Mul", a, a), np.array([2]))),
    "mean": lambda f, a: f.op("Sqrt", f.mean(f.op("Mul", a, a))),
    "norm": lambda f, a: f.op("ReduceL2", a, axes=[-1], keepdims=0),
    "compressed": lambda f, a: f.op("Pow", f.op("Mul", f.op("Pow", a, 2.0), 0.5), 0.3),
    "filters on the left": lambda f, a: f.op(
        "Log", f.op("Add", f.op("MatMul", np.abs(signed((2, 3), 7)), f.op("Mul", a, a)), 1e-3)),
    "power of a root": lambda f, a: f.op(
        "Log", f.op("Add", f.op("Pow", f.op("Sqrt", f.op("Add", f.op("Mul", a, a),
                                                         1e-3)), 2.0), 1e-3)),
    "quotient": lambda f, a: f.op("Pow", f.op("Div", f.op("Mul", a, a),
                                              f.op("Add", f.op("Mul", a, a), 0.1)), 0.5),
    "clip on both sides": lambda f, a: f.op("Log", f.op("Clip", f.op("Mul", a, a), 1e-2, 0.5)),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_a_spectrum_is_computed_by_logarithms(name: str) -> None:
    f = Form()
    FORMS[name](f, transformed(f))
    # the logarithm of a value near the floor multiplies its rounding in float32
    graph = checked(f.model({"x": (1, 3, 12)}), tolerance=2e-4)
    found = functions(graph)
    assert "log_abs" in found and not found & {"square", "log", "sqrt", "power", "abs"}


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_front_ends_of_voice_networks(name: str) -> None:
    f = Form()
    FRONT_ENDS[name](f)
    feeds = {"x": speech(1)[:, None]}
    # logarithms of what is 100 dB below the loudest; a decibel is 4.3 times as much
    graph = checked(f.model({"x": (1, 1, SAMPLES)}), feeds, tolerance=2e-2)
    assert "log_abs" in functions(graph)
    # real and imaginary part, each with weights of two digits, and no slice that moves data
    assert kinds(graph).count("Conv") in (2, 4) and "Slice" not in kinds(graph)


NEAR_SPECTRA: dict[str, Callable[[Form], str]] = {
    "deviation": lambda f: f.op("Sqrt", f.op("Add", f.mean(f.op("Pow", f.op(
        "Sub", transformed(f), f.mean("t0")), 2.0)), 1e-3)),
    "no square": lambda f: f.op("Log", f.op("Add", f.op("Relu", transformed(f)), 1e-3)),
    "squares of an activation": lambda f: f.op("Log", f.op("Add", f.op("Pow", f.op(
        "Tanh", transformed(f)), 2.0), 1e-3)),
    "filters below 0": lambda f: f.op("Log", f.op("Add", f.op("MatMul", f.op(
        "Pow", transformed(f), 2.0), -np.abs(signed((6, 2), 8)) / 50), 10.0)),
    "a difference": lambda f: f.op("Log", f.op("Add", f.op("Sub", 0.5, f.op(
        "Pow", f.op("MatMul", "x", signed((12, 2), 5) / 90), 2.0)), 1e-3)),
    "energy": lambda f: f.mean(f.op("Pow", transformed(f), 2.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", NEAR_SPECTRA)
def test_what_only_looks_like_a_spectrum_stays(name: str) -> None:
    f = Form()
    NEAR_SPECTRA[name](f)
    assert "log_abs" not in functions(checked(f.model({"x": (1, 3, 12)})))


def test_normalisations_stay_normalisations() -> None:
    f = Form()
    a = transformed(f)
    f.op("Div", a, f.op("Sqrt", f.op("Add", f.mean(f.op("Pow", a, 2.0)), 1e-5)))
    graph = checked(f.model({"x": (1, 3, 12)}))
    assert any(isinstance(node, Normalize) for node in graph.nodes)
    assert "log_abs" not in functions(graph)


def test_weights_that_int8_holds_keep_one_digit() -> None:
    f = Form()
    whole = np.round(signed((12, 6), 5) * 127 / np.abs(signed((12, 6), 5)).max(0))
    f.op("Log", f.op("Add", f.op("Pow", f.op("MatMul", "x", whole), 2.0), 1.0))
    graph = checked(f.model({"x": (1, 3, 12)}))
    assert kinds(graph).count("MatMul") == 1
