# SPDX-License-Identifier: Apache-2.0
"""Sums of many parts: as trees, or along the adders of DSPs where the parts are products.

In: a unit's outputs.  Out: the same outputs with other sums, which addition that wraps around
allows.  An HLS compiler makes trees; the chain of DSPs is what the kernels' order of sums is for.
"""

from __future__ import annotations

from collections import Counter

from .arithmetic import Graph
from .delays import Fabric, is_product, is_wide
from .evaluate import Output
from .nodes import Node, fit, under_aliases, whole

DSP_SUM = 48  # bits of a DSP's adder


def needed(graph: Graph, nodes: list[Node]) -> list[Node]:
    """All nodes that ``nodes`` depend on, operands first."""
    seen: set[int] = set()
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node.ident not in seen:
            seen.add(node.ident)
            stack += node.args
    return [n for n in graph.order if n.ident in seen]


def balance(graph: Graph, outputs: list[Output], fabric: Fabric) -> list[Output]:
    """The outputs on trees and chains."""
    sums = _Sums(graph, outputs, fabric)
    return [Output(o.port, o.element, o.bits, sums.rebuilt(o.node)) for o in outputs]


class _Sums:
    def __init__(self, graph: Graph, outputs: list[Output], fabric: Fabric) -> None:
        nodes = [each.node for each in outputs]
        self.graph, self.fabric = graph, fabric
        self.uses = Counter(x.ident for n in needed(graph, nodes) for x in n.args)
        self.uses.update(n.ident for n in nodes)
        self.done: dict[int, Node] = {}

    def rebuilt(self, node: Node) -> Node:
        """The node on other sums; operands first, as graphs are deep."""
        for each in needed(self.graph, [node]):
            if each.ident not in self.done:
                self.done[each.ident] = self._sum(each)
        return self.done[node.ident]

    def _once(self, node: Node) -> bool:
        """Whether the node, and what it is an alias of, has one use."""
        while node.op == "alias":
            if self.uses[node.ident] != 1:
                return False
            node = node.args[0]
        return self.uses[node.ident] == 1

    def _parts(self, node: Node, width: int) -> list[Node]:
        """What a sum of ``width`` bits adds up; sums of another width only where they are exact."""
        inner = under_aliases(node)
        if inner.op == "add" and self._once(node) and (inner.width == width or _exact(inner)):
            return [part for x in inner.args for part in self._parts(x, width)]
        return [node]

    def _sum(self, node: Node) -> Node:
        parts: list[Node] = []
        if node.op == "add":
            parts = [p for x in node.args for p in self._parts(x, node.width)]
        links = [p for p in parts if self._is_link(p)] if node.wires[0] <= DSP_SUM else []
        if len(links) > 1:
            rest = [self._typed(p, node.width) for p in parts if p not in links]
            return self._tree([self._chain(links, node.width), *rest], node.width)
        if len(parts) > 2:
            return self._tree([self._typed(p, node.width) for p in parts], node.width)
        args = tuple(self.done[x.ident] for x in node.args)
        if args == node.args:
            return node
        return self.graph.make(node.op, args, node.width, (node.low, node.high), node.extra)

    def _typed(self, part: Node, width: int) -> Node:
        done = self.done[part.ident]
        least, most = whole(width)
        fits = least <= done.low and done.high <= most
        return self.graph.retype(done, width) if fits else self.graph.truncate(done, width)

    def _tree(self, parts: list[Node], width: int) -> Node:
        while len(parts) > 1:
            pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
            parts = [
                self.graph.binary("add", pair[0], pair[1], width) if len(pair) == 2 else pair[0]
                for pair in pairs
            ]
        return parts[0]

    # ------------------------------------------------------------ along the DSPs

    def _is_link(self, part: Node) -> bool:
        """Whether a part is a product that one DSP makes, exactly."""
        inner = under_aliases(part)
        return (
            is_product(inner)
            and self._once(part)
            and not is_wide(inner, self.fabric)
            and _exact_product(inner)
        )

    def _chain(self, links: list[Node], width: int) -> Node:
        result = self.graph.constant(0, width)
        for link in links:
            inner = under_aliases(link)
            a, b = (self.done[x.ident] for x in inner.args)
            span = fit(width, result.low + inner.low, result.high + inner.high)
            result = self.graph.make("mac", (a, b, result), width, span)
        return result


def _exact(node: Node) -> bool:
    """Whether a sum does not wrap around."""
    a, b = node.args
    return (node.low, node.high) == (a.low + b.low, a.high + b.high)


def _exact_product(node: Node) -> bool:
    a, b = node.args
    corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    return (node.low, node.high) == (min(corners), max(corners))
