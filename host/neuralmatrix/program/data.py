# SPDX-License-Identifier: Apache-2.0
"""The parts of a compiled program, as data.

In: nothing.  Out: frozen dataclasses.  Needs numpy and the standard library alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..hardware.target import ArrayConfig, Timing
from ..hardware.tensor_layout import Layout
from ..ir.accuracy import Accuracy
from ..ir.host.types import HostEdges, HostValue
from ..ir.recipe import Recipe
from ..ir.types import Array, QParams, Shape, Units, ViewStep


@dataclass(frozen=True)
class TensorSlot:
    """The place of a tensor in the ARENA and the meaning of its bytes.

    ``fill`` is the quantised value of padding lanes and rows.
    """

    name: str
    offset: int
    layout: Layout
    qparams: QParams
    fill: int = 0


@dataclass(frozen=True)
class ProgramPort:
    """A network input or output; ``steps``, ``argmax`` and ``units`` as in ``ir.Port``.

    ``table`` (V, D): quantised values of the rows that an input of indices picks; int16 if the slot
    is int16, else int8.
    """

    name: str
    shape: Shape
    dtype: str
    slot: TensorSlot
    steps: tuple[ViewStep, ...]
    argmax: tuple[int, bool, bool] | None = None
    table: Array | None = field(default=None, compare=False, repr=False)
    units: Units | None = None


@dataclass(frozen=True)
class LayerInfo:
    """One scheduled layer: its name, its kind, the source model's node, its multiply-adds."""

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


@dataclass(frozen=True, eq=False, kw_only=True)
class ProgramTables:
    """Everything of a program but its arrays, as stored in a file's manifest."""

    board: str
    array: ArrayConfig
    timing: Timing
    clock_mhz: float
    arena_bytes: int
    inputs: tuple[ProgramPort, ...]
    outputs: tuple[ProgramPort, ...]
    layers: tuple[LayerInfo, ...]
    watchpoints: tuple[Watchpoint, ...] = ()
    host_ops: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    recipe: Recipe = Recipe()  # with it nm.verify makes the same integers again
    accuracy: Accuracy | None = None
    host: HostEdges | None = None  # what the host computes around the array

    @property
    def shown_inputs(self) -> tuple[ProgramPort | HostValue, ...]:
        """The inputs that a user gives."""
        return self.inputs if self.host is None else self.host.inputs

    @property
    def shown_outputs(self) -> tuple[ProgramPort | HostValue, ...]:
        """The outputs that a user gets."""
        return self.outputs if self.host is None else self.host.outputs

    @property
    def fixed_outputs(self) -> frozenset[str]:
        """The outputs that are constants: one copy for any number of images."""
        known = {one.name for one in self.host.constants} if self.host else set()
        return frozenset(out.name for out in self.shown_outputs if out.name in known)

    @property
    def precision(self) -> str:
        """The precision of activations: int8, int16 or mixed."""
        return self.recipe.precision


@dataclass(frozen=True, eq=False, kw_only=True)
class ProgramData(ProgramTables):
    """A compiled network.

    ``instructions`` (n, 16) uint32; ``insn_layer`` (n,) index or -1; ``const`` (bytes,) uint8.
    """

    instructions: Array
    insn_layer: Array
    const: Array


def as_const(blob: bytes | bytearray | Array) -> Array:
    """Convert bytes to the uint8 array ``Program.const``."""
    return np.frombuffer(bytes(blob), np.uint8)
