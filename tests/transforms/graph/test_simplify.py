# SPDX-License-Identifier: Apache-2.0
"""Every rewrite of simplify: it happens, keeps the values, and does not match other graphs.

In: small Graphs.  Out: fewer nodes, equal values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from neuralmatrix.ir.graph.nodes import (
    AxisMatMul,
    Concat,
    Expand,
    MatMul,
    Node,
    Pad,
    Pool,
    Reduce,
    Reshape,
    Slice,
    Take,
    Transpose,
    Unary,
)
from neuralmatrix.ir.types import QParams
from neuralmatrix.transforms.graph.simplify import simplify
from rewritten_graphs import IMAGE, binary, convolution, graph_of, kinds, random, simplified, unary

# ---------------------------------------------------------------- activations


def _gated(inner: Sequence[Node], gate: str, swap: bool = False) -> list[Node]:
    operands = (gate, "x") if swap else ("x", gate)
    return [*inner, binary("mul", *operands, "y")]


GATES = {
    "silu": [unary("x", "g", "sigmoid")],
    "hard_swish": [unary("x", "g", "hard_sigmoid", 1 / 6, 0.5)],
    "mish": [unary("x", "p", "softplus"), unary("p", "g", "tanh")],
}


@pytest.mark.parametrize("name", GATES)
@pytest.mark.parametrize("swap", [False, True])
def test_gates_become_one_function(name: str, swap: bool) -> None:
    result = simplified(graph_of(_gated(GATES[name], "g", swap)))
    assert [n.function.name for n in result.nodes if isinstance(n, Unary)] == [name]
    assert len(result.nodes) == 1


@pytest.mark.parametrize("name", GATES)
def test_a_rounded_gate_stays(name: str) -> None:
    graph = graph_of(_gated(GATES[name], "g"), quant={"g": QParams(0.01)})
    assert len(simplified(graph).nodes) == len(graph.nodes)


def test_another_hard_sigmoid_is_no_hard_swish() -> None:
    graph = graph_of(_gated([unary("x", "g", "hard_sigmoid", 0.2, 0.5)], "g"))
    assert len(simplified(graph).nodes) == 2


def _relu6_form(factor_last: bool, divide: bool) -> list[Node]:
    kind, sixth = ("div", "six") if divide else ("mul", "sixth")
    head = [binary("add", "x", "three", "a"), unary("a", "c", "clip", 0.0, 6.0)]
    if factor_last:
        return [*head, binary("mul", "x", "c", "p"), binary(kind, "p", sixth, "y")]
    return [*head, binary(kind, "c", sixth, "g"), binary("mul", "g", "x", "y")]


@pytest.mark.parametrize("factor_last", [False, True])
@pytest.mark.parametrize("divide", [False, True])
def test_hard_swish_by_relu6(factor_last: bool, divide: bool) -> None:
    constants = {"three": np.asarray(3.0), "six": np.asarray(6.0), "sixth": np.asarray(1 / 6)}
    nodes = _relu6_form(factor_last, divide)
    used = {name for n in nodes for name in n.inputs}
    held = {name: a for name, a in constants.items() if name in used}
    (only,) = simplified(graph_of(nodes, held)).nodes
    assert isinstance(only, Unary)
    assert only.function.name == "hard_swish"


def test_relu_of_what_is_never_negative_goes() -> None:
    nodes = [
        unary("x", "r", "relu"),
        Pool(
            ("r",),
            "p",
            kind="average",
            kernel=(2, 2),
            strides=(2, 2),
            pads=(0,) * 4,
            dilations=(1, 1),
        ),
        unary("p", "s", "relu"),
        Reshape(("s",), "f", shape=(2, 24)),
        unary("f", "y", "relu"),
    ]
    assert kinds(simplified(graph_of(nodes))) == ["Unary", "Pool", "Reshape"]
    assert len(simplified(graph_of([unary("x", "n", "neg"), unary("n", "y", "relu")])).nodes) == 2


# ---------------------------------------------------------------- layout

IDENTITIES: dict[str, tuple[Node, dict[str, np.ndarray]]] = {
    "identity": (unary("n", "i", "identity"), {}),
    "reshape": (Reshape(("n",), "i", shape=IMAGE), {}),
    "transpose": (Transpose(("n",), "i", perm=(0, 1, 2, 3)), {}),
    "slice": (Slice(("n",), "i", slices=((0, None, 1),) * 4), {}),
    "pad": (Pad(("n",), "i", pads=((0, 0),) * 4), {}),
    "concat": (Concat(("n",), "i", axis=1), {}),
    "take": (Take(("n",), "i", axis=1, indices=(0, 1, 2, 3)), {}),
    "expand": (Expand(("n",), "i", shape=IMAGE), {}),
    "add": (binary("add", "n", "c", "i"), {"c": np.zeros((4, 1, 1))}),
    "mul": (binary("mul", "n", "c", "i"), {"c": np.ones(())}),
    "resize": (AxisMatMul(("n", "c"), "i", axis=2), {"c": np.eye(6)}),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_identities_go(name: str) -> None:
    node, constants = IDENTITIES[name]
    nodes = [unary("x", "n", "neg"), node, unary("i", "y", "abs")]
    assert kinds(simplified(graph_of(nodes, constants))) == ["Unary", "Unary"]


@pytest.mark.parametrize("name", ["identity", "mul", "slice"])
def test_an_identity_at_an_output_gives_its_name_away(name: str) -> None:
    node, constants = IDENTITIES[name]
    (only,) = simplified(graph_of([unary("x", "n", "neg"), node], constants, outputs=["i"])).nodes
    assert only.output == "i"


def test_identities_that_must_stay() -> None:
    alone = graph_of([unary("x", "y", "identity")])
    assert len(simplified(alone).nodes) == 1
    nodes = [unary("x", "a", "neg"), unary("a", "y", "identity")]
    assert len(simplified(graph_of(nodes, outputs=["a", "y"])).nodes) == 2
    rounded = graph_of(
        [*nodes[:1], unary("a", "y", "identity"), unary("a", "z", "abs")],
        outputs=["y", "z"],
        quant={"y": QParams(0.5)},
    )
    assert len(simplified(rounded).nodes) == 3


def test_a_reduction_of_single_elements_goes() -> None:
    nodes = [Reduce(("x",), "r", kind="mean", axes=(2, 3)), Reduce(("r",), "s", axes=(2, 3))]
    result = simplified(graph_of([*nodes, unary("s", "y", "abs")]))
    assert kinds(result) == ["Reduce", "Unary"]


def test_transposes_cancel_and_merge() -> None:
    there = Transpose(("x",), "t", perm=(0, 2, 3, 1))
    back = Transpose(("t",), "b", perm=(0, 3, 1, 2))
    assert kinds(simplified(graph_of([there, back, unary("b", "y", "abs")]))) == ["Unary"]
    again = Transpose(("t",), "y", perm=(0, 2, 3, 1))
    (merged,) = simplified(graph_of([there, again])).nodes
    assert isinstance(merged, Transpose) and merged.perm == (0, 3, 1, 2)


def test_reshapes_and_slices_merge() -> None:
    reshapes = [Reshape(("x",), "r", shape=(8, 30)), Reshape(("r",), "y", shape=(2, 120))]
    assert kinds(simplified(graph_of(reshapes))) == ["Reshape"]
    first = Slice(("x",), "s", slices=((0, None, 1), (1, None, 1), (0, 6, 2), (0, None, 1)))
    second = Slice(("s",), "y", slices=((0, None, 1), (0, 2, 1), (1, 3, 1), (4, None, 1)))
    (merged,) = simplified(graph_of([first, second])).nodes
    assert isinstance(merged, Slice)
    assert merged.slices[2] == (2, 6, 2)


@pytest.mark.parametrize("middle", [None, QParams(0.1), QParams(0.2)])
def test_layout_pairs_respect_annotations(middle: QParams | None) -> None:
    nodes = [
        unary("x", "a", "neg"),
        Transpose(("a",), "t", perm=(0, 2, 3, 1)),
        Transpose(("t",), "b", perm=(0, 3, 1, 2)),
        unary("b", "y", "abs"),
    ]
    quant = {"a": QParams(0.1), "b": QParams(0.1)} | ({"t": middle} if middle else {})
    rounds_again = middle == QParams(0.2)
    assert len(simplified(graph_of(nodes, quant=quant)).nodes) == (4 if rounds_again else 2)


def _padded(value: float, pads: Any = ((0, 0), (0, 0), (1, 0), (0, 2))) -> Pad:
    return Pad(("x",), "p", pads=pads, value=value)


def _pool(kind: Any, pads: tuple[int, ...], counted: bool = False) -> Pool:
    return Pool(
        ("p",),
        "y",
        kind=kind,
        kernel=(3, 2),
        strides=(2, 1),
        pads=pads,
        dilations=(1, 1),
        count_include_pad=counted,
    )


LOWEST = float(np.finfo(np.float32).min)
FOLDED = [
    (_padded(0.0), convolution("p", "y", "w")),
    (_padded(0.0), _pool("average", (0, 0, 0, 0))),
    (_padded(0.0), _pool("average", (1, 0, 0, 1), counted=True)),
    (_padded(LOWEST, ((0, 0), (0, 0), (1, 0), (0, 1))), _pool("max", (1, 0, 0, 0))),
]
KEPT = [
    (_padded(0.5), convolution("p", "y", "w")),
    (_padded(0.0, ((0, 0), (0, 0), (1, 0), (0, 0))), _pool("average", (1, 0, 0, 1))),
    (_padded(0.0), _pool("max", (0, 0, 0, 0))),
    (_padded(0.0, ((0, 0), (1, 1), (0, 0), (0, 0))), convolution("p", "y", "v")),
]


@pytest.mark.parametrize(
    ("nodes", "count"), [*((pair, 1) for pair in FOLDED), *((pair, 2) for pair in KEPT)]
)
def test_padding_goes_where_it_reads_the_same(nodes: tuple[Node, Node], count: int) -> None:
    weights = {"w": random(3, 4, 3, 3), "v": random(3, 6, 3, 3)}
    held = {name: a for name, a in weights.items() if name in nodes[1].inputs}
    assert len(simplified(graph_of(nodes, held)).nodes) == count


# ---------------------------------------------------------------- constants and dead nodes


def test_nodes_of_constants_become_constants() -> None:
    nodes = [
        Transpose(("c",), "t", perm=(1, 0)),
        unary("t", "e", "exp"),
        MatMul(("x", "e"), "y"),
    ]
    assert kinds(simplified(graph_of(nodes, {"c": random(7, 5)}))) == ["MatMul"]


def test_what_no_output_needs_goes() -> None:
    nodes = [unary("x", "dead", "neg"), unary("dead", "deader", "abs"), unary("x", "y", "tanh")]
    result = simplified(graph_of(nodes))
    assert kinds(result) == ["Unary"]
    assert set(result.shapes) == {"x", "y"}


def test_a_simple_graph_is_returned_unchanged() -> None:
    graph = graph_of([unary("x", "y", "tanh")])
    assert simplify(graph) is graph
