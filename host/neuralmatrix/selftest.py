# SPDX-License-Identifier: Apache-2.0
"""A small program that uses every feature of the array's units, and what it must leave behind.

In: a Board (to make it), or an overlay's folder (to run it).  Out: ``SelfTest``; DeviceFault where
a device's arena is not, byte for byte, the emulation's.
Checking needs numpy alone; making it needs the compiler's own passes and a C++ compiler.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .config import Board
from .errors import DeviceFault, NeuralMatrixError, OverlayMissing
from .files import read_arrays, write_whole
from .overlays import EXPECTED, SELFTEST
from .ports import read_slot, slot_bytes
from .program import Program, TensorSlot, load

if TYPE_CHECKING:
    from .ir import MatGraph
    from .qgraph import QGraph

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class SelfTest:
    """A program and its arena ``before`` and ``after`` a run, uint8; every tensor keeps its
    bytes."""

    program: Program
    before: Array
    after: Array


# ------------------------------------------------------------------------------ checking


def read(folder: Path) -> SelfTest:
    """The self-test that lies beside a bitstream.  OverlayMissing: its files do not fit."""
    try:
        program = load(folder / SELFTEST)
        arrays = read_arrays(folder / EXPECTED)
        test = SelfTest(program, arrays["before"], arrays["after"])
        fits = all(a.shape == (program.arena_bytes,) and a.dtype == np.uint8
                   for a in (test.before, test.after))  # fmt: skip
    except (NeuralMatrixError, KeyError) as error:
        raise _unusable(folder, str(error)) from None
    if not fits:
        raise _unusable(folder, f"{EXPECTED} holds no arenas of {program.arena_bytes} bytes")
    return test


def _unusable(folder: Path, why: str) -> OverlayMissing:
    return OverlayMissing(
        f"the self-test in {folder} cannot be used: {why}; copy the overlay again"
    )


def check(test: SelfTest, arena: Array) -> None:
    """DeviceFault: ``arena``, as a run on ``test.before`` left it, is not ``test.after``."""
    found = np.asarray(arena).view(np.uint8)
    wrong = np.flatnonzero(found != test.after)
    if wrong.size:
        raise DeviceFault(
            f"the self-test failed: {_first_difference(test, found)}; {wrong.size} of "
            f"{found.size} bytes differ from the emulation.  Load the overlay again; if it fails "
            "again, lower the clock or build the bitstream again"
        )


def _first_difference(test: SelfTest, found: Array) -> str:
    """The first tensor, in the order they are made, that holds a wrong value."""
    for point in sorted(test.program.watchpoints, key=lambda point: point.insn):
        slot = point.tensor
        if not np.array_equal(slot_bytes(slot, found), slot_bytes(slot, test.after)):
            layer = test.program.layers[point.layer]
            return f"{layer.kind} {slot.name!r}{_first_value(slot, found, test.after)}"
    return "bytes outside of all tensors were written"


def _first_value(slot: TensorSlot, found: Array, wanted: Array) -> str:
    got, allowed = read_slot(slot, found), read_slot(slot, wanted)
    places = np.argwhere(got != allowed)
    if not len(places):
        return " in its padding"
    at = tuple(int(i) for i in places[0])
    return f" at {at}: found {got[at]}, allowed is {allowed[at]}"


# ------------------------------------------------------------------------------ making


@dataclass(frozen=True)
class Compiled:
    """The self-test on its way: the network, its integers, their program, inputs by name."""

    network: MatGraph
    integers: QGraph
    program: Program
    feeds: dict[str, Array]


def compiled(board: Board) -> Compiled:
    """Compile the self-test for a board's array."""
    from .proof import verify_program
    from .quantize import quantize
    from .reference import run_float
    from .schedule import schedule
    from .selftest_net import RAISED, SPLIT, network
    from .selftest_words import with_token, with_two_parts

    graph = network(board.array)
    rng = np.random.default_rng(0)
    feeds = {port.name: rng.standard_normal(port.shape).astype(np.float32) for port in graph.inputs}
    values = run_float(graph, feeds)
    bounds = {name: (float(v.min()), float(v.max())) for name, v in values.items()}
    integers = quantize(graph, bounds, "int8", RAISED)
    # Every tensor keeps its bytes, so that a difference names the operation that made it.
    program = schedule(integers, board, shared=False)
    program = with_token(with_two_parts(program, SPLIT))
    verify_program(program)
    return Compiled(graph, integers, program, feeds)


def make(board: Board) -> SelfTest:
    """Compile the self-test for a board's array and run it in emulation."""
    from .device.emulation import Emulator
    from .ports import write_input

    made = compiled(board)
    p = made.program
    emulator = Emulator(p.array, p.timing, p.const, p.instructions, p.arena_bytes)
    for port in p.inputs:
        write_input(port, made.feeds[port.name], emulator.arena)
    before = emulator.arena.copy()
    emulator.run()
    return SelfTest(p, before, emulator.arena.copy())


def write(board: Board, folder: Path) -> None:
    """Make the self-test of a board's array and write its two files."""
    test = make(board)
    test.program.save(folder / SELFTEST)
    write_whole(
        folder / EXPECTED,
        lambda file: np.savez_compressed(file, before=test.before, after=test.after),
    )
