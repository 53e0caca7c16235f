# SPDX-License-Identifier: Apache-2.0
"""Scales, integer weights and requantise constants.

In: a MatGraph and the calibrated range of every tensor.  Out: a QGraph whose accumulators are
proven not to overflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .epilogues import Stage, build_epilogue
from .errors import DoesNotFit, UnsupportedModel, UnsupportedNode
from .ir import Array, Gemm, MatGraph, MatOp, Move, QParams, RowMax, Window, op_inputs
from .qgraph import QEpilogue, QGraph, QOp
from .ties import Groups, tie

ACC_LIMIT = 2**31 - 1
BIAS_LIMIT = 2**26  # keeps a dead channel's scale from blowing up its integer bias
WIDE_ACTIVATIONS = frozenset({"exp", "log", "reciprocal", "rsqrt", "sqrt", "square"})

Bounds = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class IntWeight:
    """Integer weights, the real value of one unit per output channel, and max over channels of
    sum|w|."""

    values: Array
    scale: Array  # (M,)
    reach: int


def quantize(mg: MatGraph, bounds: Bounds, precision: str = "int8") -> QGraph:
    """Quantise a MatGraph.

    ``bounds``: (lo, hi) of every tensor, of ``name:pre`` where an activation follows and of
    ``name:act`` where a Hadamard product follows.  ``precision``: int8 or int16 activations. Raises
    DoesNotFit when an accumulator could overflow at prescribed scales.
    """
    mg, groups = tie(mg)
    wide = _wide_tensors(mg, groups, precision)
    weights = {op.output: _int_weight(op) for op in mg.ops if isinstance(op, (Gemm, Window))}
    qparams = _all_qparams(mg, bounds, groups, wide, weights)
    ops = tuple(_quantize_op(op, mg, bounds, qparams, weights) for op in mg.ops)
    constants = {name: encode(value, qparams[name]) for name, value in mg.constants.items()}
    return QGraph(mg.inputs, mg.outputs, ops, mg.tensors, constants, qparams)


def refuse_products(mg: MatGraph) -> None:
    """Products of two run-time tensors have no integer weights yet."""
    reason = "the product of two run-time tensors is not supported; one operand must be a constant"
    found = [op for op in mg.ops if isinstance(op, Gemm) and op.weight is None]
    if found:
        nodes = (UnsupportedNode(op.source or op.output, "MatMul", 0, reason) for op in found)
        raise UnsupportedModel(tuple(nodes))


def encode(x: Array, qp: QParams) -> Array:
    """Codes of real values: round half to even, saturated; int32 array of x's shape."""
    q = np.rint(np.asarray(x, np.float64) / qp.scale) + qp.zero_point
    return np.asarray(np.clip(q, qp.qmin, qp.qmax), np.int32)


# ------------------------------------------------------------------ which tensors are int16


def _wide_tensors(mg: MatGraph, groups: Groups, precision: str) -> frozenset[str]:
    """Roots of the tie groups that are int16."""
    # In a QDQ model the int8 tensors are those it names; what lies between was float there.
    all_wide = precision == "int16" or bool(mg.quant)
    chosen = {name for name in mg.tensors if all_wide or name in mg.constants}
    chosen |= {p.tensor for p in mg.outputs if not _is_read(mg, p.tensor)}
    for op in mg.ops:
        chosen |= set(_wide_by_use(op, mg))
    prescribed = {groups.root(n): q.wide for n, q in mg.quant.items()}
    roots = {groups.root(name) for name in chosen}
    return frozenset(r for r in roots if prescribed.get(r, True)) | frozenset(
        r for r, is_wide in prescribed.items() if is_wide
    )


def _is_read(mg: MatGraph, name: str) -> bool:
    return any(name in op_inputs(op) for op in mg.ops)


def _wide_by_use(op: MatOp, mg: MatGraph) -> tuple[str, ...]:
    """Tensors whose relative precision matters: softmax and normalisation statistics."""
    if isinstance(op, RowMax):
        return (op.input,)
    if isinstance(op, Move):
        return ()
    activation = op.epilogue.activation
    if mg.tensors[op.output].replicated or (activation and activation.name in WIDE_ACTIVATIONS):
        return (op.output,)
    return ()


