# SPDX-License-Identifier: Apache-2.0
"""ONNX GridSample with a constant grid: a product with a constant matrix.

In: one ``Call``.  Out: a MatMul over flattened positions in the ``Context``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ....ir.graph.nodes import MatMul, Reshape
from ....ir.types import Array
from ..context import Call, Context, Refused, Versions

_MODES = {"bilinear": "linear", "bicubic": "cubic"}  # the names before opset 20
_CUBIC = -0.75
_MOST = 1 << 24  # elements of a matrix of samples


@dataclass(frozen=True)
class _Axis:
    """Coordinates along one axis of ``size`` elements, and how they are read."""

    size: int
    aligned: bool
    padding: str

    def places(self, grid: Array) -> Array:
        """Return positions, in elements, of coordinates between -1 and 1."""
        if self.aligned:
            return np.asarray((grid + 1) / 2 * (self.size - 1))
        return np.asarray(((grid + 1) * self.size - 1) / 2)

    def element(self, index: Array) -> tuple[Array, Array]:
        """Return the element that is read at a whole position, and whether there is one."""
        if self.padding == "border":
            return np.clip(index, 0, self.size - 1), np.ones(index.shape, bool)
        if self.padding == "reflection":
            return self._reflected(index), np.ones(index.shape, bool)
        inside = (index >= 0) & (index < self.size)
        return np.clip(index, 0, self.size - 1), inside

    def _reflected(self, index: Array) -> Array:
        """Mirror at the outer elements' centres, or at their outer edges."""
        if self.aligned:
            period = max(2 * (self.size - 1), 1)
            index = index % period
            return np.minimum(index, period - index) if self.size > 1 else index * 0
        index = index % (2 * self.size)
        return np.asarray(np.minimum(index, 2 * self.size - 1 - index))

    def moved(self, x: Array) -> Array:
        """Return positions inside the borders, for the modes that clip before they interpolate."""
        if self.padding == "border":
            return np.clip(x, 0, self.size - 1)
        if self.padding == "reflection":
            low, high = (0.0, self.size - 1.0) if self.aligned else (-0.5, self.size - 0.5)
            width = max(high - low, 1e-9)
            x = (x - low) % (2 * width)
            return np.clip(np.minimum(x, 2 * width - x) + low, 0, self.size - 1)
        return x

    def taps(self, grid: Array, mode: str) -> Iterator[tuple[Array, Array]]:
        """Return elements and weights of the taps of every coordinate."""
        x = self.places(grid)
        if mode == "nearest":
            yield self._tap(np.rint(self.moved(x)), np.ones_like(x))
        elif mode == "linear":
            x = self.moved(x)
            low = np.floor(x)
            yield self._tap(low, 1 - (x - low))
            yield self._tap(low + 1, x - low)
        else:
            low = np.floor(x)
            for offset in (-1, 0, 1, 2):
                yield self._tap(low + offset, _cubic(np.abs(x - low - offset)))

    def _tap(self, index: Array, weight: Array) -> tuple[Array, Array]:
        element, inside = self.element(index.astype(np.int64))
        return element, np.where(inside, weight, 0.0)


def _cubic(d: Array) -> Array:
    a = _CUBIC
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    return np.asarray(np.where(d <= 1, near, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a))


def _matrix(grid: Array, axes: tuple[_Axis, _Axis], mode: str) -> Array:
    """Return (N, elements, samples): the weight of every element in every sample."""
    n, (high, wide) = len(grid), axes
    flat = grid.reshape(n, -1, 2).astype(np.float64)
    found = np.zeros((n, high.size * wide.size, flat.shape[1]))
    image, sample = np.indices(flat.shape[:2])
    for y, by_y in high.taps(flat[..., 1], mode):
        for x, by_x in wide.taps(flat[..., 0], mode):
            np.add.at(found, (image, y * wide.size + x, sample), by_y * by_x)
    return found


def _grid_sample(ctx: Context, call: Call) -> None:
    shape = ctx.shape(call.input(0))
    grid = ctx.fixed(call, 1, "the grid")
    if grid is None or len(shape) != 4:
        raise Refused(f"an input of rank {len(shape)}; (N, C, H, W) is supported")
    mode = str(call.attrs.get("mode", "linear"))
    mode = _MODES.get(mode, mode)
    n, c, h, w = shape
    rows, columns = grid.shape[1:3]
    if n * h * w * rows * columns > _MOST:
        raise Refused(f"{rows * columns} samples of {h * w} elements; fewer are supported")
    aligned = bool(call.attrs.get("align_corners", 0))
    padding = str(call.attrs.get("padding_mode", "zeros"))
    axes = (_Axis(h, aligned, padding), _Axis(w, aligned, padding))
    array = _matrix(np.asarray(grid), axes, mode)
    shared = bool((array == array[:1]).all())
    matrix = ctx.constant(f"{call.output}.matrix", array[0] if shared else array)
    names = [ctx.fresh(f"{call.output}.{label}") for label in ("flat", "samples")]
    ctx.emit(Reshape((ctx.tensor(call.input(0)),), names[0], call.name, shape=(n, c, h * w)))
    ctx.emit(MatMul((names[0], matrix), names[1], call.name))
    ctx.emit(Reshape((names[1],), call.output, call.name, shape=(n, c, rows, columns)))


HANDLERS: Mapping[str, Versions] = {"GridSample": {16: _grid_sample}}
