# SPDX-License-Identifier: Apache-2.0
"""The requantise constants of epilogues.

In: real factors.  Out: multipliers of 24 bits and shifts.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from graph_text import graph_text
from neuralmatrix.errors import BadInput
from neuralmatrix.ir.matgraph.ops import Epilogue
from neuralmatrix.ir.points import Point
from neuralmatrix.ir.types import Function, QParams
from neuralmatrix.quantization.integer_epilogues import INT24, Stage, build_epilogue, multipliers


@pytest.mark.parametrize("f_shift", [0, 7, 20])
def test_multipliers_are_precise_to_23_bits(f_shift: int) -> None:
    real = np.concatenate([10.0 ** np.linspace(-9, 0.9, 500), -(10.0 ** np.linspace(-6, 0, 50))])
    real = real[np.abs(real) * 2.0**f_shift <= INT24]
    m, s = multipliers(real, f_shift)
    assert np.abs(m).max() <= INT24 and s.max() <= 55
    got = m / 2.0 ** s.astype(float) / 2.0**f_shift
    # below 2^-32 of a step the shift is at its limit, and the absolute error counts
    np.testing.assert_allclose(got, real, rtol=2.0**-22, atol=2.0**-55)


def test_multiplier_of_almost_a_power_of_two_does_not_overflow() -> None:
    m, s = multipliers(np.asarray([1.0 - 2.0**-30, -1.0 + 2.0**-30]), 0)
    np.testing.assert_allclose(m / 2.0 ** s.astype(float), [1.0, -1.0], rtol=2.0**-22)


ACTIVATIONS = [None, Function("relu"), Function("clip", (-1.0, 2.0)), Function("tanh")]


@pytest.mark.parametrize("hadamard", [None, "u"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_factor_is_another_scale_of_the_output(
    activation: Function | None, hadamard: str | None
) -> None:
    """Integers are those of an output without the factor, at its scale over the factor."""
    plain = Epilogue(activation=activation, hadamard=hadamard)
    spans = {Point("y", "pre_activation"): (-3.0, 3.0), Point("y", "pre_product"): (-1.0, 2.0)}
    scales = {"u": QParams(0.01, 5)}
    made = [
        build_epilogue(
            Stage("y", np.full(4, 1e-3), np.arange(4), epilogue),
            QParams(scale, 3), spans, scales, segments=32,
        )
        for epilogue, scale in ((replace(plain, factor=8.0), 0.4), (plain, 0.05))
    ]  # fmt: skip
    assert graph_text(made[0]) == graph_text(made[1])


@pytest.mark.parametrize("span", [(-1.0, 1.6), (-1.6, 0.0), (1.5, 8.0)])
def test_a_tangent_whose_input_meets_a_pole_is_refused(span: tuple[float, float]) -> None:
    stage = Stage("t", np.full(4, 1e-3), np.arange(4), Epilogue(activation=Function("tan")))
    with pytest.raises(
        BadInput, match=r"^t: tan is infinite at -?1.5708, within the range .*outputs="
    ):
        build_epilogue(
            stage, QParams(0.1, 0), {Point("t", "pre_activation"): span}, {}, segments=32
        )


@pytest.mark.parametrize("span", [(-1.5, 1.5), (1.6, 4.0), (-4.0, -2.0)])
def test_a_tangent_between_two_poles_is_a_table(span: tuple[float, float]) -> None:
    stage = Stage("t", np.full(4, 1e-3), np.arange(4), Epilogue(activation=Function("tan")))
    spans = {Point("t", "pre_activation"): span}
    made = build_epilogue(stage, QParams(0.2, 0), spans, {}, segments=64)
    assert made.table is not None and made.table.worst_error < 1.0
