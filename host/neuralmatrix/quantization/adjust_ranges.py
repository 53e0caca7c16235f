# SPDX-License-Identifier: Apache-2.0
"""From the observed ranges to those that quantised values have to span.

In: a MatGraph and the calibrated range of every point.  Out: ranges with room for unseen rows,
without masked values, and only as wide as an exponential can resolve.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import get_args

import numpy as np

from ..ir.functions import LEAST_LOGARITHM
from ..ir.matgraph.facts import Facts, low_digits
from ..ir.matgraph.ops import Gemm, MatGraph, MatOp, Move, RowMax, Window
from ..ir.matgraph.predicates import is_identity
from ..ir.matgraph.spectra import logarithms
from ..ir.matgraph.uses import Uses
from ..ir.points import At, Interval, Point, Ranges

Found = Mapping[Point, Interval]

MASKED = -5000.0  # no score of a trained network reaches it; masks lie at -10000 and below
NEGLIGIBLE_EXP = 16.0  # exp(-16) of the largest is far below an int16 step
MASK_ROOM = 20.0  # masked scores lie that far below the lowest unmasked one
FEWEST_STEPS = 3  # of a recurrence; two equal operations may be two statistics of one node
NEGLIGIBLE_SUM = 12.0  # log(1 + exp(-12)) is below the step of any logarithm
ROOM_OF_LOGARITHMS = 0.25
INT16_OCTAVES = float(np.log(2.0**16))  # from the largest int16 value to half a step
HEADROOM = 1.25  # of int16 statistics and of their operands, beyond the calibrated range
SUM_ROOM = 3.0  # of the sum in a softmax
LOW_ROOM = 4.0  # of the products with low digits of weights
POLES = frozenset({"reciprocal", "rsqrt", "log", "sqrt"})


def spanned(mg: MatGraph, facts: Facts, ranges: Ranges) -> dict[Point, Interval]:
    """Return the range that every point of ``mg`` is quantised for."""
    constants = {Point(n): (float(v.min()), float(v.max())) for n, v in mg.constants.items()}
    found = {
        p: _finite_scores(r) if p.tensor in facts.scores and p.at != "pre_product" else r
        for p, r in {**constants, **ranges}.items()
    }
    floors = _mask_floors(mg, facts, found)
    for point in map(Point, mg.tensors):
        if point in found:
            lo, hi = found[point]
            floor = floors.get(facts.scale_groups.root(point.tensor), -np.inf)
            found[point] = (max(lo, floor), hi)
    uses, sums = Uses.of(mg), logarithms(mg)
    for op in mg.ops:
        if isinstance(op, Gemm | Window):
            found.update(_powers(op, uses, found))
            found.update(_around_poles(op, found))
            found.update(_logarithms(op, found))
            if op.output in sums:
                found.update(_sums_of_logarithms(op, found))
            found.update(_truths(op, found))
            found.update(_clips(op, found))
            found.update(_with_headroom(op, found))
            found.update(_softmax_sums(op, mg, uses, found))
    found.update(_of_low_digits(mg, found))
    return {**found, **_shared_by_steps(mg, found)}


def _shared_by_steps(mg: MatGraph, found: Found) -> dict[Point, Interval]:
    """Return one common range for the steps of an unrolled recurrence: they then share tables."""
    shared: dict[Point, Interval] = {}
    for steps in _unrolled(mg):
        for at in get_args(At):
            points = [p for op in steps if (p := Point(op.output, at)) in found]
            ends = [found[point] for point in points]
            whole = (min(lo for lo, _ in ends), max(hi for _, hi in ends)) if ends else (0.0, 0.0)
            shared.update(dict.fromkeys(points, whole))
    return shared


def _unrolled(mg: MatGraph) -> list[list[Gemm | Window]]:
    """Return the operations that repeat each other, of source nodes that repeat an activation."""
    alike: dict[object, list[list[Gemm | Window]]] = {}
    for op in mg.ops:
        if isinstance(op, Gemm | Window) and op.source and op.weight is not None:
            several = alike.setdefault(_signature(op, mg), [])
            same = next((ops for ops in several if _same_numbers(ops[0], op)), None)
            if same is None:
                several.append(same := [])
            same.append(op)
    found = [ops for several in alike.values() for ops in several if len(ops) >= FEWEST_STEPS]
    sources = {ops[0].source for ops in found if ops[0].epilogue.activation}
    return [ops for ops in found if ops[0].source in sources]


def _signature(op: Gemm | Window, mg: MatGraph) -> object:
    """Return what repetitions of an operation have in common, apart from their weights."""
    e, shape = op.epilogue, mg.tensors[op.output].shape
    operands = (e.residual is None, e.residual_gain, e.hadamard is None, len(e.rows))
    return op.source, type(op), shape, np.asarray(op.weight).shape, e.activation, operands


def _same_numbers(a: Gemm | Window, b: Gemm | Window) -> bool:
    return bool(np.array_equal(np.asarray(a.weight), np.asarray(b.weight))) and bool(
        np.array_equal(a.bias, b.bias)
    )


def _finite_scores(found: Interval) -> Interval:
    """Return the range of the unmasked scores of a range that holds masked ones."""
    lo, hi = found
    return found if lo > MASKED else (-abs(hi) - 2 * MASK_ROOM, hi)


def _mask_floors(mg: MatGraph, facts: Facts, found: Found) -> dict[str, float]:
    """Return the lowest value to represent of every tensor that masks scores; lower ones
    saturate."""
    floors: dict[str, float] = {}
    for op in mg.ops:
        if not isinstance(op, Gemm | Window) or op.output not in facts.scores:
            continue
        lo, hi = found[Point(op.output)]
        for name, gain in _addends(op):
            lowest = found.get(Point(name), (0.0, 0.0))[0]
            if gain > 0 and lowest * gain <= MASKED:
                floor = -(hi - lo + MASK_ROOM) / gain
                root = facts.scale_groups.root(name)
                floors[root] = min(floors.get(root, 0.0), floor)
    return floors


def _addends(op: Gemm | Window) -> list[tuple[str, float]]:
    e = op.epilogue
    found = [(e.residual, e.residual_gain)] if e.residual else []
    if isinstance(op, Window) and op.weight.size == 1:
        found.append((op.input, float(op.weight.flat[0])))
    return found


def _powers(op: Gemm | Window, uses: Uses, found: Found) -> dict[Point, Interval]:
    """Return ranges of arguments of exp: exp of far lower ones is 0, and x - max(x) is at most
    0."""
    e = op.epilogue
    if e.activation is None or e.activation.name != "exp":
        return {}
    pre, act, out = _points(op)
    if not subtracts_own_maximum(op, uses):
        lo, hi = found[pre]
        return {pre: (max(lo, hi - NEGLIGIBLE_EXP), hi)}
    lo, hi = found[out]
    inside = (max(lo, 0.0), min(hi, e.factor)) if e.hadamard is None else (lo, hi)
    return {pre: (-NEGLIGIBLE_EXP, 0.0), act: (0.0, 1.0), out: inside}


def _points(op: Gemm | Window) -> tuple[Point, Point, Point]:
    """Return the points of an epilogue in order: before activation, before product, output."""
    name = op.output
    return Point(name, "pre_activation"), Point(name, "pre_product"), Point(name)


def subtracts_own_maximum(op: Gemm | Window, uses: Uses) -> bool:
    """Return whether the residual is minus the row maximum of the values to which it is added."""
    e = op.epilogue
    if e.residual is None or e.residual_gain != -1.0:
        return False
    maker = _maker_of_maximum(e.residual, uses)
    if isinstance(maker, RowMax):
        return is_identity(op) and op.input == maker.input
    if not isinstance(maker, Gemm | Window):
        return False
    if is_identity(op):
        return op.input == maker.output or _masks(maker, op.input)
    return _same_sum(op, maker)


def _masks(maker: Gemm | Window, name: str) -> bool:
    """Return whether an operation adds a mask to the tensor ``name`` and does nothing else."""
    e = maker.epilogue
    plain = e.activation is None and e.hadamard is None
    return is_identity(maker) and maker.input == name and plain


def _maxima(op: MatOp) -> tuple[str, ...]:
    if isinstance(op, RowMax):
        return (op.output,)
    return tuple(row.tensor for row in op.epilogue.rows if row.kind == "max")


def _maker_of_maximum(name: str, uses: Uses) -> MatOp | None:
    """Return the operation that takes the row maximum ``name``, traced back through Moves."""
    while isinstance(op := uses.maker(name), Move) and len(op.parts) == 1:
        name = op.parts[0]
    return op if op is not None and name in _maxima(op) else None


def _same_sum(op: Gemm | Window, maker: Gemm | Window) -> bool:
    """Return whether both compute one activation-activation matmul; the maximum's may be masked."""
    if not isinstance(op, Gemm) or not isinstance(maker, Gemm) or op.rhs is None:
        return False
    plain = replace(op, output="", epilogue=maker.epilogue, source="", bias=0)  # type: ignore[arg-type]
    other = replace(maker, output="", source="", bias=0)  # type: ignore[arg-type]
    return plain == other and bool(np.all(op.bias == maker.bias))


