# SPDX-License-Identifier: Apache-2.0
"""Points that saturate, so that values beyond are left out of their ranges.

In: intervals by point.  Out: ``Saturation``, which clips values and counts what it clips;
``notes_of``: lines for people.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..ir.matgraph.ops import MatGraph
from ..ir.matgraph.uses import Uses
from ..ir.points import Point
from ..ir.types import Array
from .adjust_ranges import MASK_ROOM
from .suspects import Limits, Suspect


class Saturation:
    """Clips the points of ``limits``; ``cut`` counts the clipped values, ``worst`` is the farthest
    of them, ``outside`` tells where they are in the last array of a point."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.cut: dict[Point, int] = {}
        self.worst: dict[Point, float] = {}
        self.outside: dict[Point, Array] = {}

    def __call__(self, point: Point, values: Array) -> Array:
        ends = self.limits.get(point)
        if ends is None:
            return values
        outside = (values < ends[0]) | (values > ends[1])
        self.outside[point] = outside
        if not outside.any():
            return values
        self.leave_out(point, values[outside])
        return np.asarray(np.clip(values, *ends), values.dtype)

    def leave_out(self, point: Point, far: Array) -> None:
        """Count values that are left out of a range."""
        if far.size:
            self.cut[point] = self.cut.get(point, 0) + far.size
            worst = float(far[np.abs(far).argmax()])
            self.worst[point] = max(self.worst.get(point, 0.0), worst, key=abs)


def notes_of(mg: MatGraph, applied: Saturation, rejected: Iterable[Suspect]) -> tuple[str, ...]:
    """Return a line for every point with values that are left out, or that reach the outputs."""
    uses = Uses.of(mg)
    lines = []
    for point, count in applied.cut.items():
        op = uses.maker(point.tensor)
        where = f" ({op.source})" if op is not None and op.source else ""
        what = f"range of {str(point)!r}{where}: {count:,} values up to {applied.worst[point]:.3g}"
        ends = [f"{end:.3g}" for end in applied.limits.get(point, ()) if np.isfinite(end)]
        why = (
            f"are left out, no output depends on them; they saturate at {' and '.join(ends)}"
            if ends
            else f"are masked scores; they saturate {MASK_ROOM:g} below the lowest other one"
        )
        lines.append(f"{what} {why}")
    return (*lines, *(_kept_line(s) for s in rejected))


def _kept_line(s: Suspect) -> str:
    return (
        f"range of {str(s.point)!r}: set by values beyond {s.boundary:.3g}, far beyond all others; "
        "outputs depend on them"
    )
