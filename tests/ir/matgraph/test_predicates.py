# SPDX-License-Identifier: Apache-2.0
"""Predicates of operations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from neuralmatrix.ir.matgraph.ops import Epilogue, Gemm, Move, RowMax, RowStat, Tensor, Window
from neuralmatrix.ir.matgraph.predicates import (
    is_copy,
    is_difference,
    is_elementwise,
    is_identity,
    is_pointwise,
    is_projection,
    is_transposition,
    only_statistics,
)
from neuralmatrix.ir.matgraph.uses import Uses
from neuralmatrix.ir.types import Function

COPY = Window("y", "x", np.ones((1, 1, 1)), np.zeros(4))
CONVOLUTION = Gemm("y", "x", np.ones((1, 1, 4, 4)), np.zeros(4))
PRODUCT = Gemm("y", "x", None, np.zeros(4), rhs="w")
MAXIMUM = Epilogue(rows=(RowStat("max", "m"),))
ALL = (is_elementwise, is_identity, is_copy)


@pytest.mark.parametrize("op", [COPY, CONVOLUTION, PRODUCT])
def test_positions_are_independent_without_geometry(op: Any) -> None:
    assert is_pointwise(op)
    assert not is_pointwise(replace(op, strides=(1, 2)))
    assert not is_pointwise(replace(op, pads=(0, 0, 0, 1)))
    if op.weight is not None:
        assert not is_pointwise(replace(op, weight=np.repeat(op.weight, 3, axis=1)))


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({}, (True, True, True)),
        ({"weight": np.ones((1, 1, 4))}, (True, True, True)),
        ({"epilogue": MAXIMUM}, (True, True, True)),
        ({"epilogue": Epilogue(residual="r")}, (True, True, False)),
        ({"epilogue": Epilogue(activation=Function("relu"))}, (True, True, False)),
        ({"weight": np.array([[[1.0, 1.0, 2.0, 1.0]]])}, (True, False, False)),
        ({"bias": np.array([0.0, 0.0, 1.0, 0.0])}, (True, False, False)),
        ({"reduce": "max"}, (False, False, False)),
        ({"minus": "m"}, (False, False, False)),
        ({"strides": (2, 1)}, (False, False, False)),
        ({"pads": (1, 0, 0, 0)}, (False, False, False)),
        ({"weight": np.ones((2, 1, 1))}, (False, False, False)),
    ],
)
def test_elementwise_identity_copy(changes: dict[str, Any], expected: tuple[bool, ...]) -> None:
    op = replace(COPY, **changes)
    assert tuple(bool(predicate(op)) for predicate in ALL) == expected


def test_only_windows_are_elementwise() -> None:
    move = Move("y", ("x",), np.zeros((1, 1, 1, 1), np.int64))
    for op in (CONVOLUTION, PRODUCT, RowMax("y", "x"), move):
        assert not any(predicate(op) for predicate in (*ALL, is_difference))
        assert not only_statistics(op, Uses([op]))


def test_a_copy_whose_result_nothing_reads_is_there_for_its_statistics() -> None:
    op = replace(COPY, epilogue=MAXIMUM)
    assert only_statistics(op, Uses([op]))
    assert not only_statistics(COPY, Uses([COPY]))
    assert not only_statistics(op, Uses([op], shown=["y"]))
    assert not only_statistics(op, Uses([op, RowMax("z", "y")]))
    scaled = replace(op, weight=np.full((1, 1, 1), 2.0))
    assert not only_statistics(scaled, Uses([scaled]))


def test_a_difference_has_a_negated_residual_and_nothing_more() -> None:
    op = replace(COPY, epilogue=Epilogue("r", -1.0))
    assert is_difference(op)
    assert is_difference(replace(op, bias=np.ones(4)))
    assert not is_difference(COPY)
    for epilogue in (
        Epilogue("r", 1.0),
        Epilogue("r", -1.0, Function("exp")),
        Epilogue("r", -1.0, hadamard="h"),
    ):
        assert not is_difference(replace(op, epilogue=epilogue))
    assert not is_difference(replace(op, weight=np.full((1, 1, 1), 2.0)))
    assert not is_difference(replace(op, reduce="max"))


def test_a_projection_has_weights_over_all_channels() -> None:
    assert is_projection(CONVOLUTION)
    for op in (PRODUCT, COPY, RowMax("y", "x"), replace(CONVOLUTION, groups=2), None):
        assert not is_projection(op)


def test_a_transposition_moves_one_matrix_to_its_transpose() -> None:
    index = np.arange(6).reshape(2, 3).T[None, None]
    move = Move("y", ("x",), index)
    tensors = {"x": Tensor("x", (1, 1, 2, 3)), "y": Tensor("y", (1, 1, 3, 2))}
    assert is_transposition(move, tensors)
    assert not is_transposition(replace(move, index=index[..., ::-1]), tensors)
    assert not is_transposition(replace(move, parts=("x", "x")), tensors)
    flat = {**tensors, "x": Tensor("x", (1, 2, 1, 3))}
    assert not is_transposition(move, flat)
