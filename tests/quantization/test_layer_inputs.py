# SPDX-License-Identifier: Apache-2.0
"""Layers as matrices: their product is what the float reference computes.

In: convolutions with groups, strides and padding, depthwise windows.  Out: equal values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from blocks import Maker
from golden_passes import exact
from neuralmatrix.ir.matgraph.ops import Gemm, Window
from neuralmatrix.ir.matgraph.reference import evaluate
from neuralmatrix.quantization import layer_inputs
from neuralmatrix.quantization.layer_inputs import from_matrices, input_matrices, weight_matrices

WAY = {"strides": (2, 1), "pads": (1, 0, 1, 2), "dilations": (1, 2)}
CASES: dict[str, Any] = {
    "product": Gemm("y", "x", exact(1, 1, 1, 6, 8), np.zeros(8)),
    "convolution": Gemm("y", "x", exact(1, 3, 3, 6, 8), np.zeros(8), **WAY),
    "groups": Gemm("y", "x", exact(1, 3, 3, 2, 9), np.zeros(9), groups=3, **WAY),
    "depthwise": Window("y", "x", exact(1, 3, 3, 6), np.zeros(6), **WAY),
}


@pytest.mark.parametrize("case", CASES)
def test_the_product_of_the_matrices_is_the_layer(case: str) -> None:
    op, x = CASES[case], exact(2, 2, 7, 9, 6)
    b = Maker()
    b.tensor("x", x.shape)  # type: ignore[arg-type]
    b.tensor("y", (1, 1, 1, 1))
    b.ops.append(op)
    wanted = evaluate(op, {"x": x}, b.graph(), {})["y"]
    rows = input_matrices(op, x)
    found = np.concatenate(list(rows @ weight_matrices(op, op.weight)), axis=1)
    if isinstance(op, Gemm) and op.groups == 1:
        found = (rows @ weight_matrices(op, op.weight))[0]
    # all positions are taken, in order, and sums of multiples of 1/64 are exact
    np.testing.assert_array_equal(found, wanted.reshape(-1, wanted.shape[3]))
    np.testing.assert_array_equal(from_matrices(op, weight_matrices(op, op.weight)), op.weight)


def test_few_rows_come_from_all_images_and_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_inputs, "MOST_ROWS", 60)
    x = np.broadcast_to(np.arange(20.0).reshape(20, 1, 1, 1), (20, 8, 8, 2))
    column = np.broadcast_to(np.arange(8.0).reshape(1, 1, 8, 1), (20, 8, 8, 2))
    op = Gemm("y", "x", exact(1, 1, 1, 2, 3), np.zeros(3))
    assert np.bincount(input_matrices(op, x)[0, :, 0].astype(int)).tolist() == [3] * 20
    assert np.bincount(input_matrices(op, column)[0, :, 0].astype(int)).min() > 0
    assert input_matrices(op, x, share=3).shape == (1, 20, 2)


def test_a_broadcast_input_is_the_same_in_every_channel() -> None:
    op = Window("y", "x", exact(1, 2, 1, 4), np.zeros(4))
    rows = input_matrices(op, exact(2, 1, 5, 3, 1))
    assert rows.shape == (4, 12, 2) and (rows == rows[:1]).all()
