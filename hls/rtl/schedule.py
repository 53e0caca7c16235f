# SPDX-License-Identifier: Apache-2.0
"""Which clock cycle computes what: sums as trees, then every node as early as its operands allow.

In: a unit's outputs, its static ports, a fabric and a stage's budget.  Out: ``Schedule``.
Every input is new in each cycle (II = 1); what is static settles long before it is used.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .arithmetic import Graph
from .delays import Fabric, delay, inside, registered
from .evaluate import Output
from .nodes import Node
from .sums import balance, needed


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

    def inside(self, node: Node) -> tuple[int, ...]:
        return () if self.loop or node.ident in self.static else inside(node, self.fabric)

    def used(self, node: Node) -> list[int]:
        """The stage in which a node takes each of its operands."""
        stage, within = self.stage[node.ident], self.inside(node)
        return [stage - k for k in within] if within else [stage] * len(node.args)


def schedule(
    graph: Graph,
    outputs: list[Output],
    static_ports: set[str],
    fabric: Fabric,
    budget: float,
    loop: bool = False,
) -> Schedule:
    """The schedule of a unit; of a ``loop``, all is in one stage."""
    outputs = balance(graph, outputs, fabric)
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


def _is_static(node: Node, found: Schedule, static_ports: set[str]) -> bool:
    if node.op == "in":
        return node.extra[0] in static_ports
    return all(x.ident in found.static for x in node.args) and node.op != "read"


def _place(node: Node, found: Schedule, budget: float) -> None:
    """Sets the stage and the time of a node whose operands have theirs."""
    within = found.inside(node)
    if within:  # begins and ends at a register
        stages = [found.stage[x.ident] + k for x, k in zip(node.args, within, strict=True)]
        found.stage[node.ident], found.time[node.ident] = max(stages), 0.0
        return
    moving = [x for x in node.args if x.ident not in found.static]
    stage = max((found.stage[x.ident] for x in moving), default=0)
    ready = max((found.time[x.ident] for x in moving if found.stage[x.ident] == stage), default=0.0)
    time = ready + delay(node, found.fabric)
    if time > budget and ready > 0:
        stage, time = stage + 1, delay(node, found.fabric)
    found.stage[node.ident], found.time[node.ident] = stage, time


def _last_uses(found: Schedule) -> None:
    """``until``: the stage up to which a value is needed."""
    for node in found.nodes:
        for x, stage in zip(node.args, found.used(node), strict=True):
            found.until[x.ident] = max(found.until.get(x.ident, 0), stage)
    for each in found.outputs:
        found.until[each.node.ident] = found.latency
