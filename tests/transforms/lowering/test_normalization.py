# SPDX-License-Identifier: Apache-2.0
"""Normalisation: which operations it takes, where its statistics and its bias go, and its values.

In: small Graphs.  Out: their MatGraphs' operations; values are checked against ``ops``.
"""

from __future__ import annotations

import numpy as np
import pytest
from lowering_graphs import check, graph, random
from neuralmatrix.ir.graph.nodes import (
    Binary,
    Concat,
    Conv,
    Embedding,
    Graph,
    MatMul,
    Node,
    Normalize,
    Reshape,
    Slice,
    Softmax,
    Transpose,
    Unary,
)
from neuralmatrix.ir.graph.operators import run_graph
from neuralmatrix.ir.matgraph.ops import Gemm, MatGraph, RowMax, Window
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float
from neuralmatrix.ir.types import Function
from targets import lower

WEIGHTS = {
    "w": random(1, 24, 24) / 5,
    "v": random(2, 24, 24) / 5,
    "u": random(3, 24, 24) / 5,
    "c": random(4, 24),
    "gamma": 1 + random(5, 24) / 3,
    "beta": random(6, 24),
    "place": random(7, 5, 24),
    "small": random(10, 10, 2),
    "cls": random(8, 1, 1, 24),
}
X = {"x": (1, 5, 24)}


def norm(x: str, y: str, *operands: str, centred: bool = True) -> Normalize:
    return Normalize((x, *operands), y, f"{y}.node", (2,), 1e-5, centred)


def make(*nodes: Node, **more: object) -> Graph:
    used = {n for node in nodes for n in node.inputs}
    constants = {n: a for n, a in WEIGHTS.items() if n in used}
    return graph(nodes, X, constants, **more)  # type: ignore[arg-type]


def rows(mg: MatGraph) -> dict[str, tuple[str, ...]]:
    """Statistics by the operation that makes them."""
    linear = [op for op in mg.ops if isinstance(op, Gemm | Window)]
    return {op.output: tuple(r.kind for r in op.epilogue.rows) for op in linear if op.epilogue.rows}


def sizes(mg: MatGraph) -> list[int]:
    """Elements of the results of all windows."""
    return [int(np.prod(mg.tensors[op.output].shape)) for op in mg.ops if isinstance(op, Window)]


SHAPES = [
    ((2, 4, 5, 6), (1,)), ((2, 4, 5, 6), (2, 3)), ((2, 4, 5, 6), (1, 2, 3)), ((2, 4, 5, 6), (3,)),
    ((7, 6, 4, 5), (0,)), ((3, 7), (1,)), ((2, 3, 2, 4, 5), (2, 3, 4)), ((1, 9, 40), (2,)),
    ((2, 5, 1, 3), (2,)),
]  # fmt: skip


@pytest.mark.parametrize("kind, epsilon", [("variance", 1e-5), ("l2", 1e-12), ("l2", 3.0)])
@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("shape, axes", SHAPES)
def test_values(
    shape: tuple[int, ...], axes: tuple[int, ...], centred: bool, kind: str, epsilon: float
) -> None:
    part = tuple(n if i in axes else 1 for i, n in enumerate(shape))
    node = Normalize(("x", "g", "b"), "y", "", axes, epsilon, centred, kind)  # type: ignore[arg-type]
    check(graph([node], {"x": shape}, {"g": random(1, *part), "b": random(2, *part)}))


def test_scale_and_bias_may_vary_along_other_axes() -> None:
    node = Normalize(("x", "g", "b"), "y", "", (2, 3))
    check(graph([node], {"x": (2, 4, 5, 6)}, {"g": random(1, 4, 1, 1), "b": random(2, 4, 5, 1)}))


def test_statistics_come_from_the_producing_product() -> None:
    """x W, its mean and square, two operations on a value per row, one pass; no pass for beta."""
    mg = check(make(
        MatMul(("x", "w"), "h"), Unary(("h",), "a", function=Function("tanh")),
        norm("a", "n", "gamma", "beta"), MatMul(("n", "v"), "y"),
    ))  # fmt: skip
    assert rows(mg) == {"a": ("mean", "square")}
    assert [type(op).__name__ for op in mg.ops] == ["Gemm", "Window", "Window", "Window", "Gemm"]
    assert sizes(mg) == [5, 5, 120]
    last = mg.ops[-1]
    assert isinstance(last, Gemm)
    # one float32 product with a float64 sum
    np.testing.assert_allclose(last.bias, WEIGHTS["beta"] @ WEIGHTS["v"], rtol=1e-5, atol=1e-6)


def test_root_mean_square_needs_no_mean() -> None:
    mg = check(make(MatMul(("x", "w"), "h"), norm("h", "y", "gamma", centred=False)))
    assert rows(mg) == {"h": ("square",)}
    window = mg.ops[-1]
    assert isinstance(window, Window) and window.minus is None
    np.testing.assert_array_equal(window.weight.reshape(-1), WEIGHTS["gamma"])


