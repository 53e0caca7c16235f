# SPDX-License-Identifier: Apache-2.0
"""Changes of a MatGraph that cost nothing at run time and let int8 lose less.

In: a MatGraph and a calibration sample.  Out: ``Refinement``.  Factors move a channel's size from
an activation into the weights that read it (exact in real arithmetic); shifts of biases cancel the
mean error that rounding causes.  Each is kept only where it reduces the error on the sample.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..ir.matgraph.ops import Epilogue, Gemm, MatGraph, MatOp, Window
from ..ir.matgraph.reference import evaluate, rounded
from ..ir.types import Array, QParams
from .fake_quant import Sample, Values, relative_error, rerun, rounded_weight, with_rounded_weights
from .integer_weights import int_weight, is_weighted
from .scales import choose_qparams

POWERS = (0.25, 0.5, 0.75)  # how much of an activation's channel size goes into the weights
WORTH = 0.9  # factors that leave more of the error than this are not taken
MOST_FACTOR = 1e3
SIGNIFICANT = 3.0  # standard errors of a mean that is corrected


@dataclass(frozen=True)
class Refinement:
    """``factors``: tensor to what its channels are divided by; ``shifts``: operation's output to
    what is added to its bias."""

    factors: Mapping[str, Array] = field(default_factory=dict)
    shifts: Mapping[str, Array] = field(default_factory=dict)


def refined(mg: MatGraph, refinement: Refinement) -> MatGraph:
    """``mg`` with the refinement in its weights and biases."""
    ops = (_scaled(op, refinement.factors) for op in mg.ops)
    return replace(mg, ops=tuple(_shifted(op, refinement.shifts) for op in ops))


def _scaled(op: MatOp, factors: Mapping[str, Array]) -> MatOp:
    """The maker of a scaled tensor divides by the factors, its readers multiply."""
    if not is_weighted(op) or not factors:
        return op
    weight, bias = np.asarray(op.weight), op.bias
    if isinstance(op, Gemm) and op.input in factors:
        weight = weight * factors[op.input][:, None]
    if op.output in factors:
        weight, bias = weight / factors[op.output], bias / factors[op.output]
    return replace(op, weight=weight.astype(np.float32), bias=np.asarray(bias, np.float32))


def _shifted(op: MatOp, shifts: Mapping[str, Array]) -> MatOp:
    if op.output not in shifts or not is_weighted(op):
        return op
    return replace(op, bias=np.asarray(op.bias + shifts[op.output], np.float32))


# ---------------------------------------------------------------- factors


def migrate(mg: MatGraph, seen: Sample) -> dict[str, Array]:
    """Factors for every tensor whose size differs so much between channels that they pay.

    Such a tensor is made by weights (a normalisation's, say) without anything added after them, and
    read by matrix products alone.  Ranges have to be calibrated anew for the refined graph.
    """
    found = {}
    for op in mg.ops:
        readers = [other for other in mg.ops if op.output in other.inputs]
        if _may_scale(op, mg) and readers and all(_takes_factors(r, op.output) for r in readers):
            gemms = [r for r in readers if isinstance(r, Gemm)]
            best = _best_factors(mg, gemms, seen.values[op.output], seen.values)
            if best is not None:
                found[op.output] = best
    return found


def _may_scale(op: MatOp, mg: MatGraph) -> bool:
    if not is_weighted(op) or (isinstance(op, Window) and op.reduce == "max"):
        return False
    e = op.epilogue
    plain = e.residual is None and not e.rows and (not e.activation or e.activation.name == "relu")
    shown = op.output in {port.tensor for port in mg.outputs}
    free = op.weight_scale is None and op.output not in mg.quant and not shown
    return plain and free and not mg.tensors[op.output].replicated


def _takes_factors(op: MatOp, name: str) -> bool:
    if not isinstance(op, Gemm) or op.weight is None or op.inputs.count(name) > 1:
        return False
    return op.input == name and op.groups == 1 and op.weight_scale is None


def _best_factors(mg: MatGraph, gemms: list[Gemm], x: Array, values: Values) -> Array | None:
    """The factors of least error, if that is clearly less than without."""
    size = np.abs(x).reshape(-1, x.shape[3]).max(0).astype(np.float64)
    weights = np.stack([np.abs(np.asarray(g.weight)).max((0, 1, 3)) for g in gemms]).max(0)
    plain = np.ones(len(size))
    least = WORTH * _error(mg, gemms, x, plain)
    best = None
    for power in POWERS:
        factors = _factors(size, weights, power)
        error = _error(mg, gemms, x, factors)
        if error < least:
            best, least = factors.astype(np.float32), error
    return best


def _factors(size: Array, weights: Array, power: float) -> Array:
    """size^p / weights^(1-p), around 1; channels that carry nothing keep theirs."""
    used = (size > 0) & (weights > 0)
    s = np.ones(len(size))
    s[used] = size[used] ** power / weights[used].astype(np.float64) ** (1 - power)
    s[used] /= np.exp(np.log(s[used]).mean()) if used.any() else 1.0
    return np.clip(s, 1 / MOST_FACTOR, MOST_FACTOR)


def _error(mg: MatGraph, gemms: list[Gemm], x: Array, factors: Array) -> float:
    """Squared error of int8 codes of x/factors times int8 codes of weights*factors."""
    small = np.asarray(x / factors, np.float32)
    codes = rounded(small, choose_qparams(float(small.min()), float(small.max()), wide=False))
    total = 0.0
    for gemm in gemms:
        scaled = _scaled(_linear(gemm), {gemm.input: factors})
        wanted = evaluate(_linear(gemm), {gemm.input: x}, mg, {})[gemm.output]
        got = evaluate(rounded_weight(scaled), {gemm.input: codes}, mg, {})[gemm.output]
        total += float(np.square(got - wanted, dtype=np.float64).mean())
    return total


def _linear(op: MatOp) -> MatOp:
    """The operation without its epilogue."""
    assert is_weighted(op)
    return replace(op, epilogue=Epilogue())


# ---------------------------------------------------------------- shifts


def correct_biases(mg: MatGraph, qparams: Mapping[str, QParams], seen: Sample) -> dict[str, Array]:
    """Shifts of biases against the mean error of every channel, first operation first.

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
    """Whether the weights of the channels differ, so that int8 rounds them."""
    if not is_weighted(op) or op.weight_scale is not None:
        return False
    if isinstance(op, Window) and op.reduce == "max":
        return False
    return isinstance(op, Gemm) or int_weight(op).values.shape[-1] > 1


def _shift(op: MatOp, coarse: MatOp, mg: MatGraph, now: Values, wanted: Values) -> Array | None:
    """What to add per channel: estimated on half of the rows, kept if the other half gains."""
    got = evaluate(_linear(coarse), now, mg, {})[op.output]
    error = got - evaluate(_linear(op), wanted, mg, {})[op.output]
    halves = _halves(error.astype(np.float64))
    first = _significant(halves[0])
    other = halves[1]
    if not first.any() or np.square(other - first).mean() >= np.square(other).mean():
        return None
    return np.asarray(-_significant(np.concatenate(halves)), np.float32)


def _halves(error: Array) -> tuple[Array, Array]:
    """Rows of one half of the images and of the other; of one image, every second row."""
    c = error.shape[3]
    if len(error) > 1:
        middle = len(error) // 2
        return error[:middle].reshape(-1, c), error[middle:].reshape(-1, c)
    rows = error.reshape(-1, c)
    return rows[::2], rows[1::2]


def _significant(error: Array) -> Array:
    """Means that stand out of the noise; 0 elsewhere."""
    if len(error) < 2:
        return np.zeros(error.shape[1])
    mean, deviation = error.mean(0), error.std(0) / np.sqrt(len(error))
    return np.asarray(np.where(np.abs(mean) > SIGNIFICANT * deviation, mean, 0.0))
