# SPDX-License-Identifier: Apache-2.0
"""Mixed precision: which int8 tensors are promoted to int16 to bound the loss of the outputs.

In: trials, a CalibratedGraph, the allowed loss.  Out: ``Mixed``: the tensors, the reason for each,
and losses, each of finished integers on the trials' inputs.

Every scale group is rounded alone, in floats; the groups are ordered by squared output error per
cost of their second pass.  The shortest sufficient part of that order is found by bisection, and
groups that are not needed are dropped, both on the loss of the integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from ..hardware.instruction_costs import rough_cycles
from ..hardware.target import Target
from ..ir.matgraph.ops import Gemm, MatGraph, MatOp
from ..ir.matgraph.uses import Uses
from ..ir.points import Ranges
from ..ir.recipe import Recipe, as_triples
from ..ir.types import QParams
from .calibrated_graph import CalibratedGraph
from .choose_widened import Widened, choose_widened
from .fake_quant import Sample, relative_error, rerun
from .samples import Run
from .scales import choose_scales
from .settings import MEASURES, Measure
from .trials import Step, Trials, silent

# Where int16 throughout misses the bound too, the aim is this many times the loss of int16.
NEAR_FLOOR = 1.1
MOST_DROPS = 6  # promoted tensors that are tried at int8 again


@dataclass(frozen=True)
class Candidate:
    """Tensors that share an int8 scale; ``error``: relative squared output error of rounding them
    alone; ``cycles``: estimated cost of int16 on the target."""

    tensors: tuple[str, ...]
    source: str
    error: float
    cycles: int


@dataclass(frozen=True)
class Mixed:
    """The promoted tensors and the losses of the integers on ``inputs`` calibration inputs, by
    ``measure``; ``floor``: that of int16 throughout, with the same weights; ``recipe`` makes the
    integers."""

    measure: Measure
    max_loss: float
    before: float
    after: float
    floor: float
    promoted: tuple[Candidate, ...]
    kept: int
    inputs: int
    recipe: Recipe

    @property
    def met(self) -> bool:
        """Whether ``after`` is within ``max_loss``."""
        return self.after <= self.max_loss

    @property
    def criterion(self) -> str:
        """The measure in words."""
        if isinstance(self.measure, str):
            return MEASURES[self.measure]
        return "loss of the outputs, each by its own measure,"

    @property
    def tensors(self) -> frozenset[str]:
        """Names of all promoted tensors."""
        return frozenset(name for group in self.promoted for name in group.tensors)

    def to_text(self, held: float | None = None) -> str:
        """Return the promoted tensors with the reasons, for people; ``held``: the loss on inputs
        that are held back."""
        verdict = "met" if self.met else "not met"
        if held is not None and self.met and held > self.max_loss:
            verdict = f"met on these, not on those held back: {held:.4g}"
        if self.floor > self.max_loss:
            verdict += f"; int16 throughout has {self.floor:.4g}"
        lines = [
            f"{len(self.promoted)} of {len(self.promoted) + self.kept} int8 tensors promoted to "
            "int16: "
            f"{self.criterion} {self.before:.4g} -> {self.after:.4g} on "
            f"{self.inputs} of the calibration inputs, {self.max_loss:.4g} allowed ({verdict})"
        ]
        if self.recipe.widened:
            lines.append(f"  two int8 digits for the weights of {', '.join(self.recipe.widened)}")
        for group in self.promoted:
            name = group.tensors[0]
            lines.append(
                f"  {name}{f' ({group.source})' if group.source else ''}: alone at int8 it changes "
                f"the outputs by {100 * group.error**0.5:.3g} %; int16 costs about "
                f"{group.cycles:,} cycles"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class _Problem:
    trials: Trials
    calibrated: CalibratedGraph
    target: Target
    extremes: Ranges
    seen: Sample
    low: Mapping[str, QParams]
    begin: Recipe  # with two digits for the weights of some layers

    @property
    def mg(self) -> MatGraph:
        return self.calibrated.graph

    def recipe(self, promoted: Iterable[Candidate]) -> Recipe:
        """Return the recipe in which the groups are int16, with their unclipped ranges."""
        names = {name for group in promoted for name in group.tensors}.union(self.begin.promoted)
        ranges = {
            point: self.extremes.get(point, ends) if point.tensor in names else ends
            for point, ends in self.begin.ranges_by_point.items()
        }
        return replace(self.begin, promoted=tuple(sorted(names)), ranges=as_triples(ranges))

    def loss(self, promoted: Iterable[Candidate]) -> float:
        """Return the loss of the integers."""
        return self.trials.loss(self.recipe(promoted))


def choose_mixed(
    trials: Trials,
    calibrated: CalibratedGraph,
    target: Target,
    *,
    extremes: Ranges,
    seen: Sample,
    runs: Sequence[Run],
    max_loss: float,
    measure: Measure = "relative",
    step: Step = silent,
) -> Mixed:
    """Promote as few int8 tensors as keep the loss of the outputs within ``max_loss``.

    Where int8 weights keep int16 throughout from it, the layers that lose most by them get two
    digits.  ``extremes``: unclipped ranges, for promoted tensors.  ``seen``: inputs with the float
    values of ``calibrated``'s tensors, which order the candidates; ``runs``: all inputs.
    """
    plain = replace(calibrated.graph.recipe, ranges=as_triples(calibrated.ranges))
    before = trials.loss(plain)

    def widened(recipe: Recipe) -> Widened:
        ranges = as_triples({**calibrated.ranges, **extremes})
        wide = replace(recipe, precision="int16", ranges=ranges)
        return choose_widened(
            trials, calibrated, wide, runs=runs, seen=seen, max_loss=max_loss, step=step
        )

    plain, digits = _start(plain, widened, max_loss)
    low = choose_scales(calibrated, target).qparams
    begin = _with_digits(plain, digits)
    problem = _Problem(trials, calibrated, target, extremes, seen, low, begin)
    ordered = _ordered(_candidates(problem, _groups(calibrated), step))
    aim = max(max_loss, NEAR_FLOOR * digits.floor)
    promoted: Sequence[Candidate] = ()
    after = problem.loss(()) if digits.names else before
    if after > aim:
        step("tensors that int16 needs")
        promoted = _dropped(problem, _shortest(problem, ordered, aim), aim)
        after = problem.loss(promoted)
    kept = len(ordered) - len(promoted)
    return Mixed(measure, max_loss, before, after, digits.floor, tuple(promoted), kept,
                 len(trials.runs), problem.recipe(promoted))  # fmt: skip


def _start(
    plain: Recipe, widened: Callable[[Recipe], Widened], max_loss: float
) -> tuple[Recipe, Widened]:
    """Return the int8 recipe to begin with, and int16 throughout with its two-digit weights.

    Shifts of biases cancel what int8 rounds.  Where less is rounded they are errors themselves:
    they are left out where int16 throughout misses the bound with them, and loses less without.
    """
    digits = widened(plain)
    if not plain.shifts or digits.floor <= max_loss:
        return plain, digits
    bare = replace(plain, shifts=())
    other = widened(bare)
    return (bare, other) if other.floor < digits.floor else (plain, digits)


def _with_digits(plain: Recipe, digits: Widened) -> Recipe:
    """Return the int8 recipe with the two-digit weights of ``digits`` and their tensors' ranges."""
    ranges = {**digits.recipe.ranges_by_point, **plain.ranges_by_point}
    return replace(plain, widened=digits.names, ranges=as_triples(ranges))


