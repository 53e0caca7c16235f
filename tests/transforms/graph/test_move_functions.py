# SPDX-License-Identifier: Apache-2.0
"""A function behind a concatenation goes in front of it where it is free.

In: small Graphs.  Out: the operations that are left, equal values.
"""

from __future__ import annotations

from neuralmatrix.ir.graph.nodes import Concat, Conv, Graph, Node
from neuralmatrix.ir.types import QParams
from rewritten_graphs import graph_of, kinds, random, simplified, unary
from targets import lower


def conv(x: str, y: str) -> Conv:
    return Conv((x, "w"), y, f"{y}.node", (1, 1), (0,) * 4, (1, 1))


def joined(*more: Node, quant: dict[str, QParams] | None = None, outputs: tuple[str, ...] = ("y",),
           second: Node | None = None, function: str = "relu") -> Graph:  # fmt: skip
    nodes = [conv("x", "a"), second or conv("x", "b"), Concat(("a", "b"), "c", axis=1),
             unary("c", "y", function), *more]  # fmt: skip
    return graph_of(nodes, {"w": random(4, 4, 1, 1)}, quant=quant, outputs=outputs)


def test_a_relu_of_two_convolutions_is_part_of_them() -> None:
    graph = simplified(joined())
    assert kinds(graph) == ["Conv", "Conv", "Unary", "Unary", "Concat"]
    assert [type(op).__name__ for op in lower(graph).ops] == ["Gemm", "Gemm", "Move"]


def test_where_it_costs_more_it_stays() -> None:
    stay = ["Conv", "Conv", "Concat", "Unary"]
    assert kinds(simplified(joined(function="tanh"))) == stay
    assert kinds(simplified(joined(quant={"c": QParams(0.1)}))) == stay
    assert kinds(simplified(joined(outputs=("c", "y")))) == stay
    shared = joined(unary("a", "z", "tanh"), outputs=("y", "z"))
    assert kinds(simplified(shared)) == [*stay, "Unary"]
    function = joined(second=unary("x", "b", "tanh"))
    assert kinds(simplified(function)) == ["Conv", "Unary", "Concat", "Unary"]
