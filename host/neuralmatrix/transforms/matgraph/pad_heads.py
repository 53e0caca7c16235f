# SPDX-License-Identifier: Apache-2.0
"""Heads whose size is no multiple of a word get channels of zeros, so that splitting them is free.

In: a MatGraph in which products with weights make queries, keys and values, and Moves split them
into heads.  Out: an equal one with wider projections; the Moves then only rename addresses.

Zero channels of queries and keys add nothing to the scores; those of the values become channels of
the result that the next projection multiplies by 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ...hardware.target import Target
from ...ir.matgraph.ops import Gemm, MatGraph, MatOp, Move, Tensor
from ...ir.types import Array

WORD = 16  # lanes of the default array


@dataclass(frozen=True)
class _Uses:
    """Who makes and who reads every tensor."""

    tensors: Mapping[str, Tensor]
    makers: Mapping[str, MatOp]
    readers: Mapping[str, list[MatOp]]
    fixed: frozenset[str]  # outputs, and tensors whose scale is given

    def only(self, name: str) -> MatOp | None:
        """The one reader of a tensor that may change."""
        found = self.readers.get(name, [])
        return found[0] if len(found) == 1 and name not in self.fixed else None


def pad_heads(mg: MatGraph, target: Target) -> MatGraph:
    """All attention blocks of ``mg`` with heads of whole words where that is possible."""
    uses = _uses(mg)
    changed: dict[str, MatOp] = {}
    tensors = dict(mg.tensors)
    for name in dict.fromkeys(op.rhs for op in mg.ops if isinstance(op, Gemm) and op.rhs):
        products = uses.readers[name]
        plain = [op for op in products if isinstance(op, Gemm) and op.rhs == name]
        if len(plain) != len(products) or name in uses.fixed:
            continue
        if all(op.rhs_transposed for op in plain):
            _pad_scores(uses, plain, tensors, changed)
        elif len(plain) == 1 and not plain[0].rhs_transposed:
            _pad_values(uses, plain[0], tensors, changed)
    ops = tuple(changed.get(op.output, op) for op in mg.ops)
    return replace(mg, ops=ops, tensors=tensors) if changed else mg


def _uses(mg: MatGraph) -> _Uses:
    readers: dict[str, list[MatOp]] = {}
    for op in mg.ops:
        for name in set(op.inputs):
            readers.setdefault(name, []).append(op)
    fixed = frozenset({port.tensor for port in mg.outputs} | mg.quant.keys())
    return _Uses(mg.tensors, {op.output: op for op in mg.ops}, readers, fixed)


def _wide(size: int) -> int:
    return -(-size // WORD) * WORD


# ---------------------------------------------------------------- queries, keys, values


def _splits(uses: _Uses, name: str) -> tuple[Gemm, Move] | None:
    """The product with weights and the Move that make the heads ``name``."""
    move = uses.makers.get(name)
    if not isinstance(move, Move) or len(move.inputs) != 1 or name in uses.fixed:
        return None
    gemm = uses.makers.get(move.inputs[0])
    if not isinstance(gemm, Gemm) or uses.only(gemm.output) is not move or not _is_plain(gemm):
        return None
    whole, part = uses.tensors[gemm.output].shape, uses.tensors[name].shape
    if part[3] % WORD == 0 or not _same_rows(whole, part):
        return None
    return (gemm, move) if np.array_equal(move.index, _split_index(whole, part)) else None


def _is_plain(gemm: Gemm) -> bool:
    """Its channels are independent of all but the input."""
    e = gemm.epilogue
    plain = not (e.residual or e.hadamard or e.rows or e.activation)
    return gemm.weight is not None and gemm.groups == 1 and plain


def _same_rows(whole: tuple[int, ...], part: tuple[int, ...]) -> bool:
    """(N, 1, S, heads * D) and (N * heads, 1, S, D)."""
    heads = part[0] // whole[0]
    return whole[1] == part[1] == 1 and whole[2] == part[2] and whole[3] == heads * part[3]


def _split_index(whole: tuple[int, ...], part: tuple[int, ...]) -> Array:
    """Flat places of the heads' elements in the whole."""
    flat = np.arange(int(np.prod(whole)), dtype=np.int64)
    heads = flat.reshape(whole[0], whole[2], -1, part[3]).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(heads).reshape(part)


def _pad_scores(
    uses: _Uses, products: list[Gemm], tensors: dict[str, Tensor], changed: dict[str, MatOp]
) -> None:
    """Queries and keys of the same scores, both or neither."""
    assert products[0].rhs is not None
    names = {products[0].rhs, *(op.input for op in products)}
    outputs = {op.output for op in products}
    alike = all({op.output for op in uses.readers[name]} <= outputs for name in names)
    splits = [_splits(uses, name) for name in sorted(names)]
    if alike and len(names) == 2 and all(splits):
        for split in splits:
            if split:
                _pad_split(*split, tensors, changed)


