# SPDX-License-Identifier: Apache-2.0
"""The passes that choose numbers and measure them, for the list of passes.

In: ``Settings`` and samples, or the recipe of a program.  Out: ``Numbers``, whose methods are
passes (graph, target) -> graph.  All passes between them follow the recipe that the graph carries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ..hardware.target import Target
from ..ir.accuracy import Accuracy
from ..ir.matgraph.ops import MatGraph
from ..ir.matgraph.reference import port_outputs, run_float
from ..ir.points import Point
from ..ir.recipe import Recipe, Rounding
from ..ir.types import Array, Units
from .accuracy import measure_accuracy
from .apply_units import with_units
from .calibrated_graph import ScaledGraph
from .compile_cache import remembered
from .exact_outputs import exact_recipe
from .level_spectra import with_levels
from .mixed_precision import Candidate, Mixed
from .overrides import with_overrides
from .qgraph import QGraph
from .round_weights import with_roundings
from .samples import Run, Samples
from .search import Choice, search
from .settings import Settings
from .trials import Finish, Step, Trials, integer_outputs, silent
from .widen_weights import widen_weights

CHOICE = {
    kind.__name__: kind for kind in (Candidate, Choice, Mixed, Point, Recipe, Rounding, Units)
}


def apply_levels(graph: MatGraph, target: Target) -> MatGraph:
    """Return ``graph`` with the levels of its recipe for the channels of spectra."""
    return with_levels(graph, target, levels=graph.recipe.levels, splits=graph.recipe.splits)


def apply_units(graph: MatGraph, target: Target) -> MatGraph:
    """Return ``graph`` with the units of its recipe for parts of tensors."""
    return with_units(graph, target, units=graph.recipe.units)


def widen(graph: MatGraph, target: Target) -> MatGraph:
    """Return ``graph`` with two digits for the weights that its recipe names."""
    return widen_weights(graph, target, names=graph.recipe.widened)


def round_weights(scaled: ScaledGraph, target: Target) -> ScaledGraph:
    """Return ``scaled`` with the roundings of its recipe."""
    return with_roundings(scaled, target, roundings=scaled.recipe.roundings)


@dataclass
class Numbers:
    """``saved``: a recipe to follow instead of a choice.  Without samples, a QDQ model's scales
    decide.  ``step`` is called with the progress of a long pass.

    ``notes`` and ``accuracy`` are there once the passes have run.
    """

    settings: Settings
    samples: Samples | None
    finish: Finish
    saved: Recipe | None = None
    step: Step = silent
    accuracy: Accuracy | None = None
    _model: MatGraph | None = field(default=None, repr=False)
    _found: Choice | None = field(default=None, repr=False)
    _held_loss: float | None = None

    def choose(self, graph: MatGraph, target: Target) -> MatGraph:
        """Return ``graph`` with the recipe that the passes behind it follow."""
        self._model = graph
        if self.saved is not None:
            return replace(graph, recipe=self.saved)
        if self.samples is None:
            recipe = exact_recipe(graph, self.settings.precision)
            recipe = with_overrides(recipe, graph, self.settings.overrides)
            return replace(graph, recipe=recipe)
        runs = tuple(self.samples.runs(graph))
        self._found = remembered("recipe", self._search, graph, target, runs, self.settings,
                                 classes=CHOICE, keeps=lambda found: found.complete)  # fmt: skip
        return replace(graph, recipe=self._found.recipe)

    def _search(
        self, graph: MatGraph, target: Target, runs: tuple[Run, ...], settings: Settings
    ) -> Choice:
        return search(graph, target, runs=runs, settings=settings, finish=self.finish,
                      step=self.step)  # fmt: skip

    @property
    def notes(self) -> tuple[str, ...]:
        """What the choice left out, promoted or had no time for."""
        if self._found is None:
            return ()
        mixed = self._found.mixed
        promoted = mixed.to_text(self._held_loss).splitlines() if mixed else []
        return (*promoted, *self._found.notes)

    @property
    def held(self) -> tuple[Run, ...]:
        """The inputs that are held back."""
        known = self.samples is not None and self._model is not None
        return self.samples.held(self._model) if known else ()  # type: ignore[union-attr, arg-type]

    def float_outputs(self, runs: Sequence[Run]) -> list[dict[str, Array]]:
        """Return the float model's outputs of single runs, as it shows them."""
        assert self._model is not None
        mg = self._model
        return [port_outputs(mg, run_float(mg, run, keep=False)) for run in runs]

    def measure(self, graph: QGraph, target: Target) -> QGraph:
        """Measure ``graph`` on the inputs that are held back, and return it."""
        if self.samples is None or self._model is None or not self.settings.measured:
            return graph
        count = sum(1 for _ in self.samples.runs(self._model))
        method = self._found.method if self._found else ""
        self.accuracy = measure_accuracy(graph, self._model, self.held, count, method)
        if self._found and self._found.mixed and self.held:
            measures = self.settings.measures(port.name for port in graph.outputs)
            trials = Trials(self._model, target, self.finish, self.held, measures)
            self._held_loss = trials.loss_of(integer_outputs(graph, self.held))
        return graph
