# SPDX-License-Identifier: Apache-2.0
"""Element-wise windows are fused into the epilogue or the weights of their producer.

In: small graphs.  Out: golden texts before and after the pass; the same values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cnn_graphs import IMAGE, Q1, Q2, Q3, RELU, WEIGHTS, conv, kinds, make, relu
from golden_passes import check_pass, exact
from lowering_graphs import check, graph, random
from neuralmatrix.ir.graph.nodes import (
    Binary,
    Conv,
    ConvTranspose,
    Graph,
    MatMul,
    Node,
    Pad,
    Pool,
    Take,
    Unary,
)
from neuralmatrix.ir.matgraph.ops import Epilogue, Gemm
from neuralmatrix.ir.types import Function, QParams

SMALL_IMAGE = {"x": (1, 4, 3, 3)}
SMALL = {
    "w": exact(1, 4, 4, 3, 3),
    "v": exact(2, 4, 4, 1, 1),
    "b": exact(3, 4),
    "k": exact(4, 4, 1, 1),
    "h": np.float32(0.5),
}


def small_conv(x: str, w: str, y: str) -> Conv:
    pads = (1,) * 4 if w == "w" else (0,) * 4
    return Conv((x, w, "b"), y, f"{y}.node", (1, 1), pads, (1, 1))


def small_relu(x: str, y: str) -> Unary:
    return Unary((x,), y, f"{y}.node", function=RELU)


def small(*nodes: Node, **more: Any) -> Graph:
    used = {n for node in nodes for n in node.inputs}
    return graph(nodes, SMALL_IMAGE, {n: a for n, a in SMALL.items() if n in used}, **more)


RESIDUAL = (small_conv("x", "w", "c"), small_relu("c", "r"), small_conv("r", "v", "d"),
            Binary(("d", "x"), "s", kind="add"), small_relu("s", "y"))  # fmt: skip
CASES = {
    "residual": small(*RESIDUAL),
    "factors_and_terms": small(
        small_conv("x", "v", "c"), Binary(("c", "k"), "m", kind="mul"),
        Binary(("k", "m"), "s", kind="sub"), Binary(("s", "x"), "y", kind="mul"),
    ),
    "scaled_sum": small(
        small_conv("x", "v", "c"), Binary(("c", "x"), "s", kind="add"),
        Binary(("s", "h"), "y", kind="mul"),
    ),
    "behind_a_move": small(
        small_conv("x", "v", "c"),
        Pad(("c",), "p", pads=((0, 0), (0, 0), (1, 0), (0, 1)), value=-2.0),
        small_relu("p", "y"),
    ),
    "kept_prescribed": small(
        small_conv("x", "v", "c"), small_relu("c", "y"),
        quant={"x": QParams(0.1), "c": QParams(0.2, 3), "y": QParams(0.05)},
    ),
    "kept_product": graph([MatMul(("x", "w"), "y")], {"x": (3, 4)}, {"w": exact(5, 4, 4)}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    check_pass(request, "fuse_epilogues", case, CASES[case])


def test_residual_block_is_two_gemms() -> None:
    g = make(
        conv("x", "w", "c1"), relu("c1", "r1"), conv("r1", "v", "c2"),
        Binary(("c2", "x"), "sum", kind="add"), relu("sum", "y"),
    )  # fmt: skip
    mg = check(g)
    assert kinds(mg) == ["Gemm", "Gemm"]
    assert [op.output for op in mg.ops] == ["r1", "y"]
    assert mg.ops[1].epilogue == Epilogue(residual="x", activation=RELU)
    assert mg.ops[1].source == "c2.node"


@pytest.mark.parametrize("kind, gain", [("add", 1.0), ("sub", -1.0)])
def test_residual_joins_the_later_operand(kind: str, gain: float) -> None:
    """Both operands are convolutions with one reader; the one that runs last takes the other."""
    g = make(
        conv("x", "w", "first"), conv("x", "v", "second"),
        Binary(("first", "second"), "y", kind=kind),
    )  # fmt: skip
    mg = check(g)
    assert kinds(mg) == ["Gemm", "Gemm"]
    assert mg.ops[1].epilogue == Epilogue(residual="first", residual_gain=1.0)
    assert isinstance(mg.ops[1], Gemm) and mg.ops[1].weight is not None
    wanted = gain * WEIGHTS["v"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(mg.ops[1].weight, wanted)


def test_gate_is_a_hadamard_operand() -> None:
    """In squeeze and excite the scaled map stays one operation, its gate two."""
    g = make(
        conv("x", "w", "c1"), Pool(("c1",), "p", kind="average", kernel=(6, 6), strides=(1, 1),
                                   pads=(0, 0, 0, 0), dilations=(1, 1)),
        conv("p", "v", "c2"), Unary(("c2",), "s", function=Function("sigmoid")),
        Binary(("c1", "s"), "y", kind="mul"),
    )  # fmt: skip
    mg = check(g)
    assert kinds(mg) == ["Gemm", "Window", "Gemm", "Window"]
    assert mg.ops[3].epilogue == Epilogue(hadamard="s")


def test_swish_merges_into_one_window() -> None:
    g = make(
        conv("x", "w", "c"), Unary(("c",), "s", function=Function("sigmoid")),
        Binary(("c", "s"), "y", kind="mul"),
    )  # fmt: skip
    mg = check(g)
    assert kinds(mg) == ["Gemm", "Window"]
    assert mg.ops[1].epilogue == Epilogue(activation=Function("sigmoid"), hadamard="c")


def test_constants_fold_into_weights() -> None:
    nodes = [
        conv("x", "w", "c"), Binary(("c", "k"), "m", kind="mul"),
        Binary(("k", "m"), "s", kind="sub"), relu("s", "y"),
    ]  # fmt: skip
    g = graph(nodes, IMAGE, {"w": WEIGHTS["w"], "b": WEIGHTS["b"], "k": random(8, 4, 1, 1)})
    assert kinds(check(g)) == ["Gemm"]


def test_activation_runs_before_depth_to_space() -> None:
    node = ConvTranspose(("x", "w"), "c", "up", (2, 2), (0,) * 4, (1, 1), 1, (0, 0))
    g = graph([node, relu("c", "r"), relu("r", "y")], IMAGE, {"w": random(1, 4, 3, 2, 2)})
    mg = check(g)
    assert kinds(mg) == ["Gemm", "Window", "Move"]
    assert isinstance(mg.ops[0], Gemm) and mg.ops[0].epilogue.activation == RELU


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_hoisted_activation_applies_to_the_fill(value: float) -> None:
    pad = Pad(("c",), "p", pads=((0, 0), (0, 0), (1, 0), (0, 1)), value=value)
    act = Unary(("p",), "y", function=Function("sigmoid"))
    mg = check(make(conv("x", "w", "c"), pad, act))
    assert kinds(mg) == ["Gemm", "Move"]


@pytest.mark.parametrize(
    ("function", "indices", "merged"),
    [("reciprocal", (0, 1), False), ("reciprocal", (2, 1, 0), True), ("sigmoid", (0, 1), True)],
)
def test_a_pole_is_not_met_where_a_selection_leaves_values_out(
    function: str, indices: tuple[int, ...], merged: bool
) -> None:
    taken = Take(("c",), "t", "t.node", axis=3, indices=indices)
    act = Unary(("t",), "y", function=Function(function))
    found = kinds(check(small(small_conv("x", "v", "c"), taken, act)))
    assert found == (["Gemm", "Move"] if merged else ["Gemm", "Move", "Window"])


def test_dead_nodes_leave_nothing() -> None:
    mg = check(make(conv("x", "w", "y"), relu("y", "dead"), outputs=["y"]))
    assert list(mg.tensors) == ["x", "y"]


def test_annotated_intermediate_is_not_fused_over() -> None:
    nodes = conv("x", "w", "c"), relu("c", "y")
    mg = check(make(*nodes, quant={"x": Q1, "c": Q2, "y": Q3}))
    assert kinds(mg) == ["Gemm", "Window"]
    assert mg.quant == {"x": Q1, "c": Q2, "y": Q3}


def test_annotation_behind_the_activation_fuses() -> None:
    nodes = conv("x", "w", "c"), relu("c", "y")
    mg = check(make(*nodes, quant={"x": Q1, "y": Q2}))
    assert kinds(mg) == ["Gemm"]
    assert mg.quant == {"x": Q1, "y": Q2}


def test_annotated_operand_keeps_the_add_separate() -> None:
    nodes = conv("x", "w", "c"), Binary(("c", "x"), "s", kind="add"), relu("s", "y")
    mg = check(make(*nodes, quant={"x": Q1, "c": Q2, "y": Q3}))
    assert kinds(mg) == ["Gemm", "Window"]
    assert mg.ops[1].epilogue == Epilogue(residual="x", activation=RELU)


def test_folded_factor_scales_the_weight_scale() -> None:
    nodes = [conv("x", "w", "c"), Binary(("c", "k"), "y", kind="mul")]
    constants = {"w": WEIGHTS["w"], "b": WEIGHTS["b"], "k": np.float32(-2)}
    mg = check(graph(nodes, IMAGE, constants, weight_scales={"w": np.float32(0.5)}))
    assert isinstance(mg.ops[0], Gemm)
    np.testing.assert_array_equal(mg.ops[0].weight_scale, np.ones(4))
