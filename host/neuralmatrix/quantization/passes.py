# SPDX-License-Identifier: Apache-2.0
"""The passes that choose scales, precision and integers, for the list of passes.

In: ``Settings`` and samples, or the ranges and recipe of a program.  Out: ``NumberPasses``; a pass
is a function (graph, target) -> graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..hardware.target import Target
from ..ir.points import Ranges
from ..ir.recipe import Recipe
from .calibrate import calibrate, with_ranges
from .correct_biases import correct_biases, with_shifts
from .equalize import equalize, with_factors
from .interval_bounds import interval_bounds
from .level_spectra import level_spectra, with_levels
from .mixed_precision import Step, choose_precision, silent
from .samples import Samples
from .settings import Settings

Pass = Callable[[Any, Target], Any]


def unchanged(graph: Any, target: Target) -> Any:
    """Return the graph itself: the pass for options that are off."""
    return graph


@dataclass(frozen=True)
class NumberPasses:
    """The passes of these names; ``unchanged`` where an option is off.

    ``level_spectra`` and ``equalize`` take a MatGraph; ``interval_bounds`` or else ``calibrate`` a
    TiedGraph; ``correct_biases`` a CalibratedGraph, whose ranges ``calibrate_again`` then measures
    again.
    """

    level_spectra: Pass = unchanged
    equalize: Pass = unchanged
    interval_bounds: Pass = unchanged
    calibrate: Pass = unchanged
    correct_biases: Pass = unchanged
    calibrate_again: Pass = unchanged
    choose_precision: Pass = unchanged


def chosen(settings: Settings, samples: Samples | None, step: Step = silent) -> NumberPasses:
    """Return passes that choose on samples; without any, ranges follow from a QDQ model's scales.

    ``step`` is called with the progress of a long pass.
    """
    if samples is None:
        return NumberPasses(interval_bounds=partial(interval_bounds, precision=settings.precision))
    refines, mixed = settings.refines, settings.precision == "mixed"
    ranges = partial(calibrate, samples=samples, settings=settings)
    precision = partial(choose_precision, samples=samples, settings=settings, step=step)
    return NumberPasses(
        level_spectra=partial(level_spectra, samples=samples),
        equalize=partial(equalize, samples=samples) if refines else unchanged,
        calibrate=ranges,
        correct_biases=partial(correct_biases, samples=samples) if refines else unchanged,
        calibrate_again=ranges if refines else unchanged,
        choose_precision=precision if mixed else unchanged,
    )


def remembered(precision: str, ranges: Ranges, recipe: Recipe) -> NumberPasses:
    """Return passes that repeat the choices stored in a program."""
    known = partial(with_ranges, precision=precision, ranges=ranges, promoted=recipe.promoted)
    return NumberPasses(
        level_spectra=partial(with_levels, levels=recipe.levels, splits=recipe.splits),
        equalize=partial(with_factors, factors=recipe.factors),
        correct_biases=partial(with_shifts, shifts=recipe.shifts),
        calibrate_again=known,
    )
