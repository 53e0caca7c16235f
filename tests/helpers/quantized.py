# SPDX-License-Identifier: Apache-2.0
"""The quantisation of MatGraphs by the compiler's own passes.

In: a MatGraph, inputs by name, a board's name.  Out: TiedGraph, CalibratedGraph, ranges, QGraph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from neuralmatrix.ir.matgraph.facts import TiedGraph
from neuralmatrix.ir.matgraph.ops import MatGraph
from neuralmatrix.ir.matgraph.reference import run_points
from neuralmatrix.ir.matgraph.verify import verify_matgraph
from neuralmatrix.ir.points import Interval, Point, Ranges
from neuralmatrix.ir.recipe import Recipe
from neuralmatrix.ir.types import Array, QParams
from neuralmatrix.quantization import calibrate
from neuralmatrix.quantization.calibrated_graph import CalibratedGraph
from neuralmatrix.quantization.interval_bounds import interval_bounds
from neuralmatrix.quantization.qgraph import QGraph
from neuralmatrix.quantization.quantize import quantize
from neuralmatrix.quantization.samples import Samples
from neuralmatrix.quantization.scales import choose_scales
from neuralmatrix.transforms.matgraph.legalize_operands import legalize_operands
from neuralmatrix.transforms.matgraph.tie_scales import tie_scales
from targets import target

BOARD = "pynq-z2"


def tied(mg: MatGraph, board: str = BOARD) -> TiedGraph:
    return tie_scales(legalize_operands(verify_matgraph(mg), target(board)), target(board))


def observed(mg: MatGraph, feeds: Mapping[str, Array], board: str = BOARD) -> Ranges:
    """Return the ranges of the points of the legal graph for one feed."""
    values = run_points(tied(mg, board).graph, feeds)
    return {point: (float(v.min()), float(v.max())) for point, v in values.items()}


def named(**ranges: Interval) -> Ranges:
    """Return the ranges of tensors alone."""
    return {Point(name): ends for name, ends in ranges.items()}


def with_ranges(
    mg: MatGraph,
    ranges: Ranges,
    precision: str = "int8",
    promoted: Iterable[str] = (),
    board: str = BOARD,
) -> CalibratedGraph:
    return calibrate.with_ranges(
        tied(mg, board), precision=precision, ranges=ranges, promoted=tuple(promoted)
    )


def quantized(
    mg: MatGraph,
    ranges: Ranges,
    precision: str = "int8",
    promoted: Iterable[str] = (),
    board: str = BOARD,
) -> QGraph:
    """Return the QGraph for known ranges."""
    known = with_ranges(mg, ranges, precision, promoted, board)
    return quantize(choose_scales(known, target(board)), target(board))


def prescribed(mg: MatGraph, precision: str = "int8") -> QGraph:
    """Return the QGraph for the ranges that follow from prescribed scales."""
    mg = replace(mg, recipe=Recipe(precision))
    bounds = interval_bounds(tied(mg), target())
    return quantize(choose_scales(bounds, target()), target())


def scales(
    mg: MatGraph, ranges: Ranges, precision: str = "int8", promoted: Iterable[str] = ()
) -> Mapping[str, QParams]:
    return choose_scales(with_ranges(mg, ranges, precision, promoted), target()).qparams


def calibrated(
    mg: MatGraph, feeds: Any, method: Any = "mse", most: int = 256, precision: str = "int8"
) -> CalibratedGraph:
    """Return the graph with the ranges of a method of calibration; int16 clips nothing."""
    found = statistics(mg, feeds, most)
    ranges = found.ranges("minmax" if precision == "int16" else method)
    return calibrate.with_ranges(found.tied, precision=precision, ranges=ranges)


def statistics(mg: MatGraph, feeds: Any, most: int = 256) -> calibrate.Observed:
    return calibrate.observe(tied(mg), Samples(feeds, most).runs(mg))
