# SPDX-License-Identifier: Apache-2.0
"""Integer weights, biases and requantise constants.

In: a ScaledGraph.  Out: a QGraph whose accumulators are proven not to overflow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import BadInput, DoesNotFit
from ..hardware.isa import Stat
from ..hardware.target import Target
from ..ir.matgraph.ops import Gemm, MatGraph, MatOp, Move, RowMax, Window
from ..ir.points import Point
from ..ir.quantized_values import quantize_array
from ..ir.types import Array, QParams
from .calibrated_graph import ScaledGraph
from .integer_epilogues import Stage, build_epilogue
from .integer_row_statistics import IntegerRowStats, integer_row_stats
from .integer_weights import BIAS_LIMIT, IntWeight, fitting_weight
from .qgraph import QGraph, QOp
from .scales import ACC_LIMIT, peak_value, terms

LARGEST_WEIGHT = 127
# Of differences of an input's values whose exponential is taken: by the rounding of a step it is
# then 10 % off (20 dB), and where int16 is asked for 1.7 % (35 dB).
MOST_STEP, MOST_STEP_AT_INT16 = 0.35, 0.06
WHOLE = 1e-3  # a bias this close to an integer is one: its factors are float32


def quantize(scaled: ScaledGraph, target: Target) -> QGraph:
    """Return the integers of all operations.  DoesNotFit: an accumulator could overflow; BadInput:
    a function is not finite within its range.  One error names all such layers."""
    mg, qparams = scaled.graph, scaled.qparams
    segments = target.array.seg_entries
    ops, refused = [], []
    for op in mg.ops:
        try:
            ops.append(_quantize_op(op, scaled, segments))
        except (BadInput, DoesNotFit) as error:
            refused.append(_named(error, op))
    if refused:
        raise _all_of(refused)
    constants = {
        name: quantize_array(value, qparams[name]).astype(np.int32)
        for name, value in mg.constants.items()
    }
    return QGraph(mg.inputs, mg.outputs, tuple(ops), mg.tensors, constants, qparams, scaled.recipe)


def _named(error: BadInput | DoesNotFit, op: MatOp) -> BadInput | DoesNotFit:
    """Return an error that names its layer."""
    named = op.source in str(error) or op.output in str(error)
    return error if named else type(error)(f"{op.source or op.output!r}: {error}")


def _all_of(errors: Sequence[BadInput | DoesNotFit]) -> BadInput | DoesNotFit:
    """Return one error of the first one's class with the texts of all."""
    if len(errors) == 1:
        return errors[0]
    lines = "\n".join(f"  {error}" for error in errors)
    return type(errors[0])(f"{len(errors)} layers cannot be computed in integers:\n{lines}")


# ------------------------------------------------------------------ operations


def _quantize_op(op: MatOp, scaled: ScaledGraph, segments: int) -> QOp:
    """Return the integers of one operation; its table has at most ``segments`` segments."""
    mg, qparams = scaled.graph, scaled.qparams
    out = qparams[op.output]
    if isinstance(op, Move):
        return QOp(op, fill=int(quantize_array(np.asarray(op.fill), out)))
    if isinstance(op, RowMax):
        return _quantize_rowmax(op, mg, qparams)
    assert isinstance(op, Gemm | Window)
    _check_step(op, scaled)
    weight = scaled.weights.get(op.output)
    if weight is None:
        stage = _product_stage(op, mg, qparams)
    else:
        source = qparams[op.input]
        weight = fitting_weight(op, weight, source)
        if op.weight_scale is not None:
            weight = _finer(op, weight, source)
        stage = _weighted_stage(op, weight, source)
    rows = integer_row_stats(op, mg.tensors[op.output].shape[3], out, qparams)
    epilogue = build_epilogue(stage, out, scaled.spans, qparams, rows, segments)
    return QOp(op, weight.values if weight else None, epilogue)


