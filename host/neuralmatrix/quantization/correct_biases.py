# SPDX-License-Identifier: Apache-2.0
"""Bias correction: it cancels the mean rounding error of every channel.

In: a CalibratedGraph with shifts in its recipe.  Out: the same with other biases, which are free at
run time.  ``shifts_of`` estimates a shift on half of the samples' rows and proposes it only if the
other half gains; the search keeps it only where the integers gain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..hardware.target import Target
from ..ir.matgraph.ops import Gemm, MatGraph, MatOp, Window
from ..ir.matgraph.reference import evaluate
from ..ir.quantized_values import rounded
from ..ir.recipe import as_arrays
from ..ir.types import Array, QParams
from .calibrated_graph import CalibratedGraph
from .equalize import without_epilogue
from .fake_quant import (
    Sample,
    Values,
    relative_error,
    rerun,
    rounded_weight,
    with_rounded_weights,
)
from .integer_weights import int_weight, is_weighted

SIGNIFICANT = 3.0  # standard errors of a mean that is corrected


def correct_biases(calibrated: CalibratedGraph, target: Target) -> CalibratedGraph:
    """Return the graph with the shifts of its recipe added to biases.  The ranges stay: a shift
    makes the integers equal to the values that they are of."""
    mg, arrays = calibrated.graph, as_arrays(calibrated.graph.recipe.shifts)
    if not arrays:
        return calibrated
    return replace(calibrated, graph=replace(mg, ops=tuple(_shifted(op, arrays) for op in mg.ops)))


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
