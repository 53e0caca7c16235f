# SPDX-License-Identifier: Apache-2.0
"""Bias correction: it cancels the mean rounding error of every channel.

In: a CalibratedGraph and samples.  Out: a TiedGraph with other biases, which are free at run
time.  A shift is estimated on half of the samples' rows and kept only if the other half gains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..hardware.target import Target
from ..ir.matgraph.facts import TiedGraph
from ..ir.matgraph.ops import Gemm, MatGraph, MatOp, Window
from ..ir.matgraph.reference import evaluate
from ..ir.quantized_values import rounded
from ..ir.recipe import PerChannel, as_arrays, as_numbers
from ..ir.types import Array, QParams
from .calibrated_graph import CalibratedGraph
from .equalize import without_epilogue
from .fake_quant import (
    Sample,
    Values,
    relative_error,
    rerun,
    rounded_weight,
    sample,
    with_rounded_weights,
)
from .integer_weights import int_weight, is_weighted
from .samples import Samples
from .scales import choose_scales

SIGNIFICANT = 3.0  # standard errors of a mean that is corrected


def correct_biases(calibrated: CalibratedGraph, target: Target, *, samples: Samples) -> TiedGraph:
    """Return the graph with shifted biases if its outputs gain; it has to be calibrated again."""
    mg = calibrated.graph
    qparams = choose_scales(calibrated, target).qparams
    shifts = shifts_of(mg, qparams, sample(mg, samples.runs(mg)))
    return with_shifts(calibrated.tied, target, shifts=as_numbers(shifts))


def with_shifts(tied: TiedGraph, target: Target, *, shifts: PerChannel) -> TiedGraph:
    """Return ``tied`` with the shifts added to the biases of the makers of the named tensors."""
    if not shifts:
        return tied
    mg, arrays = tied.graph, as_arrays(shifts)
    ops = tuple(_shifted(op, arrays) for op in mg.ops)
    changed = replace(mg, ops=ops, recipe=replace(mg.recipe, shifts=shifts))
    return replace(tied, graph=changed)


def _shifted(op: MatOp, shifts: Mapping[str, Array]) -> MatOp:
    if op.output not in shifts or not is_weighted(op):
        return op
    return replace(op, bias=np.asarray(op.bias + shifts[op.output], np.float32))


def shifts_of(mg: MatGraph, qparams: Mapping[str, QParams], seen: Sample) -> dict[str, Array]:
    """Return the shifts of biases that cancel the mean error of every channel, in execution order.

    ``qparams``: of the network as it will run.  None where the outputs would not gain.
    """
    quant = {name: qparams[name] for name in mg.tensors}
    values = dict(seen.values)
    for name in {port.tensor for port in mg.inputs} | mg.constants.keys():
        values[name] = rounded(values[name], quant[name])
    shifts: dict[str, Array] = {}
    for op in mg.ops:
        coarse = rounded_weight(op)
        if _has_rounding(op):
            shift = _shift(op, coarse, mg, values, seen.values)
            if shift is not None:
                shifts[op.output] = shift
                coarse = _shifted(coarse, shifts)
        values.update(evaluate(coarse, values, mg, quant))
    plain = rerun(with_rounded_weights(mg), seen.values, quant)
    before = relative_error(mg, plain, seen.values)
    return shifts if relative_error(mg, values, seen.values) < before else {}


def _has_rounding(op: MatOp) -> bool:
    """Return whether the weights of the channels differ, so that int8 rounds them."""
    if not is_weighted(op) or op.weight_scale is not None:
        return False
    if isinstance(op, Window) and op.reduce == "max":
        return False
    return isinstance(op, Gemm) or int_weight(op).values.shape[-1] > 1


def _shift(op: MatOp, coarse: MatOp, mg: MatGraph, now: Values, wanted: Values) -> Array | None:
    """Return the shift per channel, estimated on half of the rows, if the other half gains."""
    got = evaluate(without_epilogue(coarse), now, mg, {})[op.output]
    error = got - evaluate(without_epilogue(op), wanted, mg, {})[op.output]
    halves = _halves(error.astype(np.float64))
    first = _significant(halves[0])
    other = halves[1]
    if not first.any() or np.square(other - first).mean() >= np.square(other).mean():
        return None
    return np.asarray(-_significant(np.concatenate(halves)), np.float32)


def _halves(error: Array) -> tuple[Array, Array]:
    """Return the rows of one half of the images and of the other; of one image, every second
    row."""
    c = error.shape[3]
    if len(error) > 1:
        middle = len(error) // 2
        return error[:middle].reshape(-1, c), error[middle:].reshape(-1, c)
    rows = error.reshape(-1, c)
    return rows[::2], rows[1::2]


def _significant(error: Array) -> Array:
    """Return the means that are significant; 0 for the others."""
    if len(error) < 2:
        return np.zeros(error.shape[1])
    mean, deviation = error.mean(0), error.std(0) / np.sqrt(len(error))
    return np.asarray(np.where(np.abs(mean) > SIGNIFICANT * deviation, mean, 0.0))
