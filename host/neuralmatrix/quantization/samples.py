# SPDX-License-Identifier: Apache-2.0
"""Calibration inputs as single runs of a network.

In: the user's calibration data.  Out: checked arrays in the source shapes, those to calibrate on
and those that are held back to measure with; BadInput.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from math import prod

import numpy as np

from ..errors import BadInput
from ..ir.matgraph.ops import MatGraph, Port
from ..ir.types import Array

Feed = Mapping[str, Array]
Run = dict[str, Array]

FEWEST_MEASURED = 8  # runs of which one in HOLD_ONE_OF is held back; of fewer none
HOLD_ONE_OF = 4
MOST_HELD = 32
CHUNK_FLOATS = 1 << 24  # values of all tensors of the runs that are evaluated together
MOST_TOGETHER = 16


class Samples:
    """At most ``most`` runs of ``feeds``, an iterable of {input name: array}; an array is one run's
    input, or several stacked along the first axis.

    They are checked when they are read for the first time and kept for further passes.  ``hold``:
    of FEWEST_MEASURED runs or more, about one in four is held back from calibration.
    """

    def __init__(self, feeds: Iterable[Feed] | None, most: int, hold: bool = False) -> None:
        self._feeds = feeds
        self._most = most
        self._hold = hold
        self._kept: tuple[Run, ...] = ()
        self._held: tuple[Run, ...] = ()

    def runs(self, mg: MatGraph) -> Iterator[Run]:
        """Yield the single runs that calibration may see, for the input ports of ``mg``.

        BadInput: some do not fit, or there is none.
        """
        self._read(mg)
        return iter(self._kept)

    def held(self, mg: MatGraph) -> tuple[Run, ...]:
        """Return the runs that are held back: none if there are too few, or ``hold`` is off."""
        if self._hold:
            self._read(mg)
        return self._held

    def _read(self, mg: MatGraph) -> None:
        if self._kept:
            return
        runs = tuple(_runs_of(mg, self._feeds, self._most))
        back = held_back(len(runs)) if self._hold else frozenset()
        self._held = tuple(runs[i] for i in sorted(back))
        self._kept = tuple(run for i, run in enumerate(runs) if i not in back)


def held_back(count: int) -> frozenset[int]:
    """Return the numbers of the runs that are held back: one at random of each of equal parts, so
    that neither an order nor a period of the samples decides which."""
    if count < FEWEST_MEASURED:
        return frozenset()
    held = min(MOST_HELD, count // HOLD_ONE_OF)
    ends = np.linspace(0, count, held + 1).astype(int)
    rng = np.random.default_rng(0)
    return frozenset(int(rng.integers(lo, hi)) for lo, hi in pairwise(ends))


def spread(runs: Sequence[Run], most: int) -> list[Run]:
    """Return at most ``most`` of the runs, evenly spread over all of them."""
    count = min(most, len(runs))
    return [runs[(2 * i + 1) * len(runs) // (2 * count)] for i in range(count)]


def floats_of(mg: MatGraph) -> int:
    """Return how many values all tensors of one run hold; legalisation copies are not counted."""
    return sum(prod(tensor.shape) for tensor in mg.tensors.values() if tensor.copy_of is None)


def stacks(mg: MatGraph) -> bool:
    """Return whether runs can be stacked: a scalar has no axis to stack along."""
    return all(port.shape for port in mg.inputs)


def stacked(runs: list[Run]) -> Run:
    """Return several runs stacked along the first axis."""
    if len(runs) == 1:
        return dict(runs[0])
    return {name: np.concatenate([run[name] for run in runs]) for name in runs[0]}


def chunks(mg: MatGraph, runs: Iterable[Run]) -> Iterator[Run]:
    """Yield the runs stacked along the first axis, as many together as CHUNK_FLOATS allow."""
    most = max(1, min(MOST_TOGETHER, CHUNK_FLOATS // max(floats_of(mg), 1))) if stacks(mg) else 1
    left = iter(runs)
    while chunk := list(islice(left, most)):
        yield stacked(chunk)


def _runs_of(mg: MatGraph, feeds: Iterable[Feed] | None, most: int) -> Iterator[Run]:
    """Yield checked single runs in the source shapes, at most ``most`` of them."""
    found = 0
    for run in islice(all_runs(mg.inputs, feeds), most):
        found += 1
        yield run
    if not found:
        raise BadInput(
            "the calibration set is empty; give at least one {input name: array}, "
            "16 to 256 typical inputs are best"
        )


def all_runs(ports: Sequence[Port], feeds: Iterable[Feed] | None) -> Iterator[Run]:
    """Yield every run of the calibration data, checked."""
    for number, feed in enumerate(feeds_of(feeds)):
        yield from _split(ports, feed, f"calibration feed {number}")


def feeds_of(feeds: Iterable[Feed] | None) -> Iterable[Feed]:
    """Return the feeds of the calibration data; BadInput if it is of another kind."""
    if feeds is None:
        raise BadInput(
            "no calibration data given; pass an iterable of {input name: array} as calibration"
        )
    if isinstance(feeds, Mapping):
        return [feeds]
    if not isinstance(feeds, Iterable):
        raise BadInput(
            f"the calibration data is a {type(feeds).__name__}; allowed is an iterable of "
            "{input name: array}"
        )
    return feeds


def _split(ports: Sequence[Port], feed: Feed, where: str) -> Iterator[Run]:
    """Yield the runs that are stacked in one feed."""
    if not isinstance(feed, Mapping):
        raise BadInput(f"{where} is a {type(feed).__name__}; allowed is {{input name: array}}")
    wanted = {port.name for port in ports}
    if set(feed) != wanted:
        raise BadInput(
            f"{where} has inputs {sorted(map(str, feed))}; "
            f"the model's inputs are {sorted(wanted)}, give exactly these, or bind what never "
            "changes with constants= (--constant)"
        )
    arrays = {port.name: _checked(port, feed[port.name], where) for port in ports}
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) != 1:
        raise BadInput(f"{where} stacks {sorted(lengths)} runs; give all inputs the same number")
    for i in range(lengths.pop()):
        yield {name: array[i] for name, array in arrays.items()}


def _checked(port: Port, value: Array, where: str) -> Array:
    """Return ``value`` as (runs, *port.shape)."""
    what = f"{where}: input {port.name!r}"
    if isinstance(value, np.ma.MaskedArray):
        raise BadInput(f"{what} is a masked array, whose mask has no meaning here; fill it first")
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise BadInput(f"{what} is not an array ({error}); pass a numpy array") from None
    if array.dtype.kind not in "fiub":
        raise BadInput(f"{what} has dtype {array.dtype}; allowed are real numbers")
    largest = np.finfo(np.float32).max
    if not np.all(np.abs(array) <= largest):  # NaN fails the comparison
        raise BadInput(
            f"{what} holds NaN, infinity or a value beyond float32; allowed are finite numbers, "
            "clean the data"
        )
    whole = port.table is not None or port.dtype not in ("float32", "float64")
    if whole and array.dtype.kind == "f" and (array % 1).any():
        raise BadInput(
            f"{what} holds fractions; allowed are integers, such as the rows of its table; "
            "tokenise with the model's own vocabulary"
        )
    return _stacked(port, array, what)


def _stacked(port: Port, array: Array, what: str) -> Array:
    shape = tuple(port.shape)
    if array.shape == shape:
        return array[None]
    several = min(array.shape[:1], shape[:1]) > (0,) and array.shape[1:] == shape[1:]
    if several and array.shape[0] % shape[0] == 0:
        return np.reshape(array, (array.shape[0] // shape[0], *shape))
    raise BadInput(
        f"{what} has shape {array.shape}; allowed is {shape}, or a multiple of it "
        "stacked along the first axis"
    )
