# SPDX-License-Identifier: Apache-2.0
"""The self-test of an overlay: it uses every feature of the units, and a wrong bit fails it.

In: the board files.  Out: decoded instructions, arenas of the emulation with one fault.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neuralmatrix.errors import DeviceFault, OverlayMissing
from neuralmatrix.hardware.board import load_board
from neuralmatrix.hardware.instruction_columns import columns
from neuralmatrix.hardware.isa import SLOTS, Buffer, Mode, Opcode, Reduce, Region, SegKind, Stat
from neuralmatrix.hardware.overlay_folder import EXPECTED, SELFTEST
from neuralmatrix.runtime.emulation.emulator import Emulator
from neuralmatrix.runtime.selftest import SelfTest, check, read
from neuralmatrix.runtime.selftest_build.build import compiled, make, write
from neuralmatrix.verification import compare
from slow import slow_after

pytestmark = pytest.mark.gxx

BOARDS = ("pynq-z2", "kv260")  # 16 x 16 and 32 x 32
LARGEST_FILE = 200_000
LONGEST_MS = 50.0

# A unit sends itself no tokens; EPILOGUE shares COMPUTE's queues and need not use all of them.
NEVER_SET = {
    Opcode.LOAD: {"wait_load", "signal_load"},
    Opcode.COMPUTE: {"wait_compute", "signal_compute"},
    Opcode.STORE: {"wait_store", "signal_store"},
    Opcode.EPILOGUE: {f"{way}_{unit}" for way in ("wait", "signal")
                      for unit in ("load", "compute", "store")},
}  # fmt: skip
# Fields for which one value other than 0 does not suffice: both values must occur.
BOTH = {Opcode.COMPUTE: ("first", "last", "p_nb", "transpose", "x_wide", "w_wide")}


@lru_cache(maxsize=2)
def made(name: str = "pynq-z2") -> SelfTest:
    return make(load_board(name))


def run(test: SelfTest, const: Any = None, words: Any = None) -> Any:
    """Return the arena after a run with other constants or instructions."""
    p = test.program
    const = p.const if const is None else const
    words = p.instructions if words is None else words
    emulator = Emulator(p.array, p.timing, const, words, p.arena_bytes)
    emulator.arena[:] = test.before
    emulator.run()
    return emulator.arena.copy()


# ------------------------------------------------------------------------------ used features


@pytest.mark.parametrize("name", BOARDS)
def test_every_field_of_every_instruction_is_used(name: str) -> None:
    words = made(name).program.instructions
    for opcode, never in NEVER_SET.items():
        c = columns(words, opcode)
        unused = {field for field in c.fields if not c[field].any()}
        assert unused - never == set(), opcode.name
        for field in BOTH.get(opcode, ()):
            assert set(c[field]) == {0, 1}, field


@pytest.mark.parametrize("name", BOARDS)
def test_every_kind_is_used(name: str) -> None:
    words = made(name).program.instructions
    load, store = columns(words, Opcode.LOAD), columns(words, Opcode.STORE)
    epilogue, compute = columns(words, Opcode.EPILOGUE), columns(words, Opcode.COMPUTE)
    assert set(load["dest"]) == set(Buffer) and set(load["region"]) == set(Region)
    assert set(store["plane"]) == {0, 1}
    assert set(epilogue["seg_kind"]) == set(SegKind) and set(epilogue["stat"]) == set(Stat)
    found = set(zip(compute["mode"], compute["reduce"], compute["x_wide"], strict=True))
    assert found == {(Mode.GEMM, Reduce.ADD, 0), (Mode.GEMM, Reduce.ADD, 1)} | {
        (Mode.WINDOW, reduce, int16) for reduce in Reduce for int16 in (0, 1)
    }
    gathers = load["lane_stride"] != 1
    assert gathers.any() and not gathers.all()


@pytest.mark.parametrize("name", BOARDS)
def test_buffers_are_used_round_and_round(name: str) -> None:
    """There are more words than in IBUF and the output buffer, so that all of these are used."""
    array = load_board(name).array
    words = made(name).program.instructions
    load, store = columns(words, Opcode.LOAD), columns(words, Opcode.STORE)
    rows = store["src"] + store["n2"] * store["n1"] * store["n0"]
    assert rows.max() > 0.9 * array.obuf_rows
    stored = (store["n2"] * store["n1"] * store["n0"]).sum()
    assert stored > 2 * array.obuf_rows
    assert ((load["dst"] == 0) & (load["dest"] == Buffer.IBUF)).sum() > 0


@pytest.mark.parametrize("name", BOARDS)
def test_size_and_time(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    write(board, tmp_path)
    assert max(path.stat().st_size for path in tmp_path.iterdir()) < LARGEST_FILE
    assert {path.name for path in tmp_path.iterdir()} == {SELFTEST, EXPECTED}
    assert made(name).program.estimate().cycles / (1e3 * board.clock_mhz) < LONGEST_MS
    again = read(tmp_path)
    for mine, theirs in ((again.before, made(name).before), (again.after, made(name).after)):
        assert np.array_equal(mine, theirs)
    check(again, run(again))


@pytest.mark.parametrize("name", BOARDS)
def test_integers_agree(name: str) -> None:
    """The integer reference gives the same bytes as the emulation."""
    made_of = compiled(load_board(name))
    found = compare(made_of.network, made_of.integers, made_of.program, made_of.feeds)
    assert found.ok, found.to_text()


# ------------------------------------------------------------------------------ detected faults


def constants(test: SelfTest, layer: str, dest: Buffer) -> Any:
    """Return the nonzero bytes of CONST that a layer loads to a buffer."""
    p = test.program
    load = columns(p.instructions, Opcode.LOAD)
    number = [info.name for info in p.layers].index(layer)
    mine = (load["dest"] == dest) & (load["region"] == Region.CONST)
    mine &= p.insn_layer[load.index] == number
    words = load["n2"] * load["n1"] * load["n0"]
    spans = [np.arange(a, a + n * p.array.rows) for a, n in
             zip(load["addr"][mine], words[mine], strict=True)]  # fmt: skip
    places = np.unique(np.concatenate(spans))
    return places[p.const[places] != 0]


def found_at(test: SelfTest, const: Any) -> str | None:
    """Return the tensor that the check names, or None."""
    try:
        check(test, run(test, const))
    except DeviceFault as error:
        return str(error).split("'")[1]
    return None


@pytest.mark.parametrize("bit", range(8))
@pytest.mark.parametrize("layer", ("front", "factor", "second", "head", "depth"))
def test_one_bit_of_a_weight(layer: str, bit: int) -> None:
    """A wrong bit of any weight is detected, and the message names the layer that used it."""
    test, rng = made(), np.random.default_rng(bit)
    for place in rng.choice(constants(test, layer, Buffer.WBUF), 8, replace=False):
        const = test.program.const.copy()
        const[place] ^= 1 << bit
        assert found_at(test, const) == layer


# A parameter is a bias of 4 bytes, a multiplier of 3 and an exponent; the lowest bits of the first
# two change a result by less than its rounding, which not every channel reveals.
@pytest.mark.parametrize("byte", (2, 3, 6, 7))
@pytest.mark.parametrize("layer", ("front", "factor", "stem"))
def test_one_bit_of_a_bias_or_multiplier(layer: str, byte: int) -> None:
    test = made()
    places = constants(test, layer, Buffer.PBUF)
    first = places[0] // 8 * 8
    for channel in (0, 3, 7):
        const = test.program.const.copy()
        const[first + 8 * channel + byte] ^= 1
        assert found_at(test, const) == layer


@pytest.mark.parametrize(
    "layer", slow_after(1, ("second", "powers", "inverse", "deviation", "gated", "sum"))
)
def test_segments(layer: str) -> None:
    """A large part of a table's bytes is used; segments without values reveal nothing."""
    test, found = made(), set()
    for place in constants(test, layer, Buffer.PBUF):
        const = test.program.const.copy()
        const[place] ^= 1
        found.add(found_at(test, const))
    assert layer in found or any(name and name.startswith("sum_") for name in found)


