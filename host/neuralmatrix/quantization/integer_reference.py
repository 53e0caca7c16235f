# SPDX-License-Identifier: Apache-2.0
"""The exact integer reference: the values of every tensor of a QGraph, bit for bit.

In: a QGraph and its inputs.  Out: the quantised values of every tensor, as docs/numerics.md
defines them.  It is plain numpy on whole tensors, independent of tiles, lane vectors and
instructions.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..hardware.isa import Stat
from ..ir.matgraph.ops import Gemm, Move, Port, RowMax, Window
from ..ir.matgraph.reference import gathered
from ..ir.quantized_values import dequantize_array, quantize_array, real_values, stored_values
from ..ir.types import Array, QParams, apply_steps
from .pwl.table import lookup
from .qgraph import QEpilogue, QGraph, QOp

Values = dict[str, Array]

SUM_LO, SUM_HI = -32640, 32639  # a sum or mean is int16


def run_integer(graph: QGraph, feeds: Mapping[str, Array]) -> Values:
    """Return the quantised values of every tensor, (N,H,W,C) int32.  ``feeds``: input name -> real
    values in the source shape."""
    values: Values = {name: np.asarray(q, np.int32) for name, q in graph.constants.items()}
    for port in graph.inputs:
        values[port.tensor] = _port_values(port, feeds, graph)
    for qop in graph.ops:
        values.update(evaluate(qop, values, graph))
    return values


def _port_values(port: Port, feeds: Mapping[str, Array], graph: QGraph) -> Array:
    real = apply_steps(gathered(port, np.asarray(feeds[port.name])), port.steps)
    stored = stored_values(real, port.units)
    return quantize_array(stored, graph.qparams[port.tensor]).astype(np.int32)


def evaluate(qop: QOp, values: Values, graph: QGraph) -> Values:
    """Return the quantised values of the tensors that one operation makes, from its operands."""
    op, e = qop.op, qop.epilogue
    if isinstance(op, Move):
        flat = np.concatenate([values[name].reshape(-1) for name in op.parts])
        copied = np.where(op.index < 0, qop.fill, flat[op.index])
        return {op.output: np.asarray(copied, np.int32)}
    assert e is not None
    y = _before_clamp(_accumulate(qop, values, graph.qparams[op.inputs[0]]), e, values)
    q = np.asarray(np.clip(y + e.zp, e.lo, e.hi), np.int32)
    if isinstance(op, RowMax):
        return {op.output: np.asarray(q.max(-1, keepdims=True))}
    found = row_statistics(q, y, e) if op.epilogue.rows else {}
    return {op.output: q, **{row.tensor: found[row.kind] for row in op.epilogue.rows}}


def _accumulate(qop: QOp, values: Values, source: QParams) -> Array:
    op, x = qop.op, values[qop.op.inputs[0]]
    if isinstance(op, RowMax):
        return x.astype(np.int64)
    if isinstance(op, Gemm) and op.rhs is not None:
        return _product(op, x, values[op.rhs])
    assert qop.weight is not None
    if isinstance(op, Gemm):
        return _gemm(op, qop.weight, _padded(x, op, source.zero_point))
    assert isinstance(op, Window)
    if op.minus is not None:
        x = x - values[op.minus]  # both are multiplied by the weight, one negated
    fill = source.qmin if op.reduce == "max" else source.zero_point
    return _window(op, qop.weight, _padded(x, op, fill))


def _padded(x: Array, op: Gemm | Window, fill: int) -> Array:
    top, left, bottom, right = op.pads
    pads = ((0, 0), (top, bottom), (left, right), (0, 0))
    return np.pad(x, pads, constant_values=fill)


def _taps(x: Array, op: Gemm | Window, kernel: tuple[int, int]) -> list[tuple[int, int, Array]]:
    """Return (kh, kw, strided view of x under that tap) for all taps."""
    (sh, sw), (dh, dw) = op.strides, op.dilations
    oh = (x.shape[1] - (kernel[0] - 1) * dh - 1) // sh + 1
    ow = (x.shape[2] - (kernel[1] - 1) * dw - 1) // sw + 1
    return [
        (kh, kw, x[:, kh * dh : kh * dh + (oh - 1) * sh + 1 : sh,
                   kw * dw : kw * dw + (ow - 1) * sw + 1 : sw])
        for kh in range(kernel[0])
        for kw in range(kernel[1])
    ]  # fmt: skip


def _gemm(op: Gemm, weight: Array, x: Array) -> Array:
    """Return the convolution; float64 is exact, as the compiler proved every sum below 2^31."""
    per_group, out_group = weight.shape[2], weight.shape[3] // op.groups
    parts = []
    for g in range(op.groups):
        part = x[..., g * per_group : (g + 1) * per_group].astype(np.float64)
        w = weight[..., g * out_group : (g + 1) * out_group].astype(np.float64)
        parts.append(sum(v @ w[kh, kw] for kh, kw, v in _taps(part, op, w.shape[:2])))
    return np.asarray(np.rint(np.concatenate(parts, -1)), np.int64)


def _product(op: Gemm, x: Array, rhs: Array) -> Array:
    """Return the matmul of image n of x and image n*N'//N of the right operand."""
    w = rhs[:, 0].swapaxes(1, 2) if op.rhs_transposed else rhs[:, 0]
    rows = x.reshape(len(w), -1, x.shape[3]).astype(np.float64)
    out = np.matmul(rows, w.astype(np.float64))
    return np.asarray(np.rint(out), np.int64).reshape(*x.shape[:3], w.shape[2])


