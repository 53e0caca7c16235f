# SPDX-License-Identifier: Apache-2.0
"""Counts the input values that saturate when the host quantises them, and warns of many.

In: a program's inputs and checked feeds.  Out: ``Saturated`` by input; warnings.
Such values mostly come from other preprocessing than in calibration (pixels of 0..255 for 0..1).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputsSaturated
from ..program.data import ProgramPort
from ..program.host_io import covered

Array = npt.NDArray[Any]

ROOM = 2  # steps beyond the range that do not count: they lose next to nothing
# From which loss on, in widths of the range, saturated values are much.  Rounding to 8 bits loses a
# ninth of it; new inputs of the same kind, whose tails reach further, up to two thirds.
MUCH = 0.01


@dataclass(frozen=True)
class Saturated:
    """The values of one input outside the range that the program covers.

    ``share`` of all values; ``images``: how many of the run's inputs hold one; ``found`` and
    ``covered``: lowest and highest value, of the run and of the range.  Where parts have ranges of
    their own, these two are of the part that goes farthest beyond.  ``lost``: what saturation cuts
    off, over the width of the range, as root mean square of all values.
    """

    share: float
    images: int
    found: tuple[float, float]
    covered: tuple[float, float]
    lost: float = 0.0

    @property
    def is_much(self) -> bool:
        """Whether it is more than a few values slightly outside."""
        return self.lost > MUCH

    def to_text(self, name: str, images: int) -> str:
        """Return a sentence about the input ``name`` of a run of ``images``, and what to do."""
        (low, high), (least, most) = self.found, self.covered
        inputs = f"{self.images} of {images} inputs" if images > 1 else "the input"
        return (
            f"input {name!r}: {100 * self.share:.3g} % of the values ({inputs}) saturate: found "
            f"{low:.4g}..{high:.4g}, the program covers {least:.4g}..{most:.4g}, the range of its "
            "calibration; preprocess inputs as in calibration, or calibrate with inputs like these"
        )


def saturated(
    ports: Sequence[ProgramPort], feeds: Mapping[str, Array], images: int
) -> dict[str, Saturated]:
    """Return what saturates, by input; inputs of which nothing does are left out."""
    found = {port.name: _of_port(port, feeds[port.name], images) for port in ports}
    return {name: one for name, one in found.items() if one is not None}


def _of_port(port: ProgramPort, x: Array, images: int) -> Saturated | None:
    if port.table is not None or x.size == 0:
        return None
    least, most = covered(port)
    q = port.slot.qparams
    room = (most - least) * ROOM / (q.qmax - q.qmin)
    if (least - room).max() <= x.min() and x.max() <= (most + room).min():
        return None
    values = x.reshape(images, -1)
    outside = (values < least - room) | (values > most + room)
    if not outside.any():
        return None
    beyond = np.maximum(0.0, np.maximum(least - values, values - most) / (most - least))
    worst = int(beyond.argmax()) % values.shape[1] if least.size > 1 else 0
    alike = np.broadcast_to((least == least[worst]) & (most == most[worst]), values.shape[1])
    part = values[:, alike]
    return Saturated(
        float(outside.mean()),
        int(np.count_nonzero(outside.any(1))),
        (float(part.min()), float(part.max())),
        (float(least[worst]), float(most[worst])),
        float(np.sqrt(np.mean(np.square(beyond)))),
    )


def texts_of(found: Mapping[str, Saturated], images: int) -> list[str]:
    """Return one sentence about every input of which much saturates."""
    return [one.to_text(name, images) for name, one in found.items() if one.is_much]


def warn_of(found: Mapping[str, Saturated], images: int) -> None:
    """Warn the caller of ``Session.run`` of every input of which much saturates."""
    for text in texts_of(found, images):
        warnings.warn(text, InputsSaturated, stacklevel=3)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Keep Python silent about saturated inputs, for callers that print ``Stats.notes``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InputsSaturated)
        yield
