# SPDX-License-Identifier: Apache-2.0
"""Precision "mixed": which int8 tensors to raise to int16 so that the outputs lose little.

In: a MatGraph, its ranges, sample inputs, the loss that is allowed.  Out: ``Mixed``: the tensors,
why each, and the loss before and after, measured with the exact integer reference.

Every group of tensors that shares a scale is rounded alone; its squared output error over what
its second pass costs orders the groups.  The shortest sufficient part of that order is found by
bisection, freed of what turns out not to be needed, and confirmed in integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np

from ..ir.matgraph.ops import Gemm, MatGraph, MatOp
from ..ir.types import Array, QParams
from ..transforms.matgraph.legalize_operands import legalize_operands
from ..transforms.matgraph.tie_scales import tie_scales
from .bit_widths import wide_tensors
from .fake_quant import Sample, disagreement, relative_error, rerun, sample, with_rounded_weights
from .integer_reference import decode, run_integer
from .quantize import activation_scales, quantize

Bounds = Mapping[str, tuple[float, float]]
Measure = Literal["relative", "top1"]

LOSS = {"relative": relative_error, "top1": disagreement}
MEASURES = {
    "relative": "relative error of the outputs",
    "top1": "share of outputs whose largest element differs from the float model's",
}
MAX_LOSS = 0.05  # what int8 weights alone cost a network of a few dozen layers
# Where int16 throughout is not good enough either, this much beyond it is aimed at.
NEAR_FLOOR = 1.1
MACS_PER_CYCLE = 256  # of the smallest array, to weigh a second pass against memory traffic
BYTES_PER_CYCLE = 8
MOST_DROPS = 12  # tries to do without a tensor that was raised
MOST_CHECKED = 4  # images of the confirmation in integers
CONFIRMATIONS = 4


@dataclass(frozen=True)
class Candidate:
    """Tensors that share an int8 scale; ``error``: relative squared output error of rounding them
    alone; ``cycles``: estimated cost of int16 on a 16x16 array."""

    tensors: tuple[str, ...]
    source: str
    error: float
    cycles: int


@dataclass(frozen=True)
class Mixed:
    """What was raised and what it brought; losses on the calibration data, by ``measure``."""

    measure: str
    max_loss: float
    before: float
    after: float
    floor: float
    raised: tuple[Candidate, ...]
    kept: int
    images: int

    @property
    def met(self) -> bool:
        """Whether ``after`` is within ``max_loss``."""
        return self.after <= self.max_loss

    @property
    def tensors(self) -> frozenset[str]:
        """Names for ``quantize``'s ``raised``."""
        return frozenset(name for group in self.raised for name in group.tensors)

    def to_text(self) -> str:
        """Which tensors and why, for people."""
        verdict = "met" if self.met else f"not met; int16 throughout has {self.floor:.4g}"
        lines = [
            f"{len(self.raised)} of {len(self.raised) + self.kept} int8 tensors raised to int16: "
            f"{MEASURES[self.measure]} {self.before:.4g} -> {self.after:.4g} on the first "
            f"{min(self.images, MOST_CHECKED)} of the calibration inputs, {self.max_loss:.4g} "
            f"allowed ({verdict})"
        ]
        for group in self.raised:
            name = group.tensors[0]
            lines.append(
                f"  {name}{f' ({group.source})' if group.source else ''}: alone at int8 it moves "
                f"the outputs by {100 * group.error**0.5:.3g} %; int16 costs about "
                f"{group.cycles:,} cycles"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class _Problem:
    mg: MatGraph
    coarse: MatGraph  # int8 weights
    bounds: Bounds
    seen: Sample
    low: Mapping[str, QParams]
    high: Mapping[str, QParams]
    measure: str

    def loss(self, raised: Iterable[Candidate]) -> float:
        """Of rounded floats."""
        names = {name for group in raised for name in group.tensors}
        quant = {n: (self.high if n in names else self.low)[n] for n in self.mg.tensors}
        found = rerun(self.coarse, self.seen.values, quant)
        return float(LOSS[self.measure](self.mg, found, self.seen.values))


def choose_mixed(
    mg: MatGraph,
    bounds: Bounds,
    runs: Iterable[Mapping[str, Array]],
    max_loss: float = MAX_LOSS,
    measure: Measure = "relative",
) -> Mixed:
    """Raise as few int8 tensors as keep the loss of the outputs within ``max_loss``.

    ``runs``: calibration inputs in the source shapes, one model batch each; the first few count.
    """
    groups = _groups(mg)
    names = [name for group in groups for name in group]
    low = activation_scales(mg, bounds, "int8")
    high = activation_scales(mg, bounds, "int8", names)
    seen = sample(mg, runs)
    problem = _Problem(mg, with_rounded_weights(mg), bounds, seen, low, high, measure)
    ordered = _ordered([_candidate(problem, group) for group in groups])
    floor = problem.loss(ordered)
    target = max(max_loss, NEAR_FLOOR * floor)
    enough = _dropped(problem, _shortest(problem, ordered, target), target)
    before = _integer_loss(problem, ())
    raised, after = _confirmed(problem, enough, ordered, target)
    kept = len(ordered) - len(raised)
    return Mixed(measure, max_loss, before, after, floor, raised, kept, seen.images)


def _groups(mg: MatGraph) -> list[tuple[str, ...]]:
    """Tensors of ``mg`` that are int8 and may be int16, by shared scale."""
    tied, groups = tie_scales(legalize_operands(mg))
    wide = wide_tensors(tied, groups, "int8")
    members = groups.members(mg.tensors)
    return [
        tuple(names)
        for root, names in members.items()
        if root not in wide and not any(n in mg.quant for n in names)
    ]


def _candidate(problem: _Problem, names: tuple[str, ...]) -> Candidate:
    """How much rounding these tensors alone changes the outputs, and what int16 would cost."""
    mg, wanted = problem.mg, problem.seen.values
    found = rerun(mg, wanted, {**mg.quant, **{n: problem.low[n] for n in names}}, names)
    error = relative_error(mg, found, wanted) ** 2
    makers = [op.source for op in mg.ops if set(op.outputs) & set(names) and op.source]
    cycles = sum(_extra_cycles(op, names, mg) for op in mg.ops)
    return Candidate(names, makers[0] if makers else "", error, cycles)


def _extra_cycles(op: MatOp, names: tuple[str, ...], mg: MatGraph) -> int:
    """A second pass of a matrix product that reads one of the tensors; twice the bytes."""
    touched = [n for n in (*op.inputs, op.output) if n in names]
    moved = sum(prod(mg.tensors[n].shape) for n in touched) // BYTES_PER_CYCLE
    sides = [n for n in touched if isinstance(op, Gemm) and n in (op.input, op.rhs)]
    return moved + len(sides) * _macs(op, mg) // MACS_PER_CYCLE


def _macs(op: MatOp, mg: MatGraph) -> int:
    if not isinstance(op, Gemm):
        return 0
    depth = mg.tensors[op.input].shape[3] if op.weight is None else prod(op.weight.shape[:3])
    return prod(mg.tensors[op.output].shape) * depth


def _ordered(candidates: list[Candidate]) -> list[Candidate]:
    """Most error per cost first; the mean cost is added, so that few tensors are preferred to
    many cheap ones."""
    typical = max(1.0, float(np.mean([c.cycles for c in candidates]))) if candidates else 1.0
    return sorted(candidates, key=lambda c: -c.error / (typical + c.cycles))


def _shortest(problem: _Problem, ordered: list[Candidate], target: float) -> list[Candidate]:
    """The shortest beginning of ``ordered`` that meets the target, by bisection."""
    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) // 2
        if problem.loss(ordered[:middle]) <= target:
            high = middle
        else:
            low = middle + 1
    return ordered[:high]


