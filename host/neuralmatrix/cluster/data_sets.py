# SPDX-License-Identifier: Apache-2.0
"""Counts over a data set: how many outputs of a program are right.

In: a program, inputs, what is right, workers.  Out: ``Evaluation``.
Chunks depend on the data alone and their sums are added exactly, so that number, kind and fate of
the workers change nothing but the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import BadInput
from ..files import Array
from ..program.host_io import check_feeds
from ..program.program import Program
from .metrics import Sums, metric_of, totals
from .workers import HERE, Chunk, Feeds, Job, Packed, Workers

CHUNK = 125  # images
CHUNK_BYTES = 8 << 20  # of inputs, where 125 images have more

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class Evaluation:
    """``value``: the metric over all images; ``sums``: what it was computed from."""

    images: int
    output: str
    metric: str
    value: float
    unit: str
    sums: tuple[float, ...]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {**vars(self), "sums": list(self.sums)}


def evaluate(
    program: Program,
    feeds: Mapping[str, Any],
    truth: Any,
    metric: str = "top1",
    *,
    output: str | None = None,
    chunk: int | None = None,
    workers: Workers = HERE,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Run a program over a data set and count what is right.

    ``feeds``: {input name: array of N inputs}.  ``truth``: what is right: a class per row of class
    scores for "top1" and "top5", values of the output's shape for "relative" (error norm over
    theirs).  ``output``: which one, where there are several.  ``chunk``: images that a worker gets
    at once.  ``workers``: ``Here()``, ``on_dask()`` or ``Farm``.  ``progress(done, total)`` is
    called with images.

    BadInput: feeds, truth or a name do not fit.

    >>> evaluate(program, {"input": x}, labels).value  # doctest: +SKIP
    91.4
    """
    metric_of(metric)
    arrays, images = check_feeds(program.shown_inputs, feeds)
    wanted = _truth(truth, images)
    size = chunk or _chunk(arrays, images)
    job = Job(Packed.of(program), _output(program, output), metric)
    began = time.perf_counter()
    sums: dict[int, Sums] = {}
    for number, found in workers.score(job, _chunks(arrays, wanted, images, size)):
        sums[number] = found
        progress(min(len(sums) * size, images), images)
    seconds = time.perf_counter() - began
    total = totals([sums[number] for number in sorted(sums)])
    judged = metric_of(metric)
    return Evaluation(images, job.output, metric, judged.value(total), judged.unit, total, seconds)


def _chunk(arrays: Feeds, images: int) -> int:
    """Return the default size of a chunk, from the data alone."""
    each = sum(x.nbytes for x in arrays.values()) / images
    return max(1, min(CHUNK, int(CHUNK_BYTES / max(each, 1.0))))


def _chunks(arrays: Feeds, truth: Array, images: int, size: int) -> Iterator[Chunk]:
    """Yield the parts of a data set, as views."""
    for start in range(0, images, size):
        part = slice(start, start + size)
        one = arrays if images == 1 else {name: x[part] for name, x in arrays.items()}
        yield Chunk(one, truth[part])


def _truth(truth: Any, images: int) -> Array:
    found = np.asarray(truth)
    if found.dtype.kind not in "buif" or found.ndim == 0 or len(found) != images:
        raise BadInput(
            f"labels: found {found.dtype} {found.shape} for {images} inputs; allowed are numbers, "
            "with one label or array per input"
        )
    return found


def _output(program: Program, name: str | None) -> str:
    names = [port.name for port in program.shown_outputs]
    if name is None and len(names) == 1:
        return names[0]
    if name not in names:
        raise BadInput(f"output: found {name!r}, allowed is one of {', '.join(map(repr, names))}")
    return name
