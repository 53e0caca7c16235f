# SPDX-License-Identifier: Apache-2.0
"""Stages keep their budget, sums of products follow the DSPs, and ports have C's layout.

In: small graphs.  Out: stages, times and Verilog.
"""

from __future__ import annotations

import pytest
from rtl.arithmetic import Graph
from rtl.delays import FABRICS, delay
from rtl.evaluate import Output
from rtl.nodes import Node
from rtl.schedule import Schedule, schedule
from rtl.unit import port
from rtl.verilog import module

FABRIC = FABRICS["xc7"]


def inputs(graph: Graph, count: int, bits: int = 16) -> list[Node]:
    return [graph.input("x", k, bits, True, 32) for k in range(count)]


def scheduled(graph: Graph, node: Node, budget: float = 6.0, loop: bool = False) -> Schedule:
    return schedule(graph, [Output("out", 0, 32, node)], set(), FABRIC, budget, loop)


def chained(graph: Graph, parts: list[Node]) -> Node:
    total = parts[0]
    for part in parts[1:]:
        total = graph.binary("add", total, part, 32)
    return total


@pytest.mark.parametrize("budget", [2.5, 4.0, 8.0])
def test_no_stage_is_longer_than_its_budget(budget: float) -> None:
    graph = Graph()
    found = scheduled(graph, chained(graph, inputs(graph, 16)), budget)
    longest = max(max(found.time.values()), 0.0)
    assert 0 < longest <= max(budget, max(delay(n, FABRIC) for n in found.nodes))
    assert found.longest_ns == pytest.approx(longest + FABRIC.register)


def test_a_sum_of_sixteen_is_a_tree_of_four_levels() -> None:
    graph = Graph()
    found = scheduled(graph, chained(graph, inputs(graph, 16)), budget=2.5)
    assert found.latency == 3  # the first level is in stage 0


def test_products_follow_each_other_along_the_dsps() -> None:
    graph = Graph()
    x = inputs(graph, 8, 8)
    products = [graph.binary("mul", x[2 * k], x[2 * k + 1], 32) for k in range(4)]
    found = scheduled(graph, chained(graph, products))
    assert [n.op for n in found.nodes if n.op in ("mac", "mul", "add")] == ["mac"] * 4
    assert found.latency == 3 + 3  # three registers in the first DSP, one sum in each other


def test_a_loop_is_one_stage() -> None:
    graph = Graph()
    x = inputs(graph, 2)
    product = graph.binary("mul", x[0], x[1], 32)
    found = scheduled(graph, graph.binary("add", product, x[0], 32), budget=1.0, loop=True)
    assert found.latency == 0
    assert found.longest_ns > FABRIC.product
    assert "reg " not in module("unit", found).text


def test_verilog_does_not_depend_on_the_run() -> None:
    def text() -> str:
        graph = Graph()
        return module("unit", scheduled(graph, chained(graph, inputs(graph, 5)))).text

    assert text() == text()


def test_ports_have_the_layout_of_c() -> None:
    members = port("p", "in", "u16*4 u8*2 u32*6", "Pass")
    assert members.size == 36
    assert [e.offset for e in members.elements][-7:] == [9, 12, 16, 20, 24, 28, 32]
    assert members.find(10) is None  # padding
    assert members.find(9)[0] == 5
    odd = port("p", "in", "i24")
    assert (odd.elements[0].width, odd.c_type) == (32, "int32_t")
