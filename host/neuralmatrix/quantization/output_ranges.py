# SPDX-License-Identifier: Apache-2.0
"""What outputs can be, where samples show one end alone: probabilities, and rare answers.

In: a MatGraph, the calibrated range or the histogram of every point.  Out: ranges of probabilities
and of the arguments of their functions; whether an output has rare answers.

Of rare positives, most calibration sets hold none: their probabilities would end at the largest of
the others, and no input could ever be found positive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

from ..ir.matgraph.ops import Gemm, MatGraph, Move, Port, Window
from ..ir.matgraph.uses import Uses
from ..ir.points import Interval, Point, Ranges
from ..ir.types import Function
from .histogram import Histogram

FEW = 16  # positive answers that say little about others
MOSTLY = 0.2  # of all answers, at most that many are positive where positives are rare
SURER = 8.0  # times the largest share on the samples
SATURATED = 8.0  # the argument from which on a sigmoid is 0 or 1 within 0.04 %


def bounded_outputs(mg: MatGraph, found: Mapping[Point, Interval]) -> dict[Point, Interval]:
    """Return the ranges of outputs that are probabilities, and of the arguments of their
    functions."""
    wider: dict[Point, Interval] = {}
    uses = Uses.of(mg)
    for op in _makers(mg):
        e = op.epilogue
        if e.hadamard is None and (arguments := _arguments(e.activation)) is not None:
            pre = Point(op.output, "pre_activation")
            wider[Point(op.output)] = (0.0, e.factor)
            wider[pre] = (min(found[pre][0], arguments[0]), max(found[pre][1], arguments[1]))
        elif e.hadamard is not None and _is_share(op, uses):
            wider |= _of_shares(op, e.hadamard, found)
    return wider


def _of_shares(op: Gemm | Window, inverse: str, found: Mapping[Point, Interval]) -> Ranges:
    """Return the ranges of a softmax of which a sample may be surer than all others: of its result
    and of the reciprocal of the sum, up to 1, where one power is all of it.

    Only SURER times as much as seen: shares of a vocabulary, all of them small, keep their steps.
    """
    y, pre = Point(op.output), Point(inverse, "pre_activation")
    low, high = found[Point(inverse)]
    return {
        y: (0.0, max(found[y][1], min(op.epilogue.factor, SURER * found[y][1]))),
        Point(inverse): (low, max(high, min(1.0, SURER * high))),
        pre: (min(found[pre][0], max(1.0, found[pre][0] / SURER)), found[pre][1]),
    }


def probabilities(mg: MatGraph) -> tuple[str, ...]:
    """Return the results behind outputs that are shares of 1: of a sigmoid, or of a softmax.

    Any of their channels may become 1, also one that is always small on the samples.
    """
    uses = Uses.of(mg)
    return tuple(
        op.output
        for op in _makers(mg)
        if _arguments(op.epilogue.activation) is not None or _is_share(op, uses)
    )


def _is_share(op: Gemm | Window, uses: Uses) -> bool:
    """Return whether every element of the result is a power times the reciprocal of a sum."""
    if not isinstance(op, Window):  # a product weighs other values with the powers
        return False
    factor = op.epilogue.hadamard
    makers = (uses.maker(op.input), uses.maker(factor) if factor else None)
    names = [
        maker.epilogue.activation.name
        for maker in makers
        if isinstance(maker, Gemm | Window) and maker.epilogue.activation is not None
    ]
    return names == ["exp", "reciprocal"]


def _arguments(activation: Function | None) -> Interval | None:
    """Return between which arguments a function goes from 0 to 1, None if it does not."""
    if activation is None or activation.name not in ("sigmoid", "hard_sigmoid"):
        return None
    if activation.name == "sigmoid":
        return -SATURATED, SATURATED
    slope, middle = activation.params
    return -middle / slope, (1.0 - middle) / slope


def has_rare_answers(mg: MatGraph, histograms: Mapping[Point, Histogram]) -> bool:
    """Return whether samples hold FEW positive answers of an output or less, and mostly negative
    ones: probabilities above 0.5, or the only value of an output, as of a logit, above 0."""
    for port in mg.outputs:
        op = Uses.of(mg).maker(port.tensor)
        if not isinstance(op, Gemm | Window) or op.output != port.tensor or op.epilogue.hadamard:
            continue
        middle = _middle(op, port, mg)
        histogram = histograms.get(Point(port.tensor))
        if middle is not None and histogram is not None and histogram.limit:
            positive = int(histogram.counts[histogram.centers > middle].sum())
            if positive <= min(FEW, MOSTLY * int(histogram.counts.sum())):
                return True
    return False


def _middle(op: Gemm | Window, port: Port, mg: MatGraph) -> float | None:
    """Return the stored value that divides the answers of an output, None if it has no answers."""
    if _arguments(op.epilogue.activation) is not None:
        return 0.5 * op.epilogue.factor
    if op.epilogue.activation is not None or prod(mg.tensors[port.tensor].shape) > 1:
        return None
    units = port.units
    offset = units.offset[0] if units is not None and units.offset else 0.0
    return 0.0 if units is None else -offset / units.divisor[0]


def _makers(mg: MatGraph) -> Iterator[Gemm | Window]:
    """Yield the operations whose results are shown, as they are or moved."""
    uses, names, seen = Uses.of(mg), [port.tensor for port in mg.outputs], set[str]()
    while names:
        name = names.pop()
        op = uses.maker(name)
        if name in seen or op is None or op.output != name:
            continue
        seen.add(name)
        if isinstance(op, Move):
            names += op.parts
        elif isinstance(op, Gemm | Window):
            yield op


__all__ = ["bounded_outputs", "has_rare_answers", "probabilities"]
