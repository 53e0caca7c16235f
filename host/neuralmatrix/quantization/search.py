# SPDX-License-Identifier: Apache-2.0
"""The search for ranges, factors, shifts and precision on the loss of the finished integers.

In: a MatGraph, samples, settings.  Out: ``Choice``: a recipe, and what was found.

It begins with the plain methods of calibration and keeps a change only if the integers of the whole
network lose less with it on inputs spread over the calibration set, so that the result is never
worse there than the best plain method.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import TypeVar

import numpy as np

from ..hardware.target import Target
from ..ir.matgraph.facts import TiedGraph
from ..ir.matgraph.ops import MatGraph
from ..ir.points import Interval, Point, Ranges
from ..ir.recipe import Recipe, Rounding, as_arrays, as_numbers, as_triples
from ..ir.types import Array
from .calibrate import CLIP, Observed, observe, set_ranges
from .calibrated_graph import ScaledGraph
from .correct_biases import correct_biases, shifts_of
from .equalize import migrate
from .fake_quant import MOST_IMAGES, sample
from .level_spectra import level_spectra
from .mixed_precision import Mixed, choose_mixed
from .overrides import with_overrides
from .round_weights import roundings_of
from .samples import Run, Samples, spread
from .scales import choose_scales
from .settings import FEWEST_REFINED, MAX_LOSS, Settings
from .split_scales import split_scales
from .trials import Finish, Step, Trials, multiply_adds, silent, trial_runs

Item = TypeVar("Item")

PLAIN = "mse"  # the method that is taken untried
GAIN = 0.95  # a change has to bring the loss below this share of it
DIFFERENT = 0.05  # by how much two methods' ranges of a tensor differ, to be tried on their own
# Room beyond the ranges of divided channels: all of them then end near the range's ends, so that a
# new input leaves it far more often than where one channel alone decided it.
EVEN_ROOM = 1.2
# How often tensors that are switched, or refined, together are halved where all of them do not
# gain: the less the more multiply-adds a trial has.
HALVINGS = ((1 << 32, 2), (1 << 34, 1))


@dataclass(frozen=True)
class Choice:
    """``recipe``: of the integers.  ``method``: how their ranges were chosen; ``notes``: for
    people; ``mixed``: what was promoted; ``complete``: time has left no change untried."""

    recipe: Recipe
    method: str
    notes: tuple[str, ...] = ()
    mixed: Mixed | None = None
    complete: bool = True


def search(
    graph: MatGraph,
    target: Target,
    *,
    runs: Sequence[Run],
    settings: Settings,
    finish: Finish,
    step: Step = silent,
) -> Choice:
    """Return the recipe whose integers lose least on ``runs``, the calibration inputs."""
    begin = replace(graph, recipe=Recipe(settings.precision))
    once = Samples(runs, len(runs))
    levelled = level_spectra(begin, target, samples=once)
    parted = split_scales(levelled, target, samples=once, precision=settings.precision)
    recipe = replace(levelled.recipe, units=parted.recipe.units)
    recipe = with_overrides(recipe, graph, settings.overrides)
    observed = observe(finish.tied(replace(graph, recipe=recipe), target), runs)
    if not settings.searches:
        return _plain(observed, settings, recipe)
    measure = settings.measures(port.name for port in graph.outputs)
    trials = Trials(graph, target, finish, trial_runs(graph, runs), measure)
    found = _Search(trials, observed, settings, target, recipe, step, len(runs))
    if recipe.units:
        whole = replace(graph, recipe=replace(recipe, units=()))
        found.without_units(observe(finish.tied(whole, target), runs))
    found.methods()
    found.tensors()
    if settings.tries_refinement(len(runs)):
        found.factors(runs)
        found.shifts(runs)
    shifted = bool(found.recipe.shifts)
    mixed = found.precision(runs) if settings.precision == "mixed" else None
    if settings.tries_refinement(len(runs)):
        if shifted and not found.recipe.shifts:  # those of int8 throughout were left out
            found.shifts(runs)
        found.roundings(runs)
    return found.choice(replace(mixed, after=found.loss) if mixed else None)


def _plain(observed: Observed, settings: Settings, recipe: Recipe) -> Choice:
    """Return the ranges of one method, untried."""
    asked = PLAIN if settings.method == "auto" else settings.method
    method = "minmax" if settings.precision == "int16" else asked
    ranges = as_triples(_ranges(observed, method, settings))
    return Choice(replace(recipe, ranges=ranges), method, observed.notes)


def _ranges(observed: Observed, method: str, settings: Settings) -> Ranges:
    """Return the ranges of a method with room for other inputs."""
    if settings.precision == "int16":
        return {**observed.ranges(method), **observed.roomy}
    return observed.ranges_with_tails(method)


@dataclass
class _Search:
    trials: Trials
    observed: Observed
    settings: Settings
    target: Target
    recipe: Recipe
    step: Step
    inputs: int  # of the calibration
    method: str = "minmax"
    loss: float = np.inf
    kept: list[str] = field(default_factory=list)
    losses: dict[str, float] = field(default_factory=dict)  # of the plain methods
    skipped: int = 0
    began: float = field(default_factory=time.monotonic)

    # ------------------------------------------------------------ steps

    def without_units(self, plain: Observed) -> None:
        """Leave the units of parts out if the integers lose less without; ``plain``: then
        observed."""
        ranges = (as_triples(_ranges(s, PLAIN, self.settings)) for s in (self.observed, plain))
        parted, whole = (replace(self.recipe, ranges=found) for found in ranges)
        self.step("units of parts")
        if self.trials.loss(replace(whole, units=())) < self.trials.loss(parted):
            self.observed, self.recipe = plain, replace(self.recipe, units=())

    def methods(self) -> None:
        """Take the best plain method of calibration."""
        asked = self.settings.method
        names = tuple(CLIP) if asked == "auto" else (asked,)
        names = ("minmax",) if self.settings.precision == "int16" else names
        if len(names) == 1 and not self._refines:  # nothing is compared with its loss
            self.method = names[0]
            self.recipe = self._with_ranges(_ranges(self.observed, self.method, self.settings))
            return
        tried: list[Ranges] = []
        for name in names:
            ranges = _ranges(self.observed, name, self.settings)
            if ranges in tried:
                continue
            tried.append(ranges)
            if self._better(name, self._with_ranges(ranges), first=not self.losses):
                self.method = name

    @property
    def _refines(self) -> bool:
        """Whether anything is tried beside methods of calibration."""
        settings = self.settings
        return settings.precision == "mixed" or settings.tries_refinement(self.inputs)

    def tensors(self) -> None:
        """Switch single tensors to the ranges of another method where the integers gain."""
        few = self.inputs < FEWEST_REFINED  # they say too little about single tensors
        if self.settings.method != "auto" or len(self.losses) < 2 or few:
            return
        for name in sorted(self.losses.keys() - {self.method}, key=self.losses.__getitem__):
            other = _ranges(self.observed, name, self.settings)
            own = self.recipe.ranges_by_point
            points = [p for p in own if p in other and _differ(own[p], other[p])]
            switched = partial(self._switched, other)
            self._halves(f"{name} for some tensors", points, switched, whole=False)

    def _switched(self, other: Ranges, points: Sequence[Point]) -> Recipe:
        """Return the recipe with the ranges of some points taken from ``other``."""
        return self._with_ranges({**self.recipe.ranges_by_point, **{p: other[p] for p in points}})

    def factors(self, runs: Sequence[Run]) -> None:
        """Divide channels by factors where the integers gain."""
        graph = self.trials.graph
        self.step("factors of channels")
        sizes = {n: np.maximum(-lo, hi) for n, (lo, hi) in self.observed.channels.items()}
        found = migrate(graph, sample(graph, spread(runs, MOST_IMAGES)), sizes)

        def divided(names: Sequence[str]) -> Recipe:
            chosen = {n: found[n] for n in names}
            ranges = self._divided(self.recipe.ranges_by_point, chosen)
            all_of_them = (*self.recipe.factors, *as_numbers(chosen))
            return replace(self._with_ranges(ranges), factors=all_of_them)

        self._halves("factors of channels", list(found), divided)

    def shifts(self, runs: Sequence[Run]) -> None:
        """Shift biases where the integers gain."""
        self.step("shifts of biases")
        scaled = self._scaled()
        seen = sample(scaled.graph, spread(runs, MOST_IMAGES))
        found = shifts_of(scaled.graph, scaled.qparams, seen)

        def shifted(names: Sequence[str]) -> Recipe:
            chosen = as_numbers({n: found[n] for n in names})
            return replace(self.recipe, shifts=(*self.recipe.shifts, *chosen))

        self._halves("shifts of biases", list(found), shifted)

    def roundings(self, runs: Sequence[Run]) -> None:
        """Round weights so that their errors cancel, where the integers gain."""
        self.step("roundings of weights")
        found = roundings_of(self._scaled(), list(runs))

        def rounded(some: Sequence[Rounding]) -> Recipe:
            kept = {r.names: r for r in (*self.recipe.roundings, *some)}
            return replace(self.recipe, roundings=tuple(r for r in found if r.names in kept))

        self._halves("roundings of weights", found, rounded)

    def precision(self, runs: Sequence[Run]) -> Mixed:
        """Promote as few tensors to int16 as the allowed loss requires."""
        known = correct_biases(set_ranges(self._tied(), self.target), self.target)
        wide = {**self.observed.extremes, **self.observed.roomy}
        mixed = choose_mixed(
            self.trials,
            known,
            self.target,
            extremes=self._divided(wide, as_arrays(self.recipe.factors)),
            seen=sample(known.graph, spread(runs, MOST_IMAGES)),
            runs=runs,
            max_loss=self._allowed(),
            measure=self.settings.measure,
            step=self.step,
        )
        self.recipe, self.loss = mixed.recipe, mixed.after
        return mixed

    def _allowed(self) -> float:
        """Return the loss that mixed allows: the user's, or what fits the strictest output."""
        asked = self.settings.max_loss
        kinds = {judge.kind for judge in self.trials.judges.values()}
        return min(MAX_LOSS[kind] for kind in kinds) if asked is None else asked

    def choice(self, mixed: Mixed | None) -> Choice:
        """Return what was found."""
        notes = list(self.observed.notes)
        if self.skipped:
            notes.append(
                f"the search ended after {self.settings.search_seconds:g}"
                f" s; {self.skipped} changes were not tried: allow more with search_seconds="
                " (--search-seconds)"
            )
        method = ", ".join([self.method, *self.kept])
        return Choice(self.recipe, method, tuple(notes), mixed, not self.skipped)

    # ------------------------------------------------------------ trials

    def _better(self, what: str, recipe: Recipe, first: bool = False) -> bool:
        """Try a recipe, and keep it if its loss is clearly lower."""
        if not first and time.monotonic() - self.began > self.settings.search_seconds:
            self.skipped += 1
            return False
        self.step(f"{what}, loss so far {self.loss:.4g}")
        loss = self.trials.loss(recipe)
        if what in CLIP:
            self.losses[what] = loss
        if loss >= GAIN * self.loss:
            return False
        self.recipe, self.loss = recipe, loss
        return True

    def _halves(self, what: str, items: Sequence[Item], change: Callable[[Sequence[Item]], Recipe],
                whole: bool = True) -> None:  # fmt: skip
        """Change all items, or else each half of them, and of the halves that do not gain again."""
        queue = [(list(items), 0)] if items else []
        while queue:
            some, depth = queue.pop(0)
            if (whole or depth) and self._better(what, change(some)):
                if what not in self.kept:
                    self.kept.append(what)
            elif depth < self.halvings and len(some) > 1:
                middle = len(some) // 2
                queue += [(some[:middle], depth + 1), (some[middle:], depth + 1)]

    @cached_property
    def halvings(self) -> int:
        """How often changes are halved in this network."""
        cost = multiply_adds(self.trials.graph) * len(self.trials.runs)
        return next((count for most, count in HALVINGS if cost <= most), 0)

    # ------------------------------------------------------------ recipes

    def _tied(self) -> TiedGraph:
        graph = replace(self.trials.graph, recipe=self.recipe)
        return self.trials.finish.tied(graph, self.target)

    def _scaled(self) -> ScaledGraph:
        known = correct_biases(set_ranges(self._tied(), self.target), self.target)
        return choose_scales(known, self.target)

    def _with_ranges(self, ranges: Ranges) -> Recipe:
        return replace(self.recipe, ranges=as_triples(ranges))

    def _divided(self, given: Ranges, factors: Mapping[str, Array]) -> dict[Point, Interval]:
        """Return ranges after division of the channels of tensors, and of their copies."""
        ranges = dict(given)
        facts = self.observed.tied.facts
        members = facts.scale_groups.members(self.observed.tied.graph.tensors)
        for name, factor in factors.items():
            lo, hi = self.observed.channels[name]
            scale = _shrinkage(self.observed.extremes[Point(name)], (lo / factor, hi / factor))
            for copy in members[facts.scale_groups.root(name)]:
                for point in [p for p in ranges if p.tensor == copy]:
                    ranges[point] = (ranges[point][0] * scale[0], ranges[point][1] * scale[1])
        return ranges


def _shrinkage(before: Interval, channels: tuple[Array, Array]) -> Interval:
    """Return by how much both ends of a range change, given the new ends of its channels."""
    lo, hi = min(float(channels[0].min()), 0.0), max(float(channels[1].max()), 0.0)
    shares = (lo / before[0] if before[0] else 1.0, hi / before[1] if before[1] else 1.0)
    return shares[0] * EVEN_ROOM, shares[1] * EVEN_ROOM


def _differ(a: Interval, b: Interval) -> bool:
    return any(abs(x - y) > DIFFERENT * max(abs(x), abs(y)) for x, y in zip(a, b, strict=True))
