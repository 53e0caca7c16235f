# SPDX-License-Identifier: Apache-2.0
"""What outputs lose against those of the float model, by criteria that fit their kind.

In: float and integer outputs of several runs, (runs, *shape).  Out: ``OutputAccuracy``, and one
number to minimise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from ..ir.accuracy import Kind, OutputAccuracy, PartAccuracy, decibels
from ..ir.matgraph.ops import Gemm, MatGraph, Move, Port, Window
from ..ir.matgraph.uses import Uses
from ..ir.types import Array, apply_steps

GAP = 8.0  # ratio of sizes between two neighbours, sorted, that makes two parts of an axis
MOST_INDICES = 4096  # of an axis that is searched for parts
MOST_ROWS = 1 << 16  # in which changed answers are counted
FEWEST_CHANNELS = 32  # of rows that are compared as vectors: fewer are read one by one
MOST_COLOURS = 4  # channels of pictures
FACTORS = (1.0, 2.0, 4.0)  # of the error, whose changed answers are averaged
SURE = 0.6  # mean probability of the largest class of a trained classifier, at least
# Scores that a softmax reads are trained in their differences alone, so that their mean hardly
# varies: its variance, times their number, over theirs.  It is 1 for values independent of each
# other, and more for those that rise and fall together.
MOST_COMMON = 0.5
LEAST_PROBABILITY = 1e-4  # below it a probability is 0 for its readers
TINY = 1e-30
ROUNDING = 1e-5  # of the largest value: channels that vary less are constant


@dataclass(frozen=True)
class Judge:
    """How one output is judged: its kind, the axis of its rows, counted behind the runs' own, and
    its parts of different scale, (text, axis, indices)."""

    name: str
    kind: Kind
    axis: int
    parts: tuple[tuple[str, int, tuple[int, ...]], ...]


def judge(port: Port, wanted: Array, mg: MatGraph) -> Judge:
    """Return how an output is judged, by how it is made and by its float values."""
    axis, end = _channel_axis(port, wanted, mg), _last_activation(port.tensor, mg)
    softmax = _softmax_axis(wanted)
    channels = mg.tensors[port.tensor].shape[3] if wanted.ndim > 1 else 1
    kind: Kind = "vectors" if channels >= FEWEST_CHANNELS else "values"
    if port.argmax is not None or softmax is not None:
        kind = "class scores"
        axis = port.argmax[0] if port.argmax is not None else softmax or 0
    elif end == "sigmoid":
        kind = "probabilities"
    elif _is_state(port, mg):
        kind = "states"
    elif end is None and channels > 1 and _names_classes(wanted, axis):
        kind = "class scores"
    elif _is_picture(wanted):
        kind = "pictures"
    split = kind not in ("class scores", "probabilities")
    return Judge(port.name, kind, axis, _parts(wanted) if split else ())


def outputs_loss(judges: Mapping[str, Judge], found: Mapping[str, Array],
                 wanted: Mapping[str, Array], measure: Mapping[str, str]) -> float:  # fmt: skip
    """Return the mean over the outputs of what each loses, by its ``measure``."""
    each = [MEASURE[measure[n]](judges[n], found[n], y) for n, y in wanted.items()]
    return float(np.mean(each))


def accuracy_of(judge: Judge, found: Array, wanted: Array) -> OutputAccuracy:
    """Return all criteria of one output."""
    peak = float(np.abs(wanted).max(initial=0.0))
    rms = float(np.sqrt(np.mean(np.square(found - wanted, dtype=np.float64))))
    answers = _answers(judge, found, wanted)
    return OutputAccuracy(
        judge.name,
        judge.kind,
        relative_error(found, wanted),
        decibels(rms / max(peak, TINY)),
        *answers,
        absolute_error=rms,
        parts=tuple(
            PartAccuracy(text, error)
            for (text, *_), error in zip(judge.parts, _by_part(judge, found, wanted), strict=True)
        ),
    )


# ---------------------------------------------------------------- criteria


def relative_error(found: Array, wanted: Array) -> float:
    """Return the norm of the difference over the norm of ``wanted``."""
    error = float(np.linalg.norm(np.subtract(found, wanted, dtype=np.float64)))
    size = float(np.linalg.norm(wanted.astype(np.float64)))
    return 0.0 if error == 0.0 else error / max(size, TINY)


def likely_error(found: Array, wanted: Array) -> float:
    """Return the relative error that other inputs are likely to stay below: the runs' mean squared
    error, and as much more as the mean of so few may be off (about Student's t at 95 %)."""
    runs = len(wanted)
    each = np.square(np.subtract(found, wanted, dtype=np.float64)).reshape(runs, -1).sum(1)
    if runs < 2 or not each.any():
        return relative_error(found, wanted)
    more = (2 + 5 / runs) * each.std(ddof=1) / np.sqrt(runs)
    return relative_error(found, wanted) * float(np.sqrt(1 + more / each.mean()))


def varying_error(judge: Judge, found: Array, wanted: Array) -> float:
    """Return the error relative to how far the float values of a channel vary, the root of the mean
    square over the channels: what a large constant part, or a larger channel, hides.

    Its square is what a coefficient of determination loses.
    """
    channels = wanted.shape[judge.axis + 1]
    right, error = (
        np.moveaxis(y, judge.axis + 1, -1).reshape(-1, channels).astype(np.float64)
        for y in (wanted, np.subtract(found, wanted, dtype=np.float64))
    )
    spread = right.var(0)
    used = spread > (ROUNDING * np.abs(right).max(initial=0.0)) ** 2
    shares = np.square(error).mean(0)[used] / spread[used]
    return float(np.sqrt(np.mean(shares))) if used.any() else 0.0


def _by_part(judge: Judge, found: Array, wanted: Array) -> list[float]:
    return [
        relative_error(np.take(found, indices, axis + 1), np.take(wanted, indices, axis + 1))
        for _, axis, indices in judge.parts
    ]


def _relative(judge: Judge, found: Array, wanted: Array) -> float:
    """Return the root of the mean square over the parts, so that each of them counts."""
    if judge.kind == "probabilities":
        found, wanted = _logits(found), _logits(wanted)
    each = _by_part(judge, found, wanted) or [relative_error(found, wanted)]
    return float(np.sqrt(np.mean(np.square(each))))


def _logits(y: Array) -> Array:
    """Return what a sigmoid made probabilities of, as far as their differences matter."""
    p = np.clip(y.astype(np.float64), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    return np.asarray(np.log(p / (1 - p)))


def _top1(judge: Judge, found: Array, wanted: Array) -> float:
    """Return the share of rows with another largest element."""
    return _changed_rows(_rows(judge, wanted), _rows(judge, found - wanted), 1.0)


def _psnr(judge: Judge, found: Array, wanted: Array) -> float:
    """Return the root mean square error over the peak: 0.01 are 40 dB."""
    rms = float(np.sqrt(np.mean(np.square(found - wanted, dtype=np.float64))))
    return rms / max(float(np.abs(wanted).max(initial=0.0)), TINY)


MEASURE = {"relative": _relative, "top1": _top1, "psnr": _psnr}


def _answers(judge: Judge, found: Array, wanted: Array) -> tuple[float | None, float | None, int]:
    """Return the share of equal answers, the smoother estimate of changed ones, and their
    number."""
    count = {"class scores": _changed_rows, "probabilities": _changed_sides}.get(judge.kind)
    if count is None:
        return None, None, 0
    rows = judge.kind == "class scores"
    y = _rows(judge, wanted) if rows else wanted.reshape(-1)
    error = _rows(judge, found - wanted) if rows else (found - wanted).reshape(-1)
    shares = [count(y, sign * k * error, k) for k in FACTORS for sign in (1, -1)]
    return 1.0 - count(y, error, 1.0), float(np.mean(shares)), len(y)


def _changed_rows(rows: Array, error: Array, factor: float) -> float:
    return float(np.mean((rows + error).argmax(-1) != rows.argmax(-1))) / factor


def _changed_sides(values: Array, error: Array, factor: float) -> float:
    return float(np.mean((values + error > 0.5) != (values > 0.5))) / factor


def _rows(judge: Judge, y: Array) -> Array:
    """Return the rows of an output whose largest element is its answer, at most MOST_ROWS."""
    rows = np.moveaxis(y, judge.axis + 1, -1).reshape(-1, y.shape[judge.axis + 1])
    return rows[:: len(rows) // MOST_ROWS + 1]


# ---------------------------------------------------------------- kinds


def _channel_axis(port: Port, y: Array, mg: MatGraph) -> int:
    """Return the axis of the source shape along which the channels of the tensor lie; the last one
    if there is only one channel, or no such axis."""
    shape = mg.tensors[port.tensor].shape
    ids = apply_steps(np.broadcast_to(np.arange(shape[3]), shape), port.steps)
    for axis in range(ids.ndim if shape[3] > 1 else 0):
        if ids.shape[axis] == shape[3] and np.any(ids != np.take(ids, [0], axis)):
            return axis
    return max(y.ndim - 2, 0)


def _last_activation(name: str, mg: MatGraph) -> str | None:
    """Return the name of the function that made all parts of a tensor, traced back through
    Moves."""
    op = Uses.of(mg).maker(name)
    if isinstance(op, Move):
        found = {_last_activation(part, mg) for part in op.parts}
        return found.pop() if len(found) == 1 else "moved"
    if not isinstance(op, Gemm | Window):
        return "moved" if op is not None else None
    activation = op.epilogue.activation
    return activation.name if activation else None


def _is_picture(y: Array) -> bool:
    """Return whether two axes hold places, and the others a batch and a few colours."""
    shape = y.shape[1:]
    places = [n for n in shape if n > MOST_COLOURS]
    return len(shape) > 3 and len(places) == 2 and prod(shape) <= MOST_COLOURS * prod(places)


def _is_state(port: Port, mg: MatGraph) -> bool:
    """Return whether an output has the shape of an input beside others: it is likely fed back, and
    its errors with it."""
    same = any(one.shape == port.shape and one.table is None for one in mg.inputs)
    return same and len({one.name for one in mg.inputs}) > 1 and len(port.shape) > 0


def _softmax_axis(y: Array) -> int | None:
    """Return the axis along which an output is a distribution, or None."""
    if y.ndim < 2 or y.min(initial=0.0) < 0 or y.max(initial=0.0) > 1.0001:
        return None
    for axis in range(y.ndim - 1, 0, -1):
        if y.shape[axis] > 1 and np.allclose(y.sum(axis), 1.0, atol=1e-3):
            return axis - 1
    return None


def _names_classes(y: Array, axis: int) -> bool:
    """Return whether rows look like scores of classes: the largest element is not always the same
    one, a softmax of a row is sure of it, which it seldom is of coordinates, and the mean of a row
    varies little, as that of values in large units does not."""
    rows = np.moveaxis(y, axis + 1, -1).reshape(-1, y.shape[axis + 1]).astype(np.float64)
    e = np.exp(rows - rows.max(-1, keepdims=True))
    sure = float(np.mean(e.max(-1) / e.sum(-1)))
    common = rows.shape[1] * rows.mean(-1).var() / max(float(rows.var(0).mean()), TINY)
    return len(np.unique(rows.argmax(-1))) > 1 and sure > SURE and common < MOST_COMMON


# ---------------------------------------------------------------- parts of different scale


def _parts(y: Array) -> tuple[tuple[str, int, tuple[int, ...]], ...]:
    """Return the parts of the axis along which sizes differ most abruptly; none if they do not."""
    best: list[Array] = []
    gap, at = GAP, 0
    for axis in range(1, y.ndim):
        if not 1 < y.shape[axis] <= MOST_INDICES:
            continue
        others = tuple(i for i in range(y.ndim) if i != axis)
        size = np.sqrt(np.mean(np.square(y, dtype=np.float64), others))
        groups, widest = _groups(size)
        if widest > gap:
            best, gap, at = groups, widest, axis
    return tuple(
        (f"axis {at - 1}: {_as_text(group)}", at - 1, tuple(map(int, group))) for group in best
    )


def _groups(size: Array) -> tuple[list[Array], float]:
    """Return the indices of similar size, without those that are always 0, and the widest gap."""
    used = np.flatnonzero(size > 0)
    order = used[np.argsort(size[used], kind="stable")]
    if len(order) < 2:
        return [], 1.0
    ratio = size[order[1:]] / size[order[:-1]]
    groups = np.split(order, np.flatnonzero(ratio > GAP) + 1)
    return [np.sort(group) for group in groups], float(ratio.max())


def _as_text(indices: Array) -> str:
    """Return indices as "0..3, 7"."""
    runs = np.split(indices, np.flatnonzero(np.diff(indices) > 1) + 1)
    texts = [f"{r[0]}..{r[-1]}" if len(r) > 1 else f"{r[0]}" for r in runs]
    return ", ".join(texts[:4]) + (f" and {len(texts) - 4} more" if len(texts) > 4 else "")
