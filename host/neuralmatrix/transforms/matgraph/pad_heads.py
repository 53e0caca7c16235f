# SPDX-License-Identifier: Apache-2.0
"""Padding of attention heads to whole blocks of lanes, so that splitting them is free.

In: a MatGraph in which products with weights make queries, keys and values, and Moves split them
into heads.  Out: an equal one with wider projections; the Moves then only change addresses.

Zero channels of queries and keys add nothing to the scores; those of the values become channels of
the result that the next projection multiplies by 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeGuard

import numpy as np

from ...hardware.target import Target
from ...ir.matgraph.ops import Epilogue, Gemm, MatGraph, MatOp, Move, Tensor
from ...ir.matgraph.predicates import is_projection
from ...ir.matgraph.rewrite import with_ops
from ...ir.matgraph.uses import Uses
from ...ir.types import Array


@dataclass
class _State:
    """The original graph, and the operations and tensors that changed."""

    mg: MatGraph
    lanes: int  # channels of a block
    uses: Uses
    tensors: dict[str, Tensor]
    changed: dict[str, MatOp] = field(default_factory=dict)

    def padded(self, size: int) -> int:
        """Return the channels of a head, rounded up to whole blocks."""
        return -(-size // self.lanes) * self.lanes

    def places(self, heads: int, size: int) -> Array:
        """Return the new channel of every channel of all heads."""
        return (np.arange(heads)[:, None] * self.padded(size) + np.arange(size)).reshape(-1)

    def latest(self, op: Gemm) -> Gemm:
        """Return the operation with its changes so far."""
        found = self.changed.get(op.output, op)
        return found if isinstance(found, Gemm) else op

    def put(self, op: MatOp, shape: tuple[int, int, int, int]) -> None:
        """Replace the operation of that output, which now has another shape, by ``op``."""
        self.changed[op.output] = op
        self.tensors[op.output] = Tensor(op.output, shape)


def pad_heads(mg: MatGraph, target: Target) -> MatGraph:
    """Pad the heads of all attention blocks of ``mg`` to whole blocks where possible."""
    state = _State(mg, target.lanes, Uses.of(mg), dict(mg.tensors))
    for name in dict.fromkeys(op.rhs for op in mg.ops if isinstance(op, Gemm) and op.rhs):
        readers = state.uses.readers(name)
        products = [op for op in readers if isinstance(op, Gemm) and op.rhs == name]
        if len(products) != len(readers) or state.uses.fixed(name):
            continue
        if all(op.rhs_transposed for op in products):
            _pad_scores(state, name, products)
        elif len(products) == 1 and not products[0].rhs_transposed:
            _pad_values(state, name, products[0])
    return with_ops(mg, {name: (op,) for name, op in state.changed.items()}, state.tensors)


# ---------------------------------------------------------------- queries, keys, values


def _splits(state: _State, name: str) -> tuple[Gemm, Move] | None:
    """Return the product with weights and the Move that make the heads ``name``."""
    move = state.uses.maker(name)
    if not isinstance(move, Move) or len(move.parts) != 1 or state.uses.fixed(name):
        return None
    gemm = state.uses.maker(move.parts[0])
    if not is_projection(gemm) or gemm.epilogue != Epilogue():
        return None
    if state.uses.only_reader(gemm.output) is not move:
        return None
    whole, part = state.mg.tensors[gemm.output].shape, state.mg.tensors[name].shape
    if part[3] % state.lanes == 0 or not _same_rows(whole, part):
        return None
    return (gemm, move) if np.array_equal(move.index, _split_index(whole, part)) else None


def _same_rows(whole: tuple[int, ...], part: tuple[int, ...]) -> bool:
    """Return whether shapes are (N, H, W, heads * D) and (N * heads, 1, H * W, D)."""
    heads = part[0] // whole[0]
    rows = part[1] == 1 and whole[1] * whole[2] == part[2]
    return rows and whole[3] == heads * part[3]


def _split_index(whole: tuple[int, ...], part: tuple[int, ...]) -> Array:
    """Return the flat indices of the heads' elements in the whole."""
    flat = np.arange(int(np.prod(whole)), dtype=np.int64)
    heads = flat.reshape(whole[0], part[2], -1, part[3]).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(heads).reshape(part)


