# SPDX-License-Identifier: Apache-2.0
"""Tensors that must share one scale because an operation copies or compares their codes.

In: a MatGraph.  Out: the same graph with a requantising Window wherever a QDQ model prescribes two
scales for one copy, and the groups of tensors that share a scale.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ...ir.matgraph.ops import Gemm, MatGraph, MatOp, Move, RowMax, Tensor, Window
from ...ir.types import QParams


@dataclass(frozen=True)
class Groups:
    """Union-find forest over tensor names."""

    parent: dict[str, str]

    def root(self, name: str) -> str:
        while self.parent.get(name, name) != name:
            name = self.parent[name]
        return name

    def members(self, names: Iterable[str]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in names:
            found.setdefault(self.root(name), []).append(name)
        return found


def tie_scales(mg: MatGraph) -> tuple[MatGraph, Groups]:
    """Group the tensors of every Move, maximum and subtracted mean; requantise where a Move cannot
    share."""
    groups = Groups({})
    prescribed = dict(mg.quant)
    tensors = dict(mg.tensors)
    ops: list[MatOp] = []
    for op in mg.ops:
        inputs = []
        for name in _tied_inputs(op):
            if not _join(groups, prescribed, name, op.output):
                name = _requantise(name, op, groups, prescribed, tensors, ops)
            inputs.append(name)
        for a, b in _tied_statistics(op):
            _join(groups, prescribed, a, b)
        ops.append(replace(op, parts=tuple(inputs)) if isinstance(op, Move) else op)
    return replace(mg, ops=tuple(ops), tensors=tensors, quant=_by_name(mg, prescribed)), groups


def _tied_inputs(op: MatOp) -> tuple[str, ...]:
    if isinstance(op, Move):
        return op.inputs
    plain_max = (
        isinstance(op, Window)
        and op.reduce == "max"
        and not (op.epilogue.residual or op.epilogue.hadamard or op.epilogue.activation)
        and not np.any(op.bias)
    )
    return op.inputs if plain_max or isinstance(op, RowMax) else ()


def _tied_statistics(op: MatOp) -> list[tuple[str, str]]:
    """A maximum and a mean are codes of their row; a mean is subtracted from codes."""
    if not isinstance(op, Gemm | Window):
        return []
    pairs = [(row.tensor, op.output) for row in op.epilogue.rows if row.kind in ("max", "mean")]
    if isinstance(op, Window) and op.minus is not None:
        pairs.append((op.minus, op.input))
    return pairs


def _join(groups: Groups, prescribed: dict[str, QParams], a: str, b: str) -> bool:
    """Merge two groups; False when both have their own prescribed scale."""
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


def _requantise(
    name: str,
    op: MatOp,
    groups: Groups,
    prescribed: dict[str, QParams],
    tensors: dict[str, Tensor],
    ops: list[MatOp],
) -> str:
    """For a Move: insert an identity Window that changes the scale.  Other ops requantise
    themselves."""
    if not isinstance(op, Move):
        return name
    fresh = f"{name}:as:{op.output}"
    tensors[fresh] = replace(tensors[name], name=fresh)
    channels = tensors[name].shape[3]
    ops.append(Window(fresh, name, np.ones((1, 1, 1)), np.zeros(channels), source=op.source))
    prescribed[fresh] = prescribed[groups.root(op.output)]
    _join(groups, prescribed, fresh, op.output)
    return fresh


def _by_name(mg: MatGraph, prescribed: dict[str, QParams]) -> dict[str, QParams]:
    return {**prescribed, **mg.quant}