def _groups(calibrated: CalibratedGraph) -> list[tuple[str, ...]]:
    """Return the scale groups that are int8 and may be int16."""
    mg, facts, chosen = calibrated.graph, calibrated.facts, calibrated.recipe.promoted
    return [
        tuple(names)
        for root, names in facts.scale_groups.members(mg.tensors).items()
        if root not in facts.int16 and not any(n in mg.quant or n in chosen for n in names)
    ]


def _candidates(
    problem: _Problem, groups: Sequence[tuple[str, ...]], step: Step
) -> list[Candidate]:
    """Return each group with the output error of rounding it alone and the cost of int16."""
    mg, wanted = problem.mg, problem.seen.values
    uses, place = Uses.of(mg), {op.output: i for i, op in enumerate(mg.ops)}
    found = []
    for number, names in enumerate(groups, 1):
        step(f"tensor {number} of {len(groups)}")
        rounded = {**mg.quant, **{n: problem.low[n] for n in names}}
        error = relative_error(mg, rerun(mg, wanted, rounded, names), wanted) ** 2
        makers = [op for name in names if (op := uses.maker(name)) is not None and op.source]
        first = min(makers, key=lambda op: place[op.output], default=None)
        touched = {op.output: op for n in names for op in (uses.maker(n), *uses.readers(n)) if op}
        cycles = sum(_extra_cycles(op, names, problem) for op in touched.values())
        found.append(Candidate(names, first.source if first else "", error, cycles))
    return found


def _extra_cycles(op: MatOp, names: tuple[str, ...], problem: _Problem) -> int:
    """Return the cost of int16: a second pass of matmuls that read a tensor, twice the bytes."""
    mg = problem.mg
    touched = [n for n in (*op.inputs, op.output) if n in names]
    moved = sum(prod(mg.tensors[n].shape) for n in touched)
    sides = [n for n in touched if isinstance(op, Gemm) and n in (op.input, op.rhs)]
    return rough_cycles(problem.target, moved, len(sides) * _macs(op, mg))


def _macs(op: MatOp, mg: MatGraph) -> int:
    if not isinstance(op, Gemm):
        return 0
    depth = mg.tensors[op.input].shape[3] if op.weight is None else prod(op.weight.shape[:3])
    return prod(mg.tensors[op.output].shape) * depth


def _ordered(candidates: list[Candidate]) -> list[Candidate]:
    """Return the candidates by falling error per cost; the mean cost is added to each, so that few
    tensors are preferred to many cheap ones."""
    typical = max(1.0, float(np.mean([c.cycles for c in candidates]))) if candidates else 1.0
    return sorted(candidates, key=lambda c: -c.error / (typical + c.cycles))


def _shortest(problem: _Problem, ordered: list[Candidate], aim: float) -> list[Candidate]:
    """Return the shortest beginning of ``ordered`` that meets the aim, by bisection."""
    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high) // 2
        if problem.loss(ordered[:middle]) <= aim:
            high = middle
        else:
            low = middle + 1
    return ordered[:high]


def _dropped(problem: _Problem, promoted: list[Candidate], aim: float) -> list[Candidate]:
    """Drop candidates that the aim does not need, those of least error per cost first."""
    for group in sorted(promoted, key=lambda c: c.error / max(1, c.cycles))[:MOST_DROPS]:
        fewer = [other for other in promoted if other != group]
        if problem.loss(fewer) <= aim:
            promoted = fewer
    return promoted
