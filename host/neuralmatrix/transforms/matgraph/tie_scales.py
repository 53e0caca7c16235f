# SPDX-License-Identifier: Apache-2.0
"""Scale groups: tensors that share one scale because an operation copies or compares values.

In: a MatGraph.  Out: a TiedGraph: the same graph with a requantising Window wherever a QDQ model
prescribes two scales for one copy, the scale groups, and the facts that follow from them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...hardware.target import Target
from ...ir.matgraph.facts import Groups, TiedGraph, facts_of
from ...ir.matgraph.ops import MatGraph, MatOp, Move, Tensor, Window
from ...ir.matgraph.predicates import copied_inputs, tied_statistics
from ...ir.matgraph.rewrite import fresh_name
from ...ir.types import QParams


def tie_scales(graph: MatGraph, target: Target) -> TiedGraph:
    """Group the tensors of every Move, maximum and subtracted mean; requantise where a Move cannot
    share."""
    groups = Groups({})
    prescribed = dict(graph.quant)
    tensors = dict(graph.tensors)
    ops: list[MatOp] = []
    for op in graph.ops:
        inputs = []
        for name in copied_inputs(op):
            if not _join(groups, prescribed, name, op.output):
                name = _requantize(name, op, groups, prescribed, tensors, ops)
            inputs.append(name)
        for a, b in tied_statistics(op):
            _join(groups, prescribed, a, b)
        ops.append(replace(op, parts=tuple(inputs)) if isinstance(op, Move) else op)
    quant = {**prescribed, **graph.quant}
    tied = replace(graph, ops=tuple(ops), tensors=tensors, quant=quant)
    return TiedGraph(tied, facts_of(tied, groups))


def _join(groups: Groups, prescribed: dict[str, QParams], a: str, b: str) -> bool:
    """Merge two groups and return True; False if both have their own prescribed scale."""
    ra, rb = groups.root(a), groups.root(b)
    if ra == rb:
        return True
    qa, qb = prescribed.get(ra), prescribed.get(rb)
    if qa and qb and qa != qb:
        return False
    groups.parent[ra] = rb
    if qa:
        prescribed[rb] = qa
    return True


def _requantize(
    name: str,
    op: MatOp,
    groups: Groups,
    prescribed: dict[str, QParams],
    tensors: dict[str, Tensor],
    ops: list[MatOp],
) -> str:
    """Insert an identity Window that changes the scale in front of a Move; other operations
    requantise themselves."""
    if not isinstance(op, Move):
        return name
    fresh = fresh_name(f"{name}:as:{op.output}", tensors)
    tensors[fresh] = replace(tensors[name], name=fresh)
    one, zero = np.ones((1, 1, 1), np.float32), np.zeros(tensors[name].shape[3], np.float32)
    ops.append(Window(fresh, name, one, zero, source=op.source))
    prescribed[fresh] = prescribed[groups.root(op.output)]
    _join(groups, prescribed, fresh, op.output)
    return fresh
