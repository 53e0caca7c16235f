# SPDX-License-Identifier: Apache-2.0
"""Runs passes one after another; each is timed, its result verified and written as text.

In: named passes, the first one's input, a Target.  Out: the last one's result; in a folder one
``NN-name.txt`` per pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .errors import BadModel, BadProgram, CompilerFault, DoesNotFit, NeuralMatrixError
from .hardware.target import Target
from .ir.graph.nodes import Graph, Node
from .ir.graph.verify import to_text, verify_graph
from .ir.matgraph.facts import TiedGraph
from .ir.matgraph.ops import MatGraph, MatOp
from .ir.matgraph.verify import matgraph_text, verify_matgraph
from .ir.points import Ranges
from .ir.types import QParams
from .program.disassembly import listing
from .program.program import Program
from .program.verify import AGAIN, verify_program
from .quantization.calibrated_graph import CalibratedGraph, ScaledGraph
from .quantization.qgraph import QGraph, QOp

IMPORT = "import_onnx"  # the pass whose result may be bad because the model is
Pass = Callable[[Any, Target], Any]
Passes = tuple[tuple[str, Pass], ...]


@dataclass
class Stages:
    """Runs passes and keeps their times and results.

    ``folder`` receives the text of every result; ``progress`` is called with the name of every pass
    that begins, and in a long one with its steps, as "calibrate: tensor 3 of 40".
    """

    folder: Path | None = None
    progress: Callable[[str], None] | None = None
    seconds: list[tuple[str, float]] = field(default_factory=list)  # pass by pass
    results: dict[type, Any] = field(default_factory=dict)  # the last result of every type
    _notes: list[str] = field(default_factory=list)

    def run(self, passes: Passes, graph: Any, target: Target) -> Any:
        """Return the result of the last of ``passes``; each takes the result of the one before."""
        for name, step in passes:
            graph = self._run(name, step, graph, target)
        return graph

    def note(self, line: str) -> None:
        """Add a line above the text of the running pass's result."""
        self._notes.append(line)

    def step(self, what: str) -> None:
        """Report the current step of the running pass."""
        if self.progress is not None:
            self.progress(f"{self.seconds[-1][0]}: {what}")

    def _run(self, name: str, step: Pass, graph: Any, target: Target) -> Any:
        self._notes.clear()
        self.seconds.append((name, 0.0))
        if self.progress is not None:
            self.progress(name)
        result = self._result(name, step, graph, target)
        self.results[type(result)] = result
        if self.folder is not None:
            text = "unchanged\n" if equal(graph, result) else WRITERS[type(result)](result)
            _write(self.folder, f"{len(self.seconds):02d}-{name}.txt", self._notes, text)
        return result

    def _result(self, name: str, step: Pass, graph: Any, target: Target) -> Any:
        """Return the verified result of a pass; CompilerFault where the pass is at fault."""
        start = time.perf_counter()
        # Overflow to inf or NaN is reported by the passes' own checks, in one message.
        with np.errstate(all="ignore"):
            try:
                result = step(graph, target)
            except NeuralMatrixError:
                raise
            except MemoryError:
                raise DoesNotFit(
                    f"this machine has too little free memory to compile the network (in {name}); "
                    "close programs, or compile on a machine with more memory"
                ) from None
            except Exception as error:
                raise _fault(name, layer_at(error), error) from error
            self.seconds[-1] = name, time.perf_counter() - start
            _verify(name, result)
        return result


def _verify(name: str, result: Any) -> None:
    """Verify what a pass made; what is wrong after the import is no fault of the model."""
    try:
        VERIFIERS.get(type(result), _accept)(result)
    except BadProgram as error:
        at = error.instruction
        layer = -1 if at is None else int(result.insn_layer[at])
        raise _fault(name, result.layers[layer].source if layer >= 0 else "", error) from error
    except BadModel as error:
        if name == IMPORT:
            raise
        raise _fault(name, "", error) from error


def _fault(name: str, layer: str, error: Exception) -> CompilerFault:
    where = f" at layer {layer!r}" if layer else ""
    said = " ".join(str(error).split()).removesuffix(f"; {AGAIN}")
    return CompilerFault(
        f"a fault of the compiler, not of the model: {name} failed{where} "
        f"({type(error).__name__}: {said}); please report it to this project, with the "
        "model or the part of it around that layer; outputs= (--outputs) compiles what is in front"
    )


