# SPDX-License-Identifier: Apache-2.0
"""The orientation of matrices in memory, chosen so that few are transposed by copying.

In: a MatGraph in which Moves transpose matrices (1, 1, R, C).  Out: an equal one with less work:
a product whose transposed result is read runs with its operands swapped, W^T x^T for (x W)^T.

Every tensor has one orientation in memory, as declared or transposed; an operation offers one or
both for its result, and needs given ones of its operands.  Moves remain where they differ.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TypeGuard

import numpy as np

from ...hardware.instruction_costs import edge_cycles, gather_cycles, product_cycles
from ...hardware.target import Target
from ...ir.matgraph.blocks import nonzero_blocks
from ...ir.matgraph.ops import Epilogue, Gemm, Linear, MatGraph, MatOp, Tensor
from ...ir.matgraph.predicates import is_elementwise, is_pointwise, is_transposition
from ...ir.matgraph.uses import Uses
from .apply_orientation import Bits, Untransposed, apply_orientation, without_transpositions
from .fuse_epilogues import fuse_epilogues
from .legalize_operands import may_fill_padding

ALL_COMBINATIONS = 10  # tensors up to which every combination of orientations is tried
PAIRS = 24  # tensors up to which pairs are flipped together

Needs = tuple[tuple[str, bool | None], ...]  # operand, transposed or not (None: either)


@dataclass(frozen=True)
class Choice:
    """One way to run an operation."""

    needs: Needs
    cycles: float
    fills: bool  # the padding lanes of the result may hold other values than 0
    padded: tuple[str, bool] | None = None  # right operand, and the orientation that needs zeros


@dataclass(frozen=True)
class _Choices:
    """The choices of every operation of ``net``; ``free``: tensors that may be transposed."""

    net: Untransposed
    target: Target
    of: Mapping[str, Mapping[bool, Choice]]
    free: tuple[str, ...]


def choose_orientation(mg: MatGraph, target: Target) -> MatGraph:
    """Return ``mg`` with the orientations of least cost; itself if nothing is gained."""
    transposes = any(is_transposition(op, mg.tensors) for op in mg.ops)
    if not transposes or mg.quant:  # prescribed scales belong to the model's own tensors
        return mg
    mg = _with_biases_in_producers(mg)
    net = without_transpositions(mg)
    bits = _search(_all_choices(net, target))
    return fuse_epilogues(apply_orientation(net, bits), target) if any(bits.values()) else mg


def _all_choices(net: Untransposed, target: Target) -> _Choices:
    found = {op.output: dict(_choices(op, net, target)) for op in net.ops}
    made = [name for name, choices in found.items() if True in choices]
    inputs = [p.tensor for p in net.mg.inputs if _is_matrix(net.mg.tensors[p.tensor])]
    return _Choices(net, target, found, tuple(dict.fromkeys((*inputs, *made))))


def _is_matrix(t: Tensor) -> bool:
    return t.shape[:2] == (1, 1) and not t.broadcast


# ---------------------------------------------------------------- choices of an operation


def _choices(op: MatOp, net: Untransposed, target: Target) -> Iterator[tuple[bool, Choice]]:
    """Yield the possible orientations of a result: as declared, and perhaps transposed."""
    cycles = _plain_cycles(op, net.mg.tensors, target)
    yield False, Choice(_plain_needs(op), cycles, _fills(op), _padded(op, False, net, target))
    if not _may_swap(op, net):
        return
    extra = tuple((n, True) for n in _run_time_operands(op.epilogue, net.mg))
    if not isinstance(op, Gemm):
        yield True, Choice(((op.input, True), *extra), 0, _fills(op))
        return
    main: Needs = ((op.input, None),)
    if op.rhs is not None:
        main = ((op.rhs, not op.rhs_transposed), (op.input, None))
    rows, channels = net.mg.tensors[op.output].shape[2:]
    depth = net.mg.tensors[op.input].shape[3]
    cycles = product_cycles(target, channels, depth, rows)
    fills = _fills(op) or bool(np.any(op.bias))  # a bias per position is an operand
    yield True, Choice((*main, *extra), cycles, fills, _padded(op, True, net, target))


def _plain_needs(op: MatOp) -> Needs:
    either = {op.rhs} if isinstance(op, Gemm) and op.rhs != op.input else set()
    return tuple((name, None if name in either else False) for name in op.inputs)


def _plain_cycles(op: MatOp, tensors: Mapping[str, Tensor], target: Target) -> float:
    """Return the cycles of the products, which depend on the orientation."""
    if not isinstance(op, Gemm):
        return 0
    n, h, w, channels = tensors[op.output].shape
    blocks = None if op.weight is None else nonzero_blocks(op.weight, target.lanes)
    return product_cycles(target, n * h * w, tensors[op.input].shape[3], channels, blocks)


def _fills(op: MatOp) -> bool:
    """Return whether the padding lanes of the result may be nonzero."""
    biased = isinstance(op, Gemm) and op.rhs is not None and bool(np.any(op.bias))
    return biased or may_fill_padding(op, {})


def _padded(op: MatOp, swapped: bool, net: Untransposed, target: Target) -> tuple[str, bool] | None:
    """Return the right operand and the orientation in which the sum runs over its channels, where
    those leave padding lanes."""
    if not isinstance(op, Gemm) or net.mg.tensors[op.input].shape[3] % target.word_bytes == 0:
        return None
    if swapped:
        return op.input, False
    return (op.rhs, not op.rhs_transposed) if op.rhs is not None else None


def _may_swap(op: MatOp, net: Untransposed) -> TypeGuard[Linear]:
    """Return whether the transposed result can be computed from existing operands."""
    if not isinstance(op, Linear) or not is_pointwise(op):
        return False
    mg, e = net.mg, op.epilogue
    out, x = mg.tensors[op.output], mg.tensors[op.input]
    if e.rows or op.weight_scale is not None or not (_is_matrix(out) and _is_matrix(x)):
        return False
    operands = [mg.tensors[net.root(n)[0]] for n in _run_time_operands(e, mg)]
    fits = all(math.prod(t.shape) == math.prod(out.shape) for t in operands)
    if not (fits and all(map(_is_matrix, operands)) and _bias_fits(op, mg)):
        return False
    if isinstance(op, Gemm):
        return op.groups == 1 and (op.rhs is None or _is_matrix(mg.tensors[op.rhs]))
    uniform = is_elementwise(op) and op.weight.size == 1
    return uniform and x.shape == out.shape


def _run_time_operands(e: Epilogue, mg: MatGraph) -> tuple[str, ...]:
    return tuple(n for n in (e.residual, e.hadamard) if n and n not in mg.constants)


def _bias_fits(op: Linear, mg: MatGraph) -> bool:
    """Return whether a bias per position can enter as the residual."""
    return not np.ptp(op.bias) or not op.epilogue.residual or op.epilogue.residual in mg.constants


def _with_biases_in_producers(mg: MatGraph) -> MatGraph:
    """Fold biases into the producer of a run-time residual where the operation is its only
    reader."""
    uses, ops = Uses.of(mg), {op.output: op for op in mg.ops}
    constants, tensors = dict(mg.constants), dict(mg.tensors)
    for name, op in ops.items():
        if not isinstance(op, Linear) or op.epilogue.residual not in ops or not np.ptp(op.bias):
            continue
        if tensors[op.epilogue.residual].shape[3] < len(op.bias):  # one value for all channels
            continue
        source, transposed = _residual_maker(op.epilogue.residual, ops, uses, tensors)
        if source is None:
            continue
        term = np.asarray(op.bias / op.epilogue.residual_gain, np.float32)
        if transposed:
            extra = f"{source.output}:bias"
            constants[extra] = term.reshape(1, 1, -1, 1)
            tensors[extra] = Tensor(extra, (1, 1, len(term), 1), True)
            ops[source.output] = replace(source, epilogue=Epilogue(residual=extra))
        else:
            ops[source.output] = replace(source, bias=source.bias + term)
        ops[name] = replace(op, bias=np.zeros_like(op.bias))
    return replace(mg, ops=tuple(ops.values()), constants=constants, tensors=tensors)


def _residual_maker(
    residual: str, ops: Mapping[str, MatOp], uses: Uses, tensors: Mapping[str, Tensor]
) -> tuple[Linear | None, bool]:
    """Return the maker of ``residual``, if it may take a bias, and whether a transposition lies
    between; None if there is none."""
    maker, alone, transposed = ops[residual], uses.private(residual), False
    if is_transposition(maker, tensors):
        alone, transposed = alone and uses.private(maker.parts[0]), True
        maker = ops.get(maker.parts[0], maker)
    plain = isinstance(maker, Linear) and maker.epilogue == Epilogue()
    return (maker if alone and plain and isinstance(maker, Linear) else None), transposed


# ---------------------------------------------------------------- the choice


def _search(choices: _Choices) -> Bits:
    """Return the cheapest orientations: of all if they are few, else by flips that reduce the
    cost."""
    bits = dict.fromkeys(choices.free, False)
    best = _cost(choices, bits)
    if len(choices.free) <= ALL_COMBINATIONS:
        for count in range(1, len(choices.free) + 1):
            for flipped in combinations(choices.free, count):
                trial = {name: name in flipped for name in choices.free}
                cost = _cost(choices, trial)
                if cost < best:
                    best, bits = cost, trial
        return bits
    groups: list[tuple[str, ...]] = [(name,) for name in choices.free]
    if len(choices.free) <= PAIRS:
        groups += list(combinations(choices.free, 2))
    improved = True
    while improved:
        improved = False
        for group in groups:
            trial = {name: bit ^ (name in group) for name, bit in bits.items()}
            cost = _cost(choices, trial)
            if cost < best:
                best, bits, improved = cost, trial, True
    return bits


def _cost(choices: _Choices, bits: Bits) -> float:
    """Return the cycles of products, of the remaining Moves, and of copies with zero padding."""
    net, total = choices.net, 0.0
    copied, padded = set[str](), set[str]()
    for op in net.ops:
        choice = choices.of[op.output].get(bits.get(op.output, False))
        if choice is None:
            return math.inf
        total += choice.cycles
        for name, wanted in choice.needs:
            root, flipped = net.root(name)
            is_fixed = root not in net.mg.constants and wanted is not None
            if is_fixed and bits.get(root, False) ^ flipped != wanted:
                copied.add(root)
        if choice.padded is not None:
            root, flipped = net.root(choice.padded[0])
            if bits.get(root, False) ^ flipped == choice.padded[1]:
                padded.add(root)
    total += gather_cycles(sum(math.prod(net.mg.tensors[root].shape) for root in copied))
    return total + sum(_padding_cycles(choices, root, bits) for root in padded)


def _padding_cycles(choices: _Choices, root: str, bits: Bits) -> float:
    """Return the cycles of the copy of ``root`` that ``legalize_operands`` makes, if any."""
    flipped = bits.get(root, False)
    maker = choices.of.get(root, {}).get(flipped)
    if maker is None or not maker.fills:
        return 0
    n, h, rows, channels = choices.net.mg.tensors[root].shape
    if flipped:
        rows, channels = channels, rows
    words = n * h * rows * -(-channels // choices.target.word_bytes)
    return edge_cycles(choices.target, words, words)
