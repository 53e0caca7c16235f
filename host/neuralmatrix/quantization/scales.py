# SPDX-License-Identifier: Apache-2.0
"""Scale and zero point of every activation.

In: a CalibratedGraph.  Out: a ScaledGraph: the range that every point spans, and the QParams of
every tensor; int16 tensors are limited where a sum could overflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isqrt

import numpy as np

from ..errors import DoesNotFit
from ..hardware.target import Target
from ..ir.matgraph.facts import Facts, Groups
from ..ir.matgraph.ops import Gemm, MatGraph, Window
from ..ir.points import Point, Ranges
from ..ir.types import QParams
from .adjust_ranges import spanned
from .bit_widths import int16_groups
from .calibrated_graph import CalibratedGraph, ScaledGraph
from .integer_row_statistics import least_scale
from .integer_weights import BIAS_LIMIT, IntWeight, int_weight, is_weighted
from .on_jumps import jumps, on_jump
from .output_ranges import bounded_outputs

ACC_LIMIT = 2**31 - 1
FULL = 32639  # the largest int16 value; no limit
INT8_PEAK = 128


def choose_scales(calibrated: CalibratedGraph, target: Target) -> ScaledGraph:
    """Return the QParams of every tensor, from the range that it spans.

    DoesNotFit: an accumulator could overflow at prescribed scales.
    """
    mg, facts = calibrated.graph, calibrated.facts
    spans = spanned(mg, facts, calibrated.ranges)
    spans |= bounded_outputs(mg, spans)
    weights = {op.output: int_weight(op) for op in mg.ops if is_weighted(op)}
    large = (n for n in integer_inputs(mg) if max(map(abs, spans[Point(n)])) >= INT8_PEAK)
    int16 = int16_groups(mg, facts, calibrated.precision, (*mg.recipe.promoted, *large))
    qparams = _all_qparams(mg, facts, spans, int16, weights)
    return ScaledGraph(mg, spans, qparams, weights, calibrated.recipe)


def _all_qparams(
    mg: MatGraph,
    facts: Facts,
    spans: Ranges,
    int16: frozenset[str],
    weights: Mapping[str, IntWeight],
) -> dict[str, QParams]:
    groups = facts.scale_groups
    limits, whole = _value_limits(mg, groups, weights, int16), integer_inputs(mg)
    thresholds = jumps(mg)
    found: dict[str, QParams] = {}
    for root, members in groups.members(mg.tensors).items():
        limit = limits.get(root, FULL)
        given = [mg.quant[m] for m in members if m in mg.quant]
        if given:
            qp = _checked(given[0], limit, members[0])
        else:
            ends = [spans[Point(m)] for m in members]
            lo, hi = min(0.0, *(lo for lo, _ in ends)), max(0.0, *(hi for _, hi in ends))
            qp = choose_qparams(lo, hi, root in int16, limit, root in facts.symmetric)
            qp = _on_integers(qp, lo, hi) if not whole.isdisjoint(members) else qp
            sizes = {thresholds[member] for member in members if member in thresholds}
            qp = on_jump(qp, *sizes) if len(sizes) == 1 else qp
        found.update({m: _rounded_as(mg.quant.get(m), qp) for m in members})
    return {**found, **_coarser_statistics(mg, groups, found)}


def _rounded_as(prescribed: QParams | None, qp: QParams) -> QParams:
    """Return the steps of a scale group with the rounding of one of its tensors."""
    return replace(qp, rounding=prescribed.rounding if prescribed else "even")


def integer_inputs(mg: MatGraph) -> frozenset[str]:
    """Return network inputs of an integer type used in arithmetic, e.g. lengths and positions."""
    ports = (port for port in mg.inputs if port.table is None)
    return frozenset(port.tensor for port in ports if np.dtype(port.dtype).kind in "iub")


def _on_integers(qp: QParams, lo: float, hi: float) -> QParams:
    """Return a scale of 1 where the range allows it, so that comparisons of integers are exact."""
    top = max(-lo, hi)
    if hi - lo <= 1 or top > (min(FULL, qp.qmax) if qp.int16 else INT8_PEAK - 1):
        return qp
    return QParams(1.0, 0, qp.int16, qp.limit)


def choose_qparams(
    lo: float, hi: float, int16: bool, limit: int = FULL, symmetric: bool = False
) -> QParams:
    """Return scale and zero point that cover lo..hi (0 included); a tensor that was always 0 gets
    -1..1."""
    if lo == hi:
        lo, hi = -1.0, 1.0
    if int16:
        top = min(limit, 32000)  # a little headroom beyond the calibrated range
        scale = max(-lo, hi) / top
        return QParams(scale, 0, True, limit if limit < FULL else 0)
    if symmetric:
        return QParams(max(-lo, hi) / 127.0)
    scale = (hi - lo) / 255.0
    zero_point = int(np.clip(np.rint(-128 - lo / scale), -128, 127))
    return QParams(scale, zero_point)


def peak_value(qp: QParams) -> int:
    """Return the largest |q|, of padding too."""
    return max(abs(qp.qmin), abs(qp.qmax), abs(qp.zero_point))


def most_reach(source: QParams) -> int:
    """Return the largest sum of |w| that an accumulator holds for any values of ``source``, with
    the bias and the zero point's share of it."""
    return (ACC_LIMIT - 2 * BIAS_LIMIT) // (peak_value(source) + abs(source.zero_point))


