# SPDX-License-Identifier: Apache-2.0
"""A TiedGraph with what calibration knows of its points, and then with its scales.

In: nothing.  Out: ``CalibratedGraph`` and ``ScaledGraph``, which the passes hand on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..ir.matgraph.facts import Facts, TiedGraph
from ..ir.matgraph.ops import MatGraph
from ..ir.points import Ranges
from ..ir.types import QParams
from .integer_weights import IntWeight
from .qgraph import Decisions


@dataclass(frozen=True)
class CalibratedGraph:
    """``ranges`` of all points; ``extremes``: the same unclipped, for tensors that turn out to be
    int16.  ``precision``: of activations; ``notes``: what ``choose_precision`` has to say."""

    graph: MatGraph
    facts: Facts
    precision: str
    ranges: Ranges
    extremes: Ranges
    notes: tuple[str, ...] = ()

    @property
    def tied(self) -> TiedGraph:
        """The graph without its ranges."""
        return TiedGraph(self.graph, self.facts)

    @property
    def decisions(self) -> Decisions:
        """What the program has to remember of the calibration."""
        return Decisions(self.precision, self.ranges, self.graph.recipe, self.notes)


@dataclass(frozen=True)
class ScaledGraph:
    """``spans``: what the codes of every point cover.  ``qparams`` of every tensor; ``weights``:
    integer weights by output, of the operations that have any."""

    graph: MatGraph
    spans: Ranges
    qparams: Mapping[str, QParams]
    weights: Mapping[str, IntWeight]
    decisions: Decisions
