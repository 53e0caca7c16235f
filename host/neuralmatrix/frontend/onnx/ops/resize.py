# SPDX-License-Identifier: Apache-2.0
"""ONNX Resize and Upsample: nearest as Take, linear and cubic as an exact matrix per axis.

In: one ``Call``.  Out: Take and AxisMatMul nodes in the ``Context``.
Coordinates are computed in float32, as onnxruntime does, so that halves round to the same side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ....errors import BadModel
from ....ir.graph.nodes import AxisMatMul, Binary, Take
from ....ir.types import Array, Shape
from ..context import Call, Context, Refused, Versions, axis_of, check_length, ints

_ONE, _HALF = np.float32(1), np.float32(0.5)


@dataclass(frozen=True)
class Stretch:
    """One axis: its size before and after, and the scale that coordinates use."""

    size: int
    out: int
    scale: np.float32
    roi: tuple[float, float] = (0.0, 1.0)  # the part of the axis that is shown


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


def _crop(s: Stretch, i: Array) -> Array:
    start, end = (np.float32(edge) for edge in s.roi)
    last = np.float32(s.size - 1)
    if s.out == 1:
        return np.full_like(i, (start + end) / 2 * last)
    return np.asarray(start * last + i * (end - start) * last / np.float32(s.out - 1))


COORDINATES: Mapping[str, Callable[[Stretch, Array], Array]] = {
    "half_pixel": _half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "align_corners": _align_corners,
    "asymmetric": lambda s, i: i / s.scale,
    "tf_crop_and_resize": _crop,
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
    antialias: bool = False
    extrapolated: float = 0.0  # the value outside of a cropped axis

    @property
    def crops(self) -> bool:
        return self.coordinates == "tf_crop_and_resize"


def _settings(call: Call) -> Resize:
    old = call.op == "Upsample" or call.opset < 11
    mode = str(call.attrs.get("mode", "nearest"))
    return Resize(
        {"bilinear": "linear"}.get(mode, mode),
        "asymmetric" if old else call.attrs.get("coordinate_transformation_mode", "half_pixel"),
        "simple" if old else call.attrs.get("nearest_mode", "round_prefer_floor"),
        float(call.attrs.get("cubic_coeff_a", -0.75)),
        bool(call.attrs.get("exclude_outside", 0)),
        bool(call.attrs.get("antialias", 0)),
        float(call.attrs.get("extrapolation_value", 0.0)),
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
    if call.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize":
        roi = np.asarray(ctx.fixed(call, 1, "the region of interest"), np.float64).reshape(2, -1)
        parts = [(float(start), float(end)) for start, end in roi.T]
        stretch = [replace(s, roi=part) for s, part in zip(stretch, parts, strict=True)]
    return dict(zip(axes, stretch, strict=True))


def _nearest_indices(how: Resize, s: Stretch) -> tuple[int, ...]:
    x = COORDINATES[how.coordinates](s, np.arange(s.out, dtype=np.float32))
    # before opset 11 onnxruntime rounds down when enlarging, up when shrinking
    simple = "ceil" if s.scale < 1 else "floor"
    index = NEAREST[simple if how.nearest == "simple" else how.nearest](x)
    return ints(np.clip(index, 0, s.size - 1))


def _hat(how: Resize, d: Array) -> Array:
    return np.asarray(np.maximum(1 - np.abs(d), 0.0))


def _keys(how: Resize, d: Array) -> Array:
    """Return Keys' cubic kernel with parameter a at distances ``d``."""
    a, d = how.cubic, np.abs(d)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.asarray(np.where(d <= 1, near, np.where(d < 2, far, 0.0)))


KERNELS = {"linear": (_hat, 1), "cubic": (_keys, 2)}  # and how far each reaches


def _taps(how: Resize, s: Stretch, x: Array) -> Iterator[tuple[Array, Array]]:
    """Return the source index and weight of every tap at coordinates ``x``.

    With antialias, a kernel that shrinks is as much wider as the result is smaller.
    """
    if how.mode == "nearest":
        yield NEAREST[how.nearest](x), np.ones_like(x)
        return
    kernel, width = KERNELS[how.mode]
    scale = min(1.0, float(s.scale)) if how.antialias else 1.0
    first = int(np.floor(-width / scale)) + 1
    base = np.ceil(x) - 1 if how.antialias else np.floor(x)
    for offset in range(first, 2 - first):
        yield base + offset, kernel(how, (base + offset - x) * scale)


