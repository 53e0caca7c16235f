# SPDX-License-Identifier: Apache-2.0
"""ONNX operators that only move values: shapes, slices, pads, concatenation, identities.

In: one ``Call``.  Out: Graph nodes in the ``Context``.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate, pairwise
from math import prod
from typing import Any

import numpy as np

from ....errors import BadModel
from ....ir.graph.nodes import Concat, Expand, Pad, Reshape, Slice, Transpose
from ....ir.types import Shape
from ..context import (
    Call,
    Context,
    Refused,
    Versions,
    axes_of,
    axis_of,
    check_length,
    ints,
)
from .gather import take


def _alias(ctx: Context, call: Call) -> None:
    ctx.alias(call.output, call.input(0))


def _dropout(ctx: Context, call: Call) -> None:
    training = ctx.fixed(call, 2, "training_mode") if call.opset >= 12 else None
    ratio = ctx.fixed(call, 1, "the ratio") if call.opset >= 12 else None
    if np.any(training) and (ratio is None or np.any(ratio)):
        raise Refused("training_mode is true; inference (an identity) is supported")
    _alias(ctx, call)
    if call.has_output(1):
        ctx.known[call.outputs[1]] = np.ones(ctx.shape(call.input(0)), bool)


def _reshape_to(ctx: Context, call: Call, shape: Shape, x: str = "", out: str = "") -> str:
    x = x or ctx.tensor(call.input(0))
    return ctx.emit(Reshape((x,), out or call.output, call.name, shape=shape))


def _reshape(ctx: Context, call: Call) -> None:
    source = ctx.shape(call.input(0))
    wanted = ints(ctx.fixed(call, 1, "the shape"))
    keep_zero = bool(call.attrs.get("allowzero", 0))
    if not keep_zero and any(n == 0 and i >= len(source) for i, n in enumerate(wanted)):
        raise BadModel(
            f"node {call.name!r} (Reshape): {wanted} copies an axis that {source} does not have; "
            "correct the model"
        )
    shape = tuple(source[i] if n == 0 and not keep_zero else n for i, n in enumerate(wanted))
    rest = prod(n for n in shape if n != -1)
    inferred = prod(source) // rest if rest else 0
    _reshape_to(ctx, call, tuple(inferred if n == -1 else n for n in shape))


def _flatten(ctx: Context, call: Call) -> None:
    shape = ctx.shape(call.input(0))
    axis = int(call.attrs.get("axis", 1))
    axis = len(shape) if axis == len(shape) else axis_of(call, axis, len(shape))
    _reshape_to(ctx, call, (prod(shape[:axis]), prod(shape[axis:])))


def _squeeze(ctx: Context, call: Call) -> None:
    shape = ctx.shape(call.input(0))
    axes = axes_of(ctx, call, len(shape), 13)
    if axes is None:
        axes = tuple(i for i, n in enumerate(shape) if n == 1)
    _reshape_to(ctx, call, tuple(n for i, n in enumerate(shape) if i not in axes))


def _unsqueeze(ctx: Context, call: Call) -> None:
    shape = ctx.shape(call.input(0))
    given = ctx.fixed(call, 1, "axes") if call.opset >= 13 else call.attrs.get("axes")
    rank = len(shape) + len(ints(given))
    axes = {axis_of(call, axis, rank) for axis in ints(given)}
    rest = iter(shape)
    _reshape_to(ctx, call, tuple(1 if i in axes else next(rest) for i in range(rank)))


def _transpose(ctx: Context, call: Call) -> None:
    rank = len(ctx.shape(call.input(0)))
    perm = ints(call.attrs.get("perm", range(rank)[::-1]))
    ctx.emit(Transpose((ctx.tensor(call.input(0)),), call.output, call.name, perm=perm))


def _concat(ctx: Context, call: Call) -> None:
    rank = len(ctx.shape(call.input(0)))
    axis = axis_of(call, int(call.attrs.get("axis", 1)), rank)
    parts = [name for name in call.inputs if 0 not in ctx.shape(name)] or call.inputs[:1]
    if len(parts) == 1:
        ctx.alias(call.output, parts[0])
    else:
        tensors = tuple(ctx.tensor(name) for name in parts)
        ctx.emit(Concat(tensors, call.output, call.name, axis=axis))


def _split_sizes(ctx: Context, call: Call, size: int) -> tuple[int, ...]:
    given: Any = ctx.fixed(call, 1, "the split") if call.opset >= 13 else call.attrs.get("split")
    if given is not None:
        return ints(given)
    count = int(call.attrs.get("num_outputs", len(call.outputs)))
    part = -(-size // count)
    return tuple(min(part, size - i * part) for i in range(count))


def _split(ctx: Context, call: Call) -> None:
    shape = ctx.shape(call.input(0))
    axis = axis_of(call, int(call.attrs.get("axis", 0)), len(shape))
    sizes = _split_sizes(ctx, call, shape[axis])
    if sum(sizes) != shape[axis] or len(sizes) < len(call.outputs):
        raise BadModel(
            f"node {call.name!r} (Split): sizes {sizes} for {len(call.outputs)} outputs of an "
            f"axis of {shape[axis]}; they must add up; correct the model"
        )
    bounds = pairwise(accumulate(sizes, initial=0))
    for output, (start, stop) in zip(call.outputs, bounds, strict=False):
        if output:
            parts = [(0, n, 1) for n in shape]
            parts[axis] = (start, stop, 1)
            x = ctx.tensor(call.input(0))
            ctx.emit(Slice((x,), output, call.name, slices=tuple(parts)))


def _sliced(ctx: Context, call: Call, ranges: Mapping[int, range]) -> None:
    """Append one Slice for the axes with positive steps, then one Take for each other axis."""
    shape = ctx.shape(call.input(0))
    backward = {axis: r for axis, r in ranges.items() if r.step < 0}
    parts = tuple(
        (r.start, r.stop, r.step) if (r := ranges.get(axis, range(n))).step > 0 else (0, n, 1)
        for axis, n in enumerate(shape)
    )
    x = ctx.tensor(call.input(0))
    out = ctx.fresh(f"{call.output}.forward") if backward else call.output
    x = ctx.emit(Slice((x,), out, call.name, slices=parts))
    for i, (axis, positions) in enumerate(backward.items(), 1):
        out = call.output if i == len(backward) else ctx.fresh(f"{call.output}.{axis}")
        x = take(ctx, call, x, axis, positions, out)


def _slice(ctx: Context, call: Call) -> None:
    shape = ctx.shape(call.input(0))
    if call.opset < 10:
        starts, ends, axes, steps = (call.attrs.get(k) for k in ("starts", "ends", "axes", "none"))
    else:
        fields = ("starts", "ends", "axes", "steps")
        starts, ends, axes, steps = (ctx.fixed(call, i + 1, f) for i, f in enumerate(fields))
    count = len(ints(starts))
    axes = ints(range(count) if axes is None else axes)
    steps = ints((1,) * count if steps is None else steps)
    ranges = {}
    for axis, start, end, step in zip(axes, ints(starts), ints(ends), steps, strict=True):
        axis = axis_of(call, axis, len(shape))
        if step == 0:
            raise BadModel(f"node {call.name!r} (Slice): step 0; allowed is any other integer")
        ranges[axis] = range(*slice(start, end, step).indices(shape[axis]))
    _sliced(ctx, call, ranges)


def _pad_pairs(ctx: Context, call: Call, rank: int) -> list[tuple[int, int]]:
    if call.opset < 11:
        flat, axes = ints(call.attrs["pads"]), tuple(range(rank))
    else:
        flat = ints(ctx.fixed(call, 1, "pads"))
        given = ctx.fixed(call, 3, "axes")
        axes = ints(range(rank) if given is None else given)
    if len(flat) != 2 * len(axes):
        raise BadModel(f"node {call.name!r} (Pad): {len(flat)} pads for {len(axes)} axes")
    pairs = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        pairs[axis_of(call, axis, rank)] = (flat[i], flat[len(axes) + i])
    return pairs


def _pad(ctx: Context, call: Call) -> None:
    shape = ctx.shape(call.input(0))
    pairs = _pad_pairs(ctx, call, len(shape))
    mode = call.attrs.get("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise Refused(f"mode {mode!r}; constant, reflect, edge and wrap are supported")
    x = ctx.tensor(call.input(0))
    if any(min(pair) < 0 for pair in pairs):
        parts = tuple(
            (max(0, -b), n + min(0, a), 1) for (b, a), n in zip(pairs, shape, strict=True)
        )
        x = ctx.emit(Slice((x,), ctx.fresh(f"{call.output}.cut"), call.name, slices=parts))
        pairs = [(max(0, b), max(0, a)) for b, a in pairs]
    if mode == "constant":
        given: Any = call.attrs.get("value") if call.opset < 11 else ctx.fixed(call, 2, "the value")
        value = 0.0 if given is None else float(np.asarray(given).reshape(-1)[0])
        ctx.emit(Pad((x,), call.output, call.name, pads=tuple(pairs), value=value))
        return
    _pad_bytake(ctx, call, x, pairs, mode)


def _pad_bytake(ctx: Context, call: Call, x: str, pairs: list[tuple[int, int]], mode: Any) -> None:
    padded = [axis for axis, pair in enumerate(pairs) if any(pair)]
    for axis in padded:
        out = call.output if axis == padded[-1] else ctx.fresh(f"{call.output}.{axis}")
        size = ctx.shapes[x][axis]
        check_length(call, size + sum(pairs[axis]))
        x = take(ctx, call, x, axis, np.pad(np.arange(size), pairs[axis], mode=mode), out)
    if not padded:
        _reshape_to(ctx, call, ctx.shapes[x], x)


def _expand(ctx: Context, call: Call) -> None:
    source = ctx.shape(call.input(0))
    wanted = ints(ctx.fixed(call, 1, "the shape"))
    try:
        shape = np.broadcast_shapes(source, wanted)
    except ValueError:
        raise BadModel(
            f"node {call.name!r} (Expand): {source} does not broadcast to {wanted}; correct the "
            "model"
        ) from None
    ctx.emit(Expand((ctx.tensor(call.input(0)),), call.output, call.name, shape=shape))


def _tile(ctx: Context, call: Call) -> None:
    shape = ctx.shape(call.input(0))
    repeats = ints(ctx.fixed(call, 1, "repeats"))
    if len(repeats) != len(shape):
        raise BadModel(f"node {call.name!r} (Tile): {len(repeats)} repeats for a tensor {shape}")
    x = ctx.tensor(call.input(0))
    tiled = [axis for axis, count in enumerate(repeats) if count != 1]
    for axis in tiled:
        out = call.output if axis == tiled[-1] else ctx.fresh(f"{call.output}.{axis}")
        check_length(call, shape[axis] * repeats[axis])
        x = take(ctx, call, x, axis, np.tile(np.arange(shape[axis]), repeats[axis]), out)
    if not tiled:
        _alias(ctx, call)


def _block_move(ctx: Context, call: Call, split: Shape, perm: Shape, shape: Shape) -> None:
    apart = _reshape_to(ctx, call, split, out=ctx.fresh(f"{call.output}.apart"))
    moved = ctx.fresh(f"{call.output}.moved")
    ctx.emit(Transpose((apart,), moved, call.name, perm=perm))
    _reshape_to(ctx, call, shape, moved)


def _depth_to_space(ctx: Context, call: Call) -> None:
    n, c, h, w = _four(ctx, call)
    b = int(call.attrs["blocksize"])
    shape = (n, c // (b * b), h * b, w * b)
    if call.attrs.get("mode", "DCR") == "DCR":
        _block_move(ctx, call, (n, b, b, c // (b * b), h, w), (0, 3, 4, 1, 5, 2), shape)
    else:
        _block_move(ctx, call, (n, c // (b * b), b, b, h, w), (0, 1, 4, 2, 5, 3), shape)


def _space_to_depth(ctx: Context, call: Call) -> None:
    n, c, h, w = _four(ctx, call)
    b = int(call.attrs["blocksize"])
    split = (n, c, h // b, b, w // b, b)
    perm = (0, 3, 5, 1, 2, 4) if call.attrs.get("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    _block_move(ctx, call, split, perm, (n, c * b * b, h // b, w // b))


def _four(ctx: Context, call: Call) -> tuple[int, int, int, int]:
    shape = ctx.shape(call.input(0))
    if len(shape) != 4:
        raise BadModel(f"node {call.name!r} ({call.op}): an input {shape}; rank 4 is needed")
    n, c, h, w = shape
    return n, c, h, w


HANDLERS: Mapping[str, Versions] = {
    "Identity": {1: _alias},
    "Dropout": {1: _dropout},
    "Reshape": {5: _reshape},
    "Flatten": {1: _flatten},
    "Squeeze": {1: _squeeze},
    "Unsqueeze": {1: _unsqueeze},
    "Transpose": {1: _transpose},
    "Concat": {4: _concat},
    "Split": {2: _split},
    "Slice": {1: _slice},
    "Pad": {2: _pad},
    "Expand": {8: _expand},
    "Tile": {6: _tile},
    "DepthToSpace": {1: _depth_to_space},
    "SpaceToDepth": {1: _space_to_depth},
}