def _pad_scores(state: _State, keys: str, products: list[Gemm]) -> None:
    """Pad queries and keys of the same scores, both or neither."""
    names = {keys, *(op.input for op in products)}
    outputs = {op.output for op in products}
    alike = all({op.output for op in state.uses.readers(name)} <= outputs for name in names)
    splits = [_splits(state, name) for name in sorted(names)]
    if alike and len(names) == 2 and all(splits):
        for split in splits:
            if split:
                _pad_split(state, *split)


def _pad_split(state: _State, gemm: Gemm, move: Move) -> None:
    n, _, s, size = state.tensors[move.output].shape
    images, h, w, total = state.tensors[gemm.output].shape
    heads, padded = total // size, state.padded(size)
    whole, part = (images, h, w, heads * padded), (n, 1, s, padded)
    places, gemm = state.places(heads, size), state.latest(gemm)
    assert gemm.weight is not None
    weight = np.zeros((*gemm.weight.shape[:3], heads * padded), np.float32)
    weight[..., places] = gemm.weight
    bias = _spread(gemm.bias, places, heads * padded, 0.0)
    scale = gemm.weight_scale
    scale = scale if scale is None else _spread(scale, places, heads * padded, 1.0)
    state.put(replace(gemm, weight=weight, bias=bias, weight_scale=scale), whole)
    state.put(replace(move, index=_split_index(whole, part)), part)


def _spread(values: Array, places: Array, size: int, fill: float) -> Array:
    full = np.full(size, fill, np.float32)
    full[places] = values
    return full


# ---------------------------------------------------------------- the result


def _pad_values(state: _State, values: str, product: Gemm) -> None:
    """Pad values, the attention's result, and the rows of the projections that read it."""
    split = _splits(state, values)
    move = state.uses.only_reader(product.output)
    e, tensors = product.epilogue, state.mg.tensors
    narrow = e.residual or e.rows or (e.hadamard and not tensors[e.hadamard].broadcast)
    if split is None or not isinstance(move, Move) or narrow or e.activation:
        return
    part, whole = tensors[product.output].shape, tensors[move.output].shape
    merges = len(move.parts) == 1 and _same_rows(whole, part) and _is_inverse(move, whole, part)
    readers = [op for op in state.uses.readers(move.output) if _projects(op, move.output)]
    if not merges or state.uses.fixed(move.output):
        return
    if readers and len(readers) == len(state.uses.readers(move.output)):
        _pad_split(state, *split)
        _pad_result(state, product, move, readers)


def _is_inverse(move: Move, whole: tuple[int, ...], part: tuple[int, ...]) -> bool:
    """Return whether the Move merges heads in the order in which they were split."""
    back = move.index.reshape(-1)[_split_index(whole, part).reshape(-1)]
    return bool((back == np.arange(back.size)).all())


def _projects(op: MatOp, name: str) -> TypeGuard[Gemm]:
    """Return whether ``name`` is the main operand of a product with weights and no other
    operand."""
    if not is_projection(op) or op.weight is None or op.weight.shape[:2] != (1, 1):
        return False
    return op.inputs.count(name) == 1 and op.input == name


def _pad_result(state: _State, product: Gemm, move: Move, readers: list[Gemm]) -> None:
    n, _, s, size = state.tensors[product.output].shape
    images, h, w, total = state.tensors[move.output].shape
    heads, padded = total // size, state.padded(size)
    whole, part = (images, h, w, heads * padded), (n, 1, s, padded)
    bias = np.zeros(padded, np.float32)
    bias[:size] = product.bias
    state.put(replace(product, bias=bias), part)
    index = np.empty(int(np.prod(whole)), np.int64)
    index[_split_index(whole, part).reshape(-1)] = np.arange(index.size)
    state.put(replace(move, index=index.reshape(whole)), whole)
    for op in map(state.latest, readers):
        assert op.weight is not None
        weight = np.zeros((1, 1, heads * padded, op.weight.shape[3]), np.float32)
        weight[:, :, state.places(heads, size)] = op.weight
        state.changed[op.output] = replace(op, weight=weight)