def matrix(how: Resize, s: Stretch) -> Array:
    """Return the (out, size) float32 interpolation matrix of one axis."""
    x = COORDINATES[how.coordinates](s, np.arange(s.out, dtype=np.float32)).astype(np.float64)
    outside = ~_is_shown(how, s)
    if how.mode == "linear" and not how.antialias:
        x = np.clip(x, 0, s.size - 1)
    result = np.zeros((s.out, s.size))
    for index, weight in _taps(how, s, x):
        inside = (index >= 0) & (index < s.size)
        kept = np.where(inside, weight, 0.0) if how.exclude_outside else weight
        columns = np.clip(index, 0, s.size - 1).astype(np.int64)
        np.add.at(result, (np.arange(s.out), columns), kept)
    if how.exclude_outside or how.antialias:
        result /= result.sum(1, keepdims=True)
    result[outside] = 0.0
    return np.asarray(result, np.float32)


def _is_shown(how: Resize, s: Stretch) -> Array:
    """Return which positions of the output lie inside the input; all, unless it is cropped."""
    x = COORDINATES[how.coordinates](s, np.arange(s.out, dtype=np.float32))
    return (x >= 0) & (x <= s.size - 1) if how.crops else np.ones(s.out, bool)


def _refuse_rest(how: Resize) -> None:
    if how.coordinates not in COORDINATES:
        allowed = ", ".join(COORDINATES)
        raise Refused(f"coordinate_transformation_mode {how.coordinates}; supported: {allowed}")
    if how.mode not in ("nearest", *KERNELS):
        raise Refused(f"mode {how.mode}; nearest, linear and cubic are supported")


def _is_whole(s: Stretch) -> bool:
    return abs(float(s.scale) * s.size - s.out) < 1e-3


def _resize(ctx: Context, call: Call) -> None:
    how = _settings(call)
    stretched = {
        axis: s
        for axis, s in _stretches(ctx, call).items()
        if s.out != s.size or s.scale != 1 or s.roi != (0.0, 1.0)
    }
    _refuse_rest(how)
    if how.coordinates == "align_corners" and any(not _is_whole(s) for s in stretched.values()):
        raise Refused(
            "align_corners with a scale that gives no whole size: ONNX places the last element at "
            "the exact size, onnxruntime at the rounded one; give sizes, or a scale that does"
        )
    for stretch in stretched.values():
        check_length(call, stretch.out)
    if not stretched:
        ctx.alias(call.output, call.input(0))
        return
    x, last = ctx.tensor(call.input(0)), max(stretched)
    beyond = how.crops and how.extrapolated != 0
    for axis, s in sorted(stretched.items()):
        out = ctx.fresh(f"{call.output}.{axis}") if axis != last or beyond else call.output
        if how.mode == "nearest" and not how.crops:
            indices = _nearest_indices(how, s)
            x = ctx.emit(Take((x,), out, call.name, axis=axis, indices=indices))
        else:
            rows = ctx.constant(f"{out}.matrix", matrix(how, s))
            x = ctx.emit(AxisMatMul((x, rows), out, call.name, axis=axis))
    if beyond:
        _extrapolate(ctx, call, x, how, stretched)


def _extrapolate(
    ctx: Context, call: Call, x: str, how: Resize, stretched: Mapping[int, Stretch]
) -> None:
    """Append the value of positions outside of the input, where ``x`` is 0."""
    rank = len(ctx.shapes[x])
    shown = np.ones((1,) * rank, bool)
    for axis, s in stretched.items():
        shape = [s.out if i == axis else 1 for i in range(rank)]
        shown = shown & _is_shown(how, s).reshape(shape)
    added = ctx.constant(f"{call.output}.outside", np.where(shown, 0.0, how.extrapolated))
    ctx.emit(Binary((x, added), call.output, call.name, kind="add"))


HANDLERS: Mapping[str, Versions] = {"Resize": {10: _resize}, "Upsample": {7: _resize}}
