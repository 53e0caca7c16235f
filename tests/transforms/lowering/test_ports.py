# SPDX-License-Identifier: Apache-2.0
"""Inputs and outputs of the network: gathers and other work of the host.

In: small Graphs.  Out: the ports of their MatGraphs; values are checked too.
"""

from __future__ import annotations

import numpy as np
from cnn_graphs import WEIGHTS, conv, kinds, make
from lowering_graphs import check, graph, random
from neuralmatrix.ir.graph.nodes import ArgMax, Binary, Conv, Embedding, Transpose
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float
from targets import lower


def test_one_input_serves_two_look_ups_and_a_sum() -> None:
    tables = {"a": random(1, 9, 6), "b": random(2, 9, 6)}
    nodes = [Embedding(("ids", "a"), "p"), Embedding(("ids", "b"), "q"), Binary(("p", "q"), "y")]
    g = graph(nodes, {"ids": (2, 3)}, tables)
    mg = lower(g)
    assert [port.name for port in mg.inputs] == ["ids", "ids"]
    feed = {"ids": np.array([[3, 0, 8], [1, 1, 5]])}
    found = port_outputs(mg, run_float(mg, feed))["y"]
    np.testing.assert_array_equal(found, tables["a"][feed["ids"]] + tables["b"][feed["ids"]])


def test_a_scaled_input_lies_as_its_convolution_reads_it() -> None:
    scale = Binary(("x", "k"), "s", kind="mul")
    for order, size in (((0, 3, 1, 2), (1, 6, 6, 4)), ((0, 3, 2, 1), (1, 6, 6, 4))):
        nodes = [scale, Transpose(("s",), "t", perm=order), conv("t", "w", "y")]
        constants = {"k": random(3, *size), "w": WEIGHTS["w"], "b": WEIGHTS["b"]}
        assert kinds(check(graph(nodes, {"x": size}, constants))) == ["Window", "Gemm"]


def test_a_scaled_sequence_lies_as_its_convolution_reads_it() -> None:
    wide = Conv(("s", "w", "b"), "y", "", (1,), (1, 1), (1,))
    nodes = [Binary(("x", "k"), "s", kind="mul"), wide]
    constants = {"k": random(3, 4, 1), "w": WEIGHTS["w"][:, :, 0], "b": WEIGHTS["b"]}
    assert kinds(check(graph(nodes, {"x": (2, 4, 9)}, constants))) == ["Window", "Gemm"]


def test_argmax_is_the_hosts() -> None:
    mg = check(make(conv("x", "w", "c"), ArgMax(("c",), "y", axis=1)))
    assert kinds(mg) == ["Gemm"]
    assert mg.outputs[0].argmax == (1, True, False) and mg.outputs[0].dtype == "int64"
