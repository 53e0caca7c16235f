# SPDX-License-Identifier: Apache-2.0
"""Fake quantisation: a MatGraph in floats that are rounded as the integers would be.

In: a MatGraph, sample inputs, QParams.  Out: its tensors with any subset of them rounded, at the
cost of what depends on that subset.  Tables and 16-bit intermediate results are not modelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from ..ir.matgraph.ops import MatGraph, MatOp, Window
from ..ir.matgraph.reference import evaluate, run_float
from ..ir.quantized_values import rounded
from ..ir.types import Array, QParams
from .integer_weights import int_weight, is_weighted
from .samples import Run, floats_of, stacked, stacks

Values = Mapping[str, Array]

SAMPLE_FLOATS = 1 << 24
MOST_IMAGES = 16


@dataclass(frozen=True)
class Sample:
    """Inputs, and the values of every tensor for them in the source model."""

    feeds: Mapping[str, Array]
    values: Values
    images: int


def sample(mg: MatGraph, runs: Iterable[Run]) -> Sample:
    """Return the first few runs (one model batch each), stacked along the first axis."""
    most = max(1, min(MOST_IMAGES, SAMPLE_FLOATS // max(1, floats_of(mg)))) if stacks(mg) else 1
    chosen = list(islice(runs, most))
    feeds = stacked(chosen)
    return Sample(feeds, run_float(mg, feeds), len(chosen))


def with_rounded_weights(mg: MatGraph) -> MatGraph:
    """Return the graph with weights rounded to the reals of their int8 values."""
    return replace(mg, ops=tuple(rounded_weight(op) for op in mg.ops))


def rounded_weight(op: MatOp) -> MatOp:
    """Return one operation with its weights rounded."""
    if not is_weighted(op) or (isinstance(op, Window) and op.reduce == "max"):
        return op
    found = int_weight(op)
    return replace(op, weight=np.asarray(found.values * found.scale, np.float32))


def rerun(
    mg: MatGraph, values: Values, quant: Mapping[str, QParams], changed: Iterable[str] | None = None
) -> dict[str, Array]:
    """Return all tensors, those in ``quant`` rounded.  Tensors that do not depend on ``changed``
    are taken from ``values``; None evaluates everything."""
    found = dict(values)
    dirty = set(quant) if changed is None else set(changed)
    made = {name for op in mg.ops for name in op.outputs}
    for name in (dirty & quant.keys() & found.keys()) - made:
        found[name] = rounded(found[name], quant[name])
    for op in mg.ops:
        touched = not dirty.isdisjoint((*op.inputs, op.output))
        if touched or changed is None:
            found.update(evaluate(op, found, mg, quant))
            dirty.update(op.outputs)
    return found


def relative_error(mg: MatGraph, found: Values, wanted: Values) -> float:
    """Return the norm of the outputs' difference over their norm, averaged over the outputs."""
    errors = []
    for port in mg.outputs:
        y, x = wanted[port.tensor].astype(np.float64), found[port.tensor]
        errors.append(np.linalg.norm(x - y) / max(float(np.linalg.norm(y)), 1e-30))
    return float(np.mean(errors))
