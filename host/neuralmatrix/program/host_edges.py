# SPDX-License-Identifier: Apache-2.0
"""What the host computes around a run of the array.

In: a program's ``HostEdges``, checked feeds.  Out: feeds of the array for every run, and the
outputs that a user gets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import BadInput
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


def check_images(program: ProgramTables, images: int) -> None:
    """Raise BadInput where several runs in one feed would have an output without a batch."""
    for port in program.shown_outputs:
        if port.name in program.fixed_outputs or (port.shape or ())[:1] == (1,):
            continue
        if images > 1:
            open_sized = port.shape is None or min(port.shape, default=1) < 0
            size = "a size that depends on data" if open_sized else f"shape {port.shape}"
            raise BadInput(
                f"feeds hold {images} images, but output {port.name!r} of {size} "
                "does not begin with a batch of 1; run one image at a time"
            )


def joined(program: ProgramTables, found: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Return the outputs of several runs, each along its first axis."""
    fixed = program.fixed_outputs
    return {
        one.name: found[0][one.name] if one.name in fixed else _joined(one.name, found)
        for one in program.shown_outputs
    }


def _joined(name: str, outputs: Sequence[Mapping[str, Array]]) -> Array:
    parts = [one[name] for one in outputs]
    if len({part.shape for part in parts}) > 1:
        raise BadInput(
            f"output {name!r}: its size depends on data and differs between images "
            f"({', '.join(str(part.shape) for part in parts[:3])}); run one image at a time"
        )
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def finished(
    program: ProgramTables, run: HostRun, outputs: Mapping[str, Array]
) -> dict[str, Array]:
    """Return the outputs that a user gets of one run of the array."""
    if program.host is None:
        return dict(outputs)
    return after(program.host, run.beside, outputs)
