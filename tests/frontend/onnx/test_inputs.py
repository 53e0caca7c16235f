# SPDX-License-Identifier: Apache-2.0
"""Inputs that are not real numbers: indices into tables, masks, counts.

In: models with integer and bool inputs.  Out: Graphs that compute what onnxruntime does; a
gather is the only use of indices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
import pytest
from build_onnx import model, node, onnxruntime_outputs, signed
from neuralmatrix.errors import UnsupportedModel
from neuralmatrix.frontend.onnx.import_onnx import import_onnx
from neuralmatrix.ir.graph.nodes import Embedding, Graph, Select, Unary
from neuralmatrix.ir.graph.operators import run_graph
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float
from neuralmatrix.ir.types import Function
from neuralmatrix.transforms.graph.simplify import simplify
from onnx import TensorProto
from targets import lower

FLOAT, INT32, INT64, BOOL = (
    TensorProto.FLOAT,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.BOOL,
)
TABLE = {"t": signed((11, 4))}
IDS = np.asarray([[3, 0, 10], [3, 7, 1]])


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def check(proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray], lowered: bool = True) -> Graph:
    """Compare imported, simplified and lowered results with onnxruntime's; return the simplified
    graph."""
    wanted = onnxruntime_outputs(proto, feeds)
    reals = {name: np.asarray(x, np.float32) for name, x in feeds.items()}
    plain = import_onnx(proto)
    simple = simplify(plain)
    results = [run_graph(plain, reals), run_graph(simple, reals)]
    if lowered:
        low = lower(simple)
        results.append(port_outputs(low, run_float(low, reals)))
    for found in results:
        for name, y in wanted.items():
            assert found[name].shape == y.shape
            # the order of float32 sums
            np.testing.assert_allclose(found[name], y, rtol=1e-5, atol=1e-5)
    return simple


# ---------------------------------------------------------------- indices


def look_up(*between: onnx.NodeProto, last: str, constants: Mapping[str, np.ndarray]) -> Graph:
    nodes = [*between, node("Gather", ["t", last], ["y"])]
    proto = model(nodes, {"i": IDS.shape}, ["y"], {**TABLE, **constants}, types={"i": INT64})
    return check(proto, {"i": IDS}, lowered=False)


def test_rows_of_a_table() -> None:
    graph = look_up(last="i", constants={})
    assert [type(n) for n in graph.nodes] == [Embedding]
    assert graph.nodes[0].inputs == ("i", "t")


REARRANGED: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray]]] = {
    "cast": ([node("Cast", ["i"], ["j"], to=INT32)], {}),
    "cast to float and back": (
        [node("Cast", ["i"], ["f"], to=FLOAT), node("Cast", ["f"], ["j"], to=INT64)],
        {},
    ),
    "identity": ([node("Identity", ["i"], ["j"])], {}),
    "unsqueeze": ([node("Unsqueeze", ["i", "a"], ["j"])], {"a": ints(1)}),
    "reshape": ([node("Reshape", ["i", "s"], ["j"])], {"s": ints(-1)}),
    "transpose": ([node("Transpose", ["i"], ["j"], perm=[1, 0])], {}),
    "slice": (
        [node("Slice", ["i", "b", "e", "a"], ["j"])],
        {"b": ints(1), "e": ints(3), "a": ints(1)},
    ),
    "reversed": (
        [node("Slice", ["i", "b", "e", "a", "d"], ["j"])],
        {"b": ints(-1), "e": ints(-9), "a": ints(1), "d": ints(-1)},
    ),
    "expand": (
        [node("Unsqueeze", ["i", "a"], ["u"]), node("Expand", ["u", "s"], ["j"])],
        {"a": ints(0), "s": ints(2, 2, 3)},
    ),
    "gather": ([node("Gather", ["i", "g"], ["j"], axis=1)], {"g": ints(2, 0)}),
}


@pytest.mark.parametrize("what", REARRANGED)
def test_row_numbers_may_be_rearranged(what: str) -> None:
    nodes, constants = REARRANGED[what]
    graph = look_up(*nodes, last="j", constants=constants)
    assert sum(isinstance(n, Embedding) for n in graph.nodes) == 1
    assert all(n.inputs[0] != "i" for n in graph.nodes if not isinstance(n, Embedding))


@pytest.mark.parametrize(("shape", "axis"), [((11,), 0), ((11, 2, 3), 0), ((2, 11, 3), 1)])
def test_tables_of_other_ranks(shape: tuple[int, ...], axis: int) -> None:
    nodes = [node("Gather", ["t", "i"], ["y"], axis=axis)]
    types = {"i": INT64}
    proto = model(nodes, {"i": IDS.shape}, ["y"], {"t": signed(shape)}, types=types)
    check(proto, {"i": IDS}, lowered=False)


def test_one_input_may_select_from_several_tables() -> None:
    nodes = [
        node("Gather", ["t", "i"], ["a"]),
        node("Gather", ["u", "i"], ["b"]),
        node("Add", ["a", "b"], ["y"]),
    ]
    constants = {**TABLE, "u": signed((11, 4), 5)}
    proto = model(nodes, {"i": IDS.shape}, ["y"], constants, types={"i": INT64})
    graph = check(proto, {"i": IDS}, lowered=False)
    assert sum(isinstance(n, Embedding) for n in graph.nodes) == 2


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot_is_a_gather(axis: int) -> None:
    nodes = [node("OneHot", ["i", "d", "v"], ["y"], axis=axis)]
    constants = {"d": ints(11), "v": np.asarray([-0.5, 2], np.float32)}
    proto = model(nodes, {"i": IDS.shape}, ["y"], constants, types={"i": INT64})
    graph = check(proto, {"i": IDS}, lowered=False)
    assert isinstance(graph.nodes[0], Embedding)


# ---------------------------------------------------------------- masks and counts

MASK = np.asarray([[1, 1, 1, 0], [1, 0, 0, 0]])
COUNTS = np.asarray([[-3, -1, 0, 1], [2, 1, 3, 0]])


def counted(*nodes: onnx.NodeProto, kind: int = INT64, **constants: np.ndarray) -> Graph:
    """Return a model of nodes from mask m or counts n to a bool or integer b, cast to the
    output."""
    shapes = {"m": MASK.shape, "n": COUNTS.shape}
    proto = model(
        [*nodes, node("Cast", ["b"], ["y"], to=FLOAT)],
        shapes,
        ["y"],
        constants,
        types={"m": kind, "n": INT64},
    )
    return check(proto, {"m": MASK.astype(bool if kind == BOOL else np.int64), "n": COUNTS})


@pytest.mark.parametrize("op", ["Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"])
@pytest.mark.parametrize("pair", [("n", "c"), ("c", "n"), ("n", "m"), ("n", "v"), ("n", "z")])
def test_comparisons_of_whole_numbers(op: str, pair: tuple[str, str]) -> None:
    counted(node(op, pair, ["b"]), c=ints(1), v=ints(-1, 0, 0, 3), z=np.asarray(0, np.int64))


@pytest.mark.parametrize("op", ["And", "Or", "Xor"])
def test_logic(op: str) -> None:
    nodes = [node("Cast", ["n"], ["k"], to=BOOL), node(op, ["m", "k"], ["l"])]
    counted(*nodes, node("Not", ["l"], ["b"]), kind=BOOL)


@pytest.mark.parametrize("value", [False, True])
def test_a_bool_compared_with_a_constant_needs_no_table(value: bool) -> None:
    graph = counted(node("Equal", ["m", "c"], ["b"]), kind=BOOL, c=np.asarray(value))
    assert not any(isinstance(n, Unary) and n.function == Function("truth") for n in graph.nodes)


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Mul", ["m", "n"], ["b"])],
        [node("Sub", ["n", "m"], ["s"]), node("Abs", ["s"], ["b"])],
        [node("ReduceSum", ["m", "a"], ["b"])],
        [node("ReduceMax", ["n"], ["b"], axes=[1])],
        [node("CumSum", ["m", "one"], ["s"]), node("Mul", ["s", "m"], ["b"])],
        [node("Expand", ["m", "whole"], ["b"])],
        [node("Where", ["yes", "n", "m"], ["b"])],
    ],
)
def test_arithmetic_of_integers(nodes: list[onnx.NodeProto]) -> None:
    constants = {"a": ints(1), "one": np.asarray(1, np.int64), "whole": ints(3, 2, 4)}
    counted(*nodes, **constants, yes=np.asarray([True, False, True, True]))


def additive_mask(lowest: float) -> onnx.ModelProto:
    """transformers exports -3.4e38 where the mask is 0, added before a softmax."""
    nodes = [
        node("Unsqueeze", ["m", "axes"], ["u"]),
        node("Cast", ["u"], ["f"], to=FLOAT),
        node("Sub", ["one", "f"], ["left"]),
        node("Cast", ["left"], ["b"], to=BOOL),
        node("Where", ["b", "low", "left"], ["mask"]),
        node("Add", ["x", "mask"], ["s"]),
        node("Softmax", ["s"], ["y"]),
    ]
    constants = {"axes": ints(1), "one": np.float32(1), "low": np.float32(lowest)}
    shapes = {"m": MASK.shape, "x": (2, 3, 4)}
    return model(nodes, shapes, ["y"], constants, types={"m": INT64})


@pytest.mark.parametrize("lowest", [-np.inf, float(np.finfo(np.float32).min), -1e9])
def test_additive_masks(lowest: float) -> None:
    feeds = {"m": MASK, "x": signed((2, 3, 4))}
    graph = check(additive_mask(lowest), feeds, lowered=lowest < -1e30)
    assert all(np.isfinite(array).all() for array in graph.constants.values())


def test_the_number_whose_truth_selects_is_0_elsewhere() -> None:
    graph = import_onnx(additive_mask(-1e9))
    (select,) = (n for n in graph.nodes if isinstance(n, Select))
    assert [float(graph.constants[name]) for name in select.inputs[1:]] == [np.float32(-1e9), 0]


BRANCHES = {
    "constants": ("k", "j"),
    "constant and tensor": ("k", "x"),
    "tensor and constant": ("x", "k"),
    "tensors": ("x", "z"),
    "row and tensor": ("j", "x"),
}


@pytest.mark.parametrize("what", BRANCHES)
@pytest.mark.parametrize("condition", ["m", "c"])
def test_where(what: str, condition: str) -> None:
    shapes = {"m": (2, 1, 4), "x": (2, 3, 4), "z": (3, 1)}
    constants = {
        "k": np.float32(-7.5),
        "j": np.asarray([1, -2, 0, 4], np.float32),
        "c": np.tril(np.ones((3, 4), bool)),
    }
    proto = model(
        [node("Where", [condition, *BRANCHES[what]], ["w"]), node("Add", ["w", "x"], ["y"])],
        shapes,
        ["y"],
        constants,
        types={"m": BOOL},
    )
    feeds = {"m": MASK.astype(bool)[:, None], "x": signed((2, 3, 4)), "z": signed((3, 1), 1)}
    check(proto, feeds)


# ---------------------------------------------------------------- refusals


def ids_model(*nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    constants = {**TABLE, "one": ints(1)}
    shapes = {"i": IDS.shape, "x": (11, 4)}
    types = {"i": INT64, "z": INT64}
    return model(nodes, shapes, outputs, constants, types=types)


REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "indices computed": (
        lambda: ids_model(node("Add", ["i", "one"], ["j"]), node("Gather", ["x", "j"], ["y"])),
        "indices is computed at run time",
    ),
    "indices in arithmetic": (
        lambda: ids_model(
            node("Gather", ["t", "i"], ["g"]),
            node("Cast", ["i"], ["f"], to=FLOAT),
            node("ReduceSum", ["f"], ["s"]),
            node("Mul", ["g", "s"], ["y"]),
        ),
        "computes with the indices 'i'",
    ),
    "rows of a computed tensor": (
        lambda: ids_model(node("Relu", ["x"], ["r"]), node("Gather", ["r", "i"], ["y"])),
        r"the input 'i' selects rows of a computed tensor; .*of a graph\) must be constants",
    ),
    "indices as an output": (
        lambda: ids_model(
            node("Gather", ["t", "i"], ["y"]), node("Identity", ["i"], ["z"]), outputs=("y", "z")
        ),
        "an output of integers; Cast it to float",
    ),
    "integers divided": (
        lambda: ids_model(
            node("Div", ["i", "one"], ["d"]),
            node("Cast", ["d"], ["y"], to=FLOAT),
        ),
        "computes with the integers 'i'; Cast them to float before",
    ),
    "real values compared": (
        lambda: model(
            [node("Greater", ["x", "zero"], ["b"]), node("Cast", ["b"], ["y"], to=FLOAT)],
            {"x": (2, 3)},
            ["y"],
            {"zero": np.float32(0)},
        ),
        "compares real values.*integers are supported",
    ),
    "truth of real values": (
        lambda: model(
            [node("Cast", ["x"], ["b"], to=BOOL), node("Cast", ["b"], ["y"], to=FLOAT)],
            {"x": (2, 3)},
            ["y"],
        ),
        "a cast of real values to type bool",
    ),
    "text": (
        lambda: model(
            [node("Cast", ["s"], ["y"], to=FLOAT)],
            {"s": (2,)},
            ["y"],
            types={"s": TensorProto.STRING},
        ),
        "element type 8; inputs of float32",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refusals(what: str) -> None:
    make, text = REFUSED[what]
    with pytest.raises(UnsupportedModel, match=text):
        import_onnx(make())