# ------------------------------------------------------------------ scales of activations


def _all_qparams(
    mg: MatGraph,
    bounds: Bounds,
    groups: Groups,
    wide: frozenset[str],
    weights: Mapping[str, IntWeight],
) -> dict[str, QParams]:
    limits = _code_limits(mg, groups, weights)
    found: dict[str, QParams] = {}
    for root, members in groups.members(mg.tensors).items():
        limit = limits.get(root, 32639)
        given = [mg.quant[m] for m in members if m in mg.quant]
        if given:
            qp = _checked(given[0], limit, members[0])
        else:
            lo = min(0.0, *(_bound(m, mg, bounds)[0] for m in members))
            hi = max(0.0, *(_bound(m, mg, bounds)[1] for m in members))
            qp = choose_qparams(lo, hi, root in wide, limit)
        found.update({m: qp for m in members})
    return found


def _bound(name: str, mg: MatGraph, bounds: Bounds) -> tuple[float, float]:
    if name in mg.constants:
        return float(mg.constants[name].min()), float(mg.constants[name].max())
    return bounds[name]


def choose_qparams(lo: float, hi: float, wide: bool, limit: int = 32639) -> QParams:
    """Scale and zero point that cover lo..hi (0 included); a tensor that was always 0 gets
    -1..1."""
    if lo == hi:
        lo, hi = -1.0, 1.0
    if wide:
        top = min(limit, 32000)  # a little head room beyond the calibrated range
        scale = max(-lo, hi) / top
        return QParams(scale, 0, True, limit if limit < 32639 else 0)
    scale = (hi - lo) / 255.0
    zero_point = int(np.clip(np.rint(-128 - lo / scale), -128, 127))
    return QParams(scale, zero_point)


def _checked(qp: QParams, limit: int, name: str) -> QParams:
    if qp.wide and limit < 32639:
        raise DoesNotFit(
            f"tensor {name!r} is prescribed as int16, but codes beyond {limit} could overflow the "
            "32-bit accumulators of its consumer; quantise it to int8 or remove its scale"
        )
    return qp


def _code_limits(mg: MatGraph, groups: Groups, weights: Mapping[str, IntWeight]) -> dict[str, int]:
    """Largest |code| per int16 tie group that keeps sum|w| * |x| + |bias| below 2^31."""
    limits: dict[str, int] = {}
    for op in mg.ops:
        if not isinstance(op, (Gemm, Window)) or op.output not in weights:
            continue
        reach = max(1, weights[op.output].reach)
        root = groups.root(op.input)
        limit = (ACC_LIMIT - 2 * BIAS_LIMIT) // reach
        limits[root] = min(limits.get(root, 32639), limit)
    return limits


# ------------------------------------------------------------------ weights


def _int_weight(op: Gemm | Window, floor: float = 0.0) -> IntWeight:
    """``floor``: least real weight step, for channels whose bias dwarfs their weights."""
    if isinstance(op, Window) and op.reduce == "max":
        return IntWeight((op.weight != 0).astype(np.int32), np.ones(len(op.bias)), 1)
    if isinstance(op, Window) and floor == 0.0 and _is_uniform(op):
        return _uniform_weight(op)
    assert op.weight is not None
    weight = np.asarray(op.weight, np.float64)
    if isinstance(op, Window):
        weight = np.broadcast_to(weight, (*weight.shape[:2], len(op.bias)))
    if op.weight_scale is not None:
        scale = np.broadcast_to(np.asarray(op.weight_scale, np.float64), (len(op.bias),))
    else:
        peak = np.abs(weight).reshape(-1, weight.shape[-1]).max(0) / 127.0
        least = np.maximum(np.abs(op.bias) * floor, max(float(peak.max()) * 2.0**-20, 1e-30))
        scale = np.maximum(peak, least)
    values = np.rint(weight / scale).astype(np.int32)
    return IntWeight(values, scale, _reach(values))


def _reach(values: Array) -> int:
    return int(np.abs(values).reshape(-1, values.shape[-1]).sum(0).max())


