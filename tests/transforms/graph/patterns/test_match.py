# SPDX-License-Identifier: Apache-2.0
"""Matchers of the arithmetic around a tensor: factors, sums, reductions, polynomials.

In: chains of element-wise nodes.  Out: a tensor in terms of another, or None.
"""

from __future__ import annotations

import numpy as np
import pytest
from neuralmatrix.ir.graph.nodes import Binary, Expand, Node, Reduce
from neuralmatrix.ir.graph.uses import GraphUses
from neuralmatrix.ir.types import QParams
from neuralmatrix.transforms.graph.patterns.match import (
    affine,
    before_expand,
    factors,
    is_polynomial,
    polynomial,
    reduced,
    scaled,
    squared,
)
from rewritten_graphs import binary, graph_of, unary

NUMBERS = {"two": np.float32(2), "three": np.float32(3), "row": np.ones(5, np.float32)}
LINE = (binary("mul", "x", "two", "a"), binary("add", "a", "three", "b"),
        binary("mul", "b", "two", "y"))  # fmt: skip


def uses_of(*nodes: Node, quant: dict[str, QParams] | None = None) -> GraphUses:
    used = {name for node in nodes for name in node.inputs}
    held = {name: c for name, c in NUMBERS.items() if name in used}
    return GraphUses(graph_of(nodes, held, quant=quant))


def test_a_line_is_a_slope_and_an_offset() -> None:
    assert affine(uses_of(*LINE), "y") == ("x", 4.0, 6.0)
    assert scaled(uses_of(*LINE), "y") == ("b", 2.0)
    assert affine(uses_of(*LINE), "x") == ("x", 1.0, 0.0)


def test_a_rounded_tensor_ends_the_line() -> None:
    assert affine(uses_of(*LINE, quant={"a": QParams(0.5)}), "y") == ("a", 2.0, 6.0)


def test_a_constant_that_differs_by_position_is_no_factor() -> None:
    uses = uses_of(binary("mul", "x", "row", "y"))
    assert scaled(uses, "y") == ("y", 1.0)


@pytest.mark.parametrize(
    ("kind", "wanted", "factor"),
    [("mean", "mean", 1.0), ("sum", "sum", 1.0), ("sum", "mean", 30.0), ("mean", "sum", 1 / 30)],
)
def test_sums_and_means_are_one_up_to_a_factor(kind: str, wanted: str, factor: float) -> None:
    node = Reduce(("x",), "y", kind=kind, axes=(2, 3))  # type: ignore[arg-type]
    found = reduced(uses_of(node), "y", wanted)
    assert found is not None and found[:2] == ("x", (2, 3))
    assert found[2] == pytest.approx(factor)


def test_axes_that_are_dropped_are_no_mean_of_the_same_shape() -> None:
    node = Reduce(("x",), "y", kind="mean", axes=(3,), keepdims=False)
    assert reduced(uses_of(node), "y", "mean") is None


def test_squares() -> None:
    assert squared(uses_of(binary("mul", "x", "x", "y")), "y") == "x"
    assert squared(uses_of(unary("x", "y", "square")), "y") == "x"
    assert squared(uses_of(binary("mul", "x", "two", "y")), "y") is None


def test_expansion_is_seen_through() -> None:
    node = Reduce(("x",), "r", kind="mean", axes=(3,))
    uses = uses_of(node, Expand(("r",), "y", shape=(2, 4, 6, 5)))
    assert before_expand(uses, "y") == "r" and before_expand(uses, "x") == "x"


def test_factors_of_a_product_without_order() -> None:
    nodes = (binary("mul", "x", "two", "a"), unary("x", "t", "tanh"), binary("mul", "a", "t", "p"),
             binary("mul", "p", "three", "y"))  # fmt: skip
    last = nodes[-1]
    assert isinstance(last, Binary)
    assert factors(uses_of(*nodes), last) == (["x", "t"], 6.0)


def test_polynomials_up_to_the_third_degree() -> None:
    cube = (binary("mul", "x", "x", "s"), binary("mul", "s", "x", "c"),
            binary("mul", "c", "two", "d"), binary("sub", "d", "x", "y"))  # fmt: skip
    assert polynomial(uses_of(*cube), "y", "x") == (0.0, -1.0, 0.0, 2.0)
    fourth = (binary("mul", "x", "x", "s"), binary("mul", "s", "s", "y"))
    assert polynomial(uses_of(*fourth), "y", "x") is None
    assert polynomial(uses_of(unary("x", "y", "tanh")), "y", "x") is None


def test_polynomials_are_equal_up_to_written_digits() -> None:
    assert is_polynomial((0.0, 0.79788), (0.0, 0.7978846, 0.0))
    assert not is_polynomial((0.0, 0.79), (0.0, 0.7978846))
    assert not is_polynomial((0.0, 1.0, 2.0), (0.0, 1.0)) and not is_polynomial(None, (1.0,))