def _pad_split(
    gemm: Gemm, move: Move, tensors: dict[str, Tensor], changed: dict[str, MatOp]
) -> None:
    n, _, s, size = tensors[move.output].shape
    images, _, _, total = tensors[gemm.output].shape
    heads, wide = total // size, _wide(size)
    whole, part = (images, 1, s, heads * wide), (n, 1, s, wide)
    places, gemm = _padded_places(heads, size), _latest(gemm, changed)
    assert gemm.weight is not None
    weight = np.zeros((*gemm.weight.shape[:3], heads * wide), np.float32)
    weight[..., places] = gemm.weight
    scale = gemm.weight_scale
    changed[gemm.output] = replace(
        gemm,
        weight=weight,
        bias=_spread(gemm.bias, places, heads * wide, 0.0),
        weight_scale=scale if scale is None else _spread(scale, places, heads * wide, 1.0),
    )
    changed[move.output] = replace(move, index=_split_index(whole, part))
    tensors[gemm.output] = Tensor(gemm.output, whole)
    tensors[move.output] = Tensor(move.output, part)


def _padded_places(heads: int, size: int) -> Array:
    """Where the channels of all heads end up."""
    return (np.arange(heads)[:, None] * _wide(size) + np.arange(size)).reshape(-1)


def _spread(values: Array, places: Array, size: int, fill: float) -> Array:
    full = np.full(size, fill, np.float32)
    full[places] = values
    return full


# ---------------------------------------------------------------- the result


def _pad_values(
    uses: _Uses, product: Gemm, tensors: dict[str, Tensor], changed: dict[str, MatOp]
) -> None:
    """Values, the attention's result, and the rows of the projections that read it."""
    split = _splits(uses, product.rhs or "")
    move = uses.only(product.output)
    e = product.epilogue
    narrow = e.residual or e.rows or (e.hadamard and not uses.tensors[e.hadamard].replicated)
    if split is None or not isinstance(move, Move) or narrow or e.activation:
        return
    part, whole = uses.tensors[product.output].shape, uses.tensors[move.output].shape
    merges = len(move.inputs) == 1 and _same_rows(whole, part) and _is_inverse(move, whole, part)
    readers = [op for op in uses.readers.get(move.output, []) if isinstance(op, Gemm)]
    if not merges or move.output in uses.fixed or not _all_project(uses, move.output, readers):
        return
    _pad_split(*split, tensors, changed)
    _pad_result(product, move, readers, tensors, changed)


def _is_inverse(move: Move, whole: tuple[int, ...], part: tuple[int, ...]) -> bool:
    """Does the Move put heads together in the order in which they were split?"""
    back = move.index.reshape(-1)[_split_index(whole, part).reshape(-1)]
    return bool((back == np.arange(back.size)).all())


def _all_project(uses: _Uses, name: str, readers: list[Gemm]) -> bool:
    """Is ``name`` read by nothing but products with a matrix?"""
    return len(readers) == len(uses.readers.get(name, [])) > 0 and all(
        op.weight is not None
        and op.groups == 1
        and op.weight.shape[:2] == (1, 1)
        and name not in (op.epilogue.residual, op.epilogue.hadamard)
        for op in readers
    )


def _pad_result(
    product: Gemm,
    move: Move,
    readers: list[Gemm],
    tensors: dict[str, Tensor],
    changed: dict[str, MatOp],
) -> None:
    n, _, s, size = tensors[product.output].shape
    images, _, _, total = tensors[move.output].shape
    heads, wide = total // size, _wide(size)
    whole, part = (images, 1, s, heads * wide), (n, 1, s, wide)
    bias = np.zeros(wide, np.float32)
    bias[:size] = product.bias
    changed[product.output] = replace(product, bias=bias)
    index = np.empty(int(np.prod(whole)), np.int64)
    index[_split_index(whole, part).reshape(-1)] = np.arange(index.size)
    changed[move.output] = replace(move, index=index.reshape(whole))
    tensors[product.output] = Tensor(product.output, part)
    tensors[move.output] = Tensor(move.output, whole)
    for op in readers:
        op = _latest(op, changed)
        assert op.weight is not None
        weight = np.zeros((1, 1, heads * wide, op.weight.shape[3]), np.float32)
        weight[:, :, _padded_places(heads, size)] = op.weight
        changed[op.output] = replace(op, weight=weight)


def _latest(op: Gemm, changed: Mapping[str, MatOp]) -> Gemm:
    found = changed.get(op.output, op)
    return found if isinstance(found, Gemm) else op
