# SPDX-License-Identifier: Apache-2.0
"""The def-use index of a Graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from neuralmatrix.ir.graph.nodes import Binary, Graph, Unary
from neuralmatrix.ir.graph.uses import GraphUses
from neuralmatrix.ir.types import QParams

FIRST = Unary(("x",), "a")
SUM = Binary(("a", "c"), "b")
SQUARE = Binary(("b", "b"), "d", kind="mul")
GRAPH = Graph(
    inputs=("x",),
    outputs=("d",),
    nodes=(FIRST, SUM, SQUARE),
    constants={"c": np.ones(3)},
    shapes=dict.fromkeys(("x", "c", "a", "b", "d"), (3,)),
)


def test_makers_and_counts() -> None:
    uses = GraphUses(GRAPH)
    assert uses.maker("a") is FIRST
    assert uses.maker("x") is None
    assert [uses.count(name) for name in ("x", "a", "b", "c", "d", "?")] == [1, 1, 2, 1, 1, 0]


def test_private_means_one_reader_and_nothing_prescribed() -> None:
    uses = GraphUses(GRAPH)
    assert uses.private_maker("a") is FIRST
    assert uses.private_maker("b") is None  # two readers
    assert uses.private_maker("d") is None  # an output of the graph
    assert GraphUses(replace(GRAPH, quant={"a": QParams(1.0)})).private_maker("a") is None


def test_a_maker_that_rounds_anew_is_not_transparent() -> None:
    one, two = QParams(1.0), QParams(2.0)
    for quant, expected in (
        ({}, FIRST),
        ({"x": one}, FIRST),
        ({"x": one, "a": one}, FIRST),
        ({"x": one, "a": two}, None),
        ({"a": one}, None),
    ):
        assert GraphUses(replace(GRAPH, quant=quant)).transparent_maker("a") is expected


def test_a_constant_with_a_quantisation_of_its_own_has_no_plain_value() -> None:
    assert GraphUses(GRAPH).constant("c") is GRAPH.constants["c"]
    assert GraphUses(replace(GRAPH, quant={"c": QParams(1.0)})).constant("c") is None


def test_fresh_names() -> None:
    assert GraphUses(GRAPH).fresh("new") == "new"
    taken = replace(GRAPH, shapes={**GRAPH.shapes, "a.2": (3,)})
    assert GraphUses(taken).fresh("a") == "a.3"