def layer_at(error: BaseException) -> str:
    """Return the source model's node that a pass was at when it failed, if its functions say so."""
    found, trace = "", error.__traceback__
    while trace is not None:
        for value in trace.tb_frame.f_locals.values():
            one = value.op if isinstance(value, QOp) else value
            if isinstance(one, Node | MatOp):
                found = one.source or one.output
        trace = trace.tb_next
    return found


def part(passes: Passes, first: str, last: str) -> Passes:
    """Return the passes from ``first`` to ``last``, both included, by name."""
    names = [name for name, _ in passes]
    return passes[names.index(first) : names.index(last) + 1]


def equal(a: Any, b: Any) -> bool:
    """Return whether two graphs, or parts of graphs, hold the same values."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b)
    if is_dataclass(a):
        return all(equal(getattr(a, name), getattr(b, name)) for name in a.__dataclass_fields__)
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


def _accept(result: Any) -> None:
    """Accept a result without a verifier: the pass that made it checks it."""


def _write(folder: Path, name: str, notes: list[str], text: str) -> None:
    """Write the text of one stage; create the folder if needed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(f"{line}\n" for line in notes) + text, encoding="utf-8")
    except OSError as error:
        raise NeuralMatrixError(
            f"cannot write stages to {folder}: {error.strerror or error}; choose a writable folder"
        ) from None


def qgraph_text(graph: QGraph) -> str:
    """Return one line per tensor with its scale, one per operation with its integers' ranges."""
    lines = []
    for qop in graph.ops:
        line = f"{qop.op.output} = {type(qop.op).__name__}"
        if qop.epilogue is not None:
            e = qop.epilogue
            table = f" table[{e.table.count}]" if e.table is not None else ""
            line += f" F={e.f_shift} mt={e.mt} clamp {e.lo}..{e.hi}{table}"
        lines.append(line)
    return _scales_text(graph.qparams) + "\n".join(lines) + "\n"


def tied_text(tied: TiedGraph) -> str:
    """Return the text of the graph, and above it the facts about its tensors."""
    facts, groups = tied.facts, tied.facts.scale_groups.members(tied.graph.tensors)
    lines = [f"one scale: {', '.join(names)}" for names in groups.values() if len(names) > 1]
    lines += [
        f"{what}: {', '.join(names)}"
        for what, roots in (("int16", facts.int16), ("symmetric", facts.symmetric))
        if (names := [n for root in groups if root in roots for n in groups[root]])
    ]
    scores = [name for name in tied.graph.tensors if name in facts.scores]
    lines += [f"scores: {', '.join(scores)}"] if scores else []
    return "".join(f"{line}\n" for line in lines) + matgraph_text(tied.graph)


def _calibrated_text(calibrated: CalibratedGraph) -> str:
    return _ranges_text(calibrated.ranges)


def _scaled_text(scaled: ScaledGraph) -> str:
    lines = [
        f"{', '.join(rounding.names)}: {rounding.weights} weights rounded on the samples\n"
        for rounding in scaled.graph.recipe.roundings
    ]
    return "".join(lines) + _scales_text(scaled.qparams) + _ranges_text(scaled.spans)


def _ranges_text(ranges: Ranges) -> str:
    return "".join(f"{point}: {lo:.6g} .. {hi:.6g}\n" for point, (lo, hi) in ranges.items())


def _scales_text(qparams: Mapping[str, QParams]) -> str:
    return "".join(
        f"{name}: scale {qp.scale:.6g} zero {qp.zero_point} {'int16' if qp.int16 else 'int8'}\n"
        for name, qp in qparams.items()
    )


VERIFIERS: Mapping[type, Callable[[Any], object]] = {
    Graph: verify_graph,
    MatGraph: verify_matgraph,
    TiedGraph: lambda tied: verify_matgraph(tied.graph),
    Program: verify_program,
}

WRITERS: Mapping[type, Callable[[Any], str]] = {
    Graph: to_text,
    MatGraph: matgraph_text,
    TiedGraph: tied_text,
    CalibratedGraph: _calibrated_text,
    ScaledGraph: _scaled_text,
    QGraph: qgraph_text,
    Program: listing,
}
