# SPDX-License-Identifier: Apache-2.0
"""Mixed precision: which int8 tensors are promoted to int16 to bound the loss of the outputs.

In: a CalibratedGraph, samples, the allowed loss.  Out: ``Mixed``: the tensors, the reason for
each, and the loss before and after, measured with the exact integer reference; ``choose_precision``
is the pass.

Every scale group is rounded alone; the groups are ordered by squared output error per cost of
their second pass.  The shortest sufficient part of that order is found by bisection, groups that
are not needed are dropped, and the integer reference confirms the rest.
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
from ..ir.points import Point
from ..ir.quantized_values import dequantize_array
from ..ir.types import Array, QParams
from .calibrated_graph import CalibratedGraph
from .fake_quant import Sample, disagreement, relative_error, rerun, sample, with_rounded_weights
from .integer_reference import run_integer
from .quantize import quantize
from .samples import Run, Samples
from .scales import choose_scales
from .settings import MAX_LOSS, MEASURES, Settings

Step = Callable[[str], None]

LOSS = {"relative": relative_error, "top1": disagreement}
# Where int16 throughout misses the bound too, the aim is this many times the loss of int16.
NEAR_FLOOR = 1.1
MOST_DROPS = 12  # promoted tensors that are tried at int8 again
MOST_CHECKED = 4  # images of the confirmation in integers
CONFIRMATIONS = 4


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
    """The promoted tensors and the losses on the calibration data, by ``measure``."""

    measure: str
    max_loss: float
    before: float
    after: float
    floor: float
    promoted: tuple[Candidate, ...]
    kept: int
    images: int

    @property
    def met(self) -> bool:
        """Whether ``after`` is within ``max_loss``."""
        return self.after <= self.max_loss

    @property
    def tensors(self) -> frozenset[str]:
        """Names of all promoted tensors."""
        return frozenset(name for group in self.promoted for name in group.tensors)

    def to_text(self) -> str:
        """Return the promoted tensors with the reasons, for people."""
        verdict = "met" if self.met else f"not met; int16 throughout has {self.floor:.4g}"
        lines = [
            f"{len(self.promoted)} of {len(self.promoted) + self.kept} int8 tensors promoted to "
            "int16: "
            f"{MEASURES[self.measure]} {self.before:.4g} -> {self.after:.4g} on the first "
            f"{min(self.images, MOST_CHECKED)} of the calibration inputs, {self.max_loss:.4g} "
            f"allowed ({verdict})"
        ]
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
    calibrated: CalibratedGraph
    target: Target
    coarse: MatGraph  # int8 weights
    seen: Sample
    low: Mapping[str, QParams]
    high: Mapping[str, QParams]
    measure: str

    @property
    def mg(self) -> MatGraph:
        return self.calibrated.graph

    def loss(self, promoted: Iterable[Candidate]) -> float:
        """Return the loss of rounded floats."""
        names = {name for group in promoted for name in group.tensors}
        quant = {n: (self.high if n in names else self.low)[n] for n in self.mg.tensors}
        found = rerun(self.coarse, self.seen.values, quant)
        return float(LOSS[self.measure](self.mg, found, self.seen.values))


def silent(what: str) -> None:
    """Ignore a step: the default of ``step``."""


def choose_precision(
    calibrated: CalibratedGraph,
    target: Target,
    *,
    samples: Samples,
    settings: Settings,
    step: Step = silent,
) -> CalibratedGraph:
    """Return ``calibrated`` with the tensors that ``choose_mixed`` promotes in its recipe, and with
    their unclipped ranges.  ``step`` is called with the number of each tensor."""
    limit = MAX_LOSS if settings.max_loss is None else settings.max_loss
    runs = samples.runs(calibrated.graph)
    mixed = choose_mixed(calibrated, target, runs, limit, settings.measure, step)
    extremes = calibrated.extremes
    wider = {p: extremes[p] for p in map(Point, mixed.tensors) if p in extremes}
    return replace(
        _with_promoted(calibrated, mixed.tensors),
        ranges={**calibrated.ranges, **wider},
        notes=(*calibrated.notes, *mixed.to_text().splitlines()),
    )


def _with_promoted(calibrated: CalibratedGraph, names: Iterable[str]) -> CalibratedGraph:
    recipe = replace(calibrated.graph.recipe, promoted=tuple(sorted(names)))
    return replace(calibrated, graph=replace(calibrated.graph, recipe=recipe))


def choose_mixed(
    calibrated: CalibratedGraph,
    target: Target,
    runs: Iterable[Run],
    max_loss: float = MAX_LOSS,
    measure: str = "relative",
    step: Step = silent,
) -> Mixed:
    """Promote as few int8 tensors as keep the loss of the outputs within ``max_loss``.

    ``runs``: calibration inputs in the source shapes, one model batch each; the first few count.
    """
    mg, groups = calibrated.graph, _groups(calibrated)
    names = [name for group in groups for name in group]
    low, high = (
        choose_scales(_with_promoted(calibrated, promoted), target).qparams
        for promoted in ((), names)
    )
    seen = sample(mg, runs)
    problem = _Problem(calibrated, target, with_rounded_weights(mg), seen, low, high, measure)
    ordered = _ordered(_candidates(problem, groups, step))
    floor = problem.loss(ordered)
    aim = max(max_loss, NEAR_FLOOR * floor)
    enough = _dropped(problem, _shortest(problem, ordered, aim), aim)
    before = _integer_loss(problem, ())
    promoted, after = _confirmed(problem, enough, ordered, aim)
    kept = len(ordered) - len(promoted)
    return Mixed(measure, max_loss, before, after, floor, promoted, kept, seen.images)


def _groups(calibrated: CalibratedGraph) -> list[tuple[str, ...]]:
    """Return the scale groups that are int8 and may be int16."""
    mg, facts = calibrated.graph, calibrated.facts
    return [
        tuple(names)
        for root, names in facts.scale_groups.members(mg.tensors).items()
        if root not in facts.int16 and not any(n in mg.quant for n in names)
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


def _confirmed(
    problem: _Problem, promoted: list[Candidate], ordered: list[Candidate], aim: float
) -> tuple[tuple[Candidate, ...], float]:
    """Promote more until the integers, which may lose more than rounded floats, meet the bound."""
    left = [group for group in ordered if group not in promoted]
    loss = _integer_loss(problem, promoted)
    for _ in range(CONFIRMATIONS):
        if loss <= aim or not left:
            break
        step = max(1, len(ordered) // 8)
        more = [*promoted, *left[:step]]
        found = _integer_loss(problem, more)
        if found >= loss:  # the rest of the loss has other causes
            break
        promoted, left, loss = more, left[step:], found
    return tuple(promoted), loss


def _integer_loss(problem: _Problem, promoted: Iterable[Candidate]) -> float:
    """Return the loss of the exact integer reference on a few images."""
    mg, seen, target = problem.mg, problem.seen, problem.target
    names = [name for group in promoted for name in group.tensors]
    scaled = choose_scales(_with_promoted(problem.calibrated, names), target)
    graph = quantize(scaled, target)
    count = min(seen.images, MOST_CHECKED)
    shown = {port.tensor for port in mg.outputs}
    parts: dict[str, list[Array]] = {name: [] for name in shown}
    for image in range(count):
        feeds = {p.name: _image(seen.feeds[p.name], image, seen.images) for p in mg.inputs}
        values = run_integer(graph, feeds)
        for name in shown:
            parts[name].append(dequantize_array(values[name], graph.qparams[name]))
    found = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    wanted = {name: seen.values[name][: len(found[name])] for name in shown}
    return float(LOSS[problem.measure](mg, found, wanted))


def _image(feed: Array, image: int, images: int) -> Array:
    """Return one run of several stacked along the first axis."""
    if images == 1:
        return feed
    each = len(feed) // images
    return feed[image * each : (image + 1) * each]
