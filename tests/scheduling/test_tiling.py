# SPDX-License-Identifier: Apache-2.0
"""Tiles and chunks that fit the buffers.

In: sizes of products and windows.  Out: plans.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from neuralmatrix.errors import DoesNotFit
from neuralmatrix.scheduling.gemm_tiling import GemmProblem, plan_gemm
from neuralmatrix.scheduling.tiling import KERNEL_LIMIT, boxes, tile_sizes
from neuralmatrix.scheduling.window_tiling import WindowProblem, plan_window
from targets import target

TARGET = target()
ARRAY = TARGET.array


@pytest.mark.parametrize("height, width", [(1, 1), (1, 3136), (7, 7), (112, 112), (3, 1000)])
def test_tiles_respect_the_limit_and_cover_all(height: int, width: int) -> None:
    sizes = list(tile_sizes(height, width, 512))
    assert sizes
    for tile in sizes:
        assert tile[0] * tile[1] <= 512
        assert sum(b.words for b in boxes(height, width, tile)) == height * width


def gemm_problem(**changes: object) -> GemmProblem:
    fields: dict[str, object] = dict(
        out_h=14, out_w=14, kernel=(3, 3), strides=(1, 1), dilations=(1, 1), cb=16, nb=16,
        byte_planes=1, out_byte_planes=1, operands={}, grouped=False,
    )  # fmt: skip
    return GemmProblem(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("cb, nb", [(1, 1), (16, 16), (32, 64), (128, 8)])
def test_a_plan_fits_the_buffers(cb: int, nb: int) -> None:
    p = gemm_problem(cb=cb, nb=nb)
    plan = plan_gemm(TARGET, p)
    positions = plan.tile[0] * plan.tile[1]
    rows, cols, depth = plan.chunk if plan.chunked_input else (3, 3, cb)
    words = (plan.tile[0] + rows - 1) * (plan.tile[1] + cols - 1)
    assert positions <= ARRAY.acc_rows
    assert plan.nb_step * positions <= ARRAY.obuf_rows
    assert words * depth <= ARRAY.ibuf_words
    assert np.prod(plan.chunk) * plan.nb_step * ARRAY.rows <= ARRAY.wbuf_words


@pytest.mark.parametrize("kernel", [(28, 28), (100, 100), (1, 16000)])
def test_a_kernel_larger_than_the_buffers_is_cut(kernel: tuple[int, int]) -> None:
    plan = plan_gemm(TARGET, gemm_problem(kernel=kernel, out_h=1, out_w=1))
    assert plan.chunk[0] * plan.chunk[1] < kernel[0] * kernel[1]
    assert max(plan.chunk[:2]) <= KERNEL_LIMIT


def test_a_stride_beyond_every_buffer_is_refused() -> None:
    p = gemm_problem(out_h=1, out_w=1, byte_planes=2)
    with pytest.raises(DoesNotFit, match="3x3 kernel .*1 words of input buffer"):
        plan_gemm(replace(TARGET, array=replace(ARRAY, ibuf_words=1)), p)


def test_a_window_over_a_large_map_splits_its_sum() -> None:
    p = WindowProblem(1, 1, (4, 4), (28, 28), (1, 1), 4, 1, 1, {}, False)
    plan = plan_window(TARGET, p)
    assert plan.tap_rows < 28 and plan.nb_step == 1


def test_a_long_k_loop_loads_its_input_once_for_many_outputs() -> None:
    p = gemm_problem(kernel=(1, 1), out_h=1, out_w=128, cb=192, nb=48)
    plan = plan_gemm(TARGET, p)
    positions = plan.tile[0] * plan.tile[1]
    assert plan.chunked_input and plan.nb_step > 1
    assert plan.nb_step * positions <= ARRAY.acc_rows
    # one load of the input per group needs less time than the products
    loads = 2 * 192 * 128 * -(-48 // plan.nb_step)
    assert loads < 192 * 48 * 128


@pytest.mark.parametrize("planes", [1, 2])
def test_statistics_keep_rows_of_the_output_buffer(planes: int) -> None:
    p = gemm_problem(kernel=(1, 1), out_h=1, out_w=1000, cb=4, nb=12, stat_planes=planes)
    plan = plan_gemm(TARGET, p)
    positions = plan.tile[0] * plan.tile[1]
    assert (plan.nb_step + planes) * positions <= ARRAY.obuf_rows
    assert not plan.weights_outer


@pytest.mark.parametrize("nb", [3, 48, 600])
def test_what_is_subtracted_lies_beside_its_blocks(nb: int) -> None:
    p = WindowProblem(1, 128, (1, 1), (1, 1), (1, 1), nb, 2, 1, {}, False, True, minus=True)
    plan = plan_window(TARGET, p)
    words = plan.tile[0] * plan.tile[1] * 2
    assert plan.nb_step <= plan.span <= nb
    assert (1 + plan.span) * words <= ARRAY.ibuf_words
