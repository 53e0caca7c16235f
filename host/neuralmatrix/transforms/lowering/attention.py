# SPDX-License-Identifier: Apache-2.0
"""Lowering of softmax and attention: row maxima, powers, their sum, one product with V.

In: Softmax and Attention nodes.  Out: the value of each.

Attention computes q k^T twice: once for the largest score of every row, once for the powers.  The
scores are never stored, and both passes are matrix products.
"""

from __future__ import annotations

import numpy as np

from ...ir.axis_view import View, axis_atoms, canonical_operand, channel_groups, view_of
from ...ir.graph.nodes import Attention, Softmax
from ...ir.matgraph.ops import Epilogue, Gemm, RowStat
from ...ir.types import Array, Function
from .builder import Builder, Direct, Value
from .convolution import zeros
from .matmul import right_operand, row_form
from .pointwise import binary, operand, unary
from .pooling import reduce
from .row_statistics import declare_rows, plain_view, row_stats

EXP, LOG, RECIPROCAL = map(Function, ("exp", "log", "reciprocal"))
# What is subtracted from a masked score: far more than scores differ.
FAR = 4096.0


def lower_softmax(b: Builder, node: Softmax) -> Value:
    """Lower to exp(x - max) / sum(exp(x - max)), or its logarithm, which cannot overflow."""
    name, source = node.output, node.source
    x = b.direct(b.value(node.inputs[0]))
    if _fills_positions(x, node.axis % len(x.shape)):
        return _over_positions(b, node, x)
    x = _channel_form(b, b.value(node.inputs[0]), node.axis)
    (largest,) = row_stats(b, x, ("max",), name, source)
    ((row, total),) = declare_rows(b, x.tensor, ("sum",), name)
    shifted = Epilogue(largest.tensor, -1.0, EXP, rows=(row,))
    power = b.window(x, f"{name}:exp", source, epilogue=shifted)
    if node.log:
        logarithm = b.window(total, f"{name}:log", source, epilogue=Epilogue(activation=LOG))
        offset = b.window(logarithm, f"{name}:offset", source,
                          epilogue=Epilogue(residual=largest.tensor))  # fmt: skip
        return b.window(x, name, source, epilogue=Epilogue(offset.tensor, -1.0))
    inverse = _inverse(b, total, name, source)
    return b.window(power, name, source, epilogue=Epilogue(hadamard=inverse))


def _fills_positions(x: Direct, axis: int) -> bool:
    """Return whether the axis is all of H, of W or of both."""
    inner = set(axis_atoms(x.view)[axis])
    n, h, w, c = map(set, x.view.dims)
    whole = all(dim <= inner or not dim & inner for dim in (h, w))
    return bool(inner) and whole and not inner & (n | c)


def _over_positions(b: Builder, node: Softmax, x: Direct) -> Value:
    """Lower softmax over positions: maxima and sums are windows over the whole map."""
    name, source, axes = node.output, node.source, (node.axis % len(x.shape),)
    largest = reduce(b, x, axes, "max", f"{name}:max", source)
    shifted = binary(b, "sub", x, largest, f"{name}:shifted", source)
    power = unary(b, shifted, EXP, f"{name}:exp", source)
    total = reduce(b, power, axes, "sum", f"{name}:sum", source)
    if node.log:
        return binary(b, "sub", shifted, unary(b, total, LOG, f"{name}:log", source), name, source)
    return binary(b, "mul", power, unary(b, total, RECIPROCAL, f"{name}:inverse", source),
                  name, source)  # fmt: skip


def _channel_form(b: Builder, value: Value, axis: int) -> Direct:
    """Return ``value`` in a form whose channels are ``axis`` and nothing else."""
    axis %= len(value.shape)
    x = b.direct(value)
    if axis_atoms(x.view)[axis] == x.view.dims[3] and value.shape[axis] > 1:
        return x
    return b.form(value, channel_groups(len(value.shape), (axis,)))


def _inverse(b: Builder, total: Direct, name: str, source: str) -> str:
    epilogue = Epilogue(activation=RECIPROCAL)
    return b.window(total, f"{name}:inverse", source, epilogue=epilogue).tensor


# ---------------------------------------------------------------- attention


def lower_attention(b: Builder, node: Attention) -> Value:
    q_shape = b.graph.shapes[node.inputs[0]]
    lead = q_shape[:-2]
    q = row_form(b, b.value(node.inputs[0]))
    k, v = (right_operand(b, b.value(name), lead, f"{node.output}:{kind}")
            for name, kind in zip(node.inputs[1:3], "kv", strict=True))  # fmt: skip
    rank, length = len(q_shape), b.tensors[k.tensor].shape[2]
    scores = view_of((*lead, q_shape[-2], length), _groups(rank))
    keep = _kept(b, node, scores)
    away = _mask_addend(b, node, scores) if keep else None
    score = Gemm("", q.tensor, None, zeros(length), rhs=k.tensor, rhs_transposed=True,
                 gain=node.scale, source=node.source)  # fmt: skip
    if len(node.inputs) > 4 and node.inputs[4]:
        power, total = _biased(b, node, score, scores, keep, away)
    else:
        power, total = _unbiased(b, node, score, scores, keep, away)
    inverse = _inverse(b, _bounded(b, node, total), node.output, node.source)
    m = b.tensors[v.tensor].shape[3]
    product = Gemm(node.output, power.tensor, None, zeros(m), rhs=v.tensor,
                   epilogue=Epilogue(hadamard=inverse), source=node.source)  # fmt: skip
    return b.emit(product, view_of((*lead, q_shape[-2], m), _groups(rank)))


