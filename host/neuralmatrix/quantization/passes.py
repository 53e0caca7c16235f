# SPDX-License-Identifier: Apache-2.0
"""The passes that choose a network's numbers, for the list of passes.

In: ``Settings`` and samples, or what they led to in a program.  Out: (name, pass) pairs; a pass is
a function (graph, target) -> graph.  ``legalize_operands`` and ``tie_scales`` run between the
passes of ``equalization`` and those of ``quantization``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..hardware.target import Target
from ..ir.points import Ranges
from ..ir.recipe import Recipe
from .calibrate import calibrate, with_ranges
from .correct_biases import correct_biases, with_shifts
from .equalize import equalize, with_factors
from .interval_bounds import interval_bounds
from .mixed_precision import Step, choose_precision, silent
from .quantize import quantize
from .samples import Samples
from .scales import choose_scales
from .settings import Settings

Pass = Callable[[Any, Target], Any]
Passes = tuple[tuple[str, Pass], ...]

SCALES: Passes = (("choose_scales", choose_scales), ("quantize", quantize))


def equalization(settings: Settings, samples: Samples | None) -> Passes:
    """MatGraph -> MatGraph; the same one where no refinement is asked for."""
    if samples is None or not settings.refines:
        return equalization_again(Recipe())
    return (("equalize", partial(equalize, samples=samples)),)


def quantization(settings: Settings, samples: Samples | None, step: Step = silent) -> Passes:
    """TiedGraph -> QGraph.  Without samples ranges follow from the scales of a QDQ model.

    ``step`` hears how far a long pass has come.
    """
    if samples is None:
        bounds = partial(interval_bounds, precision=settings.precision)
        return (("interval_bounds", bounds), *SCALES)
    ranges = ("calibrate", partial(calibrate, samples=samples, settings=settings))
    biases = ("correct_biases", partial(correct_biases, samples=samples))
    mixed = partial(choose_precision, samples=samples, settings=settings, step=step)
    return (
        ranges,
        *((biases, ranges) if settings.refines else ()),
        *((("choose_precision", mixed),) if settings.precision == "mixed" else ()),
        *SCALES,
    )


def equalization_again(recipe: Recipe) -> Passes:
    """``equalization`` with the factors that a program remembers."""
    return (("equalize", partial(with_factors, factors=recipe.factors)),)


def quantization_again(precision: str, ranges: Ranges, recipe: Recipe) -> Passes:
    """``quantization`` with the ranges and the recipe that a program remembers."""
    known = partial(with_ranges, precision=precision, ranges=ranges, raised=recipe.raised)
    return (
        ("correct_biases", partial(with_shifts, shifts=recipe.shifts)),
        ("calibrate", known),
        *SCALES,
    )
