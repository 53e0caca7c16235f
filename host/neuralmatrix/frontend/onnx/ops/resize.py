# SPDX-License-Identifier: Apache-2.0
"""ONNX Resize and Upsample: nearest as Take, linear and cubic as an exact matrix per axis.

In: one ``Call``.  Out: Take and AxisMatMul nodes in the ``Context``.
Coordinates are computed in float32, as onnxruntime does, so that halves round to the same side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ....errors import BadModel
from ....ir.graph.nodes import AxisMatMul, Take
from ....ir.types import Array, Shape
from ..context import Call, Context, Refused, Versions, axis_of, check_length, ints

_ONE, _HALF = np.float32(1), np.float32(0.5)


@dataclass(frozen=True)
class Stretch:
    """One axis: its size before and after, and the scale that coordinates use."""

    size: int
    out: int
    scale: np.float32


def _half_pixel(s: Stretch, i: Array) -> Array:
    return np.asarray((i + _HALF) / s.scale - _HALF)


def _half_pixel_symmetric(s: Stretch, i: Array) -> Array:
    adjustment = np.float32(s.out) / (s.scale * np.float32(s.size))
    offset = np.float32(s.size) / 2 * (_ONE - adjustment)
    return np.asarray(offset + (i + _HALF) / s.scale - _HALF)


def _pytorch_half_pixel(s: Stretch, i: Array) -> Array:
    return _half_pixel(s, i) if s.out > 1 else np.zeros_like(i)


def _align_corners(s: Stretch, i: Array) -> Array:
    return i * np.float32(s.size - 1) / np.float32(s.out - 1) if s.out > 1 else np.zeros_like(i)


COORDINATES: Mapping[str, Callable[[Stretch, Array], Array]] = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "align_corners": _align_corners,
    "asymmetric": lambda s, i: i / s.scale,
    "tf_half_pixel_for_nn": lambda s, i: (i + _HALF) / s.scale,
}

NEAREST: Mapping[str, Callable[[Array], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x - _HALF),
    "round_prefer_ceil": lambda x: np.floor(x + _HALF),
    "floor": np.floor,
    "ceil": np.ceil,
}


@dataclass(frozen=True)
class Resize:
    """The attributes of a node with the defaults of its opset filled in."""

    mode: str
    coordinates: str
    nearest: str
    cubic: float
    exclude_outside: bool


def _settings(call: Call) -> Resize:
    old = call.op == "Upsample" or call.opset < 11
    mode = str(call.attrs.get("mode", "nearest"))
    return Resize(
        {"bilinear": "linear"}.get(mode, mode),
        "asymmetric" if old else call.attrs.get("coordinate_transformation_mode", "half_pixel"),
        "simple" if old else call.attrs.get("nearest_mode", "round_prefer_floor"),
        float(call.attrs.get("cubic_coeff_a", -0.75)),
        bool(call.attrs.get("exclude_outside", 0)),
    )


def _scales_and_sizes(ctx: Context, call: Call) -> tuple[Array | None, Array | None]:
    if call.op == "Upsample" and call.opset < 9:
        return np.asarray(call.attrs["scales"], np.float32), None
    if call.opset < 11:
        return ctx.fixed(call, 1, "scales"), None
    scales, sizes = ctx.fixed(call, 2, "scales"), ctx.fixed(call, 3, "sizes")
    return (scales if scales is not None and scales.size else None), sizes


def _kept_ratio(policy: str, sizes: Shape, given: Shape) -> list[Stretch]:
    """Return one scale for all axes, for a keep_aspect_ratio_policy other than stretch."""
    ratios = [np.float32(n) / np.float32(m) for n, m in zip(sizes, given, strict=True)]
    scale = min(ratios) if policy == "not_larger" else max(ratios)
    return [Stretch(m, int(np.floor(scale * m + _HALF)), scale) for m in given]


def _stretches(ctx: Context, call: Call) -> dict[int, Stretch]:
    shape = ctx.shape(call.input(0))
    axes = ints(call.attrs.get("axes", range(len(shape))))
    axes = tuple(axis_of(call, axis, len(shape)) for axis in axes)
    scales, sizes = _scales_and_sizes(ctx, call)
    given = sizes if scales is None else scales
    if given is None or given.size != len(axes):
        raise BadModel(
            f"node {call.name!r} ({call.op}): {0 if given is None else given.size} scales or sizes "
            f"for {len(axes)} axes; one per axis is needed; correct the model"
        )
    before = tuple(shape[axis] for axis in axes)
    policy = str(call.attrs.get("keep_aspect_ratio_policy", "stretch"))
    if scales is not None:
        factors = [np.float32(f) for f in scales.reshape(-1)]
        stretch = [Stretch(n, int(n * f), f) for n, f in zip(before, factors, strict=True)]
    elif policy != "stretch":
        stretch = _kept_ratio(policy, ints(sizes), before)
    else:
        pairs = zip(before, ints(sizes), strict=True)
        stretch = [Stretch(n, out, np.float32(out) / np.float32(n)) for n, out in pairs]
    return dict(zip(axes, stretch, strict=True))


def _nearest_indices(how: Resize, s: Stretch) -> tuple[int, ...]:
    x = COORDINATES[how.coordinates](s, np.arange(s.out, dtype=np.float32))
    # before opset 11 onnxruntime rounds down when enlarging, up when shrinking
    simple = "ceil" if s.scale < 1 else "floor"
    index = NEAREST[simple if how.nearest == "simple" else how.nearest](x)
    return ints(np.clip(index, 0, s.size - 1))


def _linear_taps(how: Resize, x: Array) -> list[tuple[Array, Array]]:
    low = np.floor(x)
    return [(low, 1 - (x - low)), (low + 1, x - low)]


def _cubic_taps(how: Resize, x: Array) -> list[tuple[Array, Array]]:
    """Return the taps of Keys' cubic kernel with parameter a over the four neighbours."""
    a, low = how.cubic, np.floor(x)

    def weight(offset: int) -> Array:
        d = np.abs(x - low - offset)
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
        return np.asarray(np.where(d <= 1, near, far))

    return [(low + offset, weight(offset)) for offset in (-1, 0, 1, 2)]


