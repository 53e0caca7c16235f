# SPDX-License-Identifier: Apache-2.0
"""Channel parameters, piecewise-linear tables and the EPILOGUE that uses them.

In: the integers of a QEpilogue.  Out: their 64-bit entries as PBUF holds them, and EPILOGUE
instructions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..hardware.isa import Opcode, SegKind
from ..ir.types import Array
from ..quantization.pwl.table import PwlTable
from ..quantization.qgraph import QEpilogue
from .context import Context
from .emitter import Range

CELLS_PER_ENTRY = 8


@dataclass(frozen=True)
class Table:
    """The place of a table in PBUF: first row, rows, and what they hold."""

    base: int
    rows: int = 0
    content: bytes = b""


def broadcast_parameters(e: QEpilogue, lanes: int) -> QEpilogue:
    """Repeat the parameters of a broadcast tensor's one channel for every lane."""
    return replace(
        e, bias=np.repeat(e.bias, lanes), m=np.repeat(e.m, lanes), s=np.repeat(e.s, lanes)
    )


def pack_params(e: QEpilogue, lanes: int) -> Array:
    """Pack 64-bit channel parameters, padded to whole rows."""
    packed = np.zeros(-(-len(e.m) // lanes) * lanes, np.uint64)
    bias = e.bias.astype(np.int64).astype(np.uint64) & np.uint64(0xFFFFFFFF)
    m = e.m.astype(np.int64).astype(np.uint64) & np.uint64(0xFFFFFF)
    packed[: len(m)] = bias | m << np.uint64(32) | e.s.astype(np.uint64) << np.uint64(56)
    return packed


def pack_table(e: QEpilogue, lanes: int) -> Array:
    """Pack 64-bit segments and, after them, the map of cells; each padded to whole rows."""
    if e.table is None:
        return np.zeros(0, np.uint64)
    seg = e.table
    packed = np.zeros(-(-len(seg.k) // lanes) * lanes, np.uint64)
    b = seg.b.astype(np.int64).astype(np.uint64) & np.uint64(0xFFFFFFFF)
    k = seg.k.astype(np.int64).astype(np.uint64) & np.uint64(0xFFFF)
    packed[: len(k)] = b | k << np.uint64(32) | seg.sh.astype(np.uint64) << np.uint64(48)
    return np.concatenate([packed, _pack_map(seg, lanes)])


def _pack_map(seg: PwlTable, lanes: int) -> Array:
    row = CELLS_PER_ENTRY * lanes
    packed = np.zeros(-(-_cells(seg) // row) * row, np.uint8)
    if seg.cells is not None:
        packed[: len(seg.cells)] = seg.cells
    return packed.view("<u8").astype(np.uint64)


def _cells(seg: PwlTable) -> int:
    return 0 if seg.cells is None else len(seg.cells)


def set_epilogue(
    ctx: Context, e: QEpilogue, table: Table, out_wide: bool, extra: Mapping[str, int]
) -> None:
    """Emit an EPILOGUE unless the unit already has that state."""
    values = dict(
        t_en=int(e.residual is not None), u_en=int(e.hadamard is not None),
        t_wide=int(e.residual is not None and ctx.qparams[e.residual].int16),
        u_wide=int(e.hadamard is not None and ctx.qparams[e.hadamard].int16),
        out_wide=int(out_wide), f_shift=e.f_shift, u_shift=e.u_shift, off=e.off, mt=e.mt, uz=e.uz,
        zp=e.zp, lo=e.lo, hi=e.hi, stat=int(e.stat), stat_m=e.stat_m, stat_shift=e.stat_shift,
        stat_off=e.stat_off, sq_m=e.sq_m, sq_shift=e.sq_shift, seg_kind=int(SegKind.NONE),
    )  # fmt: skip
    values.update(extra)
    reads: tuple[Range, ...] = ()
    if e.table is not None:
        values.update(seg_kind=int(e.table.kind), seg_x0=e.table.x0, seg_shift=e.table.shift,
                      seg_base=table.base, seg_count=len(e.table.k),
                      seg_cells=_cells(e.table))  # fmt: skip
        reads = (Range("pbuf", table.base, table.base + table.rows),)
    if (values, table.content) == ctx.state:
        return
    ctx.state = (dict(values), table.content)
    ctx.emitter.emit(Opcode.EPILOGUE, values, reads)
