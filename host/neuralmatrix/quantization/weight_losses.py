# SPDX-License-Identifier: Apache-2.0
"""How much of the outputs' error the int8 weights of each layer make.

In: a MatGraph and a ``Sample`` of it.  Out: relative errors by operation, in floats: the estimate
by which a search orders layers, before integers decide.
"""

from __future__ import annotations

import numpy as np

from ..ir.matgraph.ops import Gemm, MatGraph, Window
from .fake_quant import Sample, relative_error, rerun, with_rounded_weights
from .integer_weights import is_weighted


def weight_losses(mg: MatGraph, seen: Sample) -> dict[str, float]:
    """Return the relative error of the outputs, averaged over them, with the weights of one
    operation rounded alone, by its output; operations whose weights int8 holds exactly are left
    out."""
    coarse, found = with_rounded_weights(mg), {}
    for i, (op, other) in enumerate(zip(mg.ops, coarse.ops, strict=True)):
        if not is_weighted(op) or not is_weighted(other) or _equal(op, other):
            continue
        alone = _one_changed(mg, coarse, i)
        values = rerun(alone, seen.values, mg.quant, [op.output])
        found[op.output] = relative_error(mg, values, seen.values)
    return found


def _equal(op: Gemm | Window, other: Gemm | Window) -> bool:
    return bool(np.all(np.asarray(op.weight) == np.asarray(other.weight)))


def _one_changed(mg: MatGraph, coarse: MatGraph, i: int) -> MatGraph:
    ops = (*mg.ops[:i], coarse.ops[i], *mg.ops[i + 1 :])
    return MatGraph(mg.inputs, mg.outputs, ops, mg.tensors, mg.constants, mg.quant)
