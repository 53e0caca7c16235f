# SPDX-License-Identifier: Apache-2.0
"""The compiler's passes by name, and the golden test that all of them share.

In: the name of a pass and a small graph.  Out: golden texts of the graph before and after it, and
the check that both compute the same real values.

Only ``PASSES`` and the functions below it call passes in the golden tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import quantized as on_the_way
from blocks import Maker
from golden_text import check_golden
from graph_text import graph_text
from neuralmatrix.compiler import ByRecipe, Options, passes
from neuralmatrix.hardware.board import Board, load_board
from neuralmatrix.ir.graph.nodes import Graph
from neuralmatrix.ir.graph.operators import run_graph
from neuralmatrix.ir.graph.verify import verify_graph
from neuralmatrix.ir.matgraph.facts import TiedGraph
from neuralmatrix.ir.matgraph.ops import MatGraph
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float
from neuralmatrix.ir.matgraph.verify import verify_matgraph
from neuralmatrix.ir.points import Ranges
from neuralmatrix.ir.recipe import Recipe, as_numbers
from neuralmatrix.ir.types import Array, QParams
from neuralmatrix.program.program import Program
from neuralmatrix.quantization.calibrated_graph import CalibratedGraph
from neuralmatrix.quantization.equalize import equalize, migrate
from neuralmatrix.quantization.fake_quant import sample
from neuralmatrix.quantization.mixed_precision import Mixed, choose_mixed
from neuralmatrix.quantization.qgraph import QGraph
from neuralmatrix.quantization.trials import Trials
from neuralmatrix.scheduling import for_board, schedule
from neuralmatrix.stages import Pass, part
from neuralmatrix.transforms.graph import simplify
from neuralmatrix.transforms.graph.patterns import LAST

Feeds = Mapping[str, Array]
Groups = list[list[str]]
BOARD = load_board("pynq-z2")

REWRITES: Mapping[str, Callable[[Graph], Graph]] = dict((*simplify.PASSES, *LAST))

LISTED = passes(Options())
PASSES: Mapping[str, Pass] = dict(LISTED)
ORDER = tuple(name for name, _ in part(LISTED, "fuse_epilogues", "reorder_nodes"))


def lowered(graph: Graph) -> MatGraph:
    found: MatGraph = PASSES["lower_graph"](graph, BOARD.target)
    return found


def tied(mg: MatGraph) -> tuple[MatGraph, Groups]:
    """Return the text of the graph, and the scale groups of two or more tensors."""
    found: TiedGraph = PASSES["tie_scales"](mg, BOARD.target)
    members = found.facts.scale_groups.members(sorted(found.graph.tensors)).values()
    return found.graph, sorted(sorted(group) for group in members if len(group) > 1)


def equalized(mg: MatGraph, runs: Sequence[Feeds]) -> MatGraph:
    factors = as_numbers(migrate(mg, sample(mg, runs)))
    return equalize(replace(mg, recipe=replace(mg.recipe, factors=factors)), BOARD.target)


def calibrated(mg: MatGraph, runs: Sequence[Feeds]) -> Ranges:
    return on_the_way.calibrated(mg, runs).ranges


def interval_bounds(mg: MatGraph) -> Ranges:
    found: CalibratedGraph = PASSES["set_ranges"](on_the_way.tied(mg), BOARD.target)
    return found.ranges


def chosen_precision(
    mg: MatGraph, ranges: Ranges, runs: Sequence[Feeds], max_loss: float
) -> list[str]:
    """Return the text of the tensors that are promoted to int16."""
    return sorted(mixed(mg, on_the_way.with_ranges(mg, ranges, "mixed"), runs, max_loss).tensors)


def mixed(mg: MatGraph, known: CalibratedGraph, runs: Sequence[Feeds], max_loss: float,
          measure: str = "relative") -> Mixed:  # fmt: skip
    """Return the choice of promoted tensors from known ranges, tried on all runs."""
    measures = {port.name: measure for port in mg.outputs}
    trials = Trials(mg, BOARD.target, ByRecipe(), runs, measures)
    extremes, seen = on_the_way.statistics(mg, runs).extremes, sample(known.graph, runs)
    return choose_mixed(trials, known, BOARD.target, extremes=extremes, seen=seen,
                        runs=runs, max_loss=max_loss, measure=measure)  # fmt: skip


def chosen_scales(mg: MatGraph, ranges: Ranges, precision: str = "int8") -> Mapping[str, QParams]:
    return on_the_way.scales(mg, ranges, precision)


def quantized(mg: MatGraph, ranges: Ranges, precision: str = "int8") -> QGraph:
    """Return the graph without the fields that only a program stores."""
    return replace(on_the_way.quantized(mg, ranges, precision), recipe=Recipe())


def scheduled(graph: QGraph, board: Board = BOARD, shared: bool = True) -> Program:
    return for_board(schedule(graph, board.target, shared), board)


# ---------------------------------------------------------------- golden tests


def exact(seed: int, *shape: int) -> Array:
    """Return multiples of 1/8 from -1 to 1, no 0: products and sums are exact in float32."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.integers(1, 9, shape) * rng.choice([-1, 1], shape) / 8, np.float32)


