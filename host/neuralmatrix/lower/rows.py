# SPDX-License-Identifier: Apache-2.0
"""Statistics of rows: one value per position over all channels.

In: a tensor.  Out: replicated (N,H,W,1) tensors, made by a window that only counts; ``fuse_rows``
moves them into the operation that makes the tensor, where they cost nothing.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..ir import Epilogue, Gemm, MatGraph, MatOp, RowMax, RowStat, Window, op_inputs
from .builder import Builder, Direct
from .view import View, view_of

KINDS = ("max", "sum", "mean", "square")
TOGETHER = frozenset({"mean", "square"})


def plain_view(n: int, h: int, w: int, c: int) -> View:
    """The view of a tensor that has no other logical shape than (N,H,W,C)."""
    return view_of((n, h, w, c), ((0,), (1,), (2,), (3,)))


def row_stats(
    b: Builder, x: Direct, kinds: tuple[str, ...], name: str, source: str
) -> tuple[Direct, ...]:
    """The statistics ``kinds`` of every row of ``x``, each made once per tensor."""
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
    """New replicated tensors for statistics of ``tensor``."""
    n, h, w, _ = b.tensors[tensor].shape
    view = plain_view(n, h, w, 1)
    found = []
    for kind in KINDS:
        if kind in kinds:
            row = b.declare(f"{name}:{kind}", view.canonical, True)
            found.append((RowStat(kind, row), Direct(row, view)))  # type: ignore[arg-type]
    return tuple(found)


# ---------------------------------------------------------------- fusing


def fuse_rows(mg: MatGraph) -> MatGraph:
    """Statistics move into the producers of their tensors; a maximum left over is a RowMax."""
    read = {t for op in mg.ops for t in op_inputs(op)} | {port.tensor for port in mg.outputs}
    done: dict[str, MatOp] = {}
    for op in mg.ops:
        if not isinstance(op, Window) or op.output in read or not _only_counts(op):
            done[op.output] = op
            continue
        producer = done.get(op.input)
        if isinstance(producer, Gemm | Window) and _takes(producer.epilogue, op.epilogue.rows):
            rows = (*producer.epilogue.rows, *op.epilogue.rows)
            done[op.input] = replace(producer, epilogue=replace(producer.epilogue, rows=rows))
        elif [row.kind for row in op.epilogue.rows] == ["max"]:
            done[op.output] = RowMax(op.epilogue.rows[0].tensor, op.input, op.source)
        else:
            done[op.output] = op
    made = {name for op in done.values() for name in (op.output, *_row_names(op))}
    known = made | {port.tensor for port in mg.inputs} | set(mg.constants)
    tensors = {name: t for name, t in mg.tensors.items() if name in known}
    return replace(mg, ops=tuple(done.values()), tensors=tensors)


def _row_names(op: MatOp) -> tuple[str, ...]:
    return tuple(r.tensor for r in op.epilogue.rows) if isinstance(op, Gemm | Window) else ()


def _only_counts(op: Window) -> bool:
    """A copy of its input that exists for its statistics."""
    plain = replace(op.epilogue, rows=()) == Epilogue() and op.minus is None
    copies = op.weight.shape == (1, 1, 1) and np.all(op.weight == 1) and not op.bias.any()
    return bool(op.epilogue.rows) and plain and bool(copies) and op.reduce == "add"


def _takes(epilogue: Epilogue, rows: tuple[RowStat, ...]) -> bool:
    """May an operation with this epilogue make these statistics too?"""
    kinds = [row.kind for row in (*epilogue.rows, *rows)]
    fits = len(kinds) == 1 or (set(kinds) <= TOGETHER and len(set(kinds)) == len(kinds))
    return fits and not ("square" in kinds and epilogue.hadamard)
