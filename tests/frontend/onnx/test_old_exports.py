# SPDX-License-Identifier: Apache-2.0
"""What older exporters write: operands from an axis on, negative sizes, parts without elements.

In: small models.  Out: numpy's results; for models that it reads, onnxruntime's.
"""

from __future__ import annotations

import numpy as np
import pytest
from build_onnx import model, node, onnxruntime_outputs, signed
from neuralmatrix.errors import BadInput
from neuralmatrix.frontend.onnx.bind_constants import bind_constants
from neuralmatrix.frontend.onnx.import_onnx import import_onnx
from neuralmatrix.ir.graph.operators import run_graph
from onnx_forms import Form, checked, kinds

X = signed((2, 3, 4, 5))
ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}


@pytest.mark.parametrize("op", ARITHMETIC)
@pytest.mark.parametrize(
    ("axis", "shape", "numpys"),
    [(1, (3,), (3, 1, 1)), (1, (3, 4), (3, 4, 1)), (-1, (5,), (5,)), (None, (4, 5), (4, 5))],
)
def test_second_operands_begin_at_an_axis_before_opset_7(
    op: str, axis: int | None, shape: tuple[int, ...], numpys: tuple[int, ...]
) -> None:
    """The operand is a constant, then an input, then both are constants."""
    other = np.abs(signed(shape, 1)) + np.float32(0.5)
    attrs = {"broadcast": 1, **({} if axis is None else {"axis": axis})}
    wanted = ARITHMETIC[op](X, other.reshape(numpys))
    nodes = [node(op, ["x", "c"], ["y"], **attrs)]
    for inputs in ({"x": X}, {"x": X, "c": other}):
        constants = {"c": other} if "c" not in inputs else {}
        proto = model(nodes, {n: a.shape for n, a in inputs.items()}, ["y"], constants, opset=6)
        found = run_graph(import_onnx(proto), inputs)["y"]
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    last = node("Add", ["i", "y"], ["z"])
    proto = model([*nodes, last], {"i": X.shape}, ["z"], {"x": X, "c": other}, opset=6)
    found = run_graph(import_onnx(proto), {"i": X})["z"]
    np.testing.assert_allclose(found, wanted + X, rtol=1e-6, atol=1e-6)


def test_slopes_are_those_of_channels_before_opset_7() -> None:
    slope = np.float32([0.5, -1, 2])
    proto = model([node("PRelu", ["x", "s"], ["y"])], {"x": X.shape}, ["y"], {"s": slope}, opset=6)
    wanted = np.where(X < 0, X * slope[:, None, None], X)
    np.testing.assert_allclose(run_graph(import_onnx(proto), {"x": X})["y"], wanted, rtol=1e-6)


def test_negative_sizes_are_open() -> None:
    proto = model([node("Relu", ["x"], ["y"])], {"x": [-1, 3, -1, -1]}, ["y"], opset=11)
    assert import_onnx(proto, {"x": (2, 3, 4, 5)}).shapes["x"] == (2, 3, 4, 5)
    with pytest.raises(BadInput, match=r"--shape x=2x4x4x5 does not fit the model's \?x3x\?x\?"):
        import_onnx(proto, {"x": (2, 4, 4, 5)})
    proto = model([node("Add", ["x", "c"], ["y"])], {"x": [-1, 3], "c": [-1, 3]}, ["y"])
    bound = bind_constants(proto, {"c": np.ones((1, 3), np.float32)})
    assert import_onnx(bound).shapes["x"] == (1, 3)


def test_parts_without_elements_are_left_out() -> None:
    """As rotary embeddings of the whole head split off a rest of 0 and join it again."""
    sizes = np.asarray([5, 0], np.int64)
    nodes = [node("Split", ["x", "sizes"], ["a", "rest"], axis=3), node("Relu", ["a"], ["r"])]
    nodes += [node("Neg", ["rest"], ["n"]), node("Concat", ["r", "n"], ["y"], axis=-1)]
    proto = model(nodes, {"x": X.shape}, ["y"], {"sizes": sizes}, opset=17)
    found = run_graph(import_onnx(proto), {"x": X})["y"]
    np.testing.assert_array_equal(found, onnxruntime_outputs(proto, {"x": X})["y"])


@pytest.mark.parametrize("flat", [False, True])
def test_layer_normalisation_as_batch_normalisation(flat: bool) -> None:
    """The mean and the variance of every row are computed, and are those of a channel there."""
    f = Form()
    rows = f.op("Reshape", "x", np.array([1, 6, 16, 1]))
    mean = f.op("ReduceMean", rows, axes=[0, 2, 3], keepdims=1)
    square = f.op("ReduceSumSquare", f.op("Sub", rows, mean), axes=[0, 2, 3], keepdims=int(flat))
    variance = f.op("Div", square, 16.0)
    statistics = [f.op("Reshape", n, np.array([6])) for n in (mean, variance)]
    ones, zeros = np.ones(6, np.float32), np.zeros(6, np.float32)
    normal = f.op("BatchNormalization", rows, ones, zeros, *statistics, epsilon=1e-3)
    back = f.op("Reshape", normal, np.array([1, 6, 16]))
    f.op("Add", f.op("Mul", back, signed((16,), 1)), signed((16,), 2))
    assert "Normalize" in kinds(checked(f.model({"x": (1, 6, 16)})))


@pytest.mark.parametrize("given", ["lo", "hi", "lo hi"])
def test_bounds_of_a_clip_may_be_computed(given: str) -> None:
    bounds = {"lo": np.asarray(-0.5, np.float32), "hi": np.asarray(0.8, np.float32)}
    names = ["x", *(n if n in given.split() else "" for n in bounds)]
    feeds = {"x": X, **{n: bounds[n] for n in given.split()}}
    shapes = {n: a.shape for n, a in feeds.items()}
    proto = model([node("Clip", names, ["y"])], shapes, ["y"])
    found = run_graph(import_onnx(proto), feeds)["y"]
    np.testing.assert_array_equal(found, onnxruntime_outputs(proto, feeds)["y"])


def test_a_clip_between_a_computed_bound_and_infinity() -> None:
    """As exporters write torch's clamp with a lower bound that is a tensor."""
    feeds = {"x": X, "lo": np.asarray(-0.5, np.float32)}
    shapes = {n: a.shape for n, a in feeds.items()}
    proto = model([node("Clip", ["x", "lo", "no_end"], ["y"])], shapes, ["y"],
                  {"no_end": np.asarray(np.inf, np.float32)})  # fmt: skip
    found = run_graph(import_onnx(proto), feeds)["y"]
    np.testing.assert_array_equal(found, onnxruntime_outputs(proto, feeds)["y"])