def _window(op: Window, weight: Array, x: Array) -> Array:
    views = _taps(x.astype(np.int64), op, weight.shape[:2])
    if op.reduce == "max":
        floor = np.int64(-(2**24))
        return np.asarray(
            np.maximum.reduce([np.where(weight[i, j] != 0, v, floor) for i, j, v in views])
        )
    acc = views[0][2] * weight[0, 0].astype(np.int64)
    for i, j, v in views[1:]:
        acc = acc + v * weight[i, j].astype(np.int64)
    return np.asarray(acc)


def apply_epilogue(acc: Array, e: QEpilogue, values: Mapping[str, Array]) -> Array:
    """Apply an epilogue on int64 as docs/numerics.md, "Epilogue", defines it."""
    return np.asarray(np.clip(_before_clamp(acc, e, values) + e.zp, e.lo, e.hi), np.int32)


def _before_clamp(acc: Array, e: QEpilogue, values: Mapping[str, Array]) -> Array:
    """Return the result before zero point and clamp."""
    a = acc.astype(np.int64) + e.bias
    v = ((a * e.m.astype(np.int64)) >> e.s.astype(np.int64)) + e.off
    if e.residual:
        v = v + values[e.residual].astype(np.int64) * e.mt
    y = np.clip(_round_half_even(v, e.f_shift), -32768, 32767)
    if e.table is not None:
        y = lookup(e.table, y).astype(np.int64)
    if e.hadamard:
        y = _shifted(y * (values[e.hadamard].astype(np.int64) - e.uz), e.u_shift)
    return np.asarray(y)


def _shifted(v: Array, n: int) -> Array:
    """Return v / 2^n, halves rounded up."""
    return np.asarray((v + ((1 << n) >> 1)) >> n)


def row_statistics(q: Array, y: Array, e: QEpilogue) -> Values:
    """Return row statistics by kind (docs/numerics.md, "Row statistic") of results q, and of y
    before zero point and clamp."""
    if e.stat == Stat.MAX:
        return {"max": np.asarray(q.max(-1, keepdims=True))}
    total = q.astype(np.int64).sum(-1, keepdims=True) + e.stat_off
    row = _shifted(total * e.stat_m, e.stat_shift)
    row = np.asarray(np.clip(row, SUM_LO, SUM_HI), np.int32)
    found = {"sum": row, "mean": row}
    if e.stat == Stat.MOMENTS:
        squares = _shifted(y * y, e.u_shift).sum(-1, keepdims=True)
        square = np.clip(_shifted(squares * e.sq_m, e.sq_shift), 0, SUM_HI)
        found["square"] = np.asarray(square, np.int32)
    return found


def _round_half_even(v: Array, n: int) -> Array:
    if n == 0:
        return v
    below = (1 << (n - 1)) - 1  # a half rounds up only from an odd integer
    return np.asarray((v + below + ((v >> n) & 1)) >> n)


def outputs_of(graph: QGraph, values: Mapping[str, Array]) -> dict[str, Array]:
    """Return the network outputs in the source model's shapes (arg-max not applied)."""
    found = {}
    for port in graph.outputs:
        stored = dequantize_array(values[port.tensor], graph.qparams[port.tensor])
        found[port.name] = apply_steps(real_values(stored, port.units), port.steps)
    return found


__all__ = ["apply_epilogue", "evaluate", "outputs_of", "row_statistics", "run_integer"]
