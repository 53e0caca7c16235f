# SPDX-License-Identifier: Apache-2.0
"""Convolutions and matrix products: every result once, every product computed, weights kept.

In: small graphs, and arrays whose buffers are too small for one tile.  Out: programs.
"""

from __future__ import annotations

import numpy as np
import pytest
from blocks import Maker
from golden_passes import Exact, exact
from neuralmatrix.hardware.isa import Buffer, Opcode
from neuralmatrix.ir.matgraph.ops import Gemm, MatGraph
from neuralmatrix.scheduling.context import Box
from neuralmatrix.scheduling.gemm import input_box
from neuralmatrix.scheduling.gemm_jobs import Chunk
from schedule_rig import LANES, instructions, once, passes, program_of


def product(rows: int, depth: int, channels: int) -> MatGraph:
    b = Exact()
    b.tensor("x", (1, 1, rows, depth))
    b.gemm("y", "x", channels)
    return b.graph()


def convolution(
    height: int, width: int, c: int, m: int, kernel: int = 3, stride: int = 1
) -> MatGraph:
    """Padded on all sides."""
    b = Maker()
    b.tensor("x", (1, height, width, c))
    pad = kernel // 2
    weight = exact(1, kernel, kernel, c, m)
    b.ops.append(Gemm("y", "x", weight, exact(2, m), strides=(stride,) * 2, pads=(pad,) * 4))
    out = [(size + 2 * pad - kernel) // stride + 1 for size in (height, width)]
    b.tensor("y", (1, out[0], out[1], m))
    return b.graph()


def attention_scores(heads: int = 3) -> MatGraph:
    """QK^T, with one right operand per head."""
    b = Exact()
    b.tensor("x", (heads, 1, 10, 16))
    b.gemm("k", "x", 16)
    b.product("y", "x", "k", 10, rhs_transposed=True)
    return b.graph()


SMALL = {"obuf_rows": 40, "acc_rows": 32, "ibuf_words": 96, "wbuf_words": 16 * 16}


@pytest.mark.parametrize("sizes", [{}, SMALL], ids=["one_tile", "many_tiles"])
@pytest.mark.parametrize("precision", ["int8", "int16"])
def test_every_product_is_computed_and_every_result_stored_once(
    precision: str, sizes: dict[str, int]
) -> None:
    """100 positions, 3 blocks in and 4 blocks out; int16 takes a pass for each byte plane of x."""
    program = program_of(product(100, 48, 64), precision, **sizes)
    assert passes(program) == 100 * 3 * 4 * (2 if precision == "int16" else 1)
    assert once(program, "y")
    for i in instructions(program, Opcode.COMPUTE):
        assert i["m1"] * i["m0"] <= program.array.acc_rows


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sizes", [{}, SMALL], ids=["one_tile", "many_tiles"])
def test_a_convolution_takes_every_tap_of_every_position(
    stride: int, sizes: dict[str, int]
) -> None:
    program = program_of(convolution(9, 7, 32, 24, stride=stride), **sizes)
    positions = 9 * 7 if stride == 1 else 5 * 4
    assert passes(program) == positions * 9 * 2 * 2
    assert once(program, "y")


def test_weights_of_one_tile_after_another_are_loaded_once() -> None:
    """The output buffer holds part of the rows, the weight buffer all weights."""
    program = program_of(product(200, 32, 32), obuf_rows=128)
    words = [i["n0"] * i["n1"] * i["n2"] for i in instructions(program, Opcode.LOAD)
             if i["dest"] == Buffer.WBUF]  # fmt: skip
    assert sum(words) == 2 * 2 * LANES
    assert len(instructions(program, Opcode.COMPUTE)) > 2


def test_weights_serve_all_images() -> None:
    b = Exact()
    b.tensor("x", (3, 1, 10, 32))
    b.gemm("y", "x", 32)
    program = program_of(b.graph())
    loads = [i for i in instructions(program, Opcode.LOAD) if i["dest"] == Buffer.WBUF]
    assert sum(i["n0"] * i["n1"] * i["n2"] for i in loads) == 2 * 2 * LANES
    assert once(program, "y")


def test_a_right_operand_is_loaded_for_its_images() -> None:
    program = program_of(attention_scores())
    loads = [i for i in instructions(program, Opcode.LOAD) if i["dest"] == Buffer.WBUF]
    dynamic = [i for i in loads if i["region"] == 1]
    assert len(dynamic) == 3 and len({i["addr"] for i in dynamic}) == 3
    transposed = [i["transpose"] for i in instructions(program, Opcode.COMPUTE)]
    assert transposed.count(1) == 3
    assert once(program, "y")


def test_a_split_sum_begins_and_ends_once() -> None:
    """Weights of 20 blocks of channels do not fit: partial sums stay in the accumulators."""
    program = program_of(product(24, 320, 16), wbuf_words=4 * 16)
    computes = instructions(program, Opcode.COMPUTE)
    assert len(computes) > 1
    assert sum(i["first"] for i in computes) == sum(i["last"] for i in computes) == 1
    assert computes[0]["first"] and computes[-1]["last"]
    assert passes(program) == 24 * 20


def test_blocks_of_zeros_are_not_computed() -> None:
    mg = product(40, 64, 64)
    weight = np.asarray(mg.ops[0].weight)  # type: ignore[union-attr]
    weight[0, 0] *= np.kron(np.eye(4), np.ones((16, 16))).astype(np.float32)
    assert passes(program_of(mg)) == 40 * 4


@pytest.mark.parametrize(
    ("chunk", "wanted"),
    [
        (Chunk(range(3), range(3), range(1)), Box(4, 11, 6, 13)),
        (Chunk(range(1, 2), range(2, 3), range(1)), Box(6, 9, 10, 13)),
    ],
)
def test_input_of_an_output_tile(chunk: Chunk, wanted: Box) -> None:
    """Rows 2 and 3, columns 3 and 4 at stride 2, taps two apart."""
    assert input_box(Box(2, 4, 3, 5), (2, 2), (2, 2), chunk) == wanted