class Exact(Maker):
    """A builder of products with weights that are exact in float32."""

    def gemm(self, name: str, source: str, m: int, **fields: object) -> str:
        made = super().gemm(name, source, m, **fields)
        weight = self.ops[-1].weight  # type: ignore[union-attr]
        weight[:] = exact(len(self.ops), *weight.shape)  # type: ignore[index,union-attr]
        return made


def before(name: str, graph: Graph) -> MatGraph:
    """Return the result of the passes before ``name`` on ``graph``."""
    mg = lowered(graph)
    for other in ORDER[: ORDER.index(name)] if name in ORDER else ORDER:
        mg = PASSES[other](mg, BOARD.target)
    return mg


def check_pass(
    request: pytest.FixtureRequest, name: str, case: str, given: Graph | MatGraph
) -> MatGraph:
    """Check the golden texts of pass ``name`` on ``given`` (a Graph runs the passes before it).

    The pass has to change the text, unless ``case`` begins with "kept", and may change no real
    value.
    """
    mg = before(name, given) if isinstance(given, Graph) else given
    found = PASSES[name](mg, BOARD.target)
    check_texts(request, f"{name}/{case}", graph_text(mg), graph_text(found))
    same_values(mg, verify_matgraph(found))
    return found


def check_texts(request: pytest.FixtureRequest, path: str, given: str, found: str) -> None:
    """Check ``<path>.in.txt`` and ``.out.txt``, which is "unchanged" where nothing has changed."""
    assert (given == found) == path.rpartition("/")[2].startswith("kept")
    check_golden(request, f"{path}.in.txt", given)
    check_golden(request, f"{path}.out.txt", "unchanged" if given == found else found)


def feeds_for(mg: MatGraph, seed: int = 5) -> dict[str, Array]:
    """Return exact values, or indices into the port's table."""
    found: dict[str, Array] = {}
    for i, port in enumerate(mg.inputs):
        if port.table is None:
            found[port.name] = exact(seed + i, *port.shape)
        else:
            rng = np.random.default_rng(seed + i)
            found[port.name] = rng.integers(0, len(port.table), port.shape)
    return found


def same_values(mg: MatGraph, other: MatGraph) -> None:
    """Check that both graphs have the same real values, without prescribed rounding."""
    feeds = feeds_for(mg)
    wanted = port_outputs(mg, run_float(mg, feeds, prescribed=False))
    found = port_outputs(other, run_float(other, feeds, prescribed=False))
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        # float32 sums of at most a hundred products of values of about 1, in another order
        np.testing.assert_allclose(found[name], value, rtol=2e-5, atol=2e-5)


def check_rewrite(request: pytest.FixtureRequest, name: str, graph: Graph) -> None:
    """Check golden texts of the first change by rewrite ``name`` while ``graph`` is simplified.

    The rewrites in front of it run first, round by round, as ``simplify`` runs them.
    """
    given, found = _first_change(name, graph)
    check_texts(request, f"simplify/{name}", graph_text(given), graph_text(found))
    feeds = {n: exact(3 + i, *graph.shapes[n]) for i, n in enumerate(graph.inputs)}
    wanted, got = run_graph(given, feeds), run_graph(verify_graph(found), feeds)
    for output, value in wanted.items():
        # float32 functions and sums of a few dozen terms in another order
        np.testing.assert_allclose(got[output], value, rtol=2e-5, atol=2e-5)


def _first_change(name: str, graph: Graph) -> tuple[Graph, Graph]:
    last = None
    while last is not graph:
        last = graph
        for other, rewrite in REWRITES.items():
            after = rewrite(graph)
            if other == name and after is not graph:
                return graph, after
            graph = after
    raise AssertionError(f"{name} never changes this graph")
