# SPDX-License-Identifier: Apache-2.0
"""Plans the place of every tensor in DRAM.

In: a QGraph.  Out: a Place (region, offset, layout) per tensor; tensors whose live ranges do not
overlap share arena bytes, and a Move that only renames addresses (concat of whole blocks, aligned
slices, reshapes) becomes an offset into another tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..hardware.isa import Region
from ..hardware.tensor_layout import Blocked, Layout, Rows
from ..ir.matgraph.ops import Gemm, MatOp, Move, Port
from ..ir.matgraph.uses import Uses
from ..ir.types import Array
from ..quantization.qgraph import QGraph

ALIGN = 64


@dataclass(frozen=True)
class Place:
    """A tensor in DRAM."""

    region: Region
    offset: int
    layout: Layout


@dataclass
class ConstRegion:
    """Read-only bytes: weights, parameters, constant operands."""

    parts: list[Array] = field(default_factory=list)
    size: int = 0

    def add(self, data: Array) -> int:
        """Append int8/uint8 bytes, 64-byte aligned; returns their offset."""
        raw = np.ascontiguousarray(data).view(np.uint8).reshape(-1)
        offset = self.size
        gap = -raw.size % ALIGN
        self.parts += [raw, np.zeros(gap, np.uint8)]
        self.size += raw.size + gap
        return offset

    def bytes(self) -> Array:
        return np.concatenate(self.parts) if self.parts else np.zeros(0, np.uint8)


@dataclass(frozen=True)
class MemoryPlan:
    places: Mapping[str, Place]
    arena_bytes: int
    renamed: frozenset[str]  # outputs of Moves that need no instructions


def plan_memory(graph: QGraph, lanes: int, const: ConstRegion, shared: bool = True) -> MemoryPlan:
    """Place all tensors.  With ``shared`` False every tensor has bytes of its own."""
    ops = tuple(qop.op for qop in graph.ops)
    uses = Uses(ops, (port.tensor for port in graph.outputs))
    layouts = {name: _layout(graph, uses, name, lanes) for name in graph.tensors}
    places: dict[str, Place] = {}
    for name, quantized_values in graph.constants.items():
        layout = layouts[name]
        places[name] = Place(Region.CONST, const.add(layout.pack(quantized_values)), layout)
    views = _views(graph, layouts)
    lives = _lives(graph, uses, views)
    offsets, total = _allocate(lives, layouts, shared)
    for name, layout in layouts.items():
        if name not in places and (name in views or name in lives):
            root, delta = _resolve(name, views)
            places[name] = Place(Region.ARENA, offsets[root] + delta, layout)
    renamed = frozenset(op.output for op in ops if isinstance(op, Move) and _is_renamed(op, views))
    return MemoryPlan(places, total + ALIGN, renamed)  # a view may end some lanes after its tensor


# ------------------------------------------------------------------ layouts


def _layout(graph: QGraph, uses: Uses, name: str, lanes: int) -> Layout:
    t = graph.tensors[name]
    n, h, w, c = t.shape
    blocked = Blocked(n, h, w, c, lanes, graph.qparams[name].int16, t.broadcast)
    port = next((p for p in graph.inputs if p.tensor == name), None)
    rows = _rows_layout(uses.readers(name), port, blocked) if port else None
    return rows or blocked


def _rows_layout(readers: Sequence[MatOp], port: Port, b: Blocked) -> Rows | None:
    """Choose plain rows for a few-channel input of one convolution: a word then spans kernel
    columns."""
    op = readers[0] if len(readers) == 1 else None
    if not isinstance(op, Gemm) or op.weight is None or b.int16:
        return None
    if op.groups != 1 or op.dilations[1] != 1 or op.inputs.count(port.tensor) > 1:
        return None
    kw = op.weight.shape[1]
    if op.input != port.tensor or -(-kw * b.c // b.lanes) >= kw * b.blocks:
        return None
    top, left, bottom, right = op.pads
    return Rows(
        b.n, b.h + top + bottom, b.w + left + right, b.c, b.lanes,
        top, left, b.h, b.w, slack=2 * b.lanes + -((b.w + left + right) * b.c) % b.lanes,
    )  # fmt: skip


# ------------------------------------------------------------------ views


def word_addresses(layout: Layout) -> Array:
    """Return the byte offset of the low byte of every element, (N,H,W,C)."""
    assert isinstance(layout, Blocked)
    n, h, w, c = np.ogrid[: layout.n, : layout.h, : layout.w, : layout.c]
    block, lane = c // layout.lanes, c % layout.lanes
    plane = (n * layout.blocks + block) * layout.byte_planes
    address = plane * layout.plane_bytes + (h * layout.w + w) * layout.lanes + lane
    return np.asarray(address, np.int64)


Views = dict[str, tuple[str, int]]  # tensor -> (tensor that holds it, byte offset there)


def _views(graph: QGraph, layouts: Mapping[str, Layout]) -> Views:
    views: Views = {}
    fixed = {p.tensor for p in graph.inputs} | set(graph.constants)
    for qop in graph.ops:
        if isinstance(qop.op, Move) and np.all(qop.op.index >= 0):
            _view_move(qop.op, layouts, views, fixed, set(graph.constants))
    return views


def _view_move(
    op: Move, layouts: Mapping[str, Layout], views: Views, fixed: set[str], constants: set[str]
) -> None:
    """Make the output a view of its only input, or the inputs views of the output (concat)."""
    if not all(_compatible(layouts[n], layouts[op.output]) for n in op.inputs):
        return
    deltas = _deltas(op, layouts)
    if deltas is None:
        return
    if len(op.inputs) == 1:
        if op.inputs[0] not in constants:
            views[op.output] = (op.inputs[0], -deltas[0])
        return
    whole = [layouts[n].nbytes for n in op.inputs]
    free = all(n not in views and n not in fixed for n in op.inputs)
    # a STORE writes whole words; at one position channels go on from word to word
    free = free and not any(d % layouts[op.output].lanes for d in deltas)
    if free and len(set(op.inputs)) == len(op.inputs) and sum(whole) == layouts[op.output].nbytes:
        views.update({n: (op.output, d) for n, d in zip(op.inputs, deltas, strict=True)})


def _compatible(source: Layout, out: Layout) -> bool:
    """Check that words stay the same: equal lanes, and equal distance of the byte planes."""
    if not (isinstance(source, Blocked) and isinstance(out, Blocked)):
        return False
    if source.broadcast != out.broadcast:
        return False
    return not out.int16 or source.plane_bytes == out.plane_bytes


def _deltas(op: Move, layouts: Mapping[str, Layout]) -> list[int] | None:
    """Return per input the output address minus the input address if constant; else None."""
    source = [word_addresses(layouts[n]).reshape(-1) for n in op.inputs]
    owner = np.repeat(np.arange(len(source)), [s.size for s in source])[op.index]
    difference = word_addresses(layouts[op.output]) - np.concatenate(source)[op.index]
    deltas = []
    for i in range(len(source)):
        mine = difference[owner == i]
        if mine.size == 0 or np.any(mine != mine[0]):
            return None
        deltas.append(int(mine[0]))
    return deltas


def _resolve(name: str, views: Views) -> tuple[str, int]:
    delta = 0
    while name in views:
        name, step = views[name]
        delta += step
    return name, delta


def _is_renamed(op: Move, views: Views) -> bool:
    if op.output in views and len(op.inputs) == 1 and views[op.output][0] == op.inputs[0]:
        return True
    return all(views.get(n, ("", 0))[0] == op.output for n in op.inputs)


# ------------------------------------------------------------------ live ranges


def _lives(graph: QGraph, uses: Uses, views: Views) -> dict[str, tuple[int, int]]:
    """Return first and last operation on each root tensor; none for outputs never stored."""
    lives: dict[str, tuple[int, int]] = {}
    outputs = (qop.op.output for qop in graph.ops if qop.op.epilogue.rows)
    nowhere = {name for name in outputs if not uses.count(name)} | set(graph.constants)

    def touch(name: str, when: int) -> None:
        if name in nowhere:
            return
        root, _ = _resolve(name, views)
        first, last = lives.get(root, (when, when))
        lives[root] = (min(first, when), max(last, when))

    for port in graph.inputs:
        touch(port.tensor, -1)
    for i, qop in enumerate(graph.ops):
        for name in (*qop.op.inputs, *qop.op.outputs):
            touch(name, i)
    for port in graph.outputs:
        touch(port.tensor, len(graph.ops))
    return lives


def _allocate(
    lives: Mapping[str, tuple[int, int]], layouts: Mapping[str, Layout], shared: bool
) -> tuple[dict[str, int], int]:
    """Allocate by first fit, largest tensor first.  A tensor keeps its bytes one operation longer
    than it lives, so that the next layer's stores need not wait for this layer's loads."""
    placed: list[tuple[int, int, int, int]] = []  # offset, end, first, last
    offsets: dict[str, int] = {}
    for name in sorted(lives, key=lambda n: -layouts[n].nbytes):
        first, last = lives[name]
        size = -(-layouts[name].nbytes // ALIGN) * ALIGN
        busy = sorted(
            (o, e) for o, e, f, g in placed if not shared or (f <= last + 1 and first <= g + 1)
        )
        offset = 0
        for start, end in busy:
            if offset + size <= start:
                break
            offset = max(offset, end)
        offsets[name] = offset
        placed.append((offset, offset + size, first, last))
    return offsets, max((end for _, end, _, _ in placed), default=0)


def with_guard(plan: MemoryPlan, guard: int) -> MemoryPlan:
    """Shift the arena by ``guard`` bytes (a gather may start before its tensor)."""
    places = {
        n: replace(p, offset=p.offset + guard) if p.region == Region.ARENA else p
        for n, p in plan.places.items()
    }
    return replace(plan, places=places, arena_bytes=plan.arena_bytes + guard)
