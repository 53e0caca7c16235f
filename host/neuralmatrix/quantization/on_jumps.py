# SPDX-License-Identifier: Apache-2.0
"""Scales with which the value at a jump of a function is one of the integers.

In: a MatGraph, the QParams of a tensor.  Out: slightly coarser QParams.  A value exactly at a
threshold (x > 2 of a 2) then stays on its side.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import floor

from ..ir.functions import is_jump, kinks
from ..ir.matgraph.ops import MatGraph
from ..ir.matgraph.predicates import is_identity
from ..ir.types import QParams

FEWEST_STEPS = 16  # from 0 to a jump: fewer would widen the range by more than 1 in 16


def jumps(mg: MatGraph) -> Mapping[str, float]:
    """Return the tensors of which a function with one jump, or two at either side of 0, is taken
    as it is, and the size of the value there."""
    found: dict[str, float] = {}
    for op in mg.ops:
        if not is_identity(op) or op.epilogue.residual is not None:
            continue
        activation = op.epilogue.activation
        if activation is None:
            continue
        sizes = {abs(corner) for corner in kinks(activation) if is_jump(activation, corner)}
        if len(sizes) == 1:
            found[op.input] = sizes.pop()
    return found


def on_jump(qp: QParams, jump: float) -> QParams:
    """Return QParams with ``jump`` a whole number of steps from 0, where that costs little."""
    steps = floor(jump / qp.scale)
    if steps < FEWEST_STEPS:
        return qp
    return QParams(jump / steps, qp.zero_point, qp.int16, qp.limit)
