# SPDX-License-Identifier: Apache-2.0
"""Row statistics: one value per position over all channels.

In: a tensor.  Out: broadcast (N,H,W,1) tensors, made by a statistics-only window.
"""

from __future__ import annotations

from ...ir.axis_view import View, view_of
from ...ir.matgraph.ops import Epilogue, RowStat
from .builder import Builder, Direct

KINDS = ("max", "sum", "mean", "square")


def plain_view(n: int, h: int, w: int, c: int) -> View:
    """Return the view of a tensor whose logical shape is (N,H,W,C)."""
    return view_of((n, h, w, c), ((0,), (1,), (2,), (3,)))


def row_stats(
    b: Builder, x: Direct, kinds: tuple[str, ...], name: str, source: str
) -> tuple[Direct, ...]:
    """Return the statistics ``kinds`` of every row of ``x``, each made once per tensor."""
    missing = tuple(kind for kind in kinds if (x.tensor, kind) not in b.shared)
    if missing:
        rows = declare_rows(b, x.tensor, missing, name)
        epilogue = Epilogue(rows=tuple(row for row, _ in rows))
        b.window(x, f"{name}:rows", source, epilogue=epilogue)
        b.shared.update({(x.tensor, row.kind): value for row, value in rows})
    return tuple(b.shared[x.tensor, kind] for kind in kinds)


def declare_rows(
    b: Builder, tensor: str, kinds: tuple[str, ...], name: str
) -> tuple[tuple[RowStat, Direct], ...]:
    """Declare broadcast tensors for statistics of ``tensor``."""
    n, h, w, _ = b.tensors[tensor].shape
    view = plain_view(n, h, w, 1)
    found = []
    for kind in KINDS:
        if kind in kinds:
            row = b.declare(f"{name}:{kind}", view.canonical, True)
            found.append((RowStat(kind, row), Direct(row, view)))  # type: ignore[arg-type]
    return tuple(found)
