# SPDX-License-Identifier: Apache-2.0
"""Scales, integer weights and requantise constants.

In: a MatGraph and the calibrated range of every tensor.  Out: a QGraph whose accumulators are
proven not to overflow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from ..errors import DoesNotFit
from ..hardware.isa import Stat
from ..ir.matgraph.ops import Gemm, MatGraph, MatOp, Move, RowMax, Window
from ..ir.types import Array, QParams
from ..transforms.matgraph.legalize_operands import legalize_operands
from ..transforms.matgraph.tie_scales import Groups, tie_scales
from .adjust_ranges import Bounds, spanned
from .bit_widths import symmetric_tensors, wide_tensors
from .integer_epilogues import Stage, build_epilogue
from .integer_row_statistics import RowNumbers, row_numbers
from .integer_weights import IntWeight, int_weight, is_weighted
from .qgraph import QEpilogue, QGraph, QOp
from .scales import (
    ACC_LIMIT,
    BIAS_LIMIT,
    INT8_PEAK,
    Forms,
    all_qparams,
    choose_qparams,
    encode,
    peak_code,
    terms,
    whole_inputs,
)


def quantize(
    mg: MatGraph, bounds: Bounds, precision: str = "int8", raised: Iterable[str] = ()
) -> QGraph:
    """Quantise a MatGraph.

    ``bounds``: (lo, hi) of every tensor, of ``name:pre`` where an activation follows and of
    ``name:act`` where a Hadamard product follows.  ``precision``: int8 (also of "mixed") or int16
    activations; ``raised``: tensors that are int16 all the same.  Raises DoesNotFit when an
    accumulator could overflow at prescribed scales.
    """
    mg, groups = tie_scales(legalize_operands(mg))
    bounds = spanned(mg, bounds, groups)
    weights = {op.output: int_weight(op) for op in mg.ops if is_weighted(op)}
    qparams = _qparams(mg, groups, bounds, weights, precision, raised)
    ops = tuple(_quantize_op(op, mg, bounds, qparams, weights) for op in mg.ops)
    constants = {name: encode(value, qparams[name]) for name, value in mg.constants.items()}
    return QGraph(mg.inputs, mg.outputs, ops, mg.tensors, constants, qparams)


def activation_scales(
    mg: MatGraph, bounds: Bounds, precision: str = "int8", raised: Iterable[str] = ()
) -> dict[str, QParams]:
    """The QParams that ``quantize`` gives every tensor."""
    mg, groups = tie_scales(legalize_operands(mg))
    weights = {op.output: int_weight(op) for op in mg.ops if is_weighted(op)}
    return _qparams(mg, groups, spanned(mg, bounds, groups), weights, precision, raised)


def _qparams(
    mg: MatGraph,
    groups: Groups,
    bounds: Bounds,
    weights: Mapping[str, IntWeight],
    precision: str,
    raised: Iterable[str],
) -> dict[str, QParams]:
    large = (n for n in whole_inputs(mg) if max(map(abs, bounds[n])) >= INT8_PEAK)
    wide = wide_tensors(mg, groups, precision, (*raised, *large))
    forms = Forms(wide, symmetric_tensors(mg, groups))
    return all_qparams(mg, bounds, groups, forms, weights)


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
    if isinstance(op, RowMax):
        return _quantize_rowmax(op, mg, qparams)
    assert isinstance(op, Gemm | Window)
    weight = weights.get(op.output)
    if weight is None:
        stage = _product_stage(op, mg, qparams)
    else:
        source = qparams[op.input]
        if op.weight_scale is None and _bias_dwarfs(op, weight, source):
            weight = int_weight(op, 2.0 / (source.scale * BIAS_LIMIT))
        stage = _weighted_stage(op, weight, source)
    rows = row_numbers(op, mg.tensors[op.output].shape[3], out, qparams)
    return QOp(
        op, weight.values if weight else None, build_epilogue(stage, out, bounds, qparams, rows)
    )


def _quantize_rowmax(op: RowMax, mg: MatGraph, qparams: Mapping[str, QParams]) -> QOp:
    source = qparams[op.input]
    channels = mg.tensors[op.input].shape[3]
    ones = np.full(channels, source.scale)
    bias = np.full(channels, -source.zero_point, np.int64)
    stage = Stage(op.output, ones, bias)
    return QOp(op, epilogue=build_epilogue(stage, qparams[op.output], rows=RowNumbers(Stat.MAX)))


def _weighted_stage(op: Gemm | Window, weight: IntWeight, source: QParams) -> Stage:
    """The zero point of x is folded into the bias."""
    # float32, as the runtimes of QDQ models multiply their scales: ties then fall alike
    step = np.float32(source.scale) * weight.scale.astype(np.float32)
    channels = len(op.bias)
    if isinstance(op, Window) and op.reduce == "max":
        sums = np.ones(channels, np.int64)
    else:
        flat = weight.values.reshape(-1, weight.values.shape[-1]).astype(np.int64)
        sums = np.broadcast_to(flat.sum(0), (channels,))
    bias = _integer_bias(op, step) - source.zero_point * sums
    _prove_no_overflow(op, weight.reach * peak_code(source), bias)
    return Stage(op.output, step, np.asarray(bias), op.epilogue)


def _product_stage(op: Gemm | Window, mg: MatGraph, qparams: Mapping[str, QParams]) -> Stage:
    """Both sides are symmetric: there is no zero point to fold in."""
    assert isinstance(op, Gemm) and op.rhs is not None
    x, rhs = qparams[op.input], qparams[op.rhs]
    scale = np.float32(x.scale) * np.float32(rhs.scale) * np.float32(op.gain)
    step = np.full(len(op.bias), scale, np.float32)
    bias = _integer_bias(op, step)
    _prove_no_overflow(op, terms(op, mg) * peak_code(x) * peak_code(rhs), bias)
    return Stage(op.output, step, bias, op.epilogue)


def _bias_dwarfs(op: Gemm | Window, weight: IntWeight, source: QParams) -> bool:
    return bool(np.any(np.abs(op.bias) > np.abs(weight.scale) * source.scale * BIAS_LIMIT))


def _integer_bias(op: Gemm | Window, step: Array) -> Array:
    """Bias in accumulator steps."""
    real = np.asarray(op.bias, np.float64)
    if np.any(np.abs(step) < np.abs(real) / BIAS_LIMIT):
        raise DoesNotFit(
            f"{op.source or op.output!r}: a bias is over {BIAS_LIMIT} times larger than one "
            "step of its weights, so that a 32-bit accumulator cannot hold both; rescale the layer"
        )
    safe = np.where(step == 0, 1.0, step)
    return np.asarray(np.rint(real / safe).astype(np.int64))


def _prove_no_overflow(op: Gemm | Window, products: int, bias: Array) -> None:
    worst = products + int(np.abs(bias).max(initial=0))
    if worst > ACC_LIMIT:
        raise DoesNotFit(
            f"{op.source or op.output!r}: sum|w| * max|x| + |bias| = {worst} does not fit a 32-bit "
            "accumulator; use int8 activations or split the layer"
        )


__all__ = ["ACC_LIMIT", "activation_scales", "QEpilogue", "choose_qparams", "encode", "quantize"]