def _check_step(op: Gemm | Window, scaled: ScaledGraph) -> None:
    """Raise BadInput where a softmax takes an input of so wide a range that its steps are coarse:
    rows far from each other, whose values differ by little."""
    e, step = op.epilogue, scaled.qparams[op.input].scale
    port = next((port for port in scaled.graph.inputs if port.tensor == op.input), None)
    is_int16 = scaled.recipe.precision == "int16"
    most = MOST_STEP_AT_INT16 if is_int16 else MOST_STEP
    if port is None or e.residual is None or step <= most:
        return
    if not any(isinstance(of, RowMax) and (of.input, of.output) == (op.input, e.residual)
               for of in scaled.graph.ops):  # fmt: skip
        return
    lo, hi = scaled.spans[Point(op.input)]
    raise BadInput(
        f"{op.source or op.output!r}: its input {port.name!r} spans {lo:.4g} to {hi:.4g}, in steps "
        f"of {step:.2g}, too coarse for an exponential; allowed are {most:g}: subtract the largest "
        "value of each row in front of the network"
    )


def _quantize_rowmax(op: RowMax, mg: MatGraph, qparams: Mapping[str, QParams]) -> QOp:
    source = qparams[op.input]
    channels = mg.tensors[op.input].shape[3]
    ones = np.full(channels, source.scale)
    bias = np.full(channels, -source.zero_point, np.int64)
    stage = Stage(op.output, ones, bias)
    return QOp(
        op, epilogue=build_epilogue(stage, qparams[op.output], rows=IntegerRowStats(Stat.MAX))
    )


def _weighted_stage(op: Gemm | Window, weight: IntWeight, source: QParams) -> Stage:
    """Return accumulator step and bias of weights; the zero point of x is folded into the bias."""
    # float32, as the runtimes of QDQ models multiply their scales: halves then round the same way
    step = np.float32(source.scale) * weight.scale.astype(np.float32)
    channels = len(op.bias)
    if isinstance(op, Window) and op.reduce == "max":
        sums = np.ones(channels, np.int64)
    else:
        flat = weight.values.reshape(-1, weight.values.shape[-1]).astype(np.int64)
        sums = np.broadcast_to(flat.sum(0), (channels,))
    bias = _integer_bias(op, step) - source.zero_point * sums
    _prove_no_overflow(op, weight.reach * peak_value(source), bias)
    return Stage(op.output, step, np.asarray(bias), op.epilogue)


def _product_stage(op: Gemm | Window, mg: MatGraph, qparams: Mapping[str, QParams]) -> Stage:
    """Return accumulator step and bias of an activation-activation matmul: both operands are
    symmetric."""
    assert isinstance(op, Gemm) and op.rhs is not None
    x, rhs = qparams[op.input], qparams[op.rhs]
    scale = np.float32(x.scale) * np.float32(rhs.scale) * np.float32(op.gain)
    step = np.full(len(op.bias), scale, np.float32)
    bias = _integer_bias(op, step)
    _prove_no_overflow(op, terms(op, mg) * peak_value(x) * peak_value(rhs), bias)
    return Stage(op.output, step, bias, op.epilogue)


def _finer(op: Gemm | Window, weight: IntWeight, source: QParams) -> IntWeight:
    """Return prescribed codes of few levels times an integer: the real weights stay the same, and
    the bias is rounded to a finer accumulator step.

    A power of two keeps the multiplier, and with it ties, exact; it is taken where the bias then is
    an integer.
    """
    top = int(np.abs(weight.values).max(initial=0))
    if not top or not np.any(op.bias):
        return weight
    bias = np.abs(op.bias) / np.maximum(np.abs(weight.scale) * source.scale, 1e-300)
    most = max(1.0, float(bias.max()))
    sums = weight.reach * (peak_value(source) + abs(source.zero_point)) + most
    times = max(1, int(min(LARGEST_WEIGHT / top, ACC_LIMIT / sums, BIAS_LIMIT / most)))
    power = 2 ** int(np.log2(times))
    if np.abs(bias * power - np.rint(bias * power)).max() < WHOLE:
        times = power
    return IntWeight(weight.values * times, weight.scale / times, weight.reach * times)


def _integer_bias(op: Gemm | Window, step: Array) -> Array:
    """Return the bias in accumulator steps."""
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
