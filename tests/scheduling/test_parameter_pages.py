# SPDX-License-Identifier: Apache-2.0
"""Parameters that do not fit PBUF come page by page; programs stay bit-exact.

In: layers of 25 blocks of channels, an array with 16 rows of parameters.  Out: programs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from blocks import Maker
from golden_passes import BOARD, exact
from neuralmatrix.hardware.isa import Buffer, Opcode, SegKind
from neuralmatrix.ir.matgraph.ops import Epilogue, Gemm, MatGraph, RowMax
from neuralmatrix.ir.types import Function
from neuralmatrix.program.program import Program
from neuralmatrix.quantization.pwl.table import PwlTable
from neuralmatrix.quantization.qgraph import QEpilogue
from neuralmatrix.scheduling import for_board, schedule
from neuralmatrix.scheduling.context import OverBuffers
from neuralmatrix.scheduling.epilogue_parameters import Table, set_epilogue
from neuralmatrix.scheduling.parameter_pages import load_params, page_limit, sections
from neuralmatrix.verification import compare
from quantized import observed, quantized
from schedule_rig import LANES, context, instructions, once, program_of

CHANNELS = 25 * LANES - 7
TINY = {"pbuf_rows": 16, "obuf_rows": 64, "acc_rows": 48, "ibuf_words": 512, "wbuf_words": 2048}
FEW = {"pbuf_rows": 16}
TANH = Epilogue(activation=Function("tanh"))
SIGMOID = Epilogue(activation=Function("sigmoid"))


def wide_product(rows: int, epilogue: Epilogue = TANH, depth: int = 40) -> MatGraph:
    b = Maker()
    b.tensor("x", (1, 1, rows, depth))
    b.gemm("y", "x", CHANNELS, bias=b.rng.standard_normal(CHANNELS), epilogue=epilogue)
    return b.graph()


def sparse_product() -> MatGraph:
    """A block in five is not zero."""
    mg = wide_product(70, depth=160)
    weight = np.asarray(mg.ops[0].weight)  # type: ignore[union-attr]
    used = np.arange(10)[:, None] % 5 == np.arange(25) % 5
    weight[0, 0] *= np.kron(used, np.ones((LANES, LANES)))[:, :CHANNELS]
    return mg


def wide_convolution() -> MatGraph:
    b = Maker()
    b.tensor("x", (2, 9, 9, 20))
    weight = b.rng.standard_normal((3, 3, 20, CHANNELS)) / 15
    b.ops.append(Gemm("y", "x", weight, b.rng.standard_normal(CHANNELS), pads=(1,) * 4,
                      strides=(2, 2), epilogue=SIGMOID))  # fmt: skip
    b.tensor("y", (2, 5, 5, CHANNELS))
    return b.graph()


def window(size: int = 3, **fields: Any) -> MatGraph:
    """A window of ``size`` x ``size`` with parameters of each channel."""
    b = Maker()
    b.tensor("x", (1, 8, 9, CHANNELS))
    weight = b.rng.standard_normal((size, size, CHANNELS))
    given = {"weight": weight, "bias": b.rng.standard_normal(CHANNELS), "pads": (size // 2,) * 4}
    b.window("y", "x", **{**given, **fields})
    return b.graph()


def statistics() -> MatGraph:
    """Mean and mean square of a product; both operands of what follows are its rows."""
    b = Maker()
    b.tensor("x", (1, 1, 130, 40))
    rows = b.rows((1, 1, 130, CHANNELS), ("mean", "mean"), ("square", "square"))
    b.gemm("g", "x", CHANNELS, bias=b.rng.standard_normal(CHANNELS), epilogue=Epilogue(rows=rows))
    gain = b.rng.standard_normal((1, 1, CHANNELS))
    b.window("d", "g", weight=gain, minus="mean")
    b.window("y", "d", epilogue=Epilogue(hadamard="square"))
    return b.graph()


def scores() -> MatGraph:
    """The maximum over the keys of two images, subtracted in the exponent."""
    b = Maker()
    b.tensor("x", (2, 1, CHANNELS, 16))
    b.window("q", "x", weight=b.rng.standard_normal((1, 1, 16)))
    b.product("s", "q", "x", CHANNELS, rhs_transposed=True)
    b.ops.append(RowMax("top", "s"))
    b.tensor("top", (2, 1, CHANNELS, 1), True)
    b.window("y", "s", epilogue=Epilogue("top", -1.0, Function("exp")))
    return b.graph()


KINDS: dict[str, Callable[[], MatGraph]] = {
    "product": lambda: wide_product(3),
    "product of many tiles": lambda: wide_product(150),
    "product of a split sum": lambda: wide_product(5, depth=1500),
    "sparse product": sparse_product,
    "convolution": wide_convolution,
    "depthwise": lambda: window(epilogue=TANH),
    "element-wise": lambda: window(1, pads=(0,) * 4, epilogue=SIGMOID),
    "shared weight": lambda: window(1, pads=(0,) * 4, weight=np.ones((1, 1, 1)), epilogue=TANH),
    "mean": lambda: window(weight=np.full((3, 3, 1), 1 / 9), bias=np.zeros(CHANNELS)),
    "maximum": lambda: window(
        weight=np.ones((3, 3, 1)), bias=np.zeros(CHANNELS), reduce="max", epilogue=TANH
    ),
    "statistics": statistics,
    "scores": scores,
}


@pytest.mark.gxx
@pytest.mark.parametrize("precision", ["int8", "int16"])
@pytest.mark.parametrize("kind", KINDS)
def test_paged_programs_are_bit_exact(kind: str, precision: str) -> None:
    mg = KINDS[kind]()
    feed = {"x": np.random.default_rng(1).standard_normal(mg.inputs[0].shape).astype(np.float32)}
    graph = quantized(mg, observed(mg, feed), precision)
    program = program_of(mg, precision, **TINY)
    assert once(program, "y")
    board = replace(BOARD, array=program.array)
    found = compare(mg, graph, for_board(schedule(graph, board.target), board), feed)
    assert found.ok, found.to_text()


def parameter_words(program: Program) -> list[int]:
    loads = [i for i in instructions(program, Opcode.LOAD) if i["dest"] == Buffer.PBUF]
    return [i["n0"] * i["n1"] * i["n2"] for i in loads]


@pytest.mark.parametrize("rows", [3, 150])
def test_every_parameter_is_loaded_once_however_many_tiles_there_are(rows: int) -> None:
    """25 rows of parameters of 8 words, in pages of which two fit."""
    words = parameter_words(program_of(wide_product(rows, Epilogue()), **FEW))
    assert len(words) > 2 and sum(words) == 25 * 8
    assert max(words) <= 16 // 2 * 8


def test_rows_of_statistics_take_all_pages_in_every_tile() -> None:
    program = program_of(statistics(), **TINY)
    (first, *_) = (i for i, layer in enumerate(program.layers) if layer.name == "g")
    mine = program.instructions[program.insn_layer == first]
    words = parameter_words(replace(program, instructions=mine))
    assert sum(words) > 2 * 25 * 8 and sum(words) % 8 == 0


def test_equal_parameters_are_one_row() -> None:
    """A ReLU of all channels, and none within the limits, where programs stay as they were."""
    mg = window(1, pads=(0,) * 4, weight=np.ones((1, 1, 1)), bias=np.zeros(CHANNELS),
                epilogue=Epilogue(activation=Function("relu")))  # fmt: skip
    assert parameter_words(program_of(mg, **FEW)) == [8]
    steps = {i["p_nb"] for i in instructions(program_of(mg, **FEW), Opcode.COMPUTE)}
    assert steps == {0}
    assert parameter_words(program_of(mg)) == [25 * 8]


def test_sections_are_groups_whose_parameters_fit_a_page() -> None:
    groups = [range(0, 4), range(4, 8), range(8, 12), range(12, 13)]
    assert sections(groups, 8) == [slice(0, 2), slice(2, 4)]
    assert sections(groups, 4) == [slice(0, 1), slice(1, 2), slice(2, 3), slice(3, 4)]
    assert sections(groups, 13) == [slice(0, 4)]


def epilogue(channels: int, segments: int, seed: int = 0) -> QEpilogue:
    rng = np.random.default_rng(seed)
    table = PwlTable(SegKind.UNIFORM, 0, 4, rng.integers(-9, 9, segments).astype(np.int16),
                     np.zeros(segments, np.int32), np.zeros(segments, np.uint8), 1, 1, 0,
                     0)  # fmt: skip
    bias = exact(1, channels) * 8
    return QEpilogue(bias, np.ones(channels), np.ones(channels), 0, 0, 0, 0, 0, 0, 0, 0, table)


def test_a_page_is_whole_groups_and_the_table_stays() -> None:
    ctx = context()
    e = epilogue(1000 * LANES, 64)
    assert page_limit(ctx, e) == (512 - 4) // 2
    params = load_params(ctx, e, 60)
    assert (params.page, params.table.base, params.table.rows) == (240, 0, 4)
    assert params.row(range(60, 120)) == 4 + 60
    assert params.row(range(240, 300)) == 4 + 240
    assert params.row(range(180, 240)) == 4 + 180  # still there
    assert params.row(range(480, 540)) == 4
    assert len(ctx.emitter.items) == 4  # the table and three pages


def test_a_table_that_leaves_no_room_is_refused() -> None:
    ctx = context()
    ctx.target = replace(ctx.target, array=replace(ctx.array, pbuf_rows=5))
    with pytest.raises(OverBuffers, match="4 parameter rows .* the 5 rows of parameter buffer"):
        page_limit(ctx, epilogue(6 * LANES, 64))


def test_another_table_at_the_same_place_is_copied_to_the_lanes_again() -> None:
    ctx = context()
    for seed in (0, 0, 1):
        e = epilogue(LANES, 64, seed)
        content = load_params(ctx, e).table.content
        set_epilogue(ctx, e, Table(0, 4, content), False, {})
    opcodes = [item.opcode for item in ctx.emitter.items]
    assert opcodes.count(Opcode.EPILOGUE) == 2
