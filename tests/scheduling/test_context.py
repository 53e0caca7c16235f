# SPDX-License-Identifier: Apache-2.0
"""Transfers of tiles and constants: addresses, padding, and their limits.

In: tensors in a context.  Out: LOADs and STOREs of the emitter.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from neuralmatrix.errors import DoesNotFit
from neuralmatrix.hardware.isa import Buffer, Opcode, Region
from neuralmatrix.scheduling.context import (
    Box,
    Context,
    blocked_view,
    load_const,
    load_grid,
    store_rows,
)
from neuralmatrix.scheduling.emitter import Emitter
from schedule_rig import LANES, blocked, context


def emitted(ctx: Context, *names: str) -> list[tuple[int, ...]]:
    """Return the fields of all instructions so far."""
    return [tuple(item.values.get(name, 0) for name in names) for item in ctx.emitter.items]


def test_a_tile_inside_is_one_load_of_its_rows() -> None:
    ctx = context(a=blocked(1, 1, 3), x=blocked(6, 8, 20))
    load_grid(ctx, blocked_view(ctx, "x"), 0, Box(2, 4, 3, 8), range(1, 2), Buffer.IBUF, 7)
    view = blocked_view(ctx, "x")
    address = view.base + 6 * 8 * LANES + (2 * 8 + 3) * LANES
    assert emitted(ctx, "dst", "addr", "n2", "n1", "n0", "s1", "s0") == [
        (7, address, 1, 2, 5, 8 * LANES, LANES)
    ]
    pads = emitted(ctx, "pad_top", "pad_bottom", "pad_left", "pad_right")
    assert pads == [(0, 0, 0, 0)]


@pytest.mark.parametrize(
    ("box", "pads", "cells"),
    [
        (Box(0, 3, 0, 3), (1, 0, 2, 0), (2, 1)),
        (Box(5, 9, 7, 12), (0, 2, 0, 2), (2, 3)),
        (Box(0, 8, 0, 12), (1, 1, 2, 2), (6, 8)),
    ],
)
def test_what_lies_outside_is_padding(
    box: Box, pads: tuple[int, ...], cells: tuple[int, int]
) -> None:
    """A convolution reads one row above and two columns to the left of the tensor."""
    ctx = context(x=blocked(6, 8, 16))
    view = replace(blocked_view(ctx, "x"), top=1, left=2, fill=(5, 0))
    load_grid(ctx, view, 0, box, range(1), Buffer.IBUF, 0)
    names = ("pad_top", "pad_bottom", "pad_left", "pad_right")
    assert emitted(ctx, *names) == [pads]
    assert emitted(ctx, "n1", "n0", "pad_value") == [(*cells, 5)]
    assert sum(pads[:2]) + cells[0] == box.rows and sum(pads[2:]) + cells[1] == box.cols


def test_a_tile_of_padding_only_reads_a_constant_of_its_value() -> None:
    """A LOAD reads at least one word: it is a constant that equals the padding around it."""
    ctx = context(x=blocked(6, 8, 16))
    view = replace(blocked_view(ctx, "x"), top=3, left=3, fill=(-7, 0))
    for dst in (0, 12):
        load_grid(ctx, view, 0, Box(0, 3, 0, 4), range(1), Buffer.IBUF, dst)
    first, second = ctx.emitter.items
    assert first.values["region"] == Region.CONST and first.values["pad_value"] == -7
    counts = emitted(ctx, "n1", "n0", "pad_top", "pad_bottom", "pad_left", "pad_right")
    assert counts == [(1, 1, 0, 2, 0, 3)] * 2
    address = first.values["addr"]
    assert second.values["addr"] == address
    word = ctx.const.bytes()[address : address + LANES].view(np.int8)
    assert (word == -7).all()


def test_padding_beyond_a_byte_is_refused() -> None:
    ctx = context(x=blocked(6, 8, 16))
    view = replace(blocked_view(ctx, "x"), top=300)
    with pytest.raises(DoesNotFit, match="padding of 300 exceeds 255"):
        load_grid(ctx, view, 0, Box(0, 301, 0, 8), range(1), Buffer.IBUF, 0)


@pytest.mark.parametrize(("fill", "loads"), [((0, 0), 1), ((-128, -127), 4)])
def test_byte_planes_with_different_padding_are_loaded_one_by_one(
    fill: tuple[int, int], loads: int
) -> None:
    """Word order is [block][byte plane][row][column] in both cases."""
    ctx = context(x=blocked(2, 3, 20, int16=True))
    view = replace(blocked_view(ctx, "x"), top=1, fill=fill)
    load_grid(ctx, view, 0, Box(0, 3, 0, 3), range(2), Buffer.IBUF, 0)
    assert len(ctx.emitter.items) == loads
    if loads > 1:
        plane = 2 * 3 * LANES
        assert emitted(ctx, "dst", "addr", "pad_value") == [
            (9 * i, plane * i, fill[i % 2]) for i in range(4)
        ]


def test_constants_beyond_the_count_of_one_load_take_several() -> None:
    ctx = context(x=blocked(1, 1, 16))
    ctx.emitter = Emitter(replace(ctx.array, wbuf_words=1 << 18), 1024)
    load_const(ctx, Buffer.WBUF, 5, 64, 0x1FFFF)
    assert emitted(ctx, "region", "addr", "n0", "dst") == [
        (int(Region.CONST), 64 + LANES * 0xFFFF * i, count, 5 + 0xFFFF * i)
        for i, count in enumerate((0xFFFF, 0xFFFF, 1))
    ]


def test_both_digits_of_finished_rows_are_stored() -> None:
    ctx = context(a=blocked(1, 1, 3), y=blocked(4, 5, 40, int16=True))
    last = store_rows(ctx, "y", 0, Box(1, 3, 0, 5), range(1, 3), 11, flat=False)
    place, plane = ctx.places["y"], 4 * 5 * LANES
    first = place.offset + 2 * plane + 5 * LANES
    assert last == 1 and [item.opcode for item in ctx.emitter.items] == [Opcode.STORE] * 2
    assert emitted(ctx, "plane", "addr", "src", "n2", "n1", "n0", "s2") == [
        (0, first, 11, 2, 2, 5, 2 * plane), (1, first + plane, 11, 2, 2, 5, 2 * plane),
    ]  # fmt: skip


def test_a_flat_view_joins_all_rows() -> None:
    ctx = context(x=blocked(4, 5, 16))
    view = blocked_view(ctx, "x", flat=True)
    assert (view.height, view.width, view.column) == (1, 20, LANES)


def test_inputs_are_older_than_every_result() -> None:
    ctx = context(x=blocked(1, 1, 16), y=blocked(1, 1, 16))
    ctx.age = {"a": 0, "b": 3}
    assert ctx.older(("x", "a"), than="b") and not ctx.older(("b",), than="a")
    assert ctx.older((), than="x") and not ctx.older(("a",), than="x")
