# SPDX-License-Identifier: Apache-2.0
"""A tensor's name never changes a result, whatever names the compiler makes.

In: networks with tensors such as ``t:pre`` and ``t:padded`` in addition to a tensor t.  Out: the
instructions and constants of the same network with plain names.
"""

from __future__ import annotations

from typing import Any

import neuralmatrix as nm
import numpy as np
import pytest
from neuralmatrix.compiler import Options, passes
from neuralmatrix.demo.tasks import DATA
from neuralmatrix.ir.matgraph.ops import MatGraph
from onnx import ModelProto, NodeProto, helper, load, numpy_helper
from slow import slow_after
from targets import target

Feed = dict[str, np.ndarray]

# Suffixes after a colon that once had a meaning, and some that passes add.
SUFFIXES = (
    *("pre", "act", "padded", "centred", "symmetric", "as:y", "for:y", "2", "pre:act"),
    *("moved", "mean", "square", "exp", "max", "sum", "inverse", "scores", "transposed", "lanes"),
)


def network(names: list[str]) -> ModelProto:
    """Return a tanh t, attention s over it and its normalisation n; every name of ``names`` is one
    more product of the input, 300 times as large."""
    rng = np.random.default_rng(1)
    constants = {
        "w1": rng.normal(size=(16, 16)) * 0.3,
        "w2": rng.normal(size=(16, 16)) * 300,
        "gain": rng.normal(size=16),
        "shift": rng.normal(size=16),
        "half": np.asarray(0.25),
    }
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w1"], ["h"]),
        node("Tanh", ["h"], ["t"]),
        node("Transpose", ["t"], ["keys"], perm=[0, 2, 1]),
        node("MatMul", ["t", "keys"], ["products"]),
        node("Mul", ["products", "half"], ["scores"]),
        node("Softmax", ["scores"], ["s"], axis=-1),
        node("MatMul", ["s", "t"], ["mixed"]),
        node("LayerNormalization", ["mixed", "gain", "shift"], ["n"], axis=-1),
        node("Transpose", ["n"], ["y"], perm=[0, 2, 1]),
        *(node("MatMul", ["x", "w2"], [name]) for name in names),
        *(node("Relu", [name], [f"{name}.relu"]) for name in names),
    ]
    info = helper.make_tensor_value_info
    outputs = [info("y", 1, [1, 16, 6]), *(info(f"{n}.relu", 1, [1, 6, 16]) for n in names)]
    outputs += [info(name, 1, [1, 6, 16]) for name in names]
    graph = helper.make_graph(
        nodes,
        "names",
        [info("x", 1, [1, 6, 16])],
        outputs,
        [numpy_helper.from_array(np.asarray(a, np.float32), n) for n, a in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("precision", slow_after(1, ["int8", "int16"]))
@pytest.mark.parametrize("tensor", ["t", "n", "s", "mixed", "scores"])
def test_names_of_the_model_do_not_meet_names_of_the_compiler(tensor: str, precision: str) -> None:
    feed = {"x": np.random.default_rng(0).normal(size=(8, 6, 16)).astype(np.float32)}
    like = [f"{tensor}:{suffix}" for suffix in SUFFIXES]
    plain = [f"other{i}" for i in range(len(like))]
    usual, found = (
        nm.compile(network(names), "pynq-z2", [feed], precision) for names in (plain, like)
    )
    assert np.array_equal(found.const, usual.const)
    assert np.array_equal(found.instructions, usual.instructions)
    assert {port.name for port in found.outputs} >= set(like)


def every_name(model: ModelProto, feed: Feed) -> list[str]:
    """Return the tensors that the compiler adds in all MatGraphs of ``model``."""
    found: dict[str, None] = {}
    graph: Any = model
    for _, step in passes(Options(calibration=[feed]))[:-1]:
        with np.errstate(all="ignore"):
            graph = step(graph, target())
        mg = getattr(graph, "graph", graph)
        if isinstance(mg, MatGraph):
            found |= dict.fromkeys(mg.tensors)
    own = {name for node in model.graph.node for name in node.output}
    own |= {value.name for value in (*model.graph.initializer, *model.graph.input)}
    return [name for name in found if name not in own]


def with_tensors(model: ModelProto, names: list[str]) -> ModelProto:
    """Return ``model`` with outputs of these names, and a reader of each."""
    longer = ModelProto()
    longer.CopyFrom(model)
    graph = longer.graph
    source = graph.input[0]
    shape = [size.dim_value for size in source.type.tensor_type.shape.dim]
    graph.initializer.append(numpy_helper.from_array(np.float32(300), "three hundred"))
    for name in names:
        graph.node.append(helper.make_node("Mul", [source.name, "three hundred"], [name]))
        graph.node.append(helper.make_node("Relu", [name], [f"{name}.relu"]))
        for made in (name, f"{name}.relu"):
            graph.output.append(helper.make_tensor_value_info(made, 1, shape))
    return longer


@pytest.mark.parametrize(
    "file", [pytest.param("digits_vit.onnx", marks=pytest.mark.slow), "karate_gcn.onnx"]
)
def test_a_model_may_hold_every_name_that_the_compiler_makes(file: str) -> None:
    model = load(DATA / file)
    source = model.graph.input[0]
    shape = [size.dim_value for size in source.type.tensor_type.shape.dim]
    feed = {source.name: np.random.default_rng(0).random(shape, np.float32)}
    like = every_name(model, feed)
    assert len(like) > 5
    plain = [f"other{i}" for i in range(len(like))]
    usual, found = (nm.compile(with_tensors(model, n), "pynq-z2", [feed]) for n in (plain, like))
    assert np.array_equal(found.const, usual.const)
    assert np.array_equal(found.instructions, usual.instructions)
    assert nm.verify(with_tensors(model, like), found, feed).ok


def test_a_scale_of_the_model_stays_with_its_own_tensor() -> None:
    """A QDQ model prescribes the scale of a tensor whose name the compiler would use."""
    results = []
    for name in ("other", "y:exp", "y:sum"):
        rng = np.random.default_rng(2)
        node = helper.make_node
        nodes = [
            *qdq("x", "xd", 0.03),
            node("Softmax", ["xd"], ["y"], axis=-1),
            node("MatMul", ["xd", "w"], [name]),
            *qdq(name, "d", 0.5),
            node("Relu", ["d"], ["z"]),
        ]
        weight = rng.normal(size=(8, 8)) * 20
        info = helper.make_tensor_value_info
        graph = helper.make_graph(
            nodes,
            "qdq",
            [info("x", 1, [1, 6, 8])],
            [info("y", 1, [1, 6, 8]), info("z", 1, [1, 6, 8])],
            [
                numpy_helper.from_array(np.asarray(weight, np.float32), "w"),
                numpy_helper.from_array(np.int8(0), "zero"),
                *(numpy_helper.from_array(np.float32(s), f"scale{s}") for s in (0.03, 0.5)),
            ],
        )
        opset = [helper.make_opsetid("", 17)]
        results.append(nm.compile(helper.make_model(graph, opset_imports=opset, ir_version=8)))
    for found in results[1:]:
        assert np.array_equal(found.const, results[0].const)
        assert np.array_equal(found.instructions, results[0].instructions)


def qdq(name: str, result: str, scale: float) -> list[NodeProto]:
    operands = [f"scale{scale}", "zero"]
    return [
        helper.make_node("QuantizeLinear", [name, *operands], [f"{name}.codes"]),
        helper.make_node("DequantizeLinear", [f"{name}.codes", *operands], [result]),
    ]


def test_a_name_that_once_meant_the_input_of_a_table_costs_no_accuracy() -> None:
    feed = {"x": np.random.default_rng(0).normal(size=(8, 6, 16)).astype(np.float32)}
    results = [
        nm.Session(nm.compile(network([name]), "pynq-z2", [feed])).run(feed)["y"]
        for name in ("q", "t:pre")
    ]
    assert np.array_equal(*results)
