# SPDX-License-Identifier: Apache-2.0
"""Copies through the array: source addresses of every byte, masks, fills and stores.

In: Moves over tensors in a context, or small graphs.  Out: addresses, and programs.
"""

from __future__ import annotations

import numpy as np
import pytest
from blocks import Maker
from neuralmatrix.hardware.isa import Buffer, Opcode, Region
from neuralmatrix.hardware.tensor_layout import Blocked
from neuralmatrix.ir.matgraph.ops import MatGraph, Move
from neuralmatrix.ir.types import Array
from neuralmatrix.quantization.qgraph import QOp
from neuralmatrix.scheduling.memory_plan import Place
from neuralmatrix.scheduling.move import _addresses, schedule_move
from neuralmatrix.scheduling.move_blocks import CONST_FLAG, FILL, IDLE
from schedule_rig import LANES, blocked, context, instructions, once, program_of


def reversed_rows(h: int, w: int, c: int) -> Array:
    """Reverse the positions, keeping each one's channels."""
    index = np.arange(h * w * c).reshape(1, h, w, c)
    return np.ascontiguousarray(index[:, ::-1, ::-1])


def test_addresses_of_bytes_name_their_source() -> None:
    ctx = context(x=blocked(2, 3, 20), y=blocked(2, 3, 20))
    op = Move("y", ("x",), reversed_rows(2, 3, 20))
    out = ctx.places["y"].layout
    assert isinstance(out, Blocked)
    found = _addresses(ctx, op, 0, out)
    assert found.shape == (1, 2, 3, 2, LANES)
    x = ctx.places["x"]
    assert isinstance(x.layout, Blocked)
    for h, w, c in np.ndindex(2, 3, 20):
        wanted = x.offset + x.layout.offset(0, c // LANES, 0, 1 - h, 2 - w) + c % LANES
        assert found[0, h, w, c // LANES, c % LANES] == wanted
    assert (found[..., 1, 4:] == IDLE).all()


def test_bytes_of_the_second_digit_lie_a_plane_further() -> None:
    ctx = context(x=blocked(2, 3, 5, int16=True), y=blocked(2, 3, 5, int16=True))
    op = Move("y", ("x",), reversed_rows(2, 3, 5))
    out = ctx.places["y"].layout
    assert isinstance(out, Blocked)
    low, high = (_addresses(ctx, op, plane, out)[..., :5] for plane in (0, 1))
    np.testing.assert_array_equal(high - low, 2 * 3 * LANES)


def test_index_below_zero_is_the_fill_and_constants_are_marked() -> None:
    ctx = context(x=blocked(1, 2, 3), c=blocked(1, 1, 3), y=blocked(1, 4, 3))
    places = dict(ctx.places)
    places["c"] = Place(Region.CONST, 64, places["c"].layout)
    ctx.places = places
    op = Move("y", ("x", "c"), np.array([[-1] * 3, [0, 1, 2], [6, 7, 8], [3, 4, 5]])[None, None])
    out = ctx.places["y"].layout
    assert isinstance(out, Blocked)
    found = _addresses(ctx, op, 0, out)[0, 0, :, 0, :3]
    assert (found[0] == FILL).all()
    np.testing.assert_array_equal(found[2], CONST_FLAG + 64 + np.arange(3))
    np.testing.assert_array_equal(found[[1, 3]], [[0, 1, 2], [LANES, LANES + 1, LANES + 2]])


def test_a_replicated_result_has_its_value_in_all_lanes() -> None:
    out = Blocked(1, 1, 2, 1, LANES, False, True)
    ctx = context(x=blocked(1, 2, 1), y=out)
    found = _addresses(ctx, Move("y", ("x",), np.array([[[[1], [0]]]])), 0, out)
    np.testing.assert_array_equal(found[0, 0, :, 0], [[LANES] * LANES, [0] * LANES])


@pytest.mark.parametrize(("int16", "fills"), [(False, [44]), (True, [44, 1])])
def test_the_fill_is_a_bias_of_each_byte_plane(int16: bool, fills: list[int]) -> None:
    """300 is 256 + 44."""
    ctx = context(x=blocked(1, 1, 16, int16), y=blocked(1, 1, 16, int16))
    empty = Move("y", ("x",), np.full((1, 1, 1, 16), -1), fill=1.0)
    last = schedule_move(ctx, QOp(empty, fill=300 if int16 else 44))
    stores = [i for i in ctx.emitter.items if i.opcode == Opcode.STORE]
    assert last == {"y": len(ctx.emitter.items) - 1} and len(stores) == len(fills)
    loads = [i for i in ctx.emitter.items if i.opcode == Opcode.LOAD]
    assert not [i for i in loads if i.values["dest"] == Buffer.IBUF]
    data = ctx.const.bytes()
    params = [i.values["addr"] for i in loads if i.values["dest"] == Buffer.PBUF]
    biases = [int(data[addr : addr + 4].copy().view(np.int32)[0]) for addr in params]
    assert biases == fills


def rearranged(index: Array, fill: float = 0.0) -> MatGraph:
    b = Maker()
    b.tensor("x", (1, 6, 8, 20))
    b.window("h", "x", weight=np.full((1, 1, 1), 0.5))
    b.ops.append(Move("y", ("h",), np.ascontiguousarray(index), fill))
    n, h, w, c = index.shape
    b.tensor("y", (n, h, w, c))
    return b.graph()


WHOLE = np.arange(6 * 8 * 20).reshape(1, 6, 8, 20)
INDICES = {
    "transposed": WHOLE.transpose(0, 2, 1, 3),
    "channels_to_columns": WHOLE.transpose(0, 1, 3, 2),
    "upsampled": WHOLE.repeat(2, 1).repeat(2, 2),
    "padded": np.pad(WHOLE, ((0, 0), (1, 1), (2, 0), (0, 0)), constant_values=-1),
    "shifted_channels": WHOLE[..., 3:17],
}


@pytest.mark.parametrize("precision", ["int8", "int16"])
@pytest.mark.parametrize("sizes", [{}, {"obuf_rows": 32, "ibuf_words": 64}], ids=["one", "many"])
@pytest.mark.parametrize("name", INDICES)
def test_every_word_of_the_result_is_stored_once(
    name: str, sizes: dict[str, int], precision: str
) -> None:
    program = program_of(rearranged(INDICES[name]), precision, **sizes)
    assert once(program, "y")


def test_masks_are_loaded_when_they_change() -> None:
    """All pieces of a transposition of whole words use the same lanes."""
    program = program_of(rearranged(WHOLE[..., :16].transpose(0, 2, 1, 3)), obuf_rows=32)
    layer = [info.name for info in program.layers].index("y")
    of_move = [words for words, at in zip(program.instructions.tolist(), program.insn_layer,
                                          strict=True) if at == layer]  # fmt: skip
    assert len(of_move) > 4
    loads = [i for i in instructions(program, Opcode.LOAD) if i["dest"] == Buffer.WBUF]
    assert len(loads) == 3  # one of the window, one for each byte plane of the int16 output
