# SPDX-License-Identifier: Apache-2.0
"""Means of prescribed integers that a layer reads, unrounded.

In: a MatGraph with prescribed scales.  Out: the same with the scale of one term's share for the
sums of average pooling, where nothing prescribes another: they are integers of int16 then.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..hardware.target import Target
from ..ir.matgraph.ops import Epilogue, MatGraph, Window
from ..ir.matgraph.uses import Uses
from ..ir.types import QParams
from .exact_biases import prescribed_source
from .integer_weights import int_weight, is_weighted
from .scales import most_reach

MOST = 32639  # the largest int16 value


def exact_means(mg: MatGraph, target: Target) -> MatGraph:
    """Return ``mg`` with exact scales of such sums."""
    uses = Uses.of(mg)
    found = {
        op.output: qp
        for op in mg.ops
        if isinstance(op, Window) and (qp := _sums(op, mg, uses)) is not None
    }
    return replace(mg, quant={**mg.quant, **found}) if found else mg


def _sums(op: Window, mg: MatGraph, uses: Uses) -> QParams | None:
    """Return the integers of a mean, None if it is none, or if its sums could be too large."""
    source = prescribed_source(mg, uses, op.input)
    plain = op.reduce == "add" and op.minus is None and op.epilogue == Epilogue()
    if source is None or not plain or np.any(op.bias) or uses.fixed(op.output):
        return None
    weight = int_weight(op)
    if op.weight.shape[:2] == (1, 1) or weight.values.max() > 1 or np.ptp(weight.scale):
        return None
    low, high = source.qmin - source.zero_point, source.qmax - source.zero_point
    ends = min(low, 0) * weight.reach, max(high, 0) * weight.reach
    step = float(np.float32(source.scale) * np.float32(weight.scale[0]))
    if step <= 0 or max(-ends[0], ends[1]) > MOST:
        return None
    sums = QParams(step, 0, True, ends=ends)
    fits = (
        is_weighted(reader) and int_weight(reader).reach <= most_reach(sums)
        for reader in uses.readers(op.output)
    )
    return sums if all(fits) else None
