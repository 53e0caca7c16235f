# SPDX-License-Identifier: Apache-2.0
"""The lowering of every kind of node.

In: small Graphs of every kind of node.  Out: golden texts before and after lowering; the same
values; a rule for every node that the graph has.
"""

from __future__ import annotations

import numpy as np
import pytest
from cnn_graphs import IMAGE, RELU
from golden_passes import check_texts, exact, feeds_for, lowered
from graph_text import graph_text
from lowering_graphs import graph
from neuralmatrix.errors import UnsupportedModel
from neuralmatrix.ir.graph import nodes as all_nodes
from neuralmatrix.ir.graph.nodes import (
    ArgMax,
    Attention,
    AxisMatMul,
    Binary,
    Concat,
    Conv,
    ConvTranspose,
    Embedding,
    Expand,
    Graph,
    MatMul,
    Node,
    Normalize,
    Pad,
    Pool,
    PRelu,
    Reduce,
    Reshape,
    Select,
    Slice,
    Softmax,
    Take,
    Transpose,
    Unary,
)
from neuralmatrix.ir.graph.operators import run_graph
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float
from neuralmatrix.ir.matgraph.verify import verify_matgraph
from neuralmatrix.ir.types import Function
from targets import lower

SMALL_IMAGE = {"x": (1, 2, 4, 4)}
ROWS = {"x": (1, 3, 8)}
TANH = Function("tanh")
POOL = {"kernel": (2, 2), "strides": (2, 2), "pads": (0,) * 4, "dilations": (1, 1)}
CASES: dict[str, Graph] = {
    "convolutions": graph(
        [Conv(("x", "w", "b"), "c", "c.node", (1, 1), (1,) * 4, (1, 1)),
         Conv(("c", "d"), "e", "e.node", (1, 1), (1,) * 4, (1, 1), 3),
         ConvTranspose(("e", "t"), "y", "y.node", (2, 2), (0,) * 4, (1, 1), 1, (0, 0))],
        SMALL_IMAGE, {"w": exact(1, 3, 2, 3, 3), "b": exact(2, 3), "d": exact(3, 3, 1, 3, 3),
                "t": exact(4, 3, 2, 2, 2)},
    ),
    "pooling": graph(
        [Pool(("x",), "m", "m.node", "max", **POOL),  # type: ignore[arg-type]
         Pool(("m",), "a", "a.node", "average", **POOL),  # type: ignore[arg-type]
         Reduce(("x",), "r", "r.node", "mean", (2, 3)), Binary(("a", "r"), "y")],
        SMALL_IMAGE,
    ),
    "pointwise": graph(
        [PRelu(("x", "s"), "p", "p.node"), Unary(("p",), "u", function=TANH),
         Binary(("u", "x"), "d", kind="sub"), Select(("k", "d", "x"), "y", "y.node")],
        SMALL_IMAGE, {"s": np.float32(0.25), "k": np.arange(16).reshape(1, 1, 4, 4) % 3 > 0},
    ),
    "layout": graph(
        [Slice(("x",), "s", slices=((0, None, 1), (0, None, 1), (0, 2, 1), (0, None, 2))),
         Pad(("s",), "p", pads=((0, 0), (0, 0), (1, 0), (0, 1)), value=0.5),
         Transpose(("p",), "t", perm=(0, 1, 3, 2)), Take(("t",), "k", axis=2, indices=(2, 0, 1)),
         Concat(("k", "t"), "c", axis=1), Unary(("c",), "u", function=TANH),
         Reshape(("u",), "r", shape=(1, 36)), Expand(("r",), "y", shape=(2, 36))],
        SMALL_IMAGE,
    ),
    "products": graph(
        [MatMul(("x", "w"), "h", "h.node"), Transpose(("x",), "t", perm=(0, 2, 1)),
         MatMul(("h", "t"), "s", "s.node"), AxisMatMul(("s", "m"), "y", "y.node", axis=1)],
        ROWS, {"w": exact(1, 8, 8), "m": exact(2, 5, 3)},
    ),
    "attention": graph(
        [MatMul(("x", "k"), "h"), Attention(("x", "h", "x", "mask"), "y", "y.node", scale=0.5)],
        ROWS, {"k": exact(1, 8, 8), "mask": np.tril(np.ones((3, 3)))},
    ),
    "normalisation": graph(
        [Normalize(("x", "g", "b"), "n", "n.node", (2,)), Softmax(("n",), "y", "y.node", 2)],
        ROWS, {"g": exact(1, 8), "b": exact(2, 8)},
    ),
    "look_up": graph(
        [Embedding(("ids", "table"), "e", "e.node"), ArgMax(("e",), "y", "y.node", axis=2)],
        {"ids": (1, 4)}, {"table": exact(1, 9, 3)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    given = CASES[case]
    found = verify_matgraph(lowered(given))
    check_texts(request, f"lower_graph/{case}", graph_text(given), graph_text(found))
    feeds = feeds_for(found)
    got, wanted = port_outputs(found, run_float(found, feeds)), run_graph(given, feeds)
    for name in given.outputs:
        # float32 sums of at most a hundred products of values of about 1, in another order
        np.testing.assert_allclose(got[name], wanted[name], rtol=2e-5, atol=2e-5)


def test_the_cases_hold_every_kind_of_node() -> None:
    every = {kind for kind in vars(all_nodes).values()
             if isinstance(kind, type) and issubclass(kind, Node) and kind is not Node}  # fmt: skip
    assert {type(node) for case in CASES.values() for node in case.nodes} == every


def test_refusals_leave_no_graph() -> None:
    with pytest.raises(UnsupportedModel, match="only at a network output"):
        lowered(
            graph([ArgMax(("x",), "i", axis=1), Unary(("i",), "y", function=TANH)], SMALL_IMAGE)
        )


def test_all_refusals_at_once() -> None:
    nodes = [
        ArgMax(("x",), "i", "pick", axis=1), Unary(("i",), "a", function=RELU),
        Binary(("k", "k"), "kk", "twice", kind="add"), Binary(("a", "kk"), "y", kind="mul"),
    ]  # fmt: skip
    with pytest.raises(UnsupportedModel) as caught:
        lower(graph(nodes, IMAGE, {"k": 1.0}))
    assert [(n.name, n.op) for n in caught.value.nodes] == [("pick", "ArgMax"), ("twice", "Add")]
    assert "only at a network output" in str(caught.value)
