# SPDX-License-Identifier: Apache-2.0
"""Operations of the host that move, repeat, make and reduce elements, as ONNX defines them.

In: arrays and attributes.  Out: arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, prod
from typing import Any

import numpy as np

from ..types import Array, Shape
from .elementwise import Attributes
from .limits import bounded

Function = Callable[..., Array]


def ints(values: Array) -> tuple[int, ...]:
    """Return a flat tuple of Python integers."""
    return tuple(int(v) for v in np.asarray(values).reshape(-1))


def scalar(value: Array) -> int:
    """Return the one integer of an array."""
    (number,) = ints(value)
    return number


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of {rank}")
    return axis % rank


def _axes(axes: Array, rank: int) -> tuple[int, ...]:
    return tuple(_axis(axis, rank) for axis in ints(axes))


# ---------------------------------------------------------------- shapes


def reshape(attributes: Attributes, x: Array, shape: Array) -> Array:
    """Reshape; 0 keeps a size unless ``allowzero``, -1 is what remains."""
    sizes = list(ints(shape))
    if not attributes.get("allowzero"):
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


def flatten(attributes: Attributes, x: Array) -> Array:
    """Return a matrix of the axes in front of one, and behind it."""
    axis = attributes.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))


def squeeze(attributes: Attributes, x: Array, axes: Array | None = None) -> Array:
    """Leave axes of size 1 out."""
    return np.squeeze(x, None if axes is None else _axes(axes, x.ndim))


def unsqueeze(attributes: Attributes, x: Array, axes: Array) -> Array:
    """Insert axes of size 1."""
    return np.expand_dims(x, _axes(axes, x.ndim + axes.size))


def transpose(attributes: Attributes, x: Array, perm: Array | None = None) -> Array:
    """Permute axes."""
    return np.transpose(x, None if perm is None else _axes(perm, x.ndim))


def expand(attributes: Attributes, x: Array, shape: Array) -> Array:
    """Repeat axes of size 1."""
    given = ints(shape)
    rank = max(len(given), x.ndim)
    own = (1,) * (rank - x.ndim) + x.shape
    wanted = (1,) * (rank - len(given)) + given
    sizes = tuple(b if a == 1 else a for a, b in zip(own, wanted, strict=True))
    if any(b not in (1, n) for b, n in zip(wanted, sizes, strict=True)):
        raise ValueError(f"shape {x.shape} does not expand to {given}")
    return np.array(np.broadcast_to(x, bounded(sizes)))


def tile(attributes: Attributes, x: Array, repeats: Array) -> Array:
    """Repeat along every axis."""
    counts = ints(repeats)
    bounded(tuple(n * k for n, k in zip(x.shape, counts, strict=True)))
    return np.tile(x, counts)


def concat(attributes: Attributes, *arrays: Array) -> Array:
    """Join along one axis."""
    axis = _axis(attributes["axis"], arrays[0].ndim)
    total = sum(a.shape[axis] for a in arrays)
    bounded((*arrays[0].shape[:axis], total, *arrays[0].shape[axis + 1 :]))
    return np.concatenate(arrays, axis)


def split(attributes: Attributes, x: Array, sizes: Array | None = None) -> tuple[Array, ...]:
    """Cut one axis, by default into ``num_outputs`` parts, of which the last may be smaller."""
    axis = _axis(attributes.get("axis", 0), x.ndim)
    if sizes is None:
        each = ceil(x.shape[axis] / attributes["num_outputs"])
        ends = np.arange(1, attributes["num_outputs"]) * each
    else:
        if sum(ints(sizes)) != x.shape[axis] or min(ints(sizes), default=0) < 0:
            raise ValueError(f"parts {ints(sizes)} of an axis of {x.shape[axis]}")
        ends = np.cumsum(ints(sizes))[:-1]
    return tuple(np.split(x, ends, axis))


def slice_(attributes: Attributes, x: Array, starts: Array, ends: Array,
           axes: Array | None = None, steps: Array | None = None) -> Array:  # fmt: skip
    """Take ranges of axes; bounds beyond an axis end at it."""
    along = range(x.ndim) if axes is None else ints(axes)
    by = (1,) * len(ints(starts)) if steps is None else ints(steps)
    cuts = [slice(None)] * x.ndim
    for axis, start, end, step in zip(along, ints(starts), ints(ends), by, strict=False):
        size = x.shape[axis]
        if step < 0 and end < -size:
            cuts[axis] = slice(start, None, step)
        else:
            cuts[axis] = slice(start, end, step)
    return x[tuple(cuts)]


def shape(attributes: Attributes, x: Array) -> Array:
    """Return the sizes of the axes."""
    part = slice(attributes.get("start", 0), attributes.get("end"))
    return np.asarray(x.shape[part], np.int64)


def size(attributes: Attributes, x: Array) -> Array:
    """Return the number of elements."""
    return np.asarray(x.size, np.int64)


# ---------------------------------------------------------------- new values


def range_(attributes: Attributes, start: Array, limit: Array, delta: Array) -> Array:
    """Return numbers at equal distances."""
    first, last, by = (np.asarray(v).reshape(()) for v in (start, limit, delta))
    count = max(0, ceil((float(last) - float(first)) / float(by)))
    bounded((count,))
    return np.asarray(first + np.arange(count).astype(first.dtype) * by, first.dtype)


def constant_of_shape(attributes: Attributes, sizes: Array, value: Array) -> Array:
    """Return an array of one value."""
    return np.full(bounded(ints(sizes)), np.asarray(value).reshape(()), value.dtype)


def one_hot(attributes: Attributes, indices: Array, depth: Array, values: Array) -> Array:
    """Return "on" at the index of every element, "off" elsewhere; negative ones count from the
    end."""
    count = scalar(depth)
    axis = _axis(attributes.get("axis", -1), indices.ndim + 1)
    bounded((*indices.shape, count))
    index = np.expand_dims(indices.astype(np.int64), axis)
    index = np.where(index < 0, index + count, index)
    places = np.arange(count).reshape([-1 if i == axis else 1 for i in range(index.ndim)])
    off, on = values
    return np.asarray(np.where(index == places, on, off), values.dtype)


def trilu(attributes: Attributes, x: Array, k: Array | None = None) -> Array:
    """Keep the upper or the lower triangle of matrices."""
    offset = 0 if k is None else scalar(k)
    triangle = np.triu if attributes.get("upper", 1) else np.tril
    return np.asarray(triangle(x, offset))


def cumsum(attributes: Attributes, x: Array, axis: Array) -> Array:
    """Return running sums."""
    along = _axis(scalar(axis), x.ndim)
    x = np.flip(x, along) if attributes.get("reverse") else x
    total = np.cumsum(x, along, dtype=x.dtype)
    total = total - x if attributes.get("exclusive") else total
    return np.asarray(np.flip(total, along) if attributes.get("reverse") else total)


# ---------------------------------------------------------------- reductions


def reduced(function: Callable[..., Any]) -> Function:
    """Return the evaluation of a reduction over axes, by default all."""

    def evaluate(attributes: Attributes, x: Array, axes: Array | None = None) -> Array:
        along: Shape | None = None if axes is None or not axes.size else _axes(axes, x.ndim)
        if along is None and attributes.get("noop_with_empty_axes"):
            return x
        keep = bool(attributes.get("keepdims", 1))
        return np.asarray(function(x, axis=along, keepdims=keep), x.dtype)

    return evaluate


def arg_extreme(sign: int) -> Function:
    """Return the evaluation of ArgMax (1) or ArgMin (-1)."""

    def evaluate(attributes: Attributes, x: Array) -> Array:
        axis = _axis(attributes.get("axis", 0), x.ndim)
        last = bool(attributes.get("select_last_index"))
        find = np.argmax if sign > 0 else np.argmin
        found = find(np.flip(x, axis) if last else x, axis)
        found = np.asarray(x.shape[axis] - 1 - found if last else found, np.int64)
        return np.expand_dims(found, axis) if attributes.get("keepdims", 1) else found

    return evaluate
