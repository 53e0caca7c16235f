# SPDX-License-Identifier: Apache-2.0
"""Factors and terms: normalised, merged, and folded into weights.

In: small Graphs.  Out: fewer nodes, equal values; nodes that differ by position or are rounded
stay.
"""

from __future__ import annotations

import numpy as np
import pytest
from neuralmatrix.ir.graph.nodes import Binary, ConvTranspose, Graph, MatMul, Node
from neuralmatrix.ir.types import QParams
from rewritten_graphs import binary, convolution, graph_of, kinds, random, simplified, unary

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
    weight = np.random.default_rng(0).integers(-127, 128, (3, 4, 3, 3))
    scale = np.full((3, 1, 1, 1), 0.01, np.float32)
    factor = np.asarray([-2.0, 0.0, 0.3], np.float32).reshape(3, 1, 1)
    nodes = [convolution("x", "c", "w"), binary("mul", "c", "g", "y")]
    graph = graph_of(nodes, {"w": weight * scale, "g": factor}, scales={"w": scale})
    result = simplified(graph)
    (conv,) = result.nodes
    found = result.constants[conv.inputs[1]] / result.weight_scales[conv.inputs[1]]
    wanted = weight * np.sign(factor)[..., None]
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
    """Constants per position, rounded intermediates and intermediates with two readers stay."""
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
