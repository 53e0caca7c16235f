# SPDX-License-Identifier: Apache-2.0
"""If, Loop and Scan with a constant trip count.

In: models with subgraphs.  Out: flat Graphs that compute what onnxruntime does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import pytest
from build_onnx import model, node, onnxruntime_outputs, signed
from neuralmatrix.errors import UnsupportedModel
from neuralmatrix.frontend.onnx.import_onnx import import_onnx
from neuralmatrix.ir.graph.operators import run_graph
from neuralmatrix.transforms.graph.simplify import simplify
from onnx import TensorProto, helper, numpy_helper
from slow import slow_after

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
Typed = tuple[str, int, tuple[int, ...] | None]


def graph(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[Typed],
    outputs: Sequence[Typed],
    constants: dict[str, np.ndarray] | None = None,
) -> onnx.GraphProto:
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()]
    values = [[helper.make_tensor_value_info(*v) for v in side] for side in (inputs, outputs)]
    return helper.make_graph(nodes, "inner", *values, tensors)


def fixed_branch(chosen: bool) -> onnx.ModelProto:
    """Return branches that read an outer tensor; one gives an inner constant an outer name."""
    then = graph([node("Mul", ["h", "w"], ["o"])], [], [("o", FLOAT, None)], {"w": np.float32(3)})
    other = graph([node("Neg", ["h"], ["o"])], [], [("o", FLOAT, None)])
    nodes = [
        node("Relu", ["x"], ["h"]),
        node("If", ["c"], ["y"], then_branch=then, else_branch=other),
    ]
    return model(nodes, {"x": (2, 3)}, ["y"], {"c": np.asarray(chosen), "w": np.float32(9)})


def branch_by_shape() -> onnx.ModelProto:
    """Return what torch writes for squeeze(1)."""
    then = graph([node("Squeeze", ["x", "a"], ["o"])], [], [("o", FLOAT, None)])
    other = graph([node("Identity", ["x"], ["o"])], [], [("o", FLOAT, None)])
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "a"], ["d"]),
        node("Equal", ["d", "a"], ["c"]),
        node("If", ["c"], ["q"], then_branch=then, else_branch=other),
        node("Neg", ["q"], ["y"]),
    ]
    return model(nodes, {"x": (2, 1, 3)}, ["y"], {"a": np.asarray([1], np.int64)})


def loop(rounds: int | None, stop: int | None = None) -> onnx.ModelProto:
    """Return state = tanh(state @ w + iteration number); every state is an output."""
    body = [
        node("Cast", ["i"], ["f"], to=FLOAT),
        node("MatMul", ["s", "w"], ["p"]),
        node("Add", ["p", "f"], ["q"]),
        node("Tanh", ["q"], ["t"]),
        node("Identity", ["t"], ["scan"]),
    ]
    constants = {} if stop is None else {"last": np.asarray(stop, np.int64)}
    body.append(
        node("Identity", ["c"], ["go"]) if stop is None else node("Less", ["i", "last"], ["go"])
    )
    inner = graph(
        body,
        [("i", INT64, ()), ("c", BOOL, ()), ("s", FLOAT, (2, 4))],
        [("go", BOOL, ()), ("t", FLOAT, (2, 4)), ("scan", FLOAT, (2, 4))],
        constants,
    )
    names = ["" if rounds is None else "m", "true", "x"]
    given = {"w": signed((4, 4)) / 4, "true": np.asarray(True)}
    if rounds is not None:
        given["m"] = np.asarray(rounds, np.int64)
    return model(
        [node("Loop", names, ["y", "all"], body=inner)], {"x": (2, 4)}, ["y", "all"], given
    )


def scan(**attrs: object) -> onnx.ModelProto:
    """Return running sums of the rows or columns, with a nested If."""
    then = graph([node("Add", ["s", "r"], ["o"])], [], [("o", FLOAT, None)])
    other = graph([node("Sub", ["s", "r"], ["o"])], [], [("o", FLOAT, None)])
    body = [
        node("If", ["yes"], ["t"], then_branch=then, else_branch=other),
        node("Mul", ["t", "half"], ["out"]),
    ]
    inner = graph(
        body,
        [("s", FLOAT, (3,)), ("r", FLOAT, (3,))],
        [("t", FLOAT, (3,)), ("out", FLOAT, (3,))],
        {"half": np.float32(0.5), "yes": np.asarray(True)},
    )
    shape = (3, 4) if attrs.get("scan_input_axes") else (4, 3)
    whole = node("Scan", ["x", "r"], ["y", "all"], body=inner, num_scan_inputs=1, **attrs)
    return model([whole], {"x": (3,), "r": shape}, ["y", "all"])


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "then": lambda: fixed_branch(True),
    "else": lambda: fixed_branch(False),
    "by shape": branch_by_shape,
    "loop": lambda: loop(4),
    "loop of one": lambda: loop(1),
    "loop with a condition": lambda: loop(9, stop=2),
    "loop without a count": lambda: loop(None, stop=3),
    "scan": scan,
    "scan of columns": lambda: scan(scan_input_axes=[1], scan_output_axes=[1]),
    "scan backwards": lambda: scan(scan_input_directions=[1], scan_output_directions=[1]),
}


@pytest.mark.parametrize("what", MODELS)
def test_control_flow_that_is_known_is_unrolled(what: str) -> None:
    proto = MODELS[what]()
    feeds = {
        i.name: signed([d.dim_value for d in i.type.tensor_type.shape.dim], seed)
        for seed, i in enumerate(proto.graph.input)
    }
    wanted = onnxruntime_outputs(proto, feeds)
    plain = import_onnx(proto)
    for unrolled in (plain, simplify(plain)):
        found = run_graph(unrolled, feeds)
        for name, y in wanted.items():
            assert found[name].shape == y.shape
            # the order of float32 sums
            np.testing.assert_allclose(found[name], y, rtol=1e-5, atol=1e-5)


CONDITIONS: dict[str, list[onnx.NodeProto]] = {
    "scalar": [node("ReduceMean", ["x"], ["m"], keepdims=0), node("Greater", ["m", "zero"], ["c"])],
    "negated": [node("ReduceMax", ["x"], ["m"], keepdims=0), node("Less", ["m", "zero"], ["n"]),
                node("Not", ["n"], ["c"])],
    "two tensors": [node("ReduceMax", ["x"], ["m"], keepdims=0),
                    node("ReduceMean", ["h"], ["n"], keepdims=0),
                    node("Greater", ["m", "n"], ["c"])],
    "input": [],
}  # fmt: skip


def branch_by_data(what: str, shape: tuple[int, ...] = (2, 3)) -> onnx.ModelProto:
    """Return an If that data decides, between values of ``shape``, in the middle of a network."""
    then = graph([node("Mul", ["h", "w"], ["o"])], [], [("o", FLOAT, None)])
    other = graph([node("Reshape", ["h", "s"], ["r"]), node("Neg", ["r"], ["o"])], [],
                  [("o", FLOAT, None)])  # fmt: skip
    nodes = [
        node("Relu", ["x"], ["h"]),
        *CONDITIONS[what],
        node("If", ["c"], ["q"], then_branch=then, else_branch=other),
        node("Sigmoid", ["q"], ["y"]),
    ]
    constants = {"w": np.float32(3), "zero": np.float32(0), "s": np.array(shape, np.int64)}
    proto = model(nodes, {"x": (2, 3)}, ["y"], constants)
    if what == "input":
        proto.graph.input.append(helper.make_tensor_value_info("c", BOOL, ()))
    return proto


@pytest.mark.parametrize("what", CONDITIONS)
def test_both_branches_are_computed_where_data_decide(what: str) -> None:
    proto = branch_by_data(what)
    plain = import_onnx(proto)
    for sign in (1, -1):
        feeds = {"x": sign * np.abs(signed((2, 3))) + np.float32(0.1 * sign)}
        if what == "input":
            feeds["c"] = np.asarray(sign > 0)
        wanted = onnxruntime_outputs(proto, feeds)["y"]
        for found in (plain, simplify(plain)):
            given = {name: np.asarray(x, np.float32) for name, x in feeds.items()}
            np.testing.assert_allclose(run_graph(found, given)["y"], wanted, rtol=1e-5, atol=1e-6)


REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "shapes": (lambda: branch_by_data("scalar", (3, 2)), r"the shapes \(2, 3\) and \(3, 2\)"),
    "iterations": (lambda: loop(5000), "5000 iterations; up to 1024 are unrolled"),
    "no iteration": (lambda: loop(0), "no iteration runs"),
    "no end": (lambda: loop(None), "no end after 1024 iterations"),
}


@pytest.mark.parametrize("what", slow_after(3, REFUSED))
def test_control_flow_that_is_refused(what: str) -> None:
    make, text = REFUSED[what]
    with pytest.raises(UnsupportedModel, match=text):
        import_onnx(make())