TAPS = {"linear": _linear_taps, "cubic": _cubic_taps}


def matrix(how: Resize, s: Stretch) -> Array:
    """Return the (out, size) float32 interpolation matrix of one axis."""
    x = COORDINATES[how.coordinates](s, np.arange(s.out, dtype=np.float32)).astype(np.float64)
    if how.mode == "linear":
        x = np.clip(x, 0, s.size - 1)
    result = np.zeros((s.out, s.size))
    for index, weight in TAPS[how.mode](how, x):
        inside = (index >= 0) & (index < s.size)
        kept = np.where(inside, weight, 0.0) if how.exclude_outside else weight
        columns = np.clip(index, 0, s.size - 1).astype(np.int64)
        np.add.at(result, (np.arange(s.out), columns), kept)
    if how.exclude_outside:
        result /= result.sum(1, keepdims=True)
    return np.asarray(result, np.float32)


def _refuse_rest(call: Call, how: Resize, stretched: Mapping[int, Stretch]) -> None:
    if how.coordinates not in COORDINATES:
        allowed = ", ".join(COORDINATES)
        raise Refused(f"coordinate_transformation_mode {how.coordinates}; supported: {allowed}")
    if how.mode not in ("nearest", *TAPS):
        raise Refused(f"mode {how.mode}; nearest, linear and cubic are supported")
    if call.attrs.get("antialias", 0) and any(s.scale < 1 for s in stretched.values()):
        raise Refused("antialias while shrinking; shrinking without antialias is supported")


def _resize(ctx: Context, call: Call) -> None:
    how = _settings(call)
    stretched = {
        axis: s for axis, s in _stretches(ctx, call).items() if s.out != s.size or s.scale != 1
    }
    _refuse_rest(call, how, stretched)
    for stretch in stretched.values():
        check_length(call, stretch.out)
    if not stretched:
        ctx.alias(call.output, call.input(0))
        return
    x, last = ctx.tensor(call.input(0)), max(stretched)
    for axis, s in sorted(stretched.items()):
        out = call.output if axis == last else ctx.fresh(f"{call.output}.{axis}")
        if how.mode == "nearest":
            indices = _nearest_indices(how, s)
            x = ctx.emit(Take((x,), out, call.name, axis=axis, indices=indices))
        else:
            rows = ctx.constant(f"{out}.matrix", matrix(how, s))
            x = ctx.emit(AxisMatMul((x, rows), out, call.name, axis=axis))


HANDLERS: Mapping[str, Versions] = {"Resize": {10: _resize}, "Upsample": {7: _resize}}
