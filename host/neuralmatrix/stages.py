# SPDX-License-Identifier: Apache-2.0
"""Readable text of every stage of a compilation.

In: the result of a pass.  Out: ``NN-name.txt`` in a folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .errors import NeuralMatrixError
from .ir.graph.nodes import Graph
from .ir.graph.verify import to_text
from .ir.matgraph.ops import MatGraph
from .ir.matgraph.verify import matgraph_text
from .program.disassembly import listing
from .program.program import Program
from .quantization.decide import Decision
from .quantization.qgraph import QGraph


def write_stage(folder: Path, number: int, name: str, result: Any) -> None:
    """Write one stage; creates the folder."""
    text = WRITERS[type(result)](result)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:02d}-{name}.txt").write_text(text, encoding="utf-8")
    except OSError as error:
        raise NeuralMatrixError(
            f"cannot write stages to {folder}: {error.strerror or error}; choose a writable folder"
        ) from None


def qgraph_text(graph: QGraph) -> str:
    """One line per tensor with its scale, one per operation with its integers' ranges."""
    lines = [
        f"{name}: scale {qp.scale:.6g} zero {qp.zero_point} {'int16' if qp.wide else 'int8'}"
        for name, qp in graph.qparams.items()
    ]
    for qop in graph.ops:
        line = f"{qop.op.output} = {type(qop.op).__name__}"
        if qop.epilogue is not None:
            e = qop.epilogue
            table = f" table[{e.table.count}]" if e.table is not None else ""
            line += f" F={e.f_shift} mt={e.mt} clamp {e.lo}..{e.hi}{table}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def _decision_text(decision: Decision) -> str:
    ranges = (f"{name}: {lo:.6g} .. {hi:.6g}" for name, (lo, hi) in decision.bounds.items())
    return "\n".join((*decision.notes, *ranges)) + "\n"


WRITERS: Mapping[type, Callable[[Any], str]] = {
    Graph: to_text,
    MatGraph: matgraph_text,
    Decision: _decision_text,
    QGraph: qgraph_text,
    Program: listing,
}