def _around_poles(op: Gemm | Window, found: Found) -> dict[Point, Interval]:
    """Return wider ranges where a slightly smaller argument gives a much larger result."""
    activation = op.epilogue.activation
    pre, act, out = _points(op)
    if activation is None or activation.name not in POLES or found[pre][0] <= 0:
        return {}
    lo, hi = found[pre]
    points = [point for point in (out, act) if point in found]
    wider = {p: (found[p][0] * HEADROOM, found[p][1] * HEADROOM) for p in points}
    return {pre: (lo / HEADROOM, hi * HEADROOM), **wider}


def _logarithms(op: Gemm | Window, found: Found) -> dict[Point, Interval]:
    """Return ranges in the arithmetic of logarithms: down to what an int16 argument can be, so
    that inputs may be quieter than those of calibration, and no further."""
    activation = op.epilogue.activation
    name = activation.name if activation else ""
    pre, _, out = _points(op)
    if name in ("log_floor", "log_share"):
        top = float(np.log(max(found[pre][1], LEAST_LOGARITHM)))
        least = {"log_floor": 0.0, "log_share": NEGLIGIBLE_SUM}  # of what 0 stands for
        return {out: (top - INT16_OCTAVES - least[name], top)}
    if name == "log_sum":
        lo, hi = _reach(op, found)
        lo, hi = max(lo, -NEGLIGIBLE_SUM), max(hi, 0.0)
        return {pre: (lo, hi), out: (0.0, hi + float(np.log(2.0)))}
    if activation and name == "abs_below":
        most = activation.params[0]
        return {pre: (-HEADROOM * most, HEADROOM * most), out: (0.0, most)}
    if activation and name == "exp_part":
        top, cut = activation.params
        depth = HEADROOM - float(np.log(cut)) if cut > 0 else NEGLIGIBLE_EXP
        return {pre: (-top - depth, 0.0), out: (0.0, 1.0)}
    return {}


