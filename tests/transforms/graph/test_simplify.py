# SPDX-License-Identifier: Apache-2.0
"""Every rewrite of simplify: that it happens, that it computes the same, and where it must not.

In: small Graphs.  Out: fewer nodes, equal values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from neuralmatrix.ir.graph.nodes import (
    AxisMatMul,
    Binary,
    Concat,
    Conv,
    ConvTranspose,
    Expand,
    Graph,
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
from neuralmatrix.ir.graph.operators import infer_shape, run_graph
from neuralmatrix.ir.graph.verify import verify_graph
from neuralmatrix.ir.types import Function, QParams
from neuralmatrix.transforms.graph.simplify import simplify

IMAGE = (2, 4, 6, 5)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def graph_of(
    nodes: Sequence[Node],
    constants: Mapping[str, np.ndarray] | None = None,
    *,
    shape: tuple[int, ...] = IMAGE,
    outputs: Sequence[str] = ("y",),
    quant: Mapping[str, QParams] | None = None,
    scales: Mapping[str, np.ndarray] | None = None,
) -> Graph:
    held = {name: np.asarray(a, np.float32) for name, a in (constants or {}).items()}
    shapes = {"x": shape, **{name: a.shape for name, a in held.items()}}
    for node in nodes:
        shapes[node.output] = infer_shape(node, shapes)
    graph = Graph(
        ("x",), tuple(outputs), tuple(nodes), held, shapes, dict(quant or {}), dict(scales or {})
    )
    return verify_graph(graph)


def simplified(graph: Graph) -> Graph:
    """The result, after checking that it computes the same and that nothing is left over."""
    result = simplify(graph)
    x = random(*graph.shapes["x"], seed=9)
    before, after = run_graph(graph, {"x": x}), run_graph(result, {"x": x})
    for name, array in before.items():
        # products and sums in another order
        np.testing.assert_allclose(after[name], array, rtol=2e-5, atol=2e-5)
    used = {name for node in result.nodes for name in node.inputs}
    assert set(result.constants) == used - {node.output for node in result.nodes} - {"x"}
    assert result.outputs == graph.outputs
    return result


def kinds(graph: Graph) -> list[str]:
    return [type(node).__name__ for node in graph.nodes]


def unary(x: str, y: str, name: str, *params: float) -> Unary:
    return Unary((x,), y, function=Function(name, params))


def binary(kind: Any, a: str, b: str, y: str) -> Binary:
    return Binary((a, b), y, kind=kind)


def convolution(x: str, y: str, *operands: str, groups: int = 1, pads: int = 1) -> Conv:
    return Conv(
        (x, *operands),
        y,
        strides=(1, 1),
        pads=(pads,) * 4,
        dilations=(1, 1),
        groups=groups,
    )


# ---------------------------------------------------------------- folding into weights

CHANNEL_CONSTANTS = [(), (1,), (3, 1, 1), (1, 3, 1, 1)]


@pytest.mark.parametrize("shape", CHANNEL_CONSTANTS)
@pytest.mark.parametrize("bias", [False, True])
def test_batch_norm_goes_into_a_convolution(shape: tuple[int, ...], bias: bool) -> None:
    constants = {"w": random(3, 4, 3, 3), "g": random(*shape, seed=1), "s": random(*shape, seed=2)}
    extra = ("b",) if bias else ()
    constants |= {"b": random(3, seed=3)} if bias else {}
    nodes = [convolution("x", "c", "w", *extra), binary("mul", "c", "g", "m")]
    nodes.append(binary("add", "m", "s", "y"))
    assert kinds(simplified(graph_of(nodes, constants))) == ["Conv"]


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_batch_norm_goes_into_grouped_and_transposed_convolutions(groups: int) -> None:
    channels = 2 * groups
    constants = {"g": random(channels, 1, 1, seed=1), "s": random(channels, 1, 1, seed=2)}
    tail = [binary("mul", "c", "g", "m"), binary("add", "m", "s", "y")]
    plain = convolution("x", "c", "w", groups=groups)
    weights = {"w": random(channels, 4 // groups, 3, 3)}
    assert kinds(simplified(graph_of([plain, *tail], constants | weights))) == ["Conv"]
    turned = ConvTranspose(
        ("x", "w"),
        "c",
        strides=(2, 1),
        pads=(1, 0, 0, 1),
        dilations=(1, 2),
        groups=groups,
        output_padding=(1, 0),
    )
    weights = {"w": random(4, 2, 3, 3)}
    assert kinds(simplified(graph_of([turned, *tail], constants | weights))) == ["ConvTranspose"]


def test_factors_go_into_matrices_and_sums_stay() -> None:
    constants = {"w": random(5, 7), "g": random(7, seed=1), "s": random(7, seed=2)}
    nodes = [MatMul(("x", "w"), "p"), binary("add", "p", "s", "a"), binary("mul", "a", "g", "y")]
    assert kinds(simplified(graph_of(nodes, constants))) == ["MatMul", "Binary"]


def test_scales_of_codes_follow_their_weights() -> None:
    codes = np.random.default_rng(0).integers(-127, 128, (3, 4, 3, 3))
    scale = np.full((3, 1, 1, 1), 0.01, np.float32)
    factor = np.asarray([-2.0, 0.0, 0.3], np.float32).reshape(3, 1, 1)
    nodes = [convolution("x", "c", "w"), binary("mul", "c", "g", "y")]
    graph = graph_of(nodes, {"w": codes * scale, "g": factor}, scales={"w": scale})
    result = simplified(graph)
    (conv,) = result.nodes
    found = result.constants[conv.inputs[1]] / result.weight_scales[conv.inputs[1]]
    wanted = codes * np.sign(factor)[..., None]
    # float32 quotients of float32 products
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def _affine_of(kind: str, shape: tuple[int, ...], quant: bool, second_reader: bool) -> Graph:
    nodes: list[Node] = [convolution("x", "c", "w"), binary(kind, "c", "g", "y")]
    outputs = ["y"]
    if second_reader:
        nodes.append(unary("c", "z", "relu"))
        outputs.append("z")
    constants = {"w": random(3, 4, 3, 3), "g": random(*shape, seed=1)}
    annotated = {"c": QParams(0.1)} if quant else {}
    return graph_of(nodes, constants, outputs=outputs, quant=annotated)


@pytest.mark.parametrize("kind", ["mul", "add"])
@pytest.mark.parametrize(
    ("shape", "quant", "second_reader"),
    [((6, 5), False, False), ((3, 1, 1), True, False), ((3, 1, 1), False, True)],
)
def test_what_must_not_go_into_weights(
    kind: str, shape: tuple[int, ...], quant: bool, second_reader: bool
) -> None:
    """Constants that differ by position, rounded intermediates, intermediates read twice."""
    graph = _affine_of(kind, shape, quant, second_reader)
    assert kinds(simplified(graph)) == kinds(graph)


@pytest.mark.parametrize(
    ("kind", "order"),
    [("sub", "xc"), ("sub", "cx"), ("div", "xc"), ("add", "cx"), ("mul", "cx")],
)
def test_constants_become_factors_and_terms(kind: str, order: str) -> None:
    node = binary(kind, *order, "y")
    result = simplified(graph_of([node], {"c": random(4, 1, 1) + 3}))
    assert {n.kind for n in result.nodes if isinstance(n, Binary)} <= {"mul", "add"}
    assert all(n.inputs[1] in result.constants for n in result.nodes)


def test_a_constant_divided_by_a_tensor_stays() -> None:
    graph = graph_of([unary("x", "e", "exp"), binary("div", "c", "e", "y")], {"c": random(4, 1, 1)})
    assert kinds(simplified(graph)) == ["Unary", "Binary"]


def test_chains_of_factors_and_terms_merge() -> None:
    constants = {name: random(4, 1, 1, seed=i) for i, name in enumerate("abcd")}
    nodes = [binary("mul", "x", "a", "1"), binary("add", "1", "b", "2")]
    nodes += [binary("mul", "2", "c", "3"), binary("sub", "3", "d", "y")]
    result = simplified(graph_of(nodes, constants))
    assert [n.kind for n in result.nodes if isinstance(n, Binary)] == ["mul", "add"]


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
