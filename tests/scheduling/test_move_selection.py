# SPDX-License-Identifier: Apache-2.0
"""Moves of channels as products: which are, what they cost, and that every byte arrives.

In: planes of source addresses, and small graphs that rearrange channels.  Out: selections; programs
that equal the integer reference byte for byte.
"""

from __future__ import annotations

import neuralmatrix as nm
import numpy as np
import pytest
from blocks import Maker, feed
from neuralmatrix.hardware.isa import Mode, Opcode
from neuralmatrix.ir.matgraph.ops import MatGraph, Move
from neuralmatrix.ir.types import Array
from neuralmatrix.scheduling.move_blocks import CONST_FLAG, FILL
from neuralmatrix.scheduling.move_selection import Selection, selections_of
from neuralmatrix.verification import compare
from quantized import observed, quantized
from schedule_rig import LANES, instructions, once, program_of
from shuffles import FORMS, rearranged
from targets import scheduled, target


def plane(channels: Array, h: int = 3, w: int = 4, blocks: int = 4) -> Array:
    """Return source addresses (H, W, out blocks, lanes) of a selection of a tensor's channels."""
    at = np.arange(h)[:, None] * w + np.arange(w)
    address = channels // LANES * (h * w * LANES) + channels % LANES
    found = at[..., None] * LANES + address
    assert channels.max() < blocks * LANES
    return np.asarray(found.reshape(h, w, -1, LANES))


def _first(grid: Array) -> Selection | None:
    """Return the only selection of a plane, None if it is none."""
    found = selections_of(target(), grid)
    assert len(found) <= 1
    return found[0] if found else None


SHUFFLE = np.arange(64).reshape(4, 16).T.reshape(-1)


def test_a_shuffle_reads_every_word_once() -> None:
    found = _first(plane(SHUFFLE))
    assert found is not None
    np.testing.assert_array_equal(found.words, np.arange(4) * 12 * LANES)
    assert found.used.all() and found.masks.sum() == 64
    assert (found.rows, found.cols) == (1, 12)  # all positions in one row
    source = found.masks.transpose(0, 3, 1, 2).reshape(64, 64).argmax(-1)
    np.testing.assert_array_equal(source, SHUFFLE)


def test_whole_words_are_copied() -> None:
    assert _first(plane(np.roll(np.arange(64), 16))) is None


def test_what_is_no_selection() -> None:
    grid = plane(SHUFFLE)
    wide, order = plane(SHUFFLE, 9, 11), np.random.default_rng(0).permutation(99)
    assert _first(wide.reshape(99, 4, LANES)[order].reshape(wide.shape)) is None
    assert _first(grid + CONST_FLAG) is None
    assert _first(np.full_like(grid, FILL)) is None
    at = np.arange(12).reshape(3, 4, 1, 1)
    assert _first(at + 16 * np.arange(64).reshape(1, 1, 4, 16)) is None  # a transposition


def test_interleaved_positions_are_a_selection_each() -> None:
    """A depth to space takes every fourth channel for one of four phases."""
    grid = plane(np.arange(64), 2, 3)  # (2, 3, 4, 16)
    split = grid.reshape(2, 3, 16, 2, 2).transpose(0, 3, 1, 4, 2).reshape(4, 6, 1, LANES)
    found = selections_of(target(), split)
    assert [(s.out, s.out_row, s.out_col) for s in found] == [
        (i * 6 + j, 12, 2) for i in range(2) for j in range(2)
    ]
    assert all(s.masks.sum() == 16 for s in found)


def test_a_lane_without_a_source_is_part_of_no_word() -> None:
    grid = plane(SHUFFLE)
    grid[:, :, 1, 3:] = FILL
    found = _first(grid)
    assert found is not None and not found.masks[1, :, :, 3:].any()


def selected(index: Array, fill: float = 0.0, sources: int = 1, c: int = 40) -> MatGraph:
    """Return functions of x, from whose results a Move takes channels, and a reader of it."""
    b = Maker()
    b.tensor("x", (1, 6, 5, c))
    names = tuple(f"h{i}" for i in range(sources))
    for i, name in enumerate(names):
        b.window(name, "x", weight=np.full((1, 1, 1), 0.5 + i / 4))
    b.ops.append(Move("m", names, np.ascontiguousarray(index), fill))
    b.tensor("m", tuple(index.shape))  # type: ignore[arg-type]
    b.window("y", "m", weight=np.full((1, 1, 1), 0.75))
    return b.graph()


def index_of(channels: Array, c: int = 40) -> Array:
    """Return a Move's index; channels from ``c`` on are those of the next part, -1 is the fill."""
    part, channel = channels // c, channels % c
    flat = part * (30 * c) + np.arange(30).reshape(1, 6, 5, 1) * c + channel
    return np.asarray(np.where(channels < 0, -1, flat))


def images(*each: Array) -> Array:
    """Return the index of images, each with channels of its own order."""
    return np.concatenate([index_of(channels) for channels in each])


RANDOM = np.random.default_rng(0).permutation(40)
COPIED = np.roll(np.arange(40), 16)[:24]  # whole words, and half of one
CASES: dict[str, MatGraph] = {
    "shuffle": selected(index_of(np.arange(40).reshape(5, 8).T.reshape(-1))),
    "random": selected(index_of(RANDOM)),
    "some": selected(index_of(RANDOM[:21])),
    "repeated": selected(index_of(np.concatenate([RANDOM, RANDOM[::2]]))),
    "filled": selected(index_of(np.where(RANDOM % 3 == 1, -1, RANDOM)), 0.25),
    "two tensors": selected(index_of(np.arange(80).reshape(2, 40).T.reshape(-1)), 0.0, 2),
    "between copies": selected(images(COPIED, *[RANDOM[:24]] * 24, COPIED)),
}


@pytest.mark.parametrize("sizes", [{}, {"obuf_rows": 32, "ibuf_words": 64, "wbuf_words": 64}],
                         ids=["one", "many"])  # fmt: skip
@pytest.mark.parametrize("precision", ["int8", "int16"])
@pytest.mark.parametrize("case", CASES)
def test_every_word_is_stored_once(case: str, precision: str, sizes: dict[str, int]) -> None:
    program = program_of(CASES[case], precision, **sizes)
    assert once(program, "m")
    computes = instructions(program, Opcode.COMPUTE)
    assert [i for i in computes if i["mode"] == Mode.GEMM]


@pytest.mark.gxx
@pytest.mark.parametrize("board", ["pynq-z2", "kv260"])
@pytest.mark.parametrize("precision", ["int8", "int16"])
@pytest.mark.parametrize("case", CASES)
def test_every_byte_arrives(case: str, precision: str, board: str) -> None:
    mg = CASES[case]
    x = {"x": feed(mg, seed=3)}
    graph = quantized(mg, observed(mg, x, board), precision, board=board)
    found = compare(mg, graph, scheduled(graph, board), x)
    assert found.ok, found.to_text()


@pytest.mark.parametrize("board", ["pynq-z2", "kv260"])
def test_a_rearrangement_costs_a_fraction_of_its_convolutions(board: str) -> None:
    cycles = {}
    for form in FORMS:
        model = rearranged(form, 96, 22, 2)
        x = np.random.default_rng(1).normal(size=(1, 96, 22, 22)).astype(np.float32)
        program = nm.compile(model, board, calibration=[{"x": x}], accuracy=False)
        cycles[form] = program.estimate().cycles
    assert max(cycles.values()) <= 1.1 * cycles["plain"], cycles
