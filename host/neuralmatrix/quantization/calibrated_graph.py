# SPDX-License-Identifier: Apache-2.0
"""A TiedGraph with the ranges of its points, and then with its scales.

In: nothing.  Out: ``CalibratedGraph`` and ``ScaledGraph``, which the passes take and return.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..ir.matgraph.facts import Facts, TiedGraph
from ..ir.matgraph.ops import MatGraph
from ..ir.points import Ranges
from ..ir.recipe import Recipe, as_triples
from ..ir.types import QParams
from .integer_weights import IntWeight


@dataclass(frozen=True)
class CalibratedGraph:
    """``ranges`` of all points."""

    graph: MatGraph
    facts: Facts
    ranges: Ranges

    @property
    def precision(self) -> str:
        """The precision of activations."""
        return self.graph.recipe.precision

    @property
    def tied(self) -> TiedGraph:
        """The graph without its ranges."""
        return TiedGraph(self.graph, self.facts)

    @property
    def recipe(self) -> Recipe:
        """The recipe of the graph with these ranges: what a program stores."""
        return replace(self.graph.recipe, ranges=as_triples(self.ranges))


@dataclass(frozen=True)
class ScaledGraph:
    """``spans``: the range that every point covers.  ``qparams`` of every tensor; ``weights``:
    integer weights by output, of the operations that have any.  ``recipe``: what a program
    stores."""

    graph: MatGraph
    spans: Ranges
    qparams: Mapping[str, QParams]
    weights: Mapping[str, IntWeight]
    recipe: Recipe
