# SPDX-License-Identifier: Apache-2.0
"""What calibration decides about a network's numbers: ranges, refinements, tensors to raise.

In: a MatGraph, calibration inputs, ``Settings``.  Out: a ``Decision``; with its ``Recipe`` the same
integers can be made again from the source model (``prepared``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from ..errors import BadInput
from ..ir.matgraph.ops import MatGraph
from ..ir.recipe import Recipe
from ..ir.types import Array
from .calibrate import calibrate, runs_of
from .equalize import Refinement, correct_biases, migrate, refined
from .fake_quant import sample
from .interval_bounds import propagate
from .mixed_precision import MAX_LOSS, Measure, choose_mixed
from .quantize import activation_scales
from .settings import Feed, Settings

Bounds = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Decision:
    """The graph to quantise, the range of every tensor, how both came about, and notes on it."""

    graph: MatGraph
    bounds: Bounds
    recipe: Recipe = Recipe()
    notes: tuple[str, ...] = ()


def decide(lowered: MatGraph, calibration: Iterable[Feed] | None, settings: Settings) -> Decision:
    """Ranges by calibration, or propagated from the scales of a QDQ model; then refinements and
    mixed precision where they are asked for."""
    if calibration is None:
        _check_prescribed(lowered)
        return Decision(lowered, propagate(lowered))
    if settings.precision != "mixed" and not settings.refines:
        return Decision(lowered, _bounds(lowered, calibration, settings))
    runs: list[Feed] = list(runs_of(lowered, calibration, settings.max_images))
    refinement = _refinement(lowered, runs, settings) if settings.refines else Refinement()
    graph = refined(lowered, refinement)
    bounds = _bounds(graph, runs, settings)
    if settings.precision != "mixed":
        return Decision(graph, bounds, _recipe((), refinement))
    limit = MAX_LOSS if settings.max_loss is None else settings.max_loss
    mixed = choose_mixed(graph, bounds, runs, limit, cast(Measure, settings.measure))
    wide = _bounds(graph, runs, replace(settings, precision="int16"))
    bounds.update({name: wide[name] for name in mixed.tensors if name in wide})
    notes = tuple(mixed.to_text().splitlines())
    return Decision(graph, bounds, _recipe(sorted(mixed.tensors), refinement), notes)


def prepared(lowered: MatGraph, recipe: Recipe) -> MatGraph:
    """The graph that was quantised, from the source model's."""
    return refined(lowered, Refinement(_arrays(recipe.factors), _arrays(recipe.shifts)))


def _refinement(lowered: MatGraph, runs: list[Feed], settings: Settings) -> Refinement:
    seen = sample(lowered, runs)
    factors = migrate(lowered, seen)
    graph = refined(lowered, Refinement(factors))
    if factors:
        seen = sample(graph, runs)
    scales = activation_scales(graph, _bounds(graph, runs, settings), settings.precision)
    return Refinement(factors, correct_biases(graph, scales, seen))


def _bounds(graph: MatGraph, feeds: Iterable[Feed], settings: Settings) -> Bounds:
    """At 16 bits nothing is gained by clipping, so that the extremes count."""
    found = calibrate(graph, feeds, settings.method, settings.max_images)
    chosen = found.extremes if settings.precision == "int16" else found.ranges
    return {name: (r.lo, r.hi) for name, r in chosen.items()}


def _check_prescribed(lowered: MatGraph) -> None:
    missing = [p.name for p in lowered.inputs if p.tensor not in lowered.quant and p.table is None]
    if missing:
        raise BadInput(
            f"no calibration given, and the model prescribes no scale for input(s) "
            f"{', '.join(missing)}; pass calibration= (--calibration) with some typical inputs "
            "(16 to 256), or a QDQ model"
        )


def _recipe(raised: Iterable[str], refinement: Refinement) -> Recipe:
    return Recipe(tuple(raised), _numbers(refinement.factors), _numbers(refinement.shifts))


def _numbers(arrays: Mapping[str, Array]) -> tuple[tuple[str, tuple[float, ...]], ...]:
    return tuple((name, tuple(map(float, values))) for name, values in arrays.items())


def _arrays(numbers: Iterable[tuple[str, tuple[float, ...]]]) -> dict[str, Array]:
    return {name: np.asarray(values, np.float32) for name, values in numbers}