def terms(op: Gemm, mg: MatGraph) -> int:
    """Return how many products of largest |q| an activation-activation matmul can add up to."""
    k = mg.tensors[op.input].shape[3]
    if op.input not in mg.constants:
        return k
    x = np.abs(mg.constants[op.input])
    rows = x.reshape(-1, k).astype(np.float64)
    ratios = rows.sum(1) / max(float(x.max(initial=0.0)), 1e-30)
    rounding = np.count_nonzero(rows, 1) / (2 * 127)
    return min(k, int(np.ceil((ratios + rounding).max(initial=0.0))) + 1)


def _coarser_statistics(
    mg: MatGraph, groups: Groups, found: Mapping[str, QParams]
) -> dict[str, QParams]:
    """Return coarser scales of statistics whose multiplier cannot express the calibrated ones."""
    coarser: dict[str, QParams] = {}
    for op in mg.ops:
        if not isinstance(op, Gemm | Window):
            continue
        channels = mg.tensors[op.output].shape[3]
        for row in op.epilogue.rows:
            least = 0.0
            if row.kind in ("sum", "square"):
                least = least_scale(row, channels, found[op.output])
            qp = coarser.get(row.tensor, found[row.tensor])
            if qp.scale < least and row.tensor not in mg.quant:
                members = groups.members(mg.tensors)[groups.root(row.tensor)]
                coarser.update({m: QParams(least, 0, qp.int16, qp.limit) for m in members})
    return coarser


def _checked(qp: QParams, limit: int, name: str) -> QParams:
    if qp.int16 and limit < min(FULL, peak_value(qp)):
        raise DoesNotFit(
            f"tensor {name!r} is prescribed as int16, but values beyond {limit} could overflow the "
            "32-bit accumulators of its consumer; quantise it to int8 or remove its scale"
        )
    return qp


def _value_limits(
    mg: MatGraph, groups: Groups, weights: Mapping[str, IntWeight], int16: frozenset[str]
) -> dict[str, int]:
    """Return the largest |q| per int16 scale group that keeps sum|w| * |x| + |bias| below 2^31."""
    limits: dict[str, int] = {}
    room = ACC_LIMIT - 2 * BIAS_LIMIT
    for op in mg.ops:
        if not isinstance(op, Gemm | Window):
            continue
        if op.output in weights:
            found = {groups.root(op.input): room // max(1, weights[op.output].reach)}
        else:
            found = _product_limits(op, mg, groups, int16, room)
        for root, limit in found.items():
            limits[root] = min(limits.get(root, FULL), limit)
    return limits


def _product_limits(
    op: Gemm | Window, mg: MatGraph, groups: Groups, int16: frozenset[str], room: int
) -> dict[str, int]:
    """Return limits of the operands of activation-activation matmuls; two int16 ones share it."""
    assert isinstance(op, Gemm) and op.rhs is not None
    roots = {groups.root(op.input), groups.root(op.rhs)} & int16
    both = {groups.root(op.input), groups.root(op.rhs)} <= int16
    each = room // terms(op, mg)
    return {root: isqrt(each) if both else each // INT8_PEAK for root in roots}
