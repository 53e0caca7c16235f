# SPDX-License-Identifier: Apache-2.0
"""The two extra operands of an epilogue: residual t and Hadamard factor u.

In: a tile of an output.  Out: LOADs of the matching operand tile and its EPILOGUE strides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..hardware.isa import Buffer
from ..quantization.qgraph import QEpilogue
from .context import Box, Context, blocked_view, load_grid
from .emitter import Range, Ring
from .tiling import OperandSize


@dataclass(frozen=True)
class Operand:
    """A loaded operand tile: base row, row steps, rows read."""

    base: int
    steps: dict[str, int]
    read: Range


BUFFERS = {"t": (Buffer.T_LO, Buffer.T_HI), "u": (Buffer.U_LO, Buffer.U_HI)}


def operand_sizes(ctx: Context, e: QEpilogue) -> dict[str, OperandSize]:
    """Return the on-chip sizes of t and u, by buffer."""
    names = {"t": e.residual, "u": e.hadamard}
    return {
        key: OperandSize(2 if ctx.qparams[name].int16 else 1, not ctx.tensors[name].broadcast)
        for key, name in names.items() if name
    }  # fmt: skip


def operand_names(e: QEpilogue) -> tuple[str, ...]:
    return tuple(name for name in (e.residual, e.hadamard) if name)


def can_flatten(ctx: Context, e: QEpilogue, height: int, width: int) -> bool:
    """Return whether rows may be joined: each operand is a whole map or one position."""
    shapes = (ctx.tensors[name].shape for name in operand_names(e))
    return all((h, w) in ((height, width), (1, 1)) for _, h, w, _ in shapes)


@dataclass
class Operands:
    """The operands of one operation; a broadcast one is loaded once per tile."""

    ctx: Context
    epilogue: QEpilogue
    flat: bool
    kept: dict[str, tuple[int, Box, Operand]] = field(default_factory=dict)

    def load(self, image: int, box: Box, blocks: range) -> dict[str, Operand]:
        """Load t and u for an output tile and some output blocks."""
        names = {"t": self.epilogue.residual, "u": self.epilogue.hadamard}
        return {
            key: self._operand(key, name, image, box, blocks)
            for key, name in names.items() if name
        }  # fmt: skip

    def _operand(self, key: str, name: str, image: int, box: Box, blocks: range) -> Operand:
        if key in self.kept and self.kept[key][:2] == (image, box):
            return self.kept[key][2]
        ring = self.ctx.rings.t if key == "t" else self.ctx.rings.u
        operand = _load(self.ctx, name, key, ring, image, box, blocks, self.flat)
        if self.ctx.tensors[name].broadcast:
            self.kept[key] = (image, box, operand)
        return operand


def strides(operands: Mapping[str, Operand]) -> dict[str, int]:
    """Return the operands' fields of EPILOGUE."""
    return {name: step for o in operands.values() for name, step in o.steps.items()}


def bases(operands: Mapping[str, Operand]) -> dict[str, int]:
    """Return the operands' fields of COMPUTE."""
    return {f"{key}_base": o.base for key, o in operands.items()}


def _load(
    ctx: Context, name: str, key: str, ring: Ring, image: int, box: Box, blocks: range, flat: bool
) -> Operand:
    tensor = ctx.tensors[name]
    n, h, w, _ = tensor.shape
    view = blocked_view(ctx, name, flat)
    image = image if n > 1 else 0
    rows = (box.r0, box.r1) if view.height > 1 else (0, 1)
    cols = (box.c0, box.c1) if view.width > 1 else (0, 1)
    tile = Box(*rows, *cols)
    used = range(0, 1) if tensor.broadcast else blocks
    base = ring.take(len(used) * tile.words)
    for i in range(view.byte_planes):
        plane = replace(view, base=view.base + i * view.plane, byte_planes=1)
        load_grid(ctx, plane, image, tile, used, BUFFERS[key][i], base)
    steps = {
        f"{key}_nb": 0 if tensor.broadcast else tile.words,
        f"{key}_m1": tile.cols if view.height > 1 else 0,
        f"{key}_m0": 1 if view.width > 1 else 0,
    }
    return Operand(base, steps, Range(key, base, base + len(used) * tile.words))