def _groups(rank: int) -> tuple[tuple[int, ...], ...]:
    return (tuple(range(rank - 2)), (), (rank - 2,), (rank - 1,))


def _unbiased(
    b: Builder, node: Attention, score: Gemm, view: View, keep: str | None, away: str | None
) -> tuple[Direct, Direct]:
    """Return the powers and their sums from two products."""
    top, largest = _row(b, view, "max", node)
    _emit_score(b, score, f"{node.output}:scores", view, Epilogue(residual=away, rows=(top,)))
    row, total = _row(b, view, "sum", node)
    epilogue = Epilogue(largest.tensor, -1.0, EXP, keep, (row,))
    return _emit_score(b, score, f"{node.output}:exp", view, epilogue), total


def _biased(
    b: Builder, node: Attention, score: Gemm, view: View, keep: str | None, away: str | None
) -> tuple[Direct, Direct]:
    """Return the powers of scores with a bias, and their sums; the scores are stored."""
    bias = _score_operand(b, node.inputs[4], view, node)
    top, largest = _row(b, view, "max", node)
    rows = () if away else (top,)
    stored = _emit_score(b, score, f"{node.output}:scores", view, Epilogue(bias, rows=rows))
    if away:
        b.window(stored, f"{node.output}:kept", node.source, epilogue=Epilogue(away, rows=(top,)))
    row, total = _row(b, view, "sum", node)
    epilogue = Epilogue(largest.tensor, -1.0, EXP, keep, (row,))
    return b.window(stored, f"{node.output}:exp", node.source, epilogue=epilogue), total


def _emit_score(b: Builder, score: Gemm, name: str, view: View, epilogue: Epilogue) -> Direct:
    op = Gemm(name, score.input, None, score.bias, epilogue=epilogue, rhs=score.rhs,
              rhs_transposed=True, gain=score.gain, source=score.source)  # fmt: skip
    return b.emit(op, view)


def _row(b: Builder, view: View, kind: str, node: Attention) -> tuple[RowStat, Direct]:
    n, h, w, _ = view.canonical
    tensor = b.declare(f"{node.output}:{kind}", (n, h, w, 1), True)
    return RowStat(kind, tensor), Direct(tensor, plain_view(n, h, w, 1))  # type: ignore[arg-type]


# ---------------------------------------------------------------- masks


def _mask(node: Attention) -> str:
    return node.inputs[3] if len(node.inputs) > 3 else ""


def _fixed_mask(b: Builder, node: Attention) -> Array | None:
    """Return a constant mask as 0 and 1, None without one."""
    array = b.graph.constants.get(_mask(node))
    return None if array is None else np.asarray(array != 0, np.float32)


def _kept(b: Builder, node: Attention, view: View) -> str | None:
    """Return the mask as a factor of the powers; None if it keeps all."""
    name, fixed = _mask(node), _fixed_mask(b, node)
    if not name or (fixed is not None and fixed.all()):
        return None
    if fixed is not None:
        return _constant(b, ("kept", name), fixed, view)
    return operand(b, b.value(name), view, f"{name}:kept", node.source)


def _mask_addend(b: Builder, node: Attention, view: View) -> str:
    """Return the mask as an addend with which masked scores are never the largest."""
    name, fixed = _mask(node), _fixed_mask(b, node)
    if fixed is not None:
        return _constant(b, ("away", name), (fixed - 1) * FAR, view)
    key = ("away", name)
    if key not in b.shared:
        b.shared[key] = b.window(b.direct(b.value(name)), f"{name}:away", node.source,
                                 weight=FAR, bias=-FAR)  # fmt: skip
    return operand(b, b.shared[key], view, f"{name}:away", node.source)


def _score_operand(b: Builder, name: str, view: View, node: Attention) -> str:
    """Return a bias of the scores, constant or computed."""
    if name in b.graph.constants:
        return _constant(b, ("bias", name), np.asarray(b.graph.constants[name]), view)
    return operand(b, b.value(name), view, f"{name}:bias", node.source)


def _constant(b: Builder, key: tuple[str, str], array: Array, view: View) -> str:
    """Return a constant operand of the scores; layers with equal operands share it."""
    full = (*key, view)
    if full not in b.shared:
        whole = canonical_operand(array, view)
        name = b.constant(f"{key[1]}:{key[0]}", whole, whole.shape[3] == 1)
        b.shared[full] = Direct(name, view)
    return b.shared[full].tensor


def _bounded(b: Builder, node: Attention, total: Direct) -> Direct:
    """Return max(total, 1): every sum is at least 1 except in rows whose scores are all masked."""
    fixed, name = _fixed_mask(b, node), _mask(node)
    if fixed is not None:
        empty = not fixed.any(-1).all()
    else:
        shape = b.graph.shapes[name] if name else ()
        empty = len(shape) > 1 and shape[-2] > 1
    if not empty:
        return total
    epilogue = Epilogue(activation=Function("clip", (1.0, np.inf)))
    return b.window(total, f"{node.output}:bounded", node.source, epilogue=epilogue)
