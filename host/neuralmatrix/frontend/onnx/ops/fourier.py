# SPDX-License-Identifier: Apache-2.0
"""ONNX operators of Fourier transforms: products with matrices of cosines and sines.

In: one ``Call``.  Out: Graph nodes in the ``Context``.  Complex results have a last axis of 2.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ....ir.graph.nodes import AxisMatMul, Conv, Reshape, Transpose
from ....ir.types import Array
from ..context import Call, Context, Refused, Versions, axis_of


def _matrix(length: int, size: int, bins: int) -> Array:
    """Return (2 * bins, size): cosines, then minus sines, of a transform of ``length`` points.

    A signal longer than the transform is cut, a shorter one filled with zeros.
    """
    angle = 2 * np.pi * (np.outer(np.arange(bins), np.arange(size)) % length) / length
    found = np.concatenate([np.cos(angle), -np.sin(angle)])
    return np.where(np.arange(size) < length, found, 0.0)


def _bins(call: Call, length: int) -> int:
    return length // 2 + 1 if call.attrs.get("onesided", 1 if call.op == "STFT" else 0) else length


def _real(ctx: Context, call: Call) -> str:
    """Return the signal without its last axis of 1; Refused if it is complex."""
    shape = ctx.shape(call.input(0))
    if call.op == "STFT" and len(shape) == 2:
        return ctx.tensor(call.input(0))
    if shape[-1] != 1:
        raise Refused("its signal is complex; real signals (a last axis of 1) are supported")
    flat = ctx.fresh(f"{call.output}.signal")
    return ctx.emit(Reshape((ctx.tensor(call.input(0)),), flat, call.name, shape=shape[:-1]))


def _integer(ctx: Context, call: Call, index: int, what: str, default: int) -> int:
    value = ctx.fixed(call, index, what)
    return default if value is None else int(np.asarray(value).reshape(()))


def _complex_matrix(call: Call, length: int, size: int, parts: int) -> Array:
    """Return the matrix (bins, parts of the result, size, parts) of a transform along one axis.

    The inverse of one side is real: bins that have a twin on the other side count twice.
    """
    inverse, one_sided = bool(call.attrs.get("inverse", 0)), bool(call.attrs.get("onesided", 0))
    bins = length // 2 + 1 if one_sided and not inverse else length
    angle = 2 * np.pi * (np.outer(np.arange(bins), np.arange(size)) % length) / length
    cos, sin = np.cos(angle), np.sin(angle) if inverse else -np.sin(angle)
    found = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], 1)[..., :parts]
    if inverse:
        found /= length
    if inverse and one_sided:
        twins = (np.arange(size) > 0) & (2 * np.arange(size) < length)
        found = found[:, :1] * np.where(twins, 2.0, 1.0)[:, None]
    used = length // 2 + 1 if inverse and one_sided else length
    return np.where((np.arange(size) < used)[:, None], found, 0.0)


def _complex_dft(ctx: Context, call: Call, axis: int) -> None:
    """Append a product along one axis, joined with that of real and imaginary parts."""
    shape = ctx.shape(call.input(0))
    rank = len(shape)
    size, parts = shape[axis], shape[-1]
    both = bool(call.attrs.get("inverse", 0)) and bool(call.attrs.get("onesided", 0))
    length = _integer(ctx, call, 1, "the length", 2 * (size - 1) if both else size)
    array = _complex_matrix(call, length, size, parts)
    matrix = ctx.constant(f"{call.output}.matrix", array.reshape(-1, size * parts))
    others = tuple(i for i in range(rank - 1) if i != axis)
    front = tuple(shape[i] for i in others)
    names = [ctx.fresh(f"{call.output}.{label}") for label in ("last", "flat", "both", "parts")]
    perm = (*others, axis, rank - 1)
    ctx.emit(Transpose((ctx.tensor(call.input(0)),), names[0], call.name, perm=perm))
    ctx.emit(Reshape((names[0],), names[1], call.name, shape=(*front, size * parts)))
    ctx.emit(AxisMatMul((names[1], matrix), names[2], call.name, axis=rank - 2))
    ctx.emit(Reshape((names[2],), names[3], call.name, shape=(*front, *array.shape[:2])))
    back = tuple(int(i) for i in np.argsort(perm))
    ctx.emit(Transpose((names[3],), call.output, call.name, perm=back))


def _dft(ctx: Context, call: Call) -> None:
    shape = ctx.shape(call.input(0))
    rank = len(shape)
    given = int(call.attrs.get("axis", 1))
    axis = axis_of(call, given if call.opset < 20 else _integer(ctx, call, 2, "the axis", -2), rank)
    if axis == rank - 1:
        raise Refused("it runs along the axis of real and imaginary parts")
    if call.attrs.get("inverse", 0) or shape[-1] != 1:
        _complex_dft(ctx, call, axis)
    else:
        _real_dft(ctx, call, axis)


def _real_dft(ctx: Context, call: Call, axis: int) -> None:
    """Append a product along one axis, then the axis of real and imaginary part."""
    x = _real(ctx, call)
    shape = ctx.shapes[x]
    length = _integer(ctx, call, 1, "the length", shape[axis])
    bins = _bins(call, length)
    matrix = ctx.constant(f"{call.output}.matrix", _matrix(length, shape[axis], bins))
    both = ctx.fresh(f"{call.output}.both")
    y = ctx.emit(AxisMatMul((x, matrix), both, call.name, axis=axis))
    _separated(ctx, call, y, axis, bins)


def _separated(ctx: Context, call: Call, y: str, axis: int, bins: int) -> None:
    """Append the change from real parts before imaginary ones to a last axis of 2."""
    shape = ctx.shapes[y]
    split, rank = (*shape[:axis], 2, bins, *shape[axis + 1 :]), len(shape) + 1
    parts = ctx.fresh(f"{call.output}.parts")
    ctx.emit(Reshape((y,), parts, call.name, shape=split))
    perm = (*(i for i in range(rank) if i != axis), axis)
    ctx.emit(Transpose((parts,), call.output, call.name, perm=perm))


def _stft(ctx: Context, call: Call) -> None:
    """Append a convolution with windowed cosines and sines: (B, frames, bins, 2)."""
    x = _real(ctx, call)
    batch, samples = ctx.shapes[x]
    step = _integer(ctx, call, 1, "the step of frames", 0)
    window = ctx.fixed(call, 2, "the window")
    size = len(window) if window is not None else samples
    length = _integer(ctx, call, 3, "the length of frames", size)
    if step < 1 or (window is not None and len(window) != length):
        raise Refused(f"frames of {length} with a step of {step} and a window of {size}")
    bins = _bins(call, length)
    kernel = _matrix(length, length, bins) * (1.0 if window is None else np.asarray(window))
    weight = ctx.constant(f"{call.output}.kernel", kernel[:, None])
    names = [ctx.fresh(f"{call.output}.{part}") for part in ("wave", "both", "frames")]
    ctx.emit(Reshape((x,), names[0], call.name, shape=(batch, 1, samples)))
    ctx.emit(Conv((names[0], weight), names[1], call.name, (step,), (0, 0), (1,)))
    ctx.emit(Transpose((names[1],), names[2], call.name, perm=(0, 2, 1)))
    _separated(ctx, call, names[2], 2, bins)


HANDLERS: Mapping[str, Versions] = {"DFT": {17: _dft}, "STFT": {17: _stft}}