def _dropped(problem: _Problem, raised: list[Candidate], target: float) -> list[Candidate]:
    """Without those that the target does not need; the dearest for their effect go first."""
    for group in sorted(raised, key=lambda c: c.error / max(1, c.cycles))[:MOST_DROPS]:
        fewer = [other for other in raised if other != group]
        if problem.loss(fewer) <= target:
            raised = fewer
    return raised


def _confirmed(
    problem: _Problem, raised: list[Candidate], ordered: list[Candidate], target: float
) -> tuple[tuple[Candidate, ...], float]:
    """The integers may lose more than rounded floats: raise more until they do not."""
    left = [group for group in ordered if group not in raised]
    loss = _integer_loss(problem, raised)
    for _ in range(CONFIRMATIONS):
        if loss <= target or not left:
            break
        step = max(1, len(ordered) // 8)
        more = [*raised, *left[:step]]
        found = _integer_loss(problem, more)
        if found >= loss:  # what is lost elsewhere cannot be bought back
            break
        raised, left, loss = more, left[step:], found
    return tuple(raised), loss


def _integer_loss(problem: _Problem, raised: Iterable[Candidate]) -> float:
    """Of the exact integer reference, on a few images."""
    mg, seen = problem.mg, problem.seen
    names = [name for group in raised for name in group.tensors]
    graph = quantize(mg, problem.bounds, "int8", names)
    count = min(seen.images, MOST_CHECKED)
    shown = {port.tensor for port in mg.outputs}
    parts: dict[str, list[Array]] = {name: [] for name in shown}
    for image in range(count):
        feeds = {p.name: _image(seen.feeds[p.name], image, seen.images) for p in mg.inputs}
        codes = run_integer(graph, feeds)
        for name in shown:
            parts[name].append(decode(codes[name], graph.qparams[name]))
    found = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    wanted = {name: seen.values[name][: len(found[name])] for name in shown}
    return float(LOSS[problem.measure](mg, found, wanted))


def _image(feed: Array, image: int, images: int) -> Array:
    """One run of several stacked along the first axis."""
    if images == 1:
        return feed
    each = len(feed) // images
    return feed[image * each : (image + 1) * each]


__all__ = ["Candidate", "Mixed", "choose_mixed"]
