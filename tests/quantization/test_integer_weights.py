# SPDX-License-Identifier: Apache-2.0
"""Integer weights: one scale per output channel, one value where all weights are equal.

In: Gemms and Windows.  Out: integers, scales, and bounds of sums.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from golden_passes import exact
from neuralmatrix.ir.matgraph.ops import Gemm, Window
from neuralmatrix.ir.types import QParams
from neuralmatrix.quantization.integer_weights import (
    MOST_REACH,
    bias_too_large,
    fitting_weight,
    int_weight,
    is_weighted,
)

ZEROS = np.zeros(4)


def test_the_largest_weight_of_every_channel_is_127() -> None:
    weight = exact(1, 3, 3, 5, 4)
    found = int_weight(Gemm("y", "x", weight, ZEROS))
    assert (np.abs(found.values).max((0, 1, 2)) == 127).all()
    # half a step
    assert (np.abs(found.values * found.scale - weight) <= found.scale / 2 + 1e-12).all()
    assert found.reach == np.abs(found.values).sum((0, 1, 2)).max()


def test_prescribed_scales_are_taken_as_they_are() -> None:
    quantized_values = np.random.default_rng(0).integers(-128, 128, (1, 1, 6, 4))
    scale = np.array([0.5, 0.25, 0.125, 1.0], np.float32)
    found = int_weight(Gemm("y", "x", quantized_values * scale, ZEROS, weight_scale=scale))
    np.testing.assert_array_equal(found.values, quantized_values)
    np.testing.assert_array_equal(found.scale, scale)


def test_a_channel_of_zeros_has_a_usable_scale() -> None:
    weight = exact(1, 1, 1, 5, 4) * np.array([1, 0, 1, 1])
    found = int_weight(Gemm("y", "x", weight, ZEROS))
    assert found.scale[1] > 0 and not found.values[..., 1].any()


def test_a_bias_that_dwarfs_its_weights_gets_a_coarser_step() -> None:
    op = Gemm("y", "x", exact(1, 1, 1, 5, 4), np.array([0, 0, 0, 100.0]))
    plain, coarse = int_weight(op), int_weight(op, floor=0.01)
    assert coarse.scale[3] == 1.0 > plain.scale[3]
    np.testing.assert_array_equal(coarse.scale[:3], plain.scale[:3])


@pytest.mark.parametrize(("bias", "unit"), [(ZEROS, 1), (np.ones(4), 127)])
def test_factors_of_channels_go_into_their_scales(bias: np.ndarray, unit: int) -> None:
    """A bias needs the finer step of a weight of 127."""
    factors = np.array([1.0, -0.5, 3.0, 0.25])
    found = int_weight(Window("y", "x", factors.reshape(1, 1, 4), bias))
    assert found.values.tolist() == [[[unit]]] and found.reach == unit
    np.testing.assert_allclose(found.values.reshape(-1) * found.scale, factors)


def test_depthwise_taps_keep_their_own_values() -> None:
    found = int_weight(Window("y", "x", exact(1, 3, 3, 4), ZEROS))
    assert found.values.shape == (3, 3, 4)


def test_the_taps_of_a_maximum_are_used_or_not() -> None:
    taps = np.array([[1.0, 0.0], [5.0, 1.0]]).reshape(2, 2, 1)
    found = int_weight(Window("y", "x", taps, ZEROS, reduce="max"))
    assert found.values.reshape(-1).tolist() == [1, 0, 1, 1] and found.reach == 1


def test_what_is_subtracted_doubles_the_reach() -> None:
    op = Window("y", "x", np.full((1, 1, 4), 0.5), ZEROS, minus="mean")
    assert int_weight(op).reach == 2 * int_weight(Window("y", "x", op.weight, ZEROS)).reach


def test_products_of_two_tensors_have_no_weights() -> None:
    assert not is_weighted(Gemm("y", "x", None, ZEROS, rhs="z"))
    assert is_weighted(Gemm("y", "x", exact(1, 1, 1, 5, 4), ZEROS))


def test_steps_become_coarser_only_where_a_bias_needs_it() -> None:
    op = Gemm("y", "x", exact(1, 1, 1, 5, 4), np.array([0, 0, 0, 1e4]))
    plain, source = int_weight(op), QParams(1e-4, 0, True)
    assert bias_too_large(op, plain, source) and not bias_too_large(op, plain, QParams(1.0))
    found = fitting_weight(op, plain, source)
    assert not bias_too_large(op, found, source)
    assert found.scale[3] > plain.scale[3] and (found.scale[:3] == plain.scale[:3]).all()
    assert fitting_weight(op, plain, QParams(1.0)) is plain
    prescribed = replace(op, weight_scale=plain.scale)
    assert fitting_weight(prescribed, plain, source) is plain


def test_sums_of_very_many_terms_fit_32_bits() -> None:
    """Of equal weights, which become 1, and of others, which become coarser; one column each."""
    count = 70_000
    weight = np.stack([np.full(count, 0.25), np.linspace(0.5, 1, count), np.zeros(count)], 1)
    weight[0, 2] = 1.0
    op = Gemm("y", "x", weight[None, None].astype(np.float32), np.zeros(3))
    found = int_weight(op)
    assert found.reach <= MOST_REACH and found.reach * 255 < 2**31
    assert set(found.values[0, 0, :, 0].tolist()) == {1} and found.scale[0] == 0.25
    assert found.values[0, 0, :, 1].max() > 100 and found.values[0, 0, 0, 2] == 127
    real = found.values[0, 0] * found.scale
    assert np.abs(real - weight).max() < 0.51 * found.scale.max()


def test_sums_within_the_limit_keep_their_weights() -> None:
    weight = np.full((1, 1, 60_000, 1), 0.5, np.float32)
    assert set(int_weight(Gemm("y", "x", weight, np.zeros(1))).values.ravel().tolist()) == {127}
