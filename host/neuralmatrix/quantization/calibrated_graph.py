# SPDX-License-Identifier: Apache-2.0
"""A TiedGraph with the ranges of its points, and then with its scales.

In: nothing.  Out: ``CalibratedGraph`` and ``ScaledGraph``, which the passes take and return.
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
    """``ranges`` of all points; ``extremes``: the same unclipped, for tensors that are promoted to
    int16.  ``precision``: of activations; ``notes``: those of ``choose_precision``."""

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
        """The results of calibration that a program stores."""
        return Decisions(self.precision, self.ranges, self.graph.recipe, self.notes)


@dataclass(frozen=True)
class ScaledGraph:
    """``spans``: the range that every point covers.  ``qparams`` of every tensor; ``weights``:
    integer weights by output, of the operations that have any."""

    graph: MatGraph
    spans: Ranges
    qparams: Mapping[str, QParams]
    weights: Mapping[str, IntWeight]
    decisions: Decisions
