# SPDX-License-Identifier: Apache-2.0
"""A MatGraph in floats that are rounded as the integers would be.

In: a MatGraph, sample inputs, QParams.  Out: its tensors with any subset of them rounded, at the
cost of what depends on that subset.  Tables and 16-bit intermediate results are not modelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from ..ir.matgraph.ops import MatGraph, MatOp, Window
from ..ir.matgraph.reference import evaluate, port_outputs, run_float
from ..ir.quantized_values import rounded
from ..ir.types import Array, QParams
from .integer_weights import int_weight, is_weighted
from .samples import Run, floats_of, stacked, stacks

Values = Mapping[str, Array]

SAMPLE_FLOATS = 1 << 24
MOST_IMAGES = 16


@dataclass(frozen=True)
class Sample:
    """Inputs and what every tensor holds for them in the source model."""

    feeds: Mapping[str, Array]
    values: Values
    images: int


def sample(mg: MatGraph, runs: Iterable[Run]) -> Sample:
    """The first few runs (one model batch each) side by side."""
    most = max(1, min(MOST_IMAGES, SAMPLE_FLOATS // max(1, floats_of(mg)))) if stacks(mg) else 1
    chosen = list(islice(runs, most))
    feeds = stacked(chosen)
    return Sample(feeds, run_float(mg, feeds), len(chosen))


def with_rounded_weights(mg: MatGraph) -> MatGraph:
    """The weights replaced by the reals that their int8 codes stand for."""
    return replace(mg, ops=tuple(rounded_weight(op) for op in mg.ops))


def rounded_weight(op: MatOp) -> MatOp:
    """The same for one operation."""
    if not is_weighted(op) or (isinstance(op, Window) and op.reduce == "max"):
        return op
    found = int_weight(op)
    return replace(op, weight=np.asarray(found.values * found.scale, np.float32))


def rerun(
    mg: MatGraph, values: Values, quant: Mapping[str, QParams], changed: Iterable[str] | None = None
) -> dict[str, Array]:
    """All tensors with those in ``quant`` rounded.  ``changed``: what does not depend on these is
    taken over from ``values``; None evaluates everything."""
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
    """Norm of the difference of the network's outputs over their norm, averaged over outputs."""
    errors = []
    for port in mg.outputs:
        y, x = wanted[port.tensor].astype(np.float64), found[port.tensor]
        errors.append(np.linalg.norm(x - y) / max(float(np.linalg.norm(y)), 1e-30))
    return float(np.mean(errors))


def disagreement(mg: MatGraph, found: Values, wanted: Values) -> float:
    """Share of the rows of the outputs whose largest element (or arg-max) is another one."""
    other, total = 0, 0
    ours, theirs = port_outputs(mg, found), port_outputs(mg, wanted)
    for port in mg.outputs:
        a, b = ours[port.name], theirs[port.name]
        if port.argmax is None:
            a, b = a.argmax(-1), b.argmax(-1)
        other, total = other + int(np.sum(a != b)), total + a.size
    return other / max(total, 1)