def _sums_of_logarithms(op: Gemm | Window, found: Found) -> dict[Point, Interval]:
    """Return the range of a sum of logarithms: from its operands downward, from calibration up."""
    out = Point(op.output)
    if op.epilogue.activation:
        return {}
    lo, hi = _reach(op, found)
    return {out: (lo, max(lo, min(found[out][1] + ROOM_OF_LOGARITHMS, hi)))}


def _reach(op: Gemm | Window, found: Found) -> Interval:
    """Return the interval of a linear operation per element and its residual."""
    weight = np.asarray(op.weight, np.float64).reshape(-1)
    terms = [np.outer(found[Point(op.input)], weight)]
    if op.epilogue.residual:
        terms.append(op.epilogue.residual_gain * np.asarray(found[Point(op.epilogue.residual)]))
    lo = sum(np.min(term, 0) for term in terms) + op.bias
    hi = sum(np.max(term, 0) for term in terms) + op.bias
    return float(np.min(lo)), float(np.max(hi))


def _truths(op: Gemm | Window, found: Found) -> dict[Point, Interval]:
    """Return ranges in which both truth values or signs are exact, whichever calibration saw."""
    if op.epilogue.activation is None or op.epilogue.activation.name != "truth":
        return {}
    pre, act, out = _points(op)
    signs, truths = (Point(op.input), pre), [act]
    truths += [] if op.epilogue.hadamard else [out]
    wider = {p: (min(found[p][0], -128 / 127), max(found[p][1], 1.0)) for p in signs}
    tops = {act: 1.0, out: op.epilogue.factor}
    return {**wider, **{p: (0.0, tops[p]) for p in truths if p in found}}


def _clips(op: Gemm | Window, found: Found) -> dict[Point, Interval]:
    """Return ranges of arguments of a clip: far outside its ends they may saturate."""
    activation, pre = op.epilogue.activation, Point(op.output, "pre_activation")
    if activation is None or activation.name != "clip" or not np.isfinite(activation.params).all():
        return {}
    lo, hi = activation.params
    low, high = np.clip(found[pre], 2 * lo - hi, 2 * hi - lo)
    return {pre: (float(low), float(high))} if low < high else {}


def _of_low_digits(mg: MatGraph, found: Found) -> dict[Point, Interval]:
    """Return wider ranges of products with low digits: small enough beside the rest of their sum
    for a coarse scale, and random enough to differ on unseen inputs."""
    low = low_digits(mg)
    points = [Point(op.output) for op in mg.ops if op.output in low and not op.epilogue.residual]
    return {p: (found[p][0] * LOW_ROOM, found[p][1] * LOW_ROOM) for p in points}


def _softmax_sums(
    op: Gemm | Window, mg: MatGraph, uses: Uses, found: Found
) -> dict[Point, Interval]:
    """Return ranges of sums of exp(x - max x), from 1 up to as many as there are: an input that is
    less certain than all samples has a larger sum."""
    e = op.epilogue
    if e.activation is None or e.activation.name != "exp" or not subtracts_own_maximum(op, uses):
        return {}
    wider: dict[Point, Interval] = {}
    for row in e.rows:
        if row.kind == "sum":
            seen, terms = found[Point(row.tensor)][1], mg.tensors[op.output].shape[3]
            top = max(seen, min(SUM_ROOM * seen, float(terms)))
            wider[Point(row.tensor)] = (0.0, top)
            for reader in uses.readers(row.tensor):
                pre = Point(reader.output, "pre_activation")
                if is_identity(reader) and pre in found:
                    wider[pre] = (found[pre][0], max(top, found[pre][1]))
    return wider


def _with_headroom(op: Gemm | Window, found: Found) -> dict[Point, Interval]:
    """Return wider ranges of row statistics and of the rows of maxima, means and squares."""
    rows = op.epilogue.rows
    rooms = {Point(row.tensor): HEADROOM for row in rows}
    rooms.update({Point(row.tensor): HEADROOM**2 for row in rows if row.kind == "square"})
    if any(row.kind != "sum" for row in rows):
        rooms[Point(op.output)] = HEADROOM
    return {p: (found[p][0] * room, found[p][1] * room) for p, room in rooms.items()}
