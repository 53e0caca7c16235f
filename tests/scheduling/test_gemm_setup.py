# SPDX-License-Identifier: Apache-2.0
"""A Gemm in lane vectors: padded channels, grids and nonzero blocks.

In: Gemms over tensors in a context.  Out: setups.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from neuralmatrix.hardware.tensor_layout import Blocked
from neuralmatrix.ir.matgraph.ops import Gemm
from neuralmatrix.ir.types import Array
from neuralmatrix.quantization.qgraph import QEpilogue
from neuralmatrix.scheduling.gemm_setup import Setup, _pad_channels, setup_of
from schedule_rig import LANES, blocked, context


def plain(**operands: str) -> QEpilogue:
    zeros = np.zeros(1, np.int32)
    return QEpilogue(zeros, zeros, zeros, 0, 0, 0, 0, 0, 0, -128, 127, **operands)  # type: ignore[arg-type]


def setup(
    weight: Array, x: Blocked, y: Blocked, e: QEpilogue | None = None, **fields: object
) -> Setup:
    op = Gemm("y", "x", weight, np.zeros(weight.shape[3]), **fields)  # type: ignore[arg-type]
    return setup_of(context(x=x, y=y, r=blocked(2, 1, 16)), op, weight, e or plain())


def random_weight(*shape: int) -> Array:
    return np.random.default_rng(0).integers(1, 100, shape).astype(np.int8)


def test_channels_are_padded_to_whole_blocks_with_zeros() -> None:
    weight = random_weight(1, 1, 20, 5)
    found = _pad_channels(weight, Gemm("y", "x", weight, np.zeros(5)), LANES, False)
    assert found.shape == (1, 1, 32, 16) and np.count_nonzero(found) == weight.size
    np.testing.assert_array_equal(found[:, :, :20, :5], weight)


def test_groups_become_blocks_on_the_diagonal() -> None:
    weight = random_weight(3, 3, 2, 6)
    found = _pad_channels(weight, Gemm("y", "x", weight, np.zeros(6), groups=3), LANES, False)
    for g in range(3):
        part = found[:, :, 2 * g : 2 * g + 2, 2 * g : 2 * g + 2]
        np.testing.assert_array_equal(part, weight[..., 2 * g : 2 * g + 2])
    assert np.count_nonzero(found) == weight.size


def test_one_replicated_channel_fills_all_lanes() -> None:
    weight = random_weight(1, 1, 4, 1)
    found = _pad_channels(weight, Gemm("y", "x", weight, np.zeros(1)), LANES, True)
    np.testing.assert_array_equal(found[0, 0, :4], np.repeat(weight[0, 0], LANES, 1))


def test_a_pointwise_product_joins_all_rows() -> None:
    found = setup(random_weight(1, 1, 20, 40), blocked(3, 5, 20), blocked(3, 5, 40))
    assert found.flat and (found.out_h, found.out_w) == (1, 15)
    assert (found.cb, len(found.runs), found.kernel) == (2, 3, (1, 1))


def test_an_operand_of_another_shape_keeps_rows_apart() -> None:
    """A residual of one column is repeated along the rows only if rows are not joined."""
    found = setup(
        random_weight(1, 1, 16, 16), blocked(2, 5, 16), blocked(2, 5, 16), plain(residual="r")
    )
    assert not found.flat and (found.out_h, found.out_w) == (2, 5)


def test_strides_of_a_pointwise_product_are_steps_of_addresses() -> None:
    found = setup(random_weight(1, 1, 16, 16), blocked(6, 8, 16), blocked(3, 4, 16), strides=(2, 2))
    assert found.strides == (1, 1)
    assert (found.view.row, found.view.column) == (2 * 8 * LANES, 2 * LANES)
    assert (found.view.height, found.view.width) == (3, 4)


def test_padding_reads_the_zero_point() -> None:
    found = setup(
        random_weight(3, 3, 16, 16), blocked(6, 8, 16), blocked(6, 8, 16), pads=(1, 2, 1, 0)
    )
    assert (found.view.top, found.view.left, found.view.fill) == (1, 2, (5, 0))


@pytest.mark.parametrize(("kept", "runs"), [(range(4), [range(4)]), (range(1, 3), [range(1, 3)])])
def test_blocks_of_zeros_are_left_out(kept: range, runs: list[range]) -> None:
    weight = np.zeros((1, 1, 64, 16), np.int8)
    weight[0, 0, kept.start * LANES : kept.stop * LANES] = 3
    assert setup(weight, blocked(9, 9, 64), blocked(9, 9, 16)).runs == [runs]


def test_two_run_time_tensors_have_no_weights_of_their_own() -> None:
    ctx = context(x=blocked(1, 5, 40, n=2), k=blocked(1, 7, 40), y=blocked(1, 5, 7, n=2))
    op = Gemm("y", "x", None, np.zeros(7), rhs="k", rhs_transposed=True)
    found = setup_of(ctx, op, None, plain())
    assert found.weight is None and (found.cb, found.runs) == (3, [[range(3)]])
    assert found.weights.version(0) == found.weights.version(1)
    ctx = context(x=blocked(1, 5, 40, n=2), k=blocked(1, 7, 40, n=2), y=blocked(1, 5, 7, n=2))
    found = setup_of(ctx, replace(op), None, plain())
    assert found.weights.version(0) != found.weights.version(1)
