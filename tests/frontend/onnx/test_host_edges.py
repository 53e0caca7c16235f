# SPDX-License-Identifier: Apache-2.0
"""What of a model the host computes, what the array, and what neither may.

In: small models.  Out: both parts; onnxruntime's values where the parts are put together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from build_onnx import model, node, onnxruntime_outputs
from neuralmatrix.errors import BadInput, UnsupportedModel
from neuralmatrix.frontend.onnx.cut import cut
from neuralmatrix.frontend.onnx.host_edges import import_model
from neuralmatrix.ir.graph.operators import run_graph
from neuralmatrix.ir.host.run import after, before
from neuralmatrix.ir.host.types import ANY, HostEdges

WHOLE, BOOL = onnx.TensorProto.INT64, onnx.TensorProto.BOOL
KINDS = {"i": WHOLE, "n": WHOLE, "above": BOOL}  # of outputs
RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(9, 4)).astype(np.float32)
WEIGHT = RNG.normal(size=(4, 4)).astype(np.float32)
X = RNG.normal(size=(1, 6, 4)).astype(np.float32)
IDS = np.array([[3, 1, 8, 1, 1, 2]])


def ops(edges: HostEdges | None) -> tuple[list[str], list[str]]:
    assert edges is not None
    return [op.op for op in edges.before], [op.op for op in edges.after]


def together(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> HostEdges:
    """Check both parts, with onnxruntime in the place of the array, against the whole model."""
    graph, edges = import_model(proto)
    assert edges is not None
    values = before(edges, feeds)
    fed = {name: values[name] for name in graph.inputs}
    middle = onnxruntime_outputs(cut(proto, fed, graph.outputs), fed)
    found, wanted = after(edges, values, middle), onnxruntime_outputs(proto, feeds)
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].shape == array.shape and found[name].dtype == array.dtype
        np.testing.assert_allclose(found[name], array, rtol=1e-6)
    for value in edges.outputs:
        have = found[value.name].shape
        assert value.shape is None or all(
            n in (m, ANY) for n, m in zip(value.shape, have, strict=True)
        )
    return edges


def scores(*more: onnx.NodeProto, opset: int = 17, outputs: tuple[str, ...] = ("y",),
           constants: dict[str, Any] | None = None) -> onnx.ModelProto:  # fmt: skip
    """A product (1, 6, 4) "s", and nodes behind it."""
    known = {"w": WEIGHT, "4": np.array([4]), "1": np.array([1]), "half": np.float32(0.5),
             **(constants or {})}  # fmt: skip
    return model([node("MatMul", ["x", "w"], ["s"]), *more], {"x": (1, 6, 4)}, outputs, known,
                 opset=opset, types={n: KINDS[n] for n in outputs if n in KINDS})  # fmt: skip


# ---------------------------------------------------------------- in front


def embedded(*more: onnx.NodeProto, constants: dict[str, Any] | None = None) -> onnx.ModelProto:
    """Rows of a table by ids, and nodes that make "m" (1, 6, 1) of the ids."""
    known = {"table": TABLE, "pad": np.int64(1), "last": np.array([-1]), "axis": np.int64(1),
             **(constants or {})}  # fmt: skip
    nodes = [node("Gather", ["table", "ids"], ["e"]), *more, node("Mul", ["e", "m"], ["y"])]
    return model(nodes, {"ids": (1, 6)}, ["y"], known, types={"ids": WHOLE})


def real(name: str) -> list[onnx.NodeProto]:
    return [node("Unsqueeze", [name, "last"], ["wide"]), node("Cast", ["wide"], ["m"], to=1)]


def test_a_model_that_the_array_runs_alone_has_no_edges() -> None:
    graph, edges = import_model(scores(node("Relu", ["s"], ["y"])))
    assert edges is None and graph.inputs == ("x",)


def test_ids_are_rows_and_numbers() -> None:
    edges = together(embedded(*real("ids")), {"ids": IDS})
    assert ops(edges) == (["Unsqueeze"], [])
    assert import_model(embedded(*real("ids")))[0].inputs == ("ids", "wide")


def test_integers_are_computed_in_front_and_reals_on_the_array() -> None:
    nodes = [node("Equal", ["ids", "pad"], ["p"]), node("Not", ["p"], ["k"]), *real("k")]
    graph, edges = import_model(embedded(*nodes))
    assert ops(edges) == (["Equal", "Not", "Unsqueeze"], [])
    assert graph.inputs == ("ids", "wide") and graph.integers == {"wide"}
    together(embedded(*nodes), {"ids": IDS})


def test_reals_between_integers_are_computed_in_front() -> None:
    """As exporters of some years write positions: the running sum of a mask in floats."""
    nodes = [
        node("Equal", ["ids", "pad"], ["p"]), node("Not", ["p"], ["k"]),
        node("Cast", ["k"], ["f"], to=1), node("CumSum", ["f", "axis"], ["c"]),
        node("Mul", ["c", "f"], ["cf"]), node("Cast", ["cf"], ["position"], to=WHOLE),
        node("Gather", ["table", "position"], ["m"]),
    ]  # fmt: skip
    edges = together(embedded(*nodes), {"ids": IDS})
    assert ops(edges)[0] == ["Equal", "Not", "Cast", "CumSum", "Mul", "Cast"]
    graph, _ = import_model(embedded(*nodes))
    assert graph.inputs == ("ids", "position") and len(graph.nodes) == 3


def test_sizes_of_what_the_host_computes_are_constants() -> None:
    nodes = [
        node("Equal", ["ids", "pad"], ["p"]), node("Shape", ["p"], ["sizes"]),
        node("Expand", ["pad", "sizes"], ["ones"]), node("Less", ["ids", "ones"], ["k"]),
        *real("k"),
    ]  # fmt: skip
    assert ops(together(embedded(*nodes), {"ids": IDS}))[0] == ["Less", "Unsqueeze"]


def test_what_has_a_size_of_values_is_no_input_of_the_array() -> None:
    nodes = [
        node("ReduceMax", ["ids"], ["n"], keepdims=0),
        node("Range", ["pad", "n", "pad"], ["r"]),
        node("Gather", ["table", "r"], ["m"]),
    ]
    proto = embedded(*nodes)
    assert ops(import_model(proto)[1]) == (["ReduceMax"], ["Range", "Gather", "Mul"])
    proto.graph.node.append(node("MatMul", ["y", "w"], ["z"]))
    proto.graph.output[0].name = "z"
    proto.graph.initializer.append(onnx.numpy_helper.from_array(WEIGHT, "w"))
    assert "(MatMul) reads its result" in refusals(proto)["Range:r"]


# ---------------------------------------------------------------- behind


BEHIND: dict[str, tuple[onnx.ModelProto, list[str]]] = {
    "TopK": (scores(node("TopK", ["s", "1"], ["y", "i"]), outputs=("y", "i")), ["TopK"]),
    "TopK of opset 9": (
        scores(node("TopK", ["s"], ["y", "i"], k=2, axis=1), outputs=("i",), opset=9), ["TopK"]),
    "comparison": (
        scores(node("Greater", ["s", "half"], ["above"]), outputs=("above",)), ["Greater"]),
    "steps": (scores(node("Floor", ["s"], ["f"]), node("Mul", ["f", "half"], ["y"])),
              ["Floor", "Mul"]),
    "choice": (
        scores(node("Mul", ["x", "x"], ["t"]), node("Greater", ["s", "half"], ["g"]),
               node("Not", ["g"], ["n"]), node("Where", ["n", "s", "t"], ["y"])),
        ["Greater", "Not", "Where"]),
    "arg-max inside": (
        scores(node("ArgMax", ["s"], ["a"], axis=-1), node("Cast", ["a"], ["r"], to=1),
            node("Mul", ["r", "half"], ["y"])),
        ["ArgMax", "Cast", "Mul"]),
    "old forms": (
        scores(
            node("Round", ["s"], ["r"]), node("Unsqueeze", ["r"], ["u"], axes=[0]),
            node("Squeeze", ["u"], ["v"], axes=[0]), node("Slice", ["v", "1", "4"], ["c"]),
            node("Split", ["v"], ["a", "b"], axis=1), node("Clip", ["a"], ["d"]),
            node("ReduceSum", ["d"], ["e"], axes=[1]), node("Transpose", ["e"], ["y"],
                                                            perm=[2, 0, 1]), opset=11),
        ["Round", "Unsqueeze", "Squeeze", "Split", "Clip", "ReduceSum", "Transpose"]),
    "a size of data": (
        scores(node("Greater", ["s", "half"], ["g"]), node("NonZero", ["g"], ["n"]),
               node("Transpose", ["n"], ["t"], perm=[1, 0]), node("GatherND", ["s", "t"], ["y"]),
               outputs=("y", "n")),
        ["Greater", "NonZero", "Transpose", "GatherND"]),
    "sizes behind": (
        scores(node("TopK", ["s", "1"], ["t", "i"]), node("Shape", ["i"], ["n"]),
               node("ConstantOfShape", ["n"], ["z"]), node("Add", ["t", "z"], ["y"])),
        ["TopK", "Add"]),
    "an input beside": (
        scores(node("TopK", ["s", "1"], ["t", "i"]), node("Mul", ["t", "x"], ["y"])),
        ["TopK", "Mul"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BEHIND)
def test_what_the_array_refuses_at_the_end_is_computed_behind_it(name: str) -> None:
    proto, names = BEHIND[name]
    assert ops(together(proto, {"x": X})) == ([], names)


def test_an_input_that_the_host_alone_reads_is_none_of_the_array() -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["s"]), node("TopK", ["s", "1"], ["t", "i"]),
        node("Mul", ["t", "size"], ["y"]),
    ]  # fmt: skip
    proto = model(nodes, {"x": (1, 6, 4), "size": (1, 1)}, ["y"],
                  {"w": WEIGHT, "1": np.array([1])})  # fmt: skip
    graph, edges = import_model(proto)
    assert graph.inputs == ("x",) and edges is not None
    assert [value.name for value in edges.inputs] == ["x", "size"]
    together(proto, {"x": X, "size": np.full((1, 1), 3, np.float32)})


def test_constants_and_integers_are_outputs() -> None:
    nodes = [
        node("Gather", ["table", "ids"], ["e"]), node("Relu", ["e"], ["y"]),
        node("Identity", ["scale"], ["known"]), node("Add", ["ids", "ids"], ["double"]),
    ]  # fmt: skip
    proto = model(nodes, {"ids": (1, 6)}, ["y", "known", "double"],
                  {"table": TABLE, "scale": np.float32([2, 3])},
                  types={"ids": WHOLE, "double": WHOLE})  # fmt: skip
    edges = together(proto, {"ids": IDS})
    assert [value.shape for value in edges.outputs] == [(1, 6, 4), (2,), (1, 6)]


# ---------------------------------------------------------------- in the middle


def refusals(proto: onnx.ModelProto) -> dict[str, str]:
    with pytest.raises(UnsupportedModel) as found:
        import_model(proto)
    return {one.name: one.reason for one in found.value.nodes}


def test_in_the_middle_nothing_runs_on_the_host() -> None:
    proto = scores(
        node("TopK", ["s", "4"], ["t", "i"], axis=1), node("MatMul", ["t", "w"], ["h"]),
        node("Floor", ["h"], ["y"]),
    )  # fmt: skip
    (reason,) = refusals(proto).values()
    assert "'MatMul:h' (MatMul) reads its result" in reason
    assert "in the middle of a network nothing runs on the host" in reason
    assert "outputs=['t'] (--outputs)" in reason
    graph, edges = import_model(proto, outputs=["t"])
    assert graph.outputs == ("s",) and ops(edges) == ([], ["TopK"])


def test_all_that_is_refused_is_in_one_list() -> None:
    proto = scores(
        node("Floor", ["s"], ["f"]), node("MatMul", ["f", "w"], ["h"]),
        node("NonZero", ["h"], ["n"]), node("Det", ["h"], ["d"]), node("Ceil", ["h"], ["c"]),
        node("Softmax", ["c"], ["y"]), outputs=("y", "n", "d"),
    )  # fmt: skip
    found = refusals(proto)
    assert set(found) == {"Floor:f", "Det:d", "Ceil:c"}  # NonZero is behind the array
    assert "(Softmax) reads" in found["Ceil:c"] and "(MatMul) reads" in found["Floor:f"]


def test_what_neither_host_nor_array_computes_is_refused() -> None:
    proto = model([node("Det", ["x"], ["y"])], {"x": (4, 4)}, ["y"])
    assert "not supported" in refusals(proto)["Det:y"]


# ---------------------------------------------------------------- outputs


def test_outputs_end_the_model() -> None:
    proto = scores(node("Relu", ["s"], ["r"]), node("Det", ["r"], ["y"]))
    graph, edges = import_model(proto, outputs=("r", "s"))
    assert edges is None and graph.outputs == ("r", "s")


@pytest.mark.parametrize(
    ("outputs", "text"),
    (
        (("q",), "outputs: found 'q', allowed are values of the model, as"),
        (("scorse",), "as 'scores'"),
        (("y", "y"), "outputs: found 'y' twice"),
    ),
)
def test_outputs_are_values_of_the_model(outputs: tuple[str, ...], text: str) -> None:
    proto = scores(node("Relu", ["s"], ["scores"]), node("Neg", ["scores"], ["y"]))
    with pytest.raises(BadInput, match=text):
        import_model(proto, outputs=outputs)


# ---------------------------------------------------------------- rows by an index of the host


def picking(*nodes: onnx.NodeProto, constants: dict[str, Any]) -> onnx.ModelProto:
    """Nodes that make "p" of "r" (2, 6, 4) and of the ids, in front of another product."""
    known = {"table": TABLE, "w": WEIGHT, "0": np.array([0]), **constants}
    front = [node("Gather", ["table", "ids"], ["e"]), node("Relu", ["e"], ["r"])]
    behind = [node("MatMul", ["p", "w"], ["y"])]
    return model([*front, *nodes, *behind], {"ids": (2, 6)}, ["y"], known, types={"ids": WHOLE})


LAST = node("ArgMax", ["ids"], ["at"], axis=-1)  # (2, 1)
PICKS: dict[str, onnx.ModelProto] = {
    "Gather": picking(
        node("ReduceMax", ["ids"], ["most"], axes=[0], keepdims=0),
        node("Mod", ["most", "six"], ["at"]), node("Gather", ["r", "at"], ["p"], axis=1),
        constants={"six": np.int64(6)}),
    "Gather of axis 0": picking(
        node("Mod", ["ids", "two"], ["at"]), node("Sub", ["at", "two"], ["negative"]),
        node("Gather", ["r", "negative"], ["p"]), constants={"two": np.int64(2)}),
    "GatherND": picking(
        LAST, node("Concat", ["rows", "at"], ["index"], axis=-1),
        node("GatherND", ["r", "index"], ["p"]), constants={"rows": np.array([[0], [-1]])}),
}  # fmt: skip


@pytest.mark.parametrize("name", PICKS)
def test_rows_in_the_middle_are_a_product_with_what_the_host_prepares(name: str) -> None:
    ids = np.array([[3, 1, 8, 1, 1, 2], [0, 5, 1, 7, 2, 8]])
    graph, edges = import_model(PICKS[name])
    assert edges is not None and edges.before[-1].op == "OneHot" and not edges.after
    values = before(edges, {"ids": ids})
    found = run_graph(graph, {name: values[name] for name in graph.inputs})["y"]
    np.testing.assert_allclose(
        found, onnxruntime_outputs(PICKS[name], {"ids": ids})["y"], rtol=1e-5
    )


def test_integers_that_the_array_computes_are_computed_again_behind_it() -> None:
    """A mask that the array uses, and that is an output and joined with a comparison too."""
    nodes = [
        node("MatMul", ["x", "w"], ["s"]),
        node("Greater", ["s", "half"], ["g"]),
        node("Cast", ["bits"], ["f"], to=1),
        node("Mul", ["s", "f"], ["kept"]),
        node("Softmax", ["kept"], ["y"], axis=-1),
        node("Not", ["bits"], ["other"]),
        node("Or", ["g", "other"], ["either"]),
    ]
    proto = model(nodes, {"x": (1, 6, 4), "bits": (1, 6, 1)}, ["y", "either", "other"],
                  {"w": WEIGHT, "half": np.float32(0.5)},
                  types={"bits": BOOL, "either": BOOL, "other": BOOL})  # fmt: skip
    together(proto, {"x": X, "bits": RNG.random((1, 6, 1)) > 0.5})
