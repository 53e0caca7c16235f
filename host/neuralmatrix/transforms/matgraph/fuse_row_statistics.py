# SPDX-License-Identifier: Apache-2.0
"""Fusion of row statistics into the operation that makes their tensor, where they are free.

In: a MatGraph.  Out: a MatGraph; a maximum without such an operation is a RowMax.
"""

from __future__ import annotations

from dataclasses import replace

from ...hardware.target import Target
from ...ir.matgraph.ops import Epilogue, Linear, MatGraph, MatOp, RowMax, RowStat
from ...ir.matgraph.predicates import only_statistics
from ...ir.matgraph.uses import Uses

TOGETHER = frozenset({"mean", "square"})


def fuse_row_statistics(mg: MatGraph, target: Target) -> MatGraph:
    """Fuse statistics into the producers of their tensors; make a RowMax of any other maximum."""
    uses = Uses.of(mg)
    done: dict[str, MatOp] = {}
    for op in mg.ops:
        if not only_statistics(op, uses):
            done[op.output] = op
            continue
        producer = done.get(op.input)
        if isinstance(producer, Linear) and _takes(producer.epilogue, op.epilogue.rows):
            rows = (*producer.epilogue.rows, *op.epilogue.rows)
            done[op.input] = replace(producer, epilogue=replace(producer.epilogue, rows=rows))
        elif [row.kind for row in op.epilogue.rows] == ["max"]:
            done[op.output] = RowMax(op.epilogue.rows[0].tensor, op.input, source=op.source)
        else:
            done[op.output] = op
    made = {name for op in done.values() for name in op.outputs}
    known = made | {port.tensor for port in mg.inputs} | set(mg.constants)
    tensors = {name: t for name, t in mg.tensors.items() if name in known}
    return replace(mg, ops=tuple(done.values()), tensors=tensors)


def _takes(epilogue: Epilogue, rows: tuple[RowStat, ...]) -> bool:
    """Return whether an operation with this epilogue may also make these statistics."""
    kinds = [row.kind for row in (*epilogue.rows, *rows)]
    fits = len(kinds) == 1 or (set(kinds) <= TOGETHER and len(set(kinds)) == len(kinds))
    return fits and not ("square" in kinds and epilogue.hadamard)
