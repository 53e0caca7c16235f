# SPDX-License-Identifier: Apache-2.0
"""Residual and Hadamard operands: the loaded tile, and the strides of its rows.

In: operands in a context.  Out: LOADs, strides and ranges.
"""

from __future__ import annotations

import numpy as np
import pytest
from neuralmatrix.hardware.isa import Buffer
from neuralmatrix.hardware.tensor_layout import Blocked
from neuralmatrix.quantization.qgraph import QEpilogue
from neuralmatrix.scheduling.context import Box, Context
from neuralmatrix.scheduling.epilogue_operands import (
    Operands,
    bases,
    can_flatten,
    operand_names,
    operand_sizes,
    strides,
)
from schedule_rig import LANES, blocked, context

BOX = Box(1, 3, 2, 6)


def epilogue(residual: str | None = None, hadamard: str | None = None) -> QEpilogue:
    zeros = np.zeros(1, np.int32)
    return QEpilogue(zeros, zeros, zeros, 0, 0, 0, 0, 0, 0, -128, 127, None, residual, hadamard)


def broadcast(h: int, w: int) -> Blocked:
    return Blocked(1, h, w, 1, LANES, False, True)


def loads(ctx: Context) -> list[tuple[int, ...]]:
    names = ("dest", "n2", "n1", "n0")
    return [tuple(item.values[name] for name in names) for item in ctx.emitter.items]


def test_a_residual_of_the_same_shape_moves_with_the_tile() -> None:
    ctx = context(r=blocked(4, 8, 40))
    (found,) = Operands(ctx, epilogue("r"), False).load(0, BOX, range(1, 3)).values()
    assert loads(ctx) == [(Buffer.T_LO, 2, 2, 4)]
    assert found.steps == {"t_nb": 8, "t_m1": 4, "t_m0": 1}
    assert (found.read.start, found.read.stop) == (found.base, found.base + 16)


@pytest.mark.parametrize(
    ("shape", "steps", "rows"),
    [((1, 8), (0, 1), 4), ((4, 1), (1, 0), 2), ((1, 1), (0, 0), 1)],
)
def test_axes_of_one_position_are_repeated(
    shape: tuple[int, int], steps: tuple[int, int], rows: int
) -> None:
    ctx = context(r=blocked(*shape, 16))
    (found,) = Operands(ctx, epilogue("r"), False).load(0, BOX, range(1)).values()
    assert (found.steps["t_m1"], found.steps["t_m0"]) == steps
    assert found.read.stop - found.read.start == rows


def test_both_digits_of_an_int16_operand_are_loaded() -> None:
    ctx = context(h=blocked(4, 8, 16, int16=True))
    Operands(ctx, epilogue(hadamard="h"), False).load(0, BOX, range(1))
    assert [load[0] for load in loads(ctx)] == [Buffer.U_LO, Buffer.U_HI]
    low, high = (item.values["addr"] for item in ctx.emitter.items)
    assert high - low == 4 * 8 * LANES


def test_a_replicated_operand_serves_all_blocks_of_a_tile() -> None:
    ctx = context(f=broadcast(4, 8))
    operands = Operands(ctx, epilogue(hadamard="f"), False)
    first, again = (operands.load(0, BOX, range(b, b + 1)) for b in (0, 1))
    assert len(ctx.emitter.items) == 1 and first == again
    assert strides(first) == {"u_nb": 0, "u_m1": 4, "u_m0": 1}
    operands.load(0, Box(0, 1, 0, 8), range(1))
    assert len(ctx.emitter.items) == 2


def test_fields_of_both_operands() -> None:
    ctx = context(r=blocked(4, 8, 16), f=broadcast(4, 8))
    e = epilogue("r", "f")
    found = Operands(ctx, e, False).load(0, BOX, range(1))
    assert operand_names(e) == ("r", "f") and set(bases(found)) == {"t_base", "u_base"}
    assert set(strides(found)) == {f"{k}_{s}" for k in "tu" for s in ("nb", "m1", "m0")}
    sizes = operand_sizes(ctx, e)
    assert set(sizes) == {"t", "u"} and sizes["t"] != sizes["u"]


@pytest.mark.parametrize(("shape", "flat"), [((4, 8), True), ((1, 1), True), ((1, 8), False)])
def test_rows_may_be_joined_for_whole_maps_and_single_positions(
    shape: tuple[int, int], flat: bool
) -> None:
    ctx = context(r=blocked(*shape, 16))
    assert can_flatten(ctx, epilogue("r"), 4, 8) == flat
    assert can_flatten(ctx, epilogue(), 4, 8)
