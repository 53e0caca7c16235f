# SPDX-License-Identifier: Apache-2.0
"""The self-test of an overlay: a small program that uses every feature of the array's units, and
the expected arena.

In: an overlay's folder.  Out: ``SelfTest``; DeviceFault if a device's arena differs from
the emulation's.  Needs numpy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DeviceFault, NeuralMatrixError, OverlayMissing
from ..files import read_arrays
from ..hardware.overlay_folder import EXPECTED, SELFTEST
from ..program.data import TensorSlot
from ..program.host_io import read_slot, slot_bytes
from ..program.program import Program, load

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class SelfTest:
    """A program and its arena ``before`` and ``after`` a run, uint8; every tensor has bytes of
    its own."""

    program: Program
    before: Array
    after: Array


def read(folder: Path) -> SelfTest:
    """Read the self-test next to a bitstream.  OverlayMissing: its files do not match."""
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
    """Raise DeviceFault if ``arena`` after a run on ``test.before`` is not ``test.after``."""
    found = np.asarray(arena).view(np.uint8)
    wrong = np.flatnonzero(found != test.after)
    if wrong.size:
        raise DeviceFault(
            f"the self-test failed: {_first_difference(test, found)}; {wrong.size} of "
            f"{found.size} bytes differ from the emulation.  Load the overlay again; if it fails "
            "again, lower the clock or build the bitstream again"
        )


def _first_difference(test: SelfTest, found: Array) -> str:
    """Describe the first computed tensor that holds a wrong value."""
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