# Fields in which a wrong bit means another word, row or result.
WRONG_BIT = {
    Opcode.COMPUTE: ("x_base", 0),
    Opcode.EPILOGUE: ("zp", 0),
    Opcode.STORE: ("src", 0),
    Opcode.LOAD: ("addr", 7),
}


@pytest.mark.parametrize("opcode", WRONG_BIT)
def test_a_wrong_instruction(opcode: Opcode) -> None:
    """A wrong bit in one of seven instructions of a kind, as in a broken kernel, is detected."""
    test, (field, bit) = made(), WRONG_BIT[opcode]
    slot, kinds = SLOTS[opcode][field], columns(test.program.instructions, opcode)
    for at in kinds.index[:: len(kinds.index) // 6]:
        words = test.program.instructions.copy()
        words[at, slot.word] ^= 1 << (slot.shift + bit)
        with pytest.raises(DeviceFault, match="the self-test failed: "):
            check(test, run(test, words=words))


def test_messages() -> None:
    test = made()
    slot = next(p for p in test.program.watchpoints if p.tensor.name == "front").tensor
    arena = test.after.copy()
    arena[slot.offset] ^= 1
    with pytest.raises(DeviceFault, match=r"Gemm 'front' at \(0, 0, 0, 0\): found -?\d+, allowed"):
        check(test, arena)
    arena = test.after.copy()
    arena[slot.offset + 9] ^= 1  # of 16 lanes 8 are channels
    with pytest.raises(DeviceFault, match="Gemm 'front' in its padding; 1 of"):
        check(test, arena)
    outside = np.ones(len(test.after), bool)
    for point in test.program.watchpoints:
        outside[point.tensor.offset : point.tensor.offset + point.tensor.layout.nbytes] = False
    arena = test.after.copy()
    arena[np.flatnonzero(outside)[-1]] ^= 1
    with pytest.raises(DeviceFault, match="bytes outside of all tensors were written"):
        check(test, arena)


def test_unusable_files(tmp_path: Path) -> None:
    write(load_board("pynq-z2"), tmp_path)
    (tmp_path / EXPECTED).write_bytes((tmp_path / SELFTEST).read_bytes())
    with pytest.raises(OverlayMissing, match="cannot be used"):
        read(tmp_path)
    np.savez(tmp_path / EXPECTED, before=np.zeros(3, np.uint8), after=np.zeros(3, np.uint8))
    with pytest.raises(OverlayMissing, match="holds no arenas of"):
        read(tmp_path)
    (tmp_path / SELFTEST).unlink()
    with pytest.raises(OverlayMissing, match="copy the overlay again"):
        read(tmp_path)
