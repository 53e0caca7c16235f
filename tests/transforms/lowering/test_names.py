# SPDX-License-Identifier: Apache-2.0
"""Names of the model that could collide with names of the compiler are changed first.

In: Graphs whose tensors have names with colons.  Out: other names, the same function and ports.
"""

from __future__ import annotations

import numpy as np
import pytest
from lowering_graphs import feeds_of, graph
from neuralmatrix.ir.graph.nodes import Graph, Unary
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float
from neuralmatrix.ir.types import Function
from neuralmatrix.transforms.lowering.names import separated
from targets import lower


def chain(*names: str) -> Graph:
    """Return a graph of ReLUs of the input, one after another."""
    steps = zip(("x", *names), names, strict=False)
    nodes = [Unary((before,), name, function=Function("relu")) for before, name in steps]
    return graph(nodes, {"x": (1, 3, 4, 5)})


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["t:0", "u:0"], ["t:0", "u:0"]),  # TensorFlow's names: there is no tensor t or u
        (["t", "t:pre"], ["t", "t.pre"]),
        (["t", "t:pre", "t.pre"], ["t", "t.pre.2", "t.pre"]),
        (["t", "t:pre", "t.pre:u"], ["t", "t.pre.2", "t.pre:u"]),
        (["t", "t:a", "t:a:b"], ["t", "t.a", "t.a.b"]),
        (["t:a", "t:a:b"], ["t:a", "t.a.b"]),
        (["x:0"], ["x.0"]),
    ],
)
def test_names_that_extend_another_are_changed(names: list[str], wanted: list[str]) -> None:
    source = chain(*names)
    found, given = separated(source)
    assert [node.output for node in found.nodes] == wanted
    assert found.inputs == ("x",) and found.outputs == (wanted[-1],)
    changed = {w: n for n, w in zip(names, wanted, strict=True) if n != w}
    assert given == changed and (found is source) == (not changed)


def test_ports_keep_the_names_of_the_model() -> None:
    source = chain("t", "t:pre")
    mg, feeds = lower(source), feeds_of(source)
    assert [port.name for port in mg.outputs] == ["t:pre"]
    y = port_outputs(mg, run_float(mg, feeds))["t:pre"]
    np.testing.assert_array_equal(y, np.maximum(feeds["x"], 0))
