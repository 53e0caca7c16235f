# SPDX-License-Identifier: Apache-2.0
"""Splitting of a product that is only read in slices of its channels into one per slice.

In: a MatGraph.  Out: an equal one in which the joint projection of queries, keys and values, or of
a gate and its operand, has a scale of its own for each of them, and their slices need no Move.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeGuard

import numpy as np

from ...hardware.target import Target
from ...ir.matgraph.ops import Gemm, MatGraph, MatOp, Move, Tensor
from ...ir.matgraph.predicates import is_projection
from ...ir.matgraph.rewrite import with_ops
from ...ir.matgraph.uses import Uses
from ...ir.types import Array


@dataclass(frozen=True)
class Part:
    """The channels of one Gemm that some Moves read."""

    channels: Array
    moves: tuple[Move, ...]


def split_projections(mg: MatGraph, target: Target) -> MatGraph:
    """Make one Gemm per slice where slices do not overlap; return the same object without
    changes."""
    uses = Uses.of(mg)
    changed: dict[str, list[MatOp]] = {}
    tensors = dict(mg.tensors)
    for op in mg.ops:
        if _splits(op) and not uses.fixed(op.output):
            parts = _parts(op, uses.readers(op.output), tensors)
            if parts:
                changed.update(_split(op, parts, tensors))
    return with_ops(mg, changed, tensors)


def _splits(op: MatOp) -> TypeGuard[Gemm]:
    """Return whether an operation is a product with constants and independent channels."""
    e = op.epilogue
    return is_projection(op) and not (e.residual or e.hadamard or e.rows)


def _parts(op: Gemm, readers: Iterable[MatOp], tensors: Mapping[str, Tensor]) -> list[Part]:
    """Return the slices in channel order; none if they overlap or cover everything."""
    found: dict[bytes, Part] = {}
    for move in readers:
        if not isinstance(move, Move) or move.parts != (op.output,):
            return []
        used = np.unique(move.index[move.index >= 0] % tensors[op.output].shape[3])
        if not used.size:
            return []
        old = found.get(used.tobytes())
        found[used.tobytes()] = Part(used, (*(old.moves if old else ()), move))
    parts = sorted(found.values(), key=lambda part: int(part.channels[0]))
    every = np.concatenate([part.channels for part in parts]) if parts else np.zeros(0)
    distinct = len(np.unique(every)) == len(every)
    return parts if len(parts) > 1 and distinct else []


def _split(op: Gemm, parts: list[Part], tensors: dict[str, Tensor]) -> dict[str, list[MatOp]]:
    """Return the replacements of the Gemm and of every Move that reads it."""
    n, h, w, total = tensors.pop(op.output).shape
    changed: dict[str, list[MatOp]] = {op.output: []}
    for number, part in enumerate(parts):
        name = f"{op.output}:{number}"
        while name in tensors:
            name += "'"
        rank = np.full(total, -1)
        rank[part.channels] = np.arange(len(part.channels))
        shape = (n, h, w, len(part.channels))
        moves = [_narrowed(move, name, rank) for move in part.moves]
        if len(moves) == 1 and _copies(moves[0], shape):
            name = moves[0].output
            changed[name] = []
        else:
            changed.update({move.output: [move] for move in moves})
        tensors[name] = Tensor(name, shape)
        changed[op.output].append(_sliced(op, name, part.channels))
    return changed


def _sliced(op: Gemm, name: str, channels: Array) -> Gemm:
    assert op.weight is not None
    scale = None if op.weight_scale is None else op.weight_scale[channels]
    weight = np.ascontiguousarray(op.weight[..., channels])
    return replace(op, output=name, weight=weight, bias=op.bias[channels], weight_scale=scale)


def _narrowed(move: Move, name: str, rank: Array) -> Move:
    """Return the Move with a tensor as input that has only its channels."""
    kept = int((rank >= 0).sum())
    row, channel = np.divmod(move.index, len(rank))
    index = np.where(move.index >= 0, row * kept + rank[channel], -1)
    return replace(move, parts=(name,), index=index.astype(np.int64))


def _copies(move: Move, shape: tuple[int, ...]) -> bool:
    same = move.index.shape == shape
    return same and bool((move.index.reshape(-1) == np.arange(move.index.size)).all())
