# SPDX-License-Identifier: Apache-2.0
"""A tensor's name never changes a result, whatever names the compiler invents beside it.

In: networks with tensors called ``t:pre``, ``t:padded`` and the like, beside a tensor t.  Out: the
instructions and constants of the same network with plain names.
"""

from __future__ import annotations

import re
from pathlib import Path

import neuralmatrix as nm
import numpy as np
import pytest
from onnx import ModelProto, helper, numpy_helper

SOURCE = Path(nm.__file__).parent
# What follows a colon in the names that passes make, and what once had a meaning there.
SUFFIXES = sorted(
    {
        *(
            suffix
            for path in (SOURCE / "transforms").rglob("*.py")
            for suffix in re.findall(r':([a-z]\w*)"', path.read_text(encoding="utf-8"))
        ),
        *("pre", "act", "padded", "centred", "symmetric", "as:y", "for:y", "2", "pre:act"),
    }
)


def network(names: list[str]) -> ModelProto:
    """A tanh t, attention s over it and its normalisation n; every name of ``names`` is one more
    product of the input, 300 times as large."""
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


@pytest.mark.parametrize("precision", ["int8", "int16"])
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


def test_a_name_that_once_meant_the_input_of_a_table_costs_no_accuracy() -> None:
    feed = {"x": np.random.default_rng(0).normal(size=(8, 6, 16)).astype(np.float32)}
    results = [
        nm.Session(nm.compile(network([name]), "pynq-z2", [feed])).run(feed)["y"]
        for name in ("q", "t:pre")
    ]
    assert np.array_equal(*results)
