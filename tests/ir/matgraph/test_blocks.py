# SPDX-License-Identifier: Apache-2.0
"""The nonzero blocks of a weight."""

from __future__ import annotations

import numpy as np
import pytest
from neuralmatrix.ir.matgraph.blocks import block_pattern, nonzero_blocks


@pytest.mark.parametrize("shape", [(5, 7), (8, 8), (1, 1, 9, 4), (3, 2, 4, 12), (1, 1, 1, 1)])
@pytest.mark.parametrize("share", [0.0, 0.05, 1.0])
def test_a_block_counts_where_one_of_its_weights_is_not_zero(
    shape: tuple[int, ...], share: float
) -> None:
    lanes, rng = 4, np.random.default_rng(len(shape))
    weight = rng.standard_normal(shape) * (rng.random(shape) < share)
    pattern = block_pattern(weight, lanes)
    assert pattern.shape == (*shape[:-2], -(-shape[-2] // lanes), -(-shape[-1] // lanes))
    for *tap, i, j in np.ndindex(pattern.shape):
        rows, cols = slice(i * lanes, (i + 1) * lanes), slice(j * lanes, (j + 1) * lanes)
        assert pattern[(*tap, i, j)] == np.any(weight[(*tap, rows, cols)])
    assert nonzero_blocks(weight, lanes) == pattern.sum()
