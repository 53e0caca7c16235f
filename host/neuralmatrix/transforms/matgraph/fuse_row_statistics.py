# SPDX-License-Identifier: Apache-2.0
"""Statistics move into the operation that makes their tensor, where they cost nothing.

In: a MatGraph.  Out: a MatGraph; a maximum that finds no maker is a RowMax.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...hardware.target import Target
from ...ir.matgraph.ops import Epilogue, Gemm, MatGraph, MatOp, RowMax, RowStat, Window

TOGETHER = frozenset({"mean", "square"})


def fuse_row_statistics(mg: MatGraph, target: Target) -> MatGraph:
    """Statistics move into the producers of their tensors; a maximum left over is a RowMax."""
    read = {t for op in mg.ops for t in op.inputs} | {port.tensor for port in mg.outputs}
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
            done[op.output] = RowMax(op.epilogue.rows[0].tensor, op.input, source=op.source)
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
