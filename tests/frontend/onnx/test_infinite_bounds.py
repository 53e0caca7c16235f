# SPDX-License-Identifier: Apache-2.0
"""Minimum and maximum with infinite constants.

In: constants that are infinite in all elements or in some, as one framework's exporter guards a
softmax.  Out: onnxruntime's values; the same nodes as without.
"""

from __future__ import annotations

import neuralmatrix as nm
import numpy as np
import pytest
from build_onnx import model, node, onnxruntime_outputs, signed
from neuralmatrix.errors import BadModel
from neuralmatrix.frontend.onnx.import_onnx import import_onnx
from neuralmatrix.transforms.graph.simplify import simplify
from targets import target

INF = np.float32(np.inf)
SOME = np.array([INF, 0.3, INF, 0.1], np.float32)
LARGEST = np.finfo(np.float32).max

BOUNDS = {
    "scalar": [INF],
    "array": [np.full((3, 4), INF)],
    "row": [np.full(4, INF)],
    "some elements": [SOME],
    "with another": [INF, np.float32(0.5)],
    "some and another": [SOME, np.float32(0.5)],
    "largest finite": [LARGEST],
}


@pytest.mark.parametrize("precision", ["int8", "int16"])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("case", BOUNDS)
def test_infinity_never_decides(case: str, sign: int, precision: str) -> None:
    names = [f"c{i}" for i in range(len(BOUNDS[case]))]
    constants = {n: np.asarray(sign * b) for n, b in zip(names, BOUNDS[case], strict=True)}
    nodes = [node("Min" if sign > 0 else "Max", ["x", *names], ["y"])]
    proto = model(nodes, {"x": (1, 3, 4)}, ["y"], constants, opset=15)
    x = {"x": signed((1, 3, 4))}
    program = nm.compile(proto, calibration=[x], precision=precision)
    found, right = nm.Session(program).run(x)["y"], onnxruntime_outputs(proto, x)["y"]
    assert np.abs(found - right).max() < 0.02 * np.abs(x["x"]).max()


def softmax(guard: str) -> list[type]:
    """Return the nodes of a softmax written out, behind a guard of its maximum."""
    guarded = [node(guard, ["limit", "m"], ["n"])] if guard else []
    nodes = [
        node("ReduceMax", ["x"], ["m"], axes=[-1], keepdims=1),
        *guarded,
        node("Sub", ["x", "n" if guard else "m"], ["d"]),
        node("Exp", ["d"], ["e"]),
        node("ReduceSum", ["e", "axis"], ["s"], keepdims=1),
        node("Div", ["e", "s"], ["y"]),
    ]
    constants = {"limit": np.asarray(INF if guard == "Min" else -INF), "axis": np.array([-1])}
    proto = model(nodes, {"x": (1, 16)}, ["y"], constants, opset=15)
    return [type(made) for made in simplify(import_onnx(proto), target()).nodes]


@pytest.mark.parametrize("guard", ["Max", "Min"])
def test_a_guard_leaves_no_node(guard: str) -> None:
    assert softmax(guard) == softmax("")


def test_a_bound_that_leaves_nothing_is_refused() -> None:
    proto = model([node("Max", ["x", "c"], ["y"])], {"x": (1, 4)}, ["y"], {"c": np.asarray(INF)})
    with pytest.raises(BadModel, match="NaN or infinite"):
        import_onnx(proto)
