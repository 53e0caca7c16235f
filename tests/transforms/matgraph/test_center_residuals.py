# SPDX-License-Identifier: Apache-2.0
"""Streams that only normalisations and their own sums read get a mean of 0 over the channels.

In: small graphs.  Out: golden texts before and after the pass; the same values.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from golden_passes import check_pass, exact
from lowering_graphs import check, graph, random
from neuralmatrix.ir.graph.nodes import (
    Binary,
    Concat,
    Embedding,
    Graph,
    MatMul,
    Node,
    Normalize,
    Softmax,
    Unary,
)
from neuralmatrix.ir.graph.operators import run_graph
from neuralmatrix.ir.matgraph.ops import Gemm, Window
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float
from neuralmatrix.ir.types import Function
from norm_graphs import WEIGHTS, make, norm, rows
from targets import lower

ROWS = {"x": (1, 3, 8)}
SMALL = {
    "w": exact(1, 8, 8),
    "v": exact(2, 8, 8),
    "place": exact(3, 3, 8),
    "token": exact(4, 1, 1, 8),
}


def small_norm(x: str, y: str) -> Normalize:
    return Normalize((x,), y, f"{y}.node", (2,), 1e-5)


def small(*nodes: Node, outputs: Sequence[str] = ()) -> Graph:
    used = {n for node in nodes for n in node.inputs}
    return graph(nodes, ROWS, {n: a for n, a in SMALL.items() if n in used}, outputs)


STREAM = (MatMul(("x", "w"), "h"), Binary(("h", "place"), "s"), small_norm("s", "n"),
          MatMul(("n", "v"), "o"), Binary(("s", "o"), "t"), small_norm("t", "y"))  # fmt: skip
CASES = {
    "residual": small(*STREAM),
    "class_token": small(
        MatMul(("x", "w"), "h"), Concat(("token", "h"), "s", axis=1), small_norm("s", "y")
    ),
    "kept_output": small(*STREAM, outputs=("t", "y")),
    "kept_another_reader": small(*STREAM, MatMul(("t", "w"), "z"), outputs=("y", "z")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    check_pass(request, "center_residuals", case, CASES[case])


def stream(*last: Node) -> list[Node]:
    """Return x W + places, a block with a residual sum, and its readers."""
    return [
        MatMul(("x", "w"), "h"), Binary(("h", "place"), "s"),
        norm("s", "n", "gamma", "beta"), MatMul(("n", "v"), "f"),
        Unary(("f",), "a", function=Function("tanh")), MatMul(("a", "u"), "o"),
        Binary(("s", "o"), "t"), *last,
    ]  # fmt: skip


def test_stream_is_centred() -> None:
    mg = check(make(*stream(norm("t", "y", "gamma"))))
    assert [kinds for kinds in rows(mg).values()] == [("square",), ("square",)]
    assert not any(isinstance(op, Window) and op.minus for op in mg.ops)
    writers = [op for op in mg.ops if isinstance(op, Gemm) and op.output in ("s", "t")]
    assert len(writers) == 2
    for op in writers:
        assert op.weight is not None
        # float32 rounding of weights of about 0.2
        np.testing.assert_allclose(op.weight.mean(-1), 0, atol=1e-7)


READERS: dict[str, tuple[Node, ...]] = {
    "a function": (norm("t", "n2"), Unary(("t",), "r", function=Function("relu"))),
    "a product": (norm("t", "n2"), MatMul(("t", "w"), "r")),
    "a factor": (norm("t", "n2"), Binary(("n2", "t"), "r", kind="mul")),
    "an uncentred norm": (norm("t", "n2"), norm("t", "r", centered=False)),
    "a softmax": (norm("t", "n2"), Softmax(("t",), "r", axis=2)),
}


@pytest.mark.parametrize("nodes", READERS.values(), ids=READERS)
def test_stream_with_another_reader_keeps_its_mean(nodes: tuple[Node, ...]) -> None:
    mg = check(make(*stream(*nodes), outputs=("n2", "r")))
    assert sum(isinstance(op, Window) and op.minus is not None for op in mg.ops) == 2


def test_stream_that_is_an_output_keeps_its_mean() -> None:
    mg = check(make(*stream(norm("t", "y")), outputs=("t", "y")))
    assert sum(isinstance(op, Window) and op.minus is not None for op in mg.ops) == 2


def test_stream_of_rows_joined_with_a_constant_row_is_centred() -> None:
    """The class token of a vision transformer is centred too."""
    mg = check(make(
        MatMul(("x", "w"), "h"), Concat(("cls", "h"), "s", axis=1), norm("s", "y", "gamma"),
    ))  # fmt: skip
    assert [kinds for kinds in rows(mg).values()] == [("square",)]
    (token,) = mg.constants.values()
    np.testing.assert_allclose(token.mean(-1), 0, atol=1e-7)  # float32 rounding


def test_looked_up_rows_are_centred_in_their_table() -> None:
    table = random(9, 11, 24)
    nodes = [Embedding(("ids", "table"), "e"), Binary(("e", "place"), "s"), norm("s", "y")]
    constants = {"table": table, "place": WEIGHTS["place"]}
    g = graph(nodes, {"ids": (1, 5)}, constants)
    mg = lower(g)
    (port,) = mg.inputs
    assert port.name == "ids" and port.table is not None and port.shape == (1, 5)
    np.testing.assert_allclose(port.table.mean(-1), 0, atol=1e-7)  # float32 rounding
    feed = {"ids": np.array([[3, 0, 10, 3, 7]])}
    found = port_outputs(mg, run_float(mg, feed))["y"]
    # float32 sums of 24 elements
    np.testing.assert_allclose(found, run_graph(g, feed)["y"], rtol=1e-5, atol=1e-5)
