# SPDX-License-Identifier: Apache-2.0
"""Operations of the host that select elements by indices or by size, as ONNX defines them.

In: arrays and attributes.  Out: arrays; those of NonMaxSuppression, NonZero and Compress have a
size that depends on data.
"""

from __future__ import annotations

import numpy as np

from ..types import Array
from .arrangement import scalar
from .elementwise import Attributes
from .limits import MOST_PAIRS, TooLarge, bounded

# ---------------------------------------------------------------- by indices


def _checked(indices: Array, size: int) -> Array:
    """Return indices counted from the front; ValueError outside -size..size-1."""
    found = indices.astype(np.int64)
    if found.size and not -size <= found.min() <= found.max() < size:
        raise ValueError(f"indices {found.min()}..{found.max()} of an axis of {size}")
    return np.asarray(np.where(found < 0, found + size, found))


def gather(attributes: Attributes, x: Array, indices: Array) -> Array:
    """Take slices of one axis."""
    axis = attributes.get("axis", 0) % max(x.ndim, 1)
    bounded((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))
    return np.take(x, _checked(indices, x.shape[axis]), axis)


def gather_elements(attributes: Attributes, x: Array, indices: Array) -> Array:
    """Take one element for every index, along one axis."""
    axis = attributes.get("axis", 0) % x.ndim
    where: list[Array] = list(np.indices(indices.shape, sparse=True))
    where[axis] = _checked(indices, x.shape[axis])
    return x[tuple(where)]


def gather_nd(attributes: Attributes, x: Array, indices: Array) -> Array:
    """Take slices at index tuples, which the last axis of ``indices`` holds."""
    batch, count = attributes.get("batch_dims", 0), indices.shape[-1]
    bounded((*indices.shape[:-1], *x.shape[batch + count :]))
    leading = indices.shape[:-1]
    where = [
        np.arange(leading[i]).reshape([-1 if k == i else 1 for k in range(len(leading))])
        for i in range(batch)
    ]
    where += [_checked(indices[..., i], x.shape[batch + i]) for i in range(count)]
    return np.asarray(x[tuple(where)])


def scatter_nd(attributes: Attributes, x: Array, indices: Array, updates: Array) -> Array:
    """Replace slices at index tuples."""
    changed: Array = x.copy()
    where = tuple(_checked(indices[..., i], x.shape[i]) for i in range(indices.shape[-1]))
    changed[where] = updates
    return changed


def compress(attributes: Attributes, x: Array, condition: Array) -> Array:
    """Take the slices of one axis, or of all elements, where a condition holds."""
    return np.asarray(np.compress(condition, x, attributes.get("axis")))


def nonzero(attributes: Attributes, x: Array) -> Array:
    """Return the indices of elements other than 0, one row per axis."""
    return np.stack(np.nonzero(np.atleast_1d(x))).astype(np.int64)


# ---------------------------------------------------------------- by size


def top_k(attributes: Attributes, x: Array, k: Array) -> tuple[Array, Array]:
    """Return the k largest or smallest values of every row and their indices, in order of size; of
    equal ones the first is taken first."""
    axis, count = attributes.get("axis", -1) % x.ndim, scalar(k)
    if not 0 <= count <= x.shape[axis]:
        raise ValueError(f"the {count} largest of {x.shape[axis]}")
    rows = np.moveaxis(x, axis, -1)
    flat = rows.reshape(-1, rows.shape[-1])
    largest = bool(attributes.get("largest", 1))
    found = np.empty((len(flat), count), np.int64)
    for i, row in enumerate(flat):
        found[i] = _first(row, count, largest)
    values = np.take_along_axis(flat, found, 1)
    shape = (*rows.shape[:-1], count)
    return tuple(np.moveaxis(a.reshape(shape), -1, axis) for a in (values, found))  # type: ignore[return-value]


def _first(row: Array, count: int, largest: bool) -> Array:
    """Return the indices of the first values of a row in order of size."""
    if count == 0:
        return np.empty(0, np.int64)
    where = np.arange(len(row))
    if count < len(row):
        place = len(row) - count if largest else count - 1
        bound = np.partition(row, place)[place]
        where = np.flatnonzero(row >= bound if largest else row <= bound)
    if not largest:
        return where[np.argsort(row[where], kind="stable")][:count]
    back = where[::-1]
    return back[np.argsort(row[back], kind="stable")][::-1][:count]


# ---------------------------------------------------------------- boxes


def non_max_suppression(attributes: Attributes, boxes: Array, scores: Array,
                        most: Array | None = None, overlap: Array | None = None,
                        least: Array | None = None) -> Array:  # fmt: skip
    """Return (batch, class, box) of the boxes that overlap no better one of their class.

    ``most`` of every class, 0 by default; ``overlap``: intersection over union from which on a box
    is left out; ``least``: a score below which none is looked at.
    """
    limit = 0 if most is None else max(0, scalar(most))
    share = np.float32(0 if overlap is None else np.asarray(overlap).reshape(()))
    lowest = None if least is None else np.float32(np.asarray(least).reshape(()))
    if scores.shape[0] != boxes.shape[0] or scores.shape[2] != boxes.shape[1]:
        raise ValueError(f"boxes {boxes.shape} and scores {scores.shape} do not fit")
    if scores.size * min(limit, boxes.shape[1]) > MOST_PAIRS:
        raise TooLarge(f"{scores.size} scores of which {limit} of every class are wanted")
    found = [np.empty((0, 3), np.int64)]
    for batch, of_boxes in enumerate(boxes):
        corners = _corners(of_boxes, bool(attributes.get("center_point_box")))
        for kind, row in enumerate(scores[batch]):
            kept = _kept(corners, row, limit, share, lowest)
            found.append(np.array([(batch, kind, i) for i in kept], np.int64).reshape(-1, 3))
    return np.concatenate(found)


def _corners(boxes: Array, centred: bool) -> tuple[Array, ...]:
    """Return lower and upper ends along both axes, and areas."""
    b = np.asarray(boxes, np.float32)
    first, second = b[:, :2], b[:, 2:]
    if centred:
        half = second / np.float32(2)
        low, high = first - half, first + half
    else:
        low, high = np.minimum(first, second), np.maximum(first, second)
    sides = high - low
    return low[:, 0], low[:, 1], high[:, 0], high[:, 1], sides[:, 0] * sides[:, 1]


def _kept(corners: tuple[Array, ...], scores: Array, limit: int, share: np.float32,
          lowest: np.float32 | None) -> list[int]:  # fmt: skip
    """Return the boxes of one class that stay, best first."""
    wanted = np.arange(len(scores)) if lowest is None else np.flatnonzero(scores > lowest)
    left = wanted[np.argsort(-scores[wanted], kind="stable")]
    kept: list[int] = []
    while left.size and len(kept) < limit:
        best, left = int(left[0]), left[1:]
        kept.append(best)
        left = left[~_overlaps(corners, best, left, share)]
    return kept


def _overlaps(corners: tuple[Array, ...], one: int, others: Array, share: np.float32) -> Array:
    """Return which boxes share more than ``share`` of their union with one; boxes without an area
    share nothing."""
    x0, y0, x1, y1, area = corners
    width = np.minimum(x1[one], x1[others]) - np.maximum(x0[one], x0[others])
    height = np.minimum(y1[one], y1[others]) - np.maximum(y0[one], y0[others])
    common = width * height
    union = area[one] + area[others] - common
    proper = (width > 0) & (height > 0) & (common > 0) & (union > 0)
    proper &= (area[one] > 0) & (area[others] > 0)
    with np.errstate(all="ignore"):
        return np.asarray(proper & (common / union > share))
