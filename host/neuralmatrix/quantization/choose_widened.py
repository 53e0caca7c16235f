# SPDX-License-Identifier: Apache-2.0
"""Which layers get weights of two digits: the few whose int8 weights are the loss at int16.

In: trials, a recipe, a CalibratedGraph, runs.  Out: ``Widened``: a recipe, and the loss of int16
throughout with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..ir.points import Ranges
from ..ir.recipe import Recipe, as_triples
from .calibrate import observe
from .calibrated_graph import CalibratedGraph
from .fake_quant import Sample
from .samples import Run
from .trials import Step, Trials, silent
from .weight_losses import weight_losses
from .widen_weights import may_widen

WORTH = 0.8  # second digits that leave a larger share of the loss than this are not used
NEAR_LEAST = 1.1  # the loss that is aimed at, if the bound is out of reach


@dataclass(frozen=True)
class Widened:
    """``recipe`` with two digits for the layers that make ``names``; ``floor``: the loss of int16
    throughout with it."""

    recipe: Recipe
    floor: float
    names: tuple[str, ...] = ()


def choose_widened(
    trials: Trials,
    calibrated: CalibratedGraph,
    wide: Recipe,
    *,
    runs: Sequence[Run],
    seen: Sample,
    max_loss: float,
    step: Step = silent,
) -> Widened:
    """Return the recipe ``wide``, which is int16 throughout, with two digits where they help.

    ``seen``: inputs with the float values of ``calibrated``, which order the layers.
    """
    plain = trials.loss(wide)
    if plain <= max_loss:
        return Widened(wide, plain)
    step("layers that two digits help")
    ordered = _ordered(calibrated, seen)
    more = _ranges_of_low_digits(trials, wide, ordered, runs)

    def widened(count: int) -> Recipe:
        ranges = as_triples({**wide.ranges_by_point, **more}) if count else wide.ranges
        return replace(wide, widened=tuple(ordered[:count]), ranges=ranges)

    least = trials.loss(widened(len(ordered)))
    if least > WORTH * plain:
        return Widened(wide, plain)
    aim = max(max_loss, NEAR_LEAST * least)
    count = _fewest(len(ordered), lambda some: trials.loss(widened(some)) <= aim)
    chosen = widened(count)
    return Widened(chosen, trials.loss(chosen), chosen.widened)


def _ordered(calibrated: CalibratedGraph, seen: Sample) -> list[str]:
    """Return the layers that may be widened, those whose rounding loses most first."""
    mg = calibrated.graph
    losses = weight_losses(mg, seen)
    names = [op.output for op in mg.ops if may_widen(op) and losses.get(op.output)]
    return sorted(names, key=lambda name: -losses[name])


def _ranges_of_low_digits(
    trials: Trials, recipe: Recipe, names: Sequence[str], runs: Sequence[Run]
) -> Ranges:
    """Return the ranges of the tensors that only a graph of two digits has."""
    graph = replace(trials.graph, recipe=replace(recipe, widened=tuple(names)))
    known = recipe.ranges_by_point
    extremes = observe(trials.finish.tied(graph, trials.target), runs).extremes
    return {point: ends for point, ends in extremes.items() if point not in known}


def _fewest(most: int, enough: Callable[[int], bool]) -> int:
    """Return the smallest count that is enough, by bisection."""
    low, high = 0, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high
