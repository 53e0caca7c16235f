# SPDX-License-Identifier: Apache-2.0
"""An operation's parameters in PBUF: all at once, or page by page where they do not fit.

In: the integers of a QEpilogue.  Out: the rows that a COMPUTE reads, and the LOADs of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..hardware.isa import Buffer
from ..ir.types import Array
from ..quantization.qgraph import QEpilogue
from .context import PARAM_WORDS, Context, OverBuffers, load_const
from .emitter import Range
from .epilogue_parameters import Table, pack_params, pack_table

SLOTS = 2  # one page is loaded while another is in use


@dataclass
class Params:
    """The parameters of one operation.

    Rows of its channels, one per output block, lie in slots of ``page`` rows; a page is loaded when
    a group of blocks first needs it.  Where all rows fit, one slot holds them.  ``step`` is 0 where
    one row serves all blocks.  The rows of ``table`` stay.
    """

    ctx: Context
    slots: tuple[int, ...]  # first rows
    page: int
    rows: int
    offset: int  # of the channels' rows in CONST
    table: Table
    step: int = 1
    held: dict[int, range] = field(default_factory=dict)  # slot -> its rows
    latest: int = -1  # slot loaded last

    def row(self, blocks: range) -> int:
        """Return the row of the first of some blocks; the rows of the others follow."""
        if not self.step:
            return self.slots[0]
        for slot, held in self.held.items():
            if held.start <= blocks.start and blocks.stop <= held.stop:
                return self.slots[slot] + blocks.start - held.start
        self.latest = (self.latest + 1) % len(self.slots)
        base = self.slots[self.latest]
        count = min(self.page, self.rows - blocks.start)
        self.held[self.latest] = range(blocks.start, blocks.start + count)
        first = self.offset + blocks.start * PARAM_WORDS * self.ctx.lanes
        load_const(self.ctx, Buffer.PBUF, base * PARAM_WORDS, first, count * PARAM_WORDS)
        return base

    def reads(self, blocks: range) -> Range:
        """Return the rows that a COMPUTE of some blocks reads."""
        first = self.row(blocks)
        return Range("pbuf", first, first + (len(blocks) - 1) * self.step + 1)


def page_limit(ctx: Context, e: QEpilogue) -> int:
    """Return the output blocks whose parameters a page can hold; all where they fit PBUF."""
    rows, table = -(-len(e.m) // ctx.lanes), pack_table(e, ctx.lanes).size // ctx.lanes
    if rows + table <= ctx.array.pbuf_rows or (_uniform(e) and table < ctx.array.pbuf_rows):
        return rows
    page = (ctx.array.pbuf_rows - table) // SLOTS
    if page < 1:
        raise OverBuffers(
            f"a table of {table} parameter rows and {SLOTS} rows of channels need more than the "
            f"{ctx.array.pbuf_rows} rows of parameter buffer"
        )
    return page


def load_params(ctx: Context, e: QEpilogue, group: int = 1) -> Params:
    """Load the table and the channels' parameters into PBUF, or the first page of them.

    ``group``: output blocks that share COMPUTEs; at most ``page_limit``.  A page is whole groups.
    """
    rows, table = pack_params(e, ctx.lanes), pack_table(e, ctx.lanes)
    page, step = page_limit(ctx, e), 1
    if rows.size > page * ctx.lanes:
        return _paged(ctx, rows, table, page // group * group)
    if rows.size + table.size > ctx.array.pbuf_rows * ctx.lanes:
        rows, step = _one_row(e, ctx.lanes), 0
    count, seg_rows = rows.size // ctx.lanes, table.size // ctx.lanes
    base = ctx.rings.pbuf.take(count + seg_rows)
    offset = ctx.const.add(np.concatenate([rows, table]))
    words = (count + seg_rows) * PARAM_WORDS
    load_const(ctx, Buffer.PBUF, base * PARAM_WORDS, offset, words)
    return Params(ctx, (base,), page, count, offset, Table(base + count, seg_rows, table.tobytes()),
                  step, {0: range(count)}, 0)  # fmt: skip


def _paged(ctx: Context, rows: Array, table: Array, page: int) -> Params:
    """Lay the table in front of the pages; they take all of PBUF."""
    base = ctx.rings.pbuf.take(ctx.array.pbuf_rows)
    seg_rows = table.size // ctx.lanes
    if seg_rows:
        load_const(ctx, Buffer.PBUF, base * PARAM_WORDS, ctx.const.add(table),
                   seg_rows * PARAM_WORDS)  # fmt: skip
    slots = tuple(base + seg_rows + slot * page for slot in range(SLOTS))
    offset = ctx.const.add(rows)
    params = Params(ctx, slots, page, rows.size // ctx.lanes, offset,
                    Table(base, seg_rows, table.tobytes()))  # fmt: skip
    params.row(range(1))
    return params


def _uniform(e: QEpilogue) -> bool:
    """Return whether all channels have the same parameters."""
    return all(bool(np.all(values == values[0])) for values in (e.bias, e.m, e.s))


def _one_row(e: QEpilogue, lanes: int) -> Array:
    return np.repeat(pack_params(e, lanes)[:1], lanes)


def sections(groups: Sequence[range], page: int) -> list[slice]:
    """Join successive groups of output blocks as long as one page holds their parameters."""
    starts = [0]
    for number, group in enumerate(groups):
        if group.stop - groups[starts[-1]].start > page:
            starts.append(number)
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(groups)], strict=True)]


__all__ = ["Params", "load_params", "page_limit", "sections"]
