# SPDX-License-Identifier: Apache-2.0
"""Trials of recipes: the loss of the finished integers beside the float model.

In: a MatGraph, runs, the passes from a recipe to integers.  Out: ``Trials``, which gives the loss
of any recipe; ``Outputs`` of runs in float and in integers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np

from ..hardware.target import Target
from ..ir.matgraph.facts import TiedGraph
from ..ir.matgraph.ops import Gemm, MatGraph
from ..ir.matgraph.reference import run_float
from ..ir.recipe import Recipe
from ..ir.types import Array, apply_steps, arg_max
from .integer_reference import outputs_of, run_images
from .losses import Judge, judge, outputs_loss
from .qgraph import QGraph
from .samples import Run, chunks, spread

Outputs = dict[str, Array]  # by output name, (runs, *shape in front of arg-max)

MACS = 1 << 33  # of all runs of one trial, as long as they are FEWEST or more
FEWEST, MOST = 8, 192


class Finish(Protocol):
    """The passes behind the choice of a recipe, up to scale groups and up to integers."""

    def tied(self, graph: MatGraph, target: Target) -> TiedGraph:
        """Return the graph that its recipe makes, with scale groups."""

    def quantized(self, graph: MatGraph, target: Target) -> QGraph:
        """Return the integers that the graph's recipe makes."""


@dataclass(frozen=True)
class Trials:
    """``runs`` of the float model ``graph``, on which recipes are tried; ``measure`` by output."""

    graph: MatGraph
    target: Target
    finish: Finish
    runs: Sequence[Run]
    measure: Mapping[str, str]
    known: dict[Recipe, float] = field(default_factory=dict)  # losses of recipes that were tried

    @cached_property
    def wanted(self) -> Outputs:
        """The outputs of the float model."""
        return float_outputs(self.graph, self.runs)

    @cached_property
    def judges(self) -> dict[str, Judge]:
        """How each output is judged."""
        ports = {port.name: port for port in self.graph.outputs}
        return {n: judge(ports[n], y, self.graph) for n, y in self.wanted.items()}

    def loss(self, recipe: Recipe) -> float:
        """Return the loss of the integers that a recipe makes."""
        if recipe not in self.known:
            quantized = self.finish.quantized(replace(self.graph, recipe=recipe), self.target)
            loss = self.loss_of(integer_outputs(quantized, self.runs))
            if recipe.roundings:  # whose steps no comparison of recipes sees
                return loss
            self.known[recipe] = loss
        return self.known[recipe]

    def loss_of(self, found: Outputs) -> float:
        """Return the loss of outputs."""
        return outputs_loss(self.judges, found, self.wanted, self.measure)


def trial_runs(graph: MatGraph, runs: Sequence[Run], most: int = MOST) -> list[Run]:
    """Return the runs of trials, spread over all; the fewer the larger the network."""
    count = MACS // max(1, multiply_adds(graph))
    return spread(runs, int(np.clip(count, FEWEST, most)))


def multiply_adds(graph: MatGraph) -> int:
    """Return the multiply-adds of one run."""
    total = 0
    for op in graph.ops:
        if isinstance(op, Gemm):
            depth = graph.tensors[op.input].shape[3]
            per = int(np.prod(op.weight.shape[:3])) if op.weight is not None else depth
            total += int(np.prod(graph.tensors[op.output].shape)) * per
    return total


def float_outputs(graph: MatGraph, runs: Sequence[Run]) -> Outputs:
    """Return the outputs of the float model."""
    found: dict[str, list[Array]] = {port.name: [] for port in graph.outputs}
    for chunk in chunks(graph, runs):
        values = run_float(graph, chunk, keep=False)
        for port in graph.outputs:
            shape = graph.tensors[port.tensor].shape
            each = values[port.tensor].reshape(-1, *shape)
            found[port.name] += [apply_steps(one, port.steps) for one in each]
    return {name: np.stack(arrays) for name, arrays in found.items()}


def integer_outputs(graph: QGraph, runs: Sequence[Run]) -> Outputs:
    """Return the outputs of the integers, in reals."""
    shown = {port.tensor for port in graph.outputs}
    found = [outputs_of(graph, values) for values in run_images(graph, runs, shown)]
    return {name: np.stack([out[name] for out in found]) for name in found[0]}


def shown_outputs(graph: QGraph, stacked: Outputs) -> Iterator[Outputs]:
    """Yield the outputs of every run as the ports show them."""
    for i in range(len(next(iter(stacked.values())))):
        run = [(port, stacked[port.name][i]) for port in graph.outputs]
        yield {port.name: y if port.argmax is None else arg_max(y, *port.argmax) for port, y in run}


Step = Callable[[str], None]


def silent(what: str) -> None:
    """Ignore a step: the default of ``step``."""
