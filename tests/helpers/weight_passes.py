# SPDX-License-Identifier: Apache-2.0
"""Compiling with rounded or widened weights, whether or not the search would keep them.

In: a model, calibration inputs.  Out: its Program.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import neuralmatrix as nm
import pytest
from neuralmatrix.hardware.target import Target
from neuralmatrix.ir.matgraph.ops import MatGraph
from neuralmatrix.ir.recipe import as_triples
from neuralmatrix.program.program import Program
from neuralmatrix.quantization import passes
from neuralmatrix.quantization.calibrate import observe, set_ranges
from neuralmatrix.quantization.calibrated_graph import ScaledGraph
from neuralmatrix.quantization.correct_biases import correct_biases
from neuralmatrix.quantization.round_weights import roundings_of, with_roundings
from neuralmatrix.quantization.samples import Run
from neuralmatrix.quantization.scales import choose_scales
from neuralmatrix.quantization.search import Choice, search
from targets import target


def compiled(
    monkeypatch: pytest.MonkeyPatch,
    model: Any,
    feeds: Iterable[dict[str, Any]],
    rounded: bool = True,
    widened: Sequence[str] = (),
    **settings: Any,
) -> Program:
    """Return the program with the weights of all layers rounded, or those of ``widened`` wider."""

    def forced(graph: MatGraph, target: Target, *, runs: Sequence[Run], **others: Any) -> Choice:
        found = search(graph, target, runs=runs, **others)
        recipe = replace(found.recipe, widened=tuple(widened), roundings=())
        tied = others["finish"].tied(replace(graph, recipe=recipe), target)
        ranges = as_triples(observe(tied, runs).ranges("minmax"))
        recipe = replace(recipe, ranges=ranges)
        tied = replace(tied, graph=replace(tied.graph, recipe=recipe))
        known = choose_scales(correct_biases(set_ranges(tied, target), target), target)
        roundings = roundings_of(known, list(runs)) if rounded else ()
        return replace(found, recipe=replace(recipe, roundings=roundings))

    with monkeypatch.context() as patch:
        patch.setattr(passes, "search", forced)
        return nm.compile(model, calibration=feeds, **settings)


def with_all_roundings(scaled: ScaledGraph, runs: Sequence[Run]) -> ScaledGraph:
    """Return ``scaled`` with all roundings that lose less than the nearest integers."""
    found = roundings_of(scaled, list(runs))
    return with_roundings(scaled, target(), roundings=found)
