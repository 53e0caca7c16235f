# SPDX-License-Identifier: Apache-2.0
"""Which clock cycle computes what: sums as trees, then every node as early as its operands allow.

In: a unit's outputs, its static ports, a fabric and a stage's budget.  Out: ``Schedule``.
Every input is new in each cycle (II = 1); what is static settles long before it is used.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .arithmetic import Graph
from .delays import Fabric, delay, inside, registered
from .evaluate import Output
from .nodes import Node


@dataclass
class Schedule:
    """Nodes in order; by a node's number: its stage, its time in the stage, its last use."""

    outputs: list[Output]
    nodes: list[Node]
    fabric: Fabric
    loop: bool
    stage: dict[int, int] = field(default_factory=dict)
    time: dict[int, float] = field(default_factory=dict)
    static: set[int] = field(default_factory=set)
    until: dict[int, int] = field(default_factory=dict)
    latency: int = 0
    longest_ns: float = 0.0  # between two registers, their own share included

    def inside(self, node: Node) -> int:
        return 0 if self.loop or node.ident in self.static else inside(node, self.fabric)


def schedule(
    graph: Graph,
    outputs: list[Output],
    static_ports: set[str],
    fabric: Fabric,
    budget: float,
    loop: bool = False,
) -> Schedule:
    """The schedule of a unit; of a ``loop``, all is in one stage."""
    outputs = balance(graph, outputs)
    nodes = needed(graph, [each.node for each in outputs])
    found = Schedule(outputs, nodes, fabric, loop)
    for node in nodes:
        if _is_static(node, found, static_ports):
            found.static.add(node.ident)
            found.stage[node.ident], found.time[node.ident] = 0, 0.0
        else:
            _place(node, found, float("inf") if loop else budget)
    found.latency = max((found.stage[each.node.ident] for each in outputs), default=0)
    _last_uses(found)
    inner = [registered(n, fabric) for n in nodes if found.inside(n)]
    found.longest_ns = max([*found.time.values(), *inner], default=0.0) + fabric.register
    return found


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


def _is_static(node: Node, found: Schedule, static_ports: set[str]) -> bool:
    if node.op == "in":
        return node.extra[0] in static_ports
    return all(x.ident in found.static for x in node.args) and node.op != "read"


def _place(node: Node, found: Schedule, budget: float) -> None:
    """Sets the stage and the time of a node whose operands have theirs."""
    moving = [x for x in node.args if x.ident not in found.static]
    stage = max((found.stage[x.ident] for x in moving), default=0)
    ready = max((found.time[x.ident] for x in moving if found.stage[x.ident] == stage), default=0.0)
    time = ready + delay(node, found.fabric)
    if found.inside(node):  # begins and ends at a register
        stage, time = stage + found.inside(node), 0.0
    elif time > budget and ready > 0:
        stage, time = stage + 1, delay(node, found.fabric)
    found.stage[node.ident], found.time[node.ident] = stage, time


def _last_uses(found: Schedule) -> None:
    """``until``: the stage up to which a value is needed."""
    for node in found.nodes:
        stage = found.stage[node.ident] - found.inside(node)
        for x in node.args:
            found.until[x.ident] = max(found.until.get(x.ident, 0), stage)
    for each in found.outputs:
        found.until[each.node.ident] = found.latency


# ---------------------------------------------------------------- sums


def balance(graph: Graph, outputs: list[Output]) -> list[Output]:
    """Sums of sums as trees, which addition that wraps around allows; HLS does the same."""
    trees = _Trees(graph, outputs)
    return [Output(o.port, o.element, o.bits, trees.rebuilt(o.node)) for o in outputs]


class _Trees:
    def __init__(self, graph: Graph, outputs: list[Output]) -> None:
        nodes = [each.node for each in outputs]
        self.graph = graph
        self.uses = Counter(x.ident for n in needed(graph, nodes) for x in n.args)
        self.uses.update(n.ident for n in nodes)
        self.done: dict[int, Node] = {}

    def rebuilt(self, node: Node) -> Node:
        """The node on balanced sums; operands first, as graphs are deep."""
        for each in needed(self.graph, [node]):
            if each.ident not in self.done:
                self.done[each.ident] = self._tree(each)
        return self.done[node.ident]

    def _leaves(self, node: Node, width: int, top: bool) -> list[Node]:
        if node.op == "add" and node.width == width and (top or self.uses[node.ident] == 1):
            return [leaf for x in node.args for leaf in self._leaves(x, width, False)]
        return [node]

    def _tree(self, node: Node) -> Node:
        parts = self._leaves(node, node.width, True) if node.op == "add" else []
        if len(parts) > 2:
            parts = [self.done[x.ident] for x in parts]
            while len(parts) > 1:
                parts = [self._pair(parts[i : i + 2], node.width) for i in range(0, len(parts), 2)]
            return parts[0]
        args = tuple(self.done[x.ident] for x in node.args)
        if args == node.args:
            return node
        return self.graph.make(node.op, args, node.width, (node.low, node.high), node.extra)

    def _pair(self, pair: list[Node], width: int) -> Node:
        return pair[0] if len(pair) == 1 else self.graph.binary("add", pair[0], pair[1], width)