def test_two_norms_of_one_tensor_share_their_statistics() -> None:
    mg = check(make(
        norm("x", "a", "gamma"), norm("x", "b", "beta"), Binary(("a", "b"), "y", kind="mul"),
    ))  # fmt: skip
    assert list(rows(mg).values()) == [("mean", "square")]
    assert sum(size == 5 for size in sizes(mg)) == 2


def test_statistics_beside_a_product_of_two_take_a_pass() -> None:
    """The square uses the multiplier of the Hadamard operand."""
    mg = check(make(MatMul(("x", "w"), "h"), Binary(("h", "x"), "g"), norm("g", "y")))
    assert rows(mg) == {"g": ("mean", "square")}
    product = Binary(("h", "x"), "g", kind="mul")
    mg = check(make(MatMul(("x", "w"), "h"), product, norm("g", "y")))
    assert "g" not in rows(mg) and len(rows(mg)) == 1


def test_maximum_of_a_stored_tensor_is_a_row_maximum() -> None:
    mg = check(graph([Softmax(("x",), "y", axis=1)], {"x": (3, 7)}))
    assert isinstance(mg.ops[0], RowMax)
    mg = check(make(MatMul(("x", "w"), "h"), Softmax(("h",), "y", axis=2)))
    assert rows(mg) == {"h": ("max",), "y:exp": ("sum",)}


# ---------------------------------------------------------------- the deferred bias


def offsets(mg: MatGraph) -> list[str]:
    """Windows that only add a bias."""
    windows = [op for op in mg.ops if isinstance(op, Window) and op.weight.size == 1]
    return [op.output for op in windows if op.bias.any() and not op.epilogue.activation]


def test_bias_goes_through_slices_sums_and_windows() -> None:
    mg = check(make(
        norm("x", "n", "gamma", "beta"),
        Slice(("n",), "s", slices=((0, 1, 1), (1, 4, 1), (0, None, 1))),
        Binary(("s", "c"), "d", kind="mul"), MatMul(("s", "w"), "h"),
        Binary(("h", "d"), "y", kind="sub"),
    ))  # fmt: skip
    assert offsets(mg) == []


def test_bias_is_added_where_it_must_be() -> None:
    """An output, a factor and a right operand need the sum itself, made once."""
    nodes = [norm("x", "n", "gamma", "beta"), Binary(("x", "n"), "p", kind="mul"),
             Transpose(("n",), "t", perm=(0, 2, 1)), MatMul(("p", "t"), "y")]  # fmt: skip
    assert offsets(check(make(*nodes))) == ["n"]
    assert offsets(check(make(nodes[0]))) == ["n"]
    assert len(offsets(check(make(nodes[0], MatMul(("n", "w"), "y"), outputs=("n", "y"))))) == 1


def test_bias_stays_in_front_of_a_move_that_mixes_channels() -> None:
    mg = check(make(norm("x", "n", "gamma", "beta"), Reshape(("n",), "r", shape=(1, 12, 10)),
                    MatMul(("r", "small"), "y")))  # fmt: skip
    assert offsets(mg) == ["n"]


def test_bias_reaches_grouped_and_padded_convolutions_rightly() -> None:
    image = {"x": (1, 6, 5, 5)}
    constants = {"g": random(1, 6, 1, 1), "b": random(2, 6, 1, 1), "k": random(3, 4, 3, 3, 3)}
    for pads, wanted in (((0, 0, 0, 0), 0), ((1, 1, 1, 1), 1)):
        nodes = [
            Normalize(("x", "g", "b"), "n", "", (1,)),
            Conv(("n", "k"), "y", "", (1, 1), pads, (1, 1), 2),
        ]
        assert len(offsets(check(graph(nodes, image, constants)))) == wanted


# ---------------------------------------------------------------- centred streams


def stream(*last: Node) -> list[Node]:
    """x W + places, a block with a residual sum, and what follows."""
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
    "an uncentred norm": (norm("t", "n2"), norm("t", "r", centred=False)),
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
    """The class token of a vision transformer."""
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


def test_one_input_serves_two_look_ups_and_a_sum() -> None:
    tables = {"a": random(1, 9, 6), "b": random(2, 9, 6)}
    nodes = [Embedding(("ids", "a"), "p"), Embedding(("ids", "b"), "q"), Binary(("p", "q"), "y")]
    g = graph(nodes, {"ids": (2, 3)}, tables)
    mg = lower(g)
    assert [port.name for port in mg.inputs] == ["ids", "ids"]
    feed = {"ids": np.array([[3, 0, 8], [1, 1, 5]])}
    found = port_outputs(mg, run_float(mg, feed))["y"]
    np.testing.assert_array_equal(found, tables["a"][feed["ids"]] + tables["b"][feed["ids"]])
