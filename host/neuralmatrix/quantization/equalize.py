# SPDX-License-Identifier: Apache-2.0
"""Cross-layer equalisation: the channels of an activation get similar ranges.

In: a MatGraph with factors in its recipe.  Out: an equal MatGraph.  Factors move a channel's scale
from an activation into the weights that read it, which is exact in real arithmetic and reduces the
int8 error.  ``migrate`` proposes them; the search keeps them only where the integers gain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..hardware.target import Target
from ..ir.matgraph.ops import Epilogue, Gemm, MatGraph, MatOp, Window
from ..ir.matgraph.reference import evaluate
from ..ir.matgraph.uses import Uses
from ..ir.quantized_values import rounded
from ..ir.recipe import as_arrays
from ..ir.types import Array
from .fake_quant import Sample, rounded_weight
from .integer_weights import is_weighted
from .scales import choose_qparams

POWERS = (0.25, 0.5, 0.75)  # how much of an activation's channel size goes into the weights
WORTH = 0.9  # factors that leave a larger share of the error than this are not used
MOST_FACTOR = 32.0  # a channel that is silent on all samples may not stay so


def equalize(graph: MatGraph, target: Target) -> MatGraph:
    """Return ``graph`` with the channels of tensors divided by the factors of its recipe."""
    factors = as_arrays(graph.recipe.factors)
    if not factors:
        return graph
    return replace(graph, ops=tuple(_scaled(op, factors) for op in graph.ops))


def _scaled(op: MatOp, factors: Mapping[str, Array]) -> MatOp:
    """Return ``op`` divided by the factors as a maker, multiplied by them as a reader."""
    if not is_weighted(op):
        return op
    weight, bias = np.asarray(op.weight), op.bias
    if isinstance(op, Gemm) and op.input in factors:
        weight = weight * factors[op.input][:, None]
    if op.output in factors:
        weight, bias = weight / factors[op.output], bias / factors[op.output]
    return replace(op, weight=weight.astype(np.float32), bias=np.asarray(bias, np.float32))


# ---------------------------------------------------------------- factors


def migrate(
    mg: MatGraph, seen: Sample, sizes: Mapping[str, Array] | None = None
) -> dict[str, Array]:
    """Return factors for every tensor whose channel ranges differ enough to reduce the error.

    Such a tensor is made by weights (of a normalisation, for example), has no addend after them,
    and is read by matrix products alone.  ``sizes``: the largest |x| of every channel by tensor, if
    known from more inputs than ``seen``.  The ranges of the result are others.
    """
    found, uses = {}, Uses.of(mg)
    for op in mg.ops:
        readers = uses.readers(op.output)
        if _may_scale(op, mg, uses) and all(_takes_factors(r, op.output) for r in readers):
            gemms = [r for r in readers if isinstance(r, Gemm)]
            x = seen.values[op.output]
            size = np.abs(x).reshape(-1, x.shape[3]).max(0)
            size = np.maximum(size, sizes[op.output]) if sizes else size
            best = _best_factors(mg, gemms, x, size.astype(np.float64))
            if best is not None:
                found[op.output] = best
    return found


def _may_scale(op: MatOp, mg: MatGraph, uses: Uses) -> bool:
    if not is_weighted(op) or (isinstance(op, Window) and op.reduce == "max"):
        return False
    e = op.epilogue
    plain = e.residual is None and not e.rows and (not e.activation or e.activation.name == "relu")
    free = op.weight_scale is None and not uses.fixed(op.output)
    read = bool(uses.readers(op.output))
    return plain and free and read and not mg.tensors[op.output].broadcast


def _takes_factors(op: MatOp, name: str) -> bool:
    if not isinstance(op, Gemm) or op.weight is None or op.inputs.count(name) > 1:
        return False
    return op.input == name and op.groups == 1 and op.weight_scale is None


def _best_factors(mg: MatGraph, gemms: list[Gemm], x: Array, size: Array) -> Array | None:
    """Return the factors of least error for channels of a size, None if they reduce it too
    little."""
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
    """Return size^p / weights^(1-p), normalised around 1; all-zero channels get 1."""
    used = (size > 0) & (weights > 0)
    s = np.ones(len(size))
    s[used] = size[used] ** power / weights[used].astype(np.float64) ** (1 - power)
    s[used] /= np.exp(np.log(s[used]).mean()) if used.any() else 1.0
    return np.clip(s, 1 / MOST_FACTOR, MOST_FACTOR)


def _error(mg: MatGraph, gemms: list[Gemm], x: Array, factors: Array) -> float:
    """Return the squared error of int8 x/factors times int8 weights*factors."""
    small = np.asarray(x / factors, np.float32)
    coarse = rounded(small, choose_qparams(float(small.min()), float(small.max()), int16=False))
    total = 0.0
    for gemm in gemms:
        scaled = _scaled(without_epilogue(gemm), {gemm.input: factors})
        wanted = evaluate(without_epilogue(gemm), {gemm.input: x}, mg, {})[gemm.output]
        got = evaluate(rounded_weight(scaled), {gemm.input: coarse}, mg, {})[gemm.output]
        total += float(np.square(got - wanted, dtype=np.float64).mean())
    return total


def without_epilogue(op: MatOp) -> MatOp:
    """Return the operation without its epilogue."""
    assert is_weighted(op)
    return replace(op, epilogue=Epilogue())
