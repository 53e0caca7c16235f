# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolutions, pooling, element-wise operators and row maxima.

In: small graphs, and arrays whose buffers are too small for one tile.  Out: programs, and the
blocks of taps in their constants.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from blocks import Maker
from golden_passes import Exact, exact
from neuralmatrix.hardware.isa import Buffer, Opcode, Reduce, Stat
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph, RowMax, Window
from neuralmatrix.program.program import Program
from neuralmatrix.scheduling.window import _dilate
from schedule_rig import LANES, instructions, once, program_of, weights_from_const

SMALL = {"obuf_rows": 40, "acc_rows": 32, "ibuf_words": 200, "line_words": 16}


def window(kernel: int, c: int = 20, size: int = 11, **fields: Any) -> MatGraph:
    """A square window over a square map, with equal padding in both directions or none."""
    b = Maker()
    b.tensor("x", (1, size, size, c))
    weight = exact(1, kernel, kernel, 1 if fields.get("reduce") == "max" else c)
    b.ops.append(Window("y", "x", weight, np.zeros(c), **fields))
    stride, dilation = fields.get("strides", (1, 1))[0], fields.get("dilations", (1, 1))[0]
    padded = size + sum(fields.get("pads", (0,))) // 2
    out = (padded - dilation * (kernel - 1) - 1) // stride + 1
    b.tensor("y", (1, out, out, c))
    return b.graph()


def taps(program: Program) -> int:
    """Count output words times taps over all COMPUTEs."""
    return sum(
        i["m1"] * i["m0"] * i["nb"] * i["kh"] * i["kw"] * i["win_h"] * i["win_w"]
        for i in instructions(program, Opcode.COMPUTE)
    )


@pytest.mark.parametrize("sizes", [{}, SMALL], ids=["one_tile", "many_tiles"])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2)])
def test_every_tap_is_taken_and_every_result_stored_once(
    kernel: int, stride: int, sizes: dict[str, int]
) -> None:
    program = program_of(window(kernel, strides=(stride, stride)), **sizes)
    out = (11 - kernel) // stride + 1
    assert taps(program) == out * out * 2 * kernel * kernel
    assert once(program, "y")


def test_a_window_beyond_the_arrays_takes_several_blocks_of_taps() -> None:
    """7 x 7 taps are four blocks of 4 x 4, whose sum is one."""
    program = program_of(window(7, c=16))
    for compute in instructions(program, Opcode.COMPUTE):
        assert (compute["kh"], compute["kw"], compute["win_h"], compute["win_w"]) == (2, 2, 4, 4)
        assert (compute["first"], compute["last"]) == (1, 1)
    assert taps(program) == 5 * 5 * 8 * 8 and once(program, "y")


def test_a_maximum_pads_with_the_lowest_code() -> None:
    mg = window(3, reduce="max", pads=(1, 0, 0, 1), size=9)
    program = program_of(mg)
    assert {i["reduce"] for i in instructions(program, Opcode.COMPUTE)} == {Reduce.MAX}
    loads = [i for i in instructions(program, Opcode.LOAD) if i["dest"] == Buffer.IBUF]
    assert {i["pad_value"] for i in loads} <= {-128, -127} and loads


def test_taps_between_dilated_ones_weigh_nothing() -> None:
    weight = np.arange(1, 13).reshape(2, 3, 2)
    found = _dilate(weight, (3, 2))
    assert found.shape == (4, 5, 2)
    np.testing.assert_array_equal(found[::3, ::2], weight)
    assert np.count_nonzero(found) == weight.size


def test_taps_lie_in_the_order_of_the_window() -> None:
    """Word a * win_w + b of a block is tap (a, b); lanes without a channel are 0."""
    program = program_of(window(2, c=5, size=4))
    (load,) = [i for i in instructions(program, Opcode.LOAD) if i["dest"] == Buffer.WBUF]
    words = weights_from_const(program, load["addr"], LANES)
    real = exact(1, 2, 2, 5).reshape(4, 5)
    assert not words[4:].any() and not words[:, 5:].any()
    # quantised values with one scale per channel
    ratio = words[:4, :5] / real
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio.max(0), (4, 5)), rtol=0.02)


def test_what_is_subtracted_is_a_first_tap_of_negated_weights() -> None:
    b = Exact()
    b.tensor("x", (1, 1, 6, 16))
    rows = b.rows((1, 1, 6, 16), ("mean", "mean"), ("square", "square"))
    b.gemm("g", "x", 16, epilogue=Epilogue(rows=rows))
    b.window("y", "g", minus="mean", epilogue=Epilogue(hadamard="square"))
    program = program_of(b.graph())
    compute = instructions(program, Opcode.COMPUTE)[-1]
    assert compute["kh"] == 2
    load = [i for i in instructions(program, Opcode.LOAD) if i["dest"] == Buffer.WBUF][-1]
    words = weights_from_const(program, load["addr"], 2 * LANES)
    np.testing.assert_array_equal(words[0], -words[LANES])
    assert words[LANES].all() and once(program, "y")


def test_a_row_maximum_stores_the_statistic_alone() -> None:
    b = Maker()
    b.tensor("x", (1, 3, 4, 40))
    b.ops.append(RowMax("y", "x"))
    b.tensor("y", (1, 3, 4, 1), True)
    program = program_of(b.graph())
    (setup,) = instructions(program, Opcode.EPILOGUE)
    assert (setup["stat"], setup["stat_lanes"]) == (Stat.MAX, 40 % LANES)
    assert [point.tensor.name for point in program.watchpoints] == ["y"]
    assert once(program, "y")
    computes = instructions(program, Opcode.COMPUTE)
    assert {(i["nb"], i["stat_first"], i["stat_last"]) for i in computes} == {(3, 1, 1)}
    assert sum(i["m1"] * i["m0"] for i in computes) == 12
