# SPDX-License-Identifier: Apache-2.0
"""Ranges without calibration data: interval arithmetic from prescribed scales.

In: a MatGraph whose inputs have prescribed quantisation (a QDQ model).  Out: an interval for every
tensor, and for the values before activations and Hadamard products, that holds for every input.
Before tanh and sigmoid it is the range of their tables: wider, or cut where they are flat.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..errors import BadInput
from ..hardware.target import Target
from ..ir.functions import evaluate
from ..ir.matgraph.facts import TiedGraph
from ..ir.matgraph.ops import Epilogue, Gemm, MatGraph, Move, Port, RowMax, Window
from ..ir.matgraph.predicates import is_identity
from ..ir.matgraph.uses import Uses
from ..ir.points import Interval, Point
from ..ir.types import Array, QParams
from .adjust_ranges import subtracts_own_maximum
from .calibrated_graph import CalibratedGraph

Bounds = dict[str, Interval]  # of tensors
Extent = tuple[int, int, bool]  # rows and columns reduced over, and whether over all channels

# Beyond, a function is less than a third of an int16 step from its end.
FLAT = {"tanh": 6.5, "sigmoid": 12.0}


@dataclass
class _Facts:
    """Facts that intervals alone do not express.

    Softmax: x - max(x) <= 0, and some exp of it is 1.  Normalisation: the mean square is at least
    the square of the mean.
    """

    uses: Uses
    bounds: Bounds
    prescribed: frozenset[str]
    inner: dict[Point, Interval] = field(default_factory=dict)  # of the other points
    maximum_of: dict[str, tuple[str, Extent]] = field(default_factory=dict)  # of which tensor
    holds_zero: dict[str, Extent] = field(default_factory=dict)  # every extent has an element 0
    holds_one: dict[str, Extent] = field(default_factory=dict)  # every extent has an element 1
    mean_of: dict[str, str] = field(default_factory=dict)  # of which operation's rows
    square_of: dict[str, str] = field(default_factory=dict)
    squared_mean: dict[str, str] = field(default_factory=dict)  # mean * mean


def interval_bounds(tied: TiedGraph, target: Target) -> CalibratedGraph:
    """Return the interval of every point as its range.  BadInput: an input has no prescribed
    scale."""
    missing = [
        port.name
        for port in tied.graph.inputs
        if port.tensor not in tied.graph.quant and port.table is None
    ]
    if missing:
        raise BadInput(
            f"no calibration given, and the model prescribes no scale for input(s) "
            f"{', '.join(missing)}; pass calibration= (--calibration) with some typical inputs "
            "(16 to 256), or a QDQ model"
        )
    return CalibratedGraph(tied.graph, tied.facts, propagate(tied.graph))


def propagate(mg: MatGraph) -> dict[Point, Interval]:
    """Return the interval of every point, cut to what prescribed scales can express."""
    bounds: Bounds = {n: (float(v.min()), float(v.max())) for n, v in mg.constants.items()}
    for port in mg.inputs:
        bounds[port.tensor] = _input(port, mg)
    facts = _Facts(Uses.of(mg), bounds, frozenset(mg.quant))
    for op in mg.ops:
        if isinstance(op, Move):
            bounds[op.output] = _hull([bounds[n] for n in op.inputs] + [(op.fill, op.fill)])
        elif isinstance(op, RowMax):
            bounds[op.output] = bounds[op.input]
            source, extent = facts.maximum_of.get(op.input, (op.input, (1, 1, False)))
            facts.maximum_of[op.output] = (source, (*extent[:2], True))
        elif isinstance(op, Gemm | Window):
            _compute(op, facts, mg)
        if op.output in mg.quant:
            bounds[op.output] = _meet(bounds[op.output], _expressible(mg.quant[op.output]))
        if isinstance(op, Gemm | Window):
            _statistics(op, facts, mg.tensors[op.output].shape[3])
    return {**{Point(name): found for name, found in bounds.items()}, **facts.inner}


def _input(port: Port, mg: MatGraph) -> Interval:
    if port.tensor not in mg.quant and port.table is not None:
        return float(port.table.min()), float(port.table.max())
    return _expressible(mg.quant[port.tensor])


def _expressible(qp: QParams) -> Interval:
    return qp.scale * (qp.qmin - qp.zero_point), qp.scale * (qp.qmax - qp.zero_point)


def _hull(parts: list[Interval]) -> Interval:
    return min(p[0] for p in parts), max(p[1] for p in parts)


def _meet(a: Interval, b: Interval) -> Interval:
    return max(a[0], b[0]), min(a[1], b[1])


def _statistics(op: Gemm | Window, facts: _Facts, channels: int) -> None:
    """Enter the intervals of the row statistics of an operation."""
    lo, hi = facts.bounds[op.output]
    least = 1.0 if op.output in facts.holds_one and lo >= 0 else channels * lo
    intervals = {
        "max": (lo, hi),
        "sum": (least, channels * hi),
        "mean": (lo, hi),
        "square": (0.0, max(lo * lo, hi * hi)),
    }
    for row in op.epilogue.rows:
        facts.bounds[row.tensor] = intervals[row.kind]
        if row.kind == "max":
            facts.maximum_of[row.tensor] = (op.output, (1, 1, True))
        elif row.kind == "mean":
            facts.mean_of[row.tensor] = op.output
        elif row.kind == "square":
            facts.square_of[row.tensor] = op.output


def _compute(op: Gemm | Window, facts: _Facts, mg: MatGraph) -> None:
    e, bounds = op.epilogue, facts.bounds
    pre = _products(op, facts, mg) if isinstance(op, Gemm) and op.rhs else _linear(op, bounds)
    if e.residual:
        pre = _add(pre, _times(bounds[e.residual], (e.residual_gain, e.residual_gain)))
    if subtracts_own_maximum(op, facts.uses):
        pre = (min(pre[0], 0.0), 0.0)
        facts.holds_zero[op.output] = (1, 1, True)
    elif _subtracts_maximum(op, facts):
        pre = (pre[0], 0.0)
        facts.holds_zero[op.output] = facts.maximum_of[e.residual or ""][1]
    elif op.input in facts.holds_zero and is_identity(op) and not e.residual:
        facts.holds_zero[op.output] = facts.holds_zero[op.input]
    if e.activation and e.activation.name == "exp" and op.output in facts.holds_zero:
        facts.holds_one[op.output] = facts.holds_zero[op.output]
    if facts.holds_one.get(op.input) == _extent(op) and op.weight is not None:
        if np.all(op.weight >= 0):
            pre = (max(pre[0], float(op.weight.min() + op.bias.min())), pre[1])
    if _is_variance(op, facts):
        pre = (max(pre[0], float(op.bias.min())), max(pre[1], float(op.bias.max())))
    if op.input in facts.mean_of and e.hadamard == op.input and is_identity(op):
        facts.squared_mean[op.output] = facts.mean_of[op.input]
    if isinstance(op, Window) and op.reduce == "max":
        facts.maximum_of[op.output] = (op.input, _extent(op) or (0, 0, False))
    act = _activated(e, pre, op.output in facts.prescribed and not e.hadamard)
    facts.inner[Point(op.output, "pre_activation")] = _tabulated(e, pre)
    facts.inner[Point(op.output, "pre_product")] = act
    product = _times(act, bounds[e.hadamard]) if e.hadamard else act
    bounds[op.output] = product[0] * e.factor, product[1] * e.factor


def _subtracts_maximum(op: Gemm | Window, facts: _Facts) -> bool:
    e = op.epilogue
    return (
        isinstance(op, Window)
        and e.residual_gain == -1.0
        and facts.maximum_of.get(e.residual or "", ("", None))[0] == op.input
        and is_identity(op)
    )


def _is_variance(op: Gemm | Window, facts: _Facts) -> bool:
    """Return whether an operation is mean square minus square of the mean, plus a constant."""
    source = facts.square_of.get(op.input)
    return (
        source is not None
        and isinstance(op, Window)
        and bool(np.all(op.weight == 1.0))
        and op.epilogue.residual_gain == -1.0
        and facts.squared_mean.get(op.epilogue.residual or "") == source
    )


def _extent(op: Gemm | Window) -> Extent | None:
    """Return the extent of an unpadded reduction; None where windows are strided or padded."""
    if op.weight is None or any(op.pads):
        return None
    return (*op.weight.shape[:2], isinstance(op, Gemm))


def _products(op: Gemm, facts: _Facts, mg: MatGraph) -> Interval:
    """Return the interval of a sum of products of two intervals."""
    assert op.rhs is not None
    k = mg.tensors[op.input].shape[3]
    one = _times(facts.bounds[op.input], facts.bounds[op.rhs])
    scaled = _times(one, (op.gain * k, op.gain * k))
    return _add(scaled, (float(op.bias.min()), float(op.bias.max())))


def _linear(op: Gemm | Window, bounds: Bounds) -> Interval:
    x = bounds[op.input]
    if isinstance(op, Window) and op.minus is not None:
        low, high = bounds[op.minus]
        x = _add(x, (-high, -low))
    if isinstance(op, Window) and op.reduce == "max":
        return _add(x, (float(op.bias.min()), float(op.bias.max())))
    assert op.weight is not None
    weight: Array = np.asarray(op.weight, np.float64).reshape(-1, op.weight.shape[-1])
    if any(op.pads):  # padding reads 0
        x = (min(x[0], 0.0), max(x[1], 0.0))
    up = np.maximum(weight, 0).sum(0)
    down = np.minimum(weight, 0).sum(0)
    low = up * x[0] + down * x[1] + op.bias
    high = up * x[1] + down * x[0] + op.bias
    return float(low.min()), float(high.max())


def _activated(e: Epilogue, pre: Interval, capped: bool) -> Interval:
    """Return the sampled range of the activation over the interval, its ends included.

    ``capped``: a prescribed scale caps the result, so that a pole is allowed.
    """
    if e.activation is None:
        return pre
    with np.errstate(all="ignore"):
        y = evaluate(e.activation, np.linspace(pre[0], pre[1], 4097))
    finite = np.isfinite(y)
    if not finite.all() and not capped:
        raise BadInput(
            f"{e.activation.name} of a value that the prescribed scales only bound to "
            f"{pre[0]:g} .. {pre[1]:g} has no finite range; pass calibration= with typical inputs"
        )
    return float(y[finite].min()), float(y[finite].max())


def _tabulated(e: Epilogue, pre: Interval) -> Interval:
    """Return the range over which a table is fitted: of tanh and sigmoid a power of two, until they
    are flat, so that the steps of a recurrence, whose bounds grow, share a table."""
    flat = FLAT.get(e.activation.name) if e.activation is not None else None
    peak = max(-pre[0], pre[1])
    if flat is None or peak <= 0:
        return pre
    end = min(2.0 ** np.ceil(np.log2(peak)), flat)
    return -end, end


def _add(a: Interval, b: Interval) -> Interval:
    return a[0] + b[0], a[1] + b[1]


def _times(a: Interval, b: Interval) -> Interval:
    products = [x * y for x in a for y in b]
    return min(products), max(products)
