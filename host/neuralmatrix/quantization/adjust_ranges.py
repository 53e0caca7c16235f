# SPDX-License-Identifier: Apache-2.0
"""From what was observed to what the codes have to span.

In: a MatGraph and the calibrated range of every tensor.  Out: ranges with room for unseen rows,
without what a mask pushes to minus infinity, and as wide as an exponential can tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..ir.matgraph.ops import Gemm, MatGraph, MatOp, Move, RowMax, Window
from ..transforms.matgraph.legalize_operands import original
from ..transforms.matgraph.tie_scales import Groups
from .bit_widths import score_tensors

Interval = tuple[float, float]
Bounds = Mapping[str, Interval]

MASKED = -5000.0  # no score of a trained network reaches it; masks lie at -10000 and below
NEGLIGIBLE_EXP = 16.0  # exp(-16) of the largest is far below an int16 step
MASK_ROOM = 20.0  # a mask puts scores that far below the lowest unmasked one
FEWEST_STEPS = 3  # of a recurrence; two operations alike may be two statistics of one node
HEADROOM = 1.25  # of int16 statistics and of what they are taken of, beyond the calibrated range
POLES = frozenset({"reciprocal", "rsqrt", "log", "sqrt"})


def spanned(mg: MatGraph, bounds: Bounds, groups: Groups) -> dict[str, Interval]:
    """The range that every tensor of ``mg``, ``name:pre`` and ``name:act`` is quantised for."""
    scores = score_tensors(mg)
    found = {
        name: _finite_scores(r) if name.removesuffix(":pre") in scores else r
        for name, r in _complete(mg, bounds).items()
    }
    floors = _mask_floors(mg, found, groups)
    for name in mg.tensors.keys() & found.keys():
        lo, hi = found[name]
        found[name] = (max(lo, floors.get(groups.root(name), -np.inf)), hi)
    for op in mg.ops:
        if isinstance(op, Gemm | Window):
            found.update(_powers(op, mg, found))
            found.update(_around_poles(op, found))
            found.update(_truths(op, found))
            found.update(_clips(op, found))
            found.update(_with_headroom(op, found))
    return {**found, **_shared_by_steps(mg, found)}


def _shared_by_steps(mg: MatGraph, found: Bounds) -> dict[str, Interval]:
    """The steps of an unrolled recurrence span one range each, so that they share their tables."""
    shared: dict[str, Interval] = {}
    for steps in _unrolled(mg):
        for part in ("", ":pre", ":act"):
            names = [op.output + part for op in steps if op.output + part in found]
            ends = [found[name] for name in names]
            whole = (min(lo for lo, _ in ends), max(hi for _, hi in ends)) if ends else (0.0, 0.0)
            shared.update(dict.fromkeys(names, whole))
    return shared


def _unrolled(mg: MatGraph) -> list[list[Gemm | Window]]:
    """Operations that repeat each other, of source nodes that repeat an activation."""
    alike: dict[object, list[list[Gemm | Window]]] = {}
    for op in mg.ops:
        if isinstance(op, Gemm | Window) and op.source and op.weight is not None:
            several = alike.setdefault(_make_up(op, mg), [])
            same = next((ops for ops in several if _same_numbers(ops[0], op)), None)
            if same is None:
                several.append(same := [])
            same.append(op)
    found = [ops for several in alike.values() for ops in several if len(ops) >= FEWEST_STEPS]
    sources = {ops[0].source for ops in found if ops[0].epilogue.activation}
    return [ops for ops in found if ops[0].source in sources]


def _make_up(op: Gemm | Window, mg: MatGraph) -> object:
    """What repetitions of an operation have in common, apart from their weights."""
    e, shape = op.epilogue, mg.tensors[op.output].shape
    operands = (e.residual is None, e.residual_gain, e.hadamard is None, len(e.rows))
    return op.source, type(op), shape, np.asarray(op.weight).shape, e.activation, operands


def _same_numbers(a: Gemm | Window, b: Gemm | Window) -> bool:
    return bool(np.array_equal(np.asarray(a.weight), np.asarray(b.weight))) and bool(
        np.array_equal(a.bias, b.bias)
    )


def _complete(mg: MatGraph, bounds: Bounds) -> dict[str, Interval]:
    """``bounds``, constants and copies included."""
    full = dict(bounds)
    for name, value in mg.constants.items():
        full[name] = (float(value.min()), float(value.max()))
    for name in mg.tensors:
        if name not in full and original(name) in full:
            full[name] = full[original(name)]
    return full


def _finite_scores(found: Interval) -> Interval:
    """A range of scores that a mask reaches into: only the unmasked ones need codes."""
    lo, hi = found
    return found if lo > MASKED else (-abs(hi) - 2 * MASK_ROOM, hi)


def _mask_floors(mg: MatGraph, found: Bounds, groups: Groups) -> dict[str, float]:
    """Lowest value worth a code of every tensor that masks scores; lower ones saturate."""
    floors: dict[str, float] = {}
    scores = score_tensors(mg)
    for op in mg.ops:
        if not isinstance(op, Gemm | Window) or op.output not in scores:
            continue
        lo, hi = found[op.output]
        for name, gain in _addends(op):
            if name in found and gain > 0 and found[name][0] * gain <= MASKED:
                floor = -(hi - lo + MASK_ROOM) / gain
                root = groups.root(name)
                floors[root] = min(floors.get(root, 0.0), floor)
    return floors


def _addends(op: Gemm | Window) -> list[tuple[str, float]]:
    e = op.epilogue
    found = [(e.residual, e.residual_gain)] if e.residual else []
    if isinstance(op, Window) and op.weight.size == 1:
        found.append((op.input, float(op.weight.flat[0])))
    return found


def _powers(op: Gemm | Window, mg: MatGraph, found: Bounds) -> dict[str, Interval]:
    """Arguments of exp: what lies far below the largest is 0, and x - max(x) is never positive."""
    e = op.epilogue
    if e.activation is None or e.activation.name != "exp":
        return {}
    name = op.output
    if not subtracts_own_maximum(op, mg):
        lo, hi = found[f"{name}:pre"]
        return {f"{name}:pre": (max(lo, hi - NEGLIGIBLE_EXP), hi)}
    lo, hi = found[name]
    inside = (max(lo, 0.0), min(hi, 1.0)) if e.hadamard is None else (lo, hi)
    return {f"{name}:pre": (-NEGLIGIBLE_EXP, 0.0), f"{name}:act": (0.0, 1.0), name: inside}


def subtracts_own_maximum(op: Gemm | Window, mg: MatGraph) -> bool:
    """Whether the residual is minus the row maximum of the very values it is added to."""
    e = op.epilogue
    if e.residual is None or e.residual_gain != -1.0:
        return False
    makers = {name: maker for maker in mg.ops for name in _maxima(maker)}
    maker = makers.get(_through_moves(e.residual, mg))
    if isinstance(maker, RowMax):
        return _is_identity(op) and op.input == maker.input
    if not isinstance(maker, Gemm | Window):
        return False
    return (_is_identity(op) and op.input == maker.output) or _same_sum(op, maker)


def _maxima(op: MatOp) -> tuple[str, ...]:
    if isinstance(op, RowMax):
        return (op.output,)
    return tuple(row.tensor for row in op.epilogue.rows if row.kind == "max")


def _through_moves(name: str, mg: MatGraph) -> str:
    """The tensor that Moves of one input copied ``name`` from."""
    moves = {op.output: op for op in mg.ops if isinstance(op, Move) and len(op.inputs) == 1}
    while name in moves:
        name = moves[name].inputs[0]
    return name


def _is_identity(op: Gemm | Window) -> bool:
    if not isinstance(op, Window) or op.reduce != "add" or op.weight.shape[:2] != (1, 1):
        return False
    return op.minus is None and bool(np.all(op.weight == 1.0)) and not np.any(op.bias)


def _same_sum(op: Gemm | Window, maker: Gemm | Window) -> bool:
    """The same product of two tensors; the maximum may have a mask added that this one lacks."""
    if not isinstance(op, Gemm) or not isinstance(maker, Gemm) or op.rhs is None:
        return False
    plain = replace(op, output="", epilogue=maker.epilogue, source="", bias=0)  # type: ignore[arg-type]
    other = replace(maker, output="", source="", bias=0)  # type: ignore[arg-type]
    return plain == other and bool(np.all(op.bias == maker.bias))


def _around_poles(op: Gemm | Window, found: Bounds) -> dict[str, Interval]:
    """Room on both sides where a slightly smaller argument gives a much larger result."""
    activation = op.epilogue.activation
    pre = f"{op.output}:pre"
    if activation is None or activation.name not in POLES or found[pre][0] <= 0:
        return {}
    lo, hi = found[pre]
    names = (op.output, f"{op.output}:act")
    wider = {n: (found[n][0] * HEADROOM, found[n][1] * HEADROOM) for n in names if n in found}
    return {pre: (lo / HEADROOM, hi * HEADROOM), **wider}


def _truths(op: Gemm | Window, found: Bounds) -> dict[str, Interval]:
    """Both truths and both signs have exact codes, whichever the calibration inputs held."""
    if op.epilogue.activation is None or op.epilogue.activation.name != "truth":
        return {}
    signs, truths = (op.input, f"{op.output}:pre"), [f"{op.output}:act"]
    truths += [] if op.epilogue.hadamard else [op.output]
    wider = {n: (min(found[n][0], -128 / 127), max(found[n][1], 1.0)) for n in signs}
    return {**wider, **{n: (0.0, 1.0) for n in truths if n in found}}


def _clips(op: Gemm | Window, found: Bounds) -> dict[str, Interval]:
    """Arguments of a clip: far outside its ends they may saturate."""
    activation, pre = op.epilogue.activation, f"{op.output}:pre"
    if activation is None or activation.name != "clip" or not np.isfinite(activation.params).all():
        return {}
    lo, hi = activation.params
    low, high = np.clip(found[pre], 2 * lo - hi, 2 * hi - lo)
    return {pre: (float(low), float(high))} if low < high else {}


def _with_headroom(op: Gemm | Window, found: Bounds) -> dict[str, Interval]:
    """Row statistics, and the rows that maxima, means and squares are taken of."""
    rows = op.epilogue.rows
    names = {row.tensor: HEADROOM for row in rows}
    names.update({row.tensor: HEADROOM**2 for row in rows if row.kind == "square"})
    if any(row.kind != "sum" for row in rows):
        names[op.output] = HEADROOM
    return {n: (found[n][0] * room, found[n][1] * room) for n, room in names.items()}
