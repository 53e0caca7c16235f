# SPDX-License-Identifier: Apache-2.0
"""The two extra operands of an epilogue: residual t and Hadamard factor u.

In: a tile of an output.  Out: LOADs of the matching operand tile and its EPILOGUE strides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..isa import Buffer
from ..qgraph import QEpilogue
from .context import Box, Context, blocked_view, load_grid
from .emitter import Range, Ring


@dataclass(frozen=True)
class Operand:
    """A loaded operand tile: base row, row steps, rows read."""

    base: int
    steps: dict[str, int]
    read: Range


BUFFERS = {"t": (Buffer.T_LO, Buffer.T_HI), "u": (Buffer.U_LO, Buffer.U_HI)}


def rows_per_block(ctx: Context, e: QEpilogue, words: int) -> dict[str, int]:
    """Upper bound of operand rows one output block of ``words`` positions needs, per buffer."""
    names = {"t": e.residual, "u": e.hadamard}
    return {key: words for key, name in names.items() if name}


def can_flatten(ctx: Context, e: QEpilogue, height: int, width: int) -> bool:
    """Whether all operands are either whole maps or one position, so that rows may be joined."""
    for name in (e.residual, e.hadamard):
        if name:
            _, h, w, _ = ctx.tensors[name].shape
            if (h, w) not in ((height, width), (1, 1)):
                return False
    return True


def load_operands(
    ctx: Context, e: QEpilogue, image: int, box: Box, blocks: range, flat: bool
) -> tuple[dict[str, Operand], dict[str, int]]:
    """Load t and u for an output tile; returns them and the strides for EPILOGUE."""
    found: dict[str, Operand] = {}
    steps: dict[str, int] = {}
    for key, name in (("t", e.residual), ("u", e.hadamard)):
        if name:
            ring = ctx.rings.t if key == "t" else ctx.rings.u
            found[key] = _load(ctx, name, key, ring, image, box, blocks, flat)
            steps.update(found[key].steps)
    return found, steps


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
    used = range(0, 1) if tensor.replicated else blocks
    base = ring.take(len(used) * tile.words)
    for digit in range(view.digits):
        plane = replace(view, base=view.base + digit * view.digit, digits=1)
        load_grid(ctx, plane, image, tile, used, BUFFERS[key][digit], base)
    steps = {
        f"{key}_nb": 0 if tensor.replicated else tile.words,
        f"{key}_m1": tile.cols if view.height > 1 else 0,
        f"{key}_m0": 1 if view.width > 1 else 0,
    }
    return Operand(base, steps, Range(key, base, base + len(used) * tile.words))