def _is_uniform(op: Window) -> bool:
    """All present taps of a channel weigh the same: element-wise operators, mean pooling."""
    taps = op.weight.reshape(-1, op.weight.shape[-1])
    present = taps != 0
    factor = np.abs(taps).max(0)
    same_taps = np.all(present == present[:, :1])
    first = taps[np.abs(taps[:, 0]).argmax()]
    same_value = np.all((taps == first) | ~present)
    largest = max(float(factor.max()), float(np.abs(op.bias).max(initial=0)))
    visible = np.all(factor > 1e-6 * largest)
    return bool(same_taps and same_value and visible)


def _uniform_weight(op: Window) -> IntWeight:
    """One tap value for all channels; a channel's own factor, sign included, goes into its scale.

    A bias needs the finer accumulator step that a weight of 127 gives.
    """
    unit = 127 if np.any(op.bias) else 1
    taps = op.weight.reshape(-1, op.weight.shape[-1])
    factor = taps[np.abs(taps[:, 0]).argmax()].astype(np.float64)
    values = np.where(op.weight[..., :1] != 0, unit, 0).astype(np.int32)
    scale = np.broadcast_to(factor / unit, (len(op.bias),)).copy()
    return IntWeight(values, scale, _reach(values))


# ------------------------------------------------------------------ operations


def _quantize_op(
    op: MatOp,
    mg: MatGraph,
    bounds: Bounds,
    qparams: Mapping[str, QParams],
    weights: Mapping[str, IntWeight],
) -> QOp:
    out = qparams[op.output]
    if isinstance(op, Move):
        return QOp(op, fill=int(encode(np.asarray(op.fill), out)))
    source = qparams[op.input]
    if isinstance(op, RowMax):
        channels = mg.tensors[op.input].shape[3]
        ones = np.full(channels, source.scale)
        bias = np.full(channels, -source.zero_point, np.int64)
        return QOp(op, epilogue=build_epilogue(Stage(op.output, ones, bias), out))
    weight = weights[op.output]
    if op.weight_scale is None and _bias_dwarfs(op, weight, source):
        weight = _int_weight(op, 2.0 / (source.scale * BIAS_LIMIT))
    bias, step = _integer_bias(op, weight, source)
    _prove_no_overflow(op, weight, bias, source)
    stage = Stage(op.output, step, bias, op.epilogue)
    epilogue = build_epilogue(stage, out, bounds, qparams)
    return QOp(op, weight.values, epilogue)


def _bias_dwarfs(op: Gemm | Window, weight: IntWeight, source: QParams) -> bool:
    return bool(np.any(np.abs(op.bias) > np.abs(weight.scale) * source.scale * BIAS_LIMIT))


def _integer_bias(op: Gemm | Window, weight: IntWeight, source: QParams) -> tuple[Array, Array]:
    """Bias in accumulator steps, zero point of x folded in; and the real value of one step."""
    # float32, as the runtimes of QDQ models multiply their scales: ties then fall alike
    step = np.float32(source.scale) * weight.scale.astype(np.float32)
    real = np.asarray(op.bias, np.float64)
    if isinstance(op, Window) and op.reduce == "max":
        sums = np.ones(len(real), np.int64)
    else:
        flat = weight.values.reshape(-1, weight.values.shape[-1]).astype(np.int64)
        sums = np.broadcast_to(flat.sum(0), real.shape)
    floor = np.abs(real) / BIAS_LIMIT
    if np.any(np.abs(step) < floor):
        raise DoesNotFit(
            f"{op.source or op.output!r}: a bias is over {BIAS_LIMIT} times larger than one "
            "step of its weights, so that a 32-bit accumulator cannot hold both; rescale the layer"
        )
    safe = np.where(step == 0, 1.0, step)
    quantised = np.rint(real / safe).astype(np.int64)
    return np.asarray(quantised - source.zero_point * sums), step


def _prove_no_overflow(op: Gemm | Window, weight: IntWeight, bias: Array, source: QParams) -> None:
    peak = max(-source.qmin, source.qmax)
    worst = weight.reach * peak + int(np.abs(bias).max(initial=0))
    if worst > ACC_LIMIT:
        raise DoesNotFit(
            f"{op.source or op.output!r}: sum|w| * max|x| + |bias| = {worst} does not fit a 32-bit "
            "accumulator; use int8 activations or split the layer"
        )


__all__ = ["QEpilogue", "choose_qparams", "encode", "quantize", "refuse_products"]
