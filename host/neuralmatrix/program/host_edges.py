# SPDX-License-Identifier: Apache-2.0
"""What the host computes around a run of the array.

In: a program's ``HostEdges``, checked feeds.  Out: feeds of the array for every run, and the
outputs that a user gets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ..ir.host.run import after, before
from ..ir.host.types import HostEdges
from ..ir.types import Array
from .data import ProgramPort, ProgramTables
from .host_io import check_feeds


@dataclass(frozen=True)
class HostRun:
    """One run: ``feeds`` of the array, and the values that operations behind it read ``beside``."""

    feeds: Mapping[str, Array]
    beside: Mapping[str, Array] = field(default_factory=dict)


def split_runs(arrays: Mapping[str, Array], images: int) -> list[dict[str, Array]]:
    """Return one feed per run."""
    if images == 1:
        return [dict(arrays)]
    return [{name: x[i : i + 1] for name, x in arrays.items()} for i in range(images)]


def prepared(edges: HostEdges, inputs: Sequence[str], feed: Mapping[str, Array]) -> HostRun:
    """Return one run from a user's feed; ``inputs``: the names that the array reads."""
    values = before(edges, feed)
    beside = {name: values[name] for name in edges.beside if name in values}
    return HostRun({name: values[name] for name in inputs}, beside)


def host_runs(program: ProgramTables, arrays: Mapping[str, Array], images: int) -> list[HostRun]:
    """Return every run from checked feeds; BadInput where what the host makes of them does not
    fit the array."""
    feeds = split_runs(arrays, images)
    if program.host is None:
        return [HostRun(feed) for feed in feeds]
    names = list(dict.fromkeys(port.name for port in program.inputs))
    runs = [prepared(program.host, names, feed) for feed in feeds]
    return [HostRun(_checked(program.inputs, run.feeds), run.beside) for run in runs]


def _checked(ports: tuple[ProgramPort, ...], feeds: Mapping[str, Array]) -> dict[str, Array]:
    arrays, _ = check_feeds(ports, feeds, batch=False)
    return arrays


def finished(
    program: ProgramTables, run: HostRun, outputs: Mapping[str, Array]
) -> dict[str, Array]:
    """Return the outputs that a user gets of one run of the array."""
    if program.host is None:
        return dict(outputs)
    return after(program.host, run.beside, outputs)
