# SPDX-License-Identifier: Apache-2.0
"""What crosses from the compiler to a device: instructions, constants, inputs and outputs.

In: the schedule.  Out: ``Program``, and the ``.nmx`` file it is saved as.
Needs numpy and the standard library alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .config import ArrayConfig, Timing
from .ir import QParams, Shape, ViewStep
from .layout import Layout

if TYPE_CHECKING:
    from .estimate import Estimate

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class TensorSlot:
    """Where a tensor lies in the ARENA, and what its bytes mean.

    ``fill`` is the quantised value of padding lanes and rows.
    """

    name: str
    offset: int
    layout: Layout
    qparams: QParams
    fill: int = 0


@dataclass(frozen=True)
class ProgramPort:
    """A network input or output; ``steps`` and ``argmax`` as in ``ir.Port``.

    ``table`` (V, D): the codes of the rows that an input of row numbers picks, int16 where the slot
    is wide, else int8.
    """

    name: str
    shape: Shape
    dtype: str
    slot: TensorSlot
    steps: tuple[ViewStep, ...]
    argmax: tuple[int, bool, bool] | None = None
    table: Array | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class LayerInfo:
    """One scheduled layer: its name, what it is, the source model's node, its multiply-adds."""

    name: str
    kind: str
    source: str
    macs: int


@dataclass(frozen=True)
class Watchpoint:
    """``tensor`` is valid in the arena right after instruction ``insn`` ran."""

    tensor: TensorSlot
    layer: int
    insn: int


@dataclass(frozen=True)
class Recipe:
    """What calibration chose beside ranges: tensors raised to int16 (precision mixed), the factors
    their makers' channels are divided by, and shifts of biases; by tensor name, one per channel."""

    raised: tuple[str, ...] = ()
    factors: tuple[tuple[str, tuple[float, ...]], ...] = ()
    shifts: tuple[tuple[str, tuple[float, ...]], ...] = ()


@dataclass(frozen=True, eq=False)
class Program:
    """A compiled network.  ``instructions`` (n, 16) uint32; ``insn_layer`` (n,) index or -1."""

    board: str
    array: ArrayConfig
    timing: Timing
    clock_mhz: float
    instructions: Array
    insn_layer: Array
    const: Array
    arena_bytes: int
    inputs: tuple[ProgramPort, ...]
    outputs: tuple[ProgramPort, ...]
    layers: tuple[LayerInfo, ...]
    watchpoints: tuple[Watchpoint, ...] = ()
    host_ops: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    precision: str = "int8"
    # calibrated (tensor, lo, hi): lets verify requantise
    ranges: tuple[tuple[str, float, float], ...] = ()
    recipe: Recipe = Recipe()

    def save(self, path: str | Path) -> None:
        """Write the program to ``path`` (``net.nmx``), all of it or nothing."""
        from .nmx import write

        write(self, Path(path))

    def estimate(self) -> Estimate:
        """Cycles, utilisation and DRAM bytes from the cycle model."""
        from .estimate import estimate

        return estimate(self)


def load(path: str | Path) -> Program:
    """Read a program from any source.  BadProgram: damaged, of another version, or unsafe."""
    from .nmx import read
    from .proof import verify_program

    program = read(Path(path))
    verify_program(program)
    return program


def as_const(blob: bytes | bytearray | Array) -> Array:
    """Bytes as the uint8 array ``Program.const`` is."""
    return np.frombuffer(bytes(blob), np.uint8)
