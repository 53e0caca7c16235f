# SPDX-License-Identifier: Apache-2.0
"""Row statistics of an operation: their fields, output-buffer rows and STOREs.

In: an operation and its epilogue.  Out: the fields that select them, the output-buffer rows they
take, and their STOREs.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..hardware.isa import Stat
from ..ir.matgraph.ops import MatOp, Move, RowMax
from ..quantization.qgraph import QEpilogue
from .context import Box, Context, store_rows

PLANES = {Stat.NONE: 0, Stat.SUM: 1, Stat.MAX: 1, Stat.MOMENTS: 2}


@dataclass(frozen=True)
class RowStatistics:
    """``outputs``: (tensor, its plane of the statistic); ``lanes`` as stat_lanes."""

    kind: Stat = Stat.NONE
    outputs: tuple[tuple[str, int], ...] = ()
    lanes: int = 0

    @property
    def planes(self) -> int:
        """Output-buffer rows per position."""
        return PLANES[self.kind]

    @property
    def fields(self) -> dict[str, int]:
        """Fields of the EPILOGUE in addition to the numbers in the QEpilogue."""
        return {"stat": int(self.kind), "stat_lanes": self.lanes} if self.outputs else {}


def row_statistics(ctx: Context, op: MatOp, e: QEpilogue) -> RowStatistics:
    """Return the statistics that an operation must write."""
    if isinstance(op, Move):
        return RowStatistics()
    if isinstance(op, RowMax):
        lanes = ctx.tensors[op.input].shape[3] % ctx.lanes
        return RowStatistics(Stat.MAX, ((op.output, 0),), lanes)
    rows = op.epilogue.rows
    if not rows:
        return RowStatistics()
    outputs = tuple((row.tensor, int(row.kind == "square")) for row in rows)
    return RowStatistics(Stat(e.stat), outputs, ctx.tensors[op.output].shape[3] % ctx.lanes)


@dataclass(frozen=True)
class Finish:
    """One COMPUTE that finishes rows: first and last of those that share a row statistic."""

    first: bool
    last: bool

    @property
    def fields(self) -> dict[str, int]:
        return {"stat_first": int(self.first), "stat_last": int(self.last)}


def store_statistics(
    ctx: Context, stats: RowStatistics, image: int, box: Box, src: int, flat: bool
) -> dict[str, int]:
    """Store a tile's statistics; returns the index of each tensor's STORE."""
    return {
        name: store_rows(ctx, name, image, box, range(1), src + plane * box.words, flat)
        for name, plane in stats.outputs
    }
