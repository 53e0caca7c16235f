# SPDX-License-Identifier: Apache-2.0
"""Facts about tensors that hold at any calibration.

In: small MatGraphs, made legal and tied.  Out: int16 and symmetric groups, scores, groups.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from blocks import Maker, attention, layer_norm
from neuralmatrix.ir.matgraph.facts import Groups
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph, RowMax, Window
from neuralmatrix.ir.types import QParams
from quantized import tied


def int16_names(mg: MatGraph) -> set[str]:
    """Return the names of all tensors that are int16 at any precision."""
    found = tied(mg)
    root = found.facts.scale_groups.root
    return {name for name in found.graph.tensors if root(name) in found.facts.int16}


def test_groups_are_named_by_their_root() -> None:
    groups = Groups({"a": "b", "b": "c", "x": "c"})
    assert [groups.root(name) for name in "abcxy"] == ["c", "c", "c", "c", "y"]
    assert groups.members("yxab") == {"y": ["y"], "c": ["x", "a", "b"]}


def test_attention_is_int16_where_softmax_is_computed() -> None:
    mg = attention()
    facts = tied(mg).facts
    assert int16_names(mg) == {"s", "max", "sum", "inverse", "y"}
    assert {facts.scale_groups.root(name) for name in "qkev"} == facts.symmetric
    assert facts.scores == {"s", "max"}


def test_a_normalisation_is_int16_but_for_its_input() -> None:
    assert int16_names(layer_norm()) == set(layer_norm().tensors) - {"x"}


def test_a_prescribed_int8_scale_wins() -> None:
    mg = layer_norm()
    given = replace(mg, quant={"x": QParams(0.03, 3), "y": QParams(0.05, -9)})
    assert "y" in int16_names(mg) and "y" not in int16_names(given)
    prescribed = replace(mg, quant={"x": QParams(0.001, int16=True)})
    assert "x" not in int16_names(mg) and "x" in int16_names(prescribed)


def position_maximum(gain: float) -> MatGraph:
    """Return x plus ``gain`` times the maximum over its four positions."""
    b = Maker()
    b.tensor("x", (1, 1, 4, 6))
    b.gemm("g", "x", 6)
    b.tensor("m", (1, 1, 1, 6))
    b.ops.append(Window("m", "g", np.ones((1, 4, 1)), np.zeros(6), reduce="max"))
    b.window("y", "g", epilogue=Epilogue("m", gain))
    return b.graph()


@pytest.mark.parametrize(("gain", "scores"), [(-1.0, {"g", "m", "y"}), (1.0, set())])
def test_scores_of_a_maximum_over_positions(gain: float, scores: set[str]) -> None:
    assert tied(position_maximum(gain)).facts.scores == scores


def test_a_difference_of_scores_is_a_score() -> None:
    """The tensors at the end of a LogSoftmax are scores."""
    b = Maker()
    b.tensor("x", (1, 1, 3, 5))
    b.gemm("g", "x", 5)
    b.tensor("m", (1, 1, 3, 1), broadcast=True)
    b.ops.append(RowMax("m", "g"))
    b.window("y", "g", epilogue=Epilogue("m", -1.0))
    assert tied(b.graph()).facts.scores == {"g", "m", "y"}
