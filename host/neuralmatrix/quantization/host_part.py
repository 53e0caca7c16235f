# SPDX-License-Identifier: Apache-2.0
"""Calibration and accuracy where the host computes the edges of a network.

In: ``HostEdges``, the user's calibration inputs, outputs of the array.  Out: inputs of the array,
and what the user's own outputs lose.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..ir.accuracy import OutputAccuracy, decibels
from ..ir.host.run import after, before
from ..ir.host.types import HostEdges
from ..ir.matgraph.ops import Port
from ..ir.types import Array
from .loss_warnings import warnings_behind
from .losses import TINY, relative_error
from .passes import Numbers
from .qgraph import QGraph
from .samples import Feed, Run, all_runs, feeds_of, held_back
from .trials import integer_outputs, shown_outputs

Outputs = Mapping[str, Array]
HOST_ALONE = "nothing of this model runs on the array: the host computes all of it"


@dataclass
class HostPart:
    """``edges`` and ``inputs``, the names that the array reads, are set by the import.

    ``beside`` keeps, for every calibration input in order, what operations behind the array read
    besides its outputs.
    """

    edges: HostEdges | None = None
    inputs: tuple[str, ...] = ()
    beside: list[Outputs] = field(default_factory=list)

    def prepared(self, feeds: Iterable[Feed]) -> Iterator[Feed]:
        """Yield the array's inputs for the user's, which are checked."""
        yield from feeds_of(feeds) if self.edges is None else self._runs(self.edges, feeds)

    def _runs(self, edges: HostEdges, feeds: Iterable[Feed]) -> Iterator[Run]:
        ports = [Port(v.name, v.shape or (), "", (), dtype=v.dtype) for v in edges.inputs]
        for run in all_runs(ports, feeds):
            typed = {port.name: run[port.name].astype(port.dtype) for port in ports}
            values = before(edges, typed)
            self.beside.append({n: values[n] for n in edges.beside if n in values})
            yield {name: values[name] for name in self.inputs}

    @property
    def notes(self) -> tuple[str, ...]:
        """Return what a user should know of the share of the array."""
        constants = {one.name for one in self.edges.constants} if self.edges else set()
        if not self.inputs or not constants.issuperset(self.inputs):
            return ()
        return (HOST_ALONE,)

    def names(self, of_ports: Sequence[str]) -> tuple[str, ...]:
        """Return the names of all that the host does, in order, each once."""
        if self.edges is None:
            return tuple(of_ports)
        front, back = self.edges.before, self.edges.after
        behind = ("dequantize", "argmax")
        ordered = [
            *(op.op for op in front),
            *(name for name in of_ports if name not in behind),
            *(name for name in of_ports if name in behind),
            *(op.op for op in back),
        ]
        return tuple(dict.fromkeys(ordered))

    def accuracies(
        self, numbers: Numbers, graph: QGraph
    ) -> tuple[tuple[OutputAccuracy, ...], tuple[str, ...]]:
        """Return what the outputs that the host computes lose on the inputs that are held back, and
        a note of those whose size depends on data."""
        if self.edges is None or not self.edges.after:
            return (), ()
        beside = [self.beside[i] for i in sorted(held_back(len(self.beside)))]
        theirs = self._finished(beside, numbers.float_outputs(numbers.held))
        ours = self._finished(beside, shown_outputs(graph, integer_outputs(graph, numbers.held)))
        made = {name for op in self.edges.after for name in op.outputs}
        names = [out.name for out in self.edges.outputs if out.name in made]
        pairs = {n: ([run[n] for run in ours], [run[n] for run in theirs]) for n in names}
        found = {name: _measured(name, *sides) for name, sides in pairs.items()}
        lost = ", ".join(name for name, accuracy in found.items() if accuracy is None)
        note = f"accuracy of {lost} not measured: its size depends on data"
        return tuple(filter(None, found.values())), (note,) if lost else ()

    def warnings(
        self, made: Sequence[OutputAccuracy], shown: Sequence[OutputAccuracy], precision: str
    ) -> tuple[str, ...]:
        """Return what is bad about the outputs ``made`` by the host of those that the array
        shows."""
        read = {out.name: self._read(out.name) for out in made}
        of = {name: [one for one in shown if one.name in names] for name, names in read.items()}
        return warnings_behind(of, made, precision)

    def _read(self, output: str) -> set[str]:
        """Return every value that an output of the host depends on."""
        assert self.edges is not None
        needed = {output}
        for op in reversed(self.edges.after):
            if needed.intersection(op.outputs):
                needed.update(op.inputs)
        return needed

    def _finished(self, beside: Sequence[Outputs], runs: Iterable[Outputs]) -> list[Outputs]:
        assert self.edges is not None
        return [after(self.edges, *one) for one in zip(beside, runs, strict=True)]


def _measured(name: str, found: list[Array], wanted: list[Array]) -> OutputAccuracy | None:
    """Return the loss of one output; None for reals whose size depends on data."""
    if _one_size([*found, *wanted]):
        return _accuracy(name, np.stack(found), np.stack(wanted))
    axis = _open_axis([*found, *wanted])
    return None if axis is None else _of_rows(name, axis, found, wanted)


def _open_axis(arrays: Sequence[Array]) -> int | None:
    """Return the one axis along which the sizes of integers differ; None if they do otherwise."""
    ranks = {array.ndim for array in arrays}
    if len(ranks) > 1 or any(array.dtype.kind == "f" for array in arrays):
        return None
    differing = [i for i in range(*ranks) if len({array.shape[i] for array in arrays}) > 1]
    return differing[0] if len(differing) == 1 else None


def _of_rows(name: str, axis: int, found: list[Array], wanted: list[Array]) -> OutputAccuracy:
    """Return the loss of integers as many as data decide, along ``axis``: the share of those
    (positions, what was selected) that only one side has."""
    common = total = 0
    for pair in zip(found, wanted, strict=True):
        rows = [np.moveaxis(y, axis, 0).reshape(y.shape[axis], -1).tolist() for y in pair]
        ours, theirs = (Counter(map(tuple, side)) for side in rows)
        common += 2 * (ours & theirs).total()
        total += ours.total() + theirs.total()
    other = 1 - common / total if total else 0.0
    return OutputAccuracy(name, "answers", other, decibels(other), 1 - other, other, total // 2)


def _one_size(arrays: Sequence[Array]) -> bool:
    return len({array.shape for array in arrays}) == 1 and arrays[0].size > 0


def _accuracy(name: str, found: Array, wanted: Array) -> OutputAccuracy:
    """Return the loss of one output; of integers the share of other values."""
    if wanted.dtype.kind != "f":
        other = float(np.mean(found != wanted))
        return OutputAccuracy(name, "answers", other, decibels(other), 1 - other, other,
                              wanted.size)  # fmt: skip
    rms = float(np.sqrt(np.mean(np.square(found - wanted, dtype=np.float64))))
    peak = float(np.abs(wanted).max(initial=0.0))
    psnr = decibels(rms / max(peak, TINY))
    return OutputAccuracy(name, "values", relative_error(found, wanted), psnr, absolute_error=rms)
