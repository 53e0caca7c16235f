# SPDX-License-Identifier: Apache-2.0
"""ONNX rotary position embeddings, of ai.onnx and com.microsoft.

In: one ``Call``.  Out: two products with angles and one with a constant matrix, in the ``Context``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ....ir.graph.nodes import Transpose
from ....ir.types import Array
from ..context import Call, Context, Handler, Versions
from ..node_maker import HEADS_FIRST, NodeMaker


def _rotary(positions: int, cosine: int, sine: int) -> Handler:
    """Return the handler of x * cos + rotated(x) * sin; rotation is a constant matrix product."""

    def handler(ctx: Context, call: Call) -> None:
        make = NodeMaker(ctx, call)
        x = ctx.tensor(call.input(0))
        tables = [ctx.fixed(call, i, "the table of angles") for i in (cosine, sine)]
        steps = ctx.fixed(call, positions, "the position of a token")
        shape, packed = make.shape(x), len(make.shape(x)) == 3
        length = shape[1] if packed else shape[2]
        cos, sin = (_angles(t, steps, length) for t in tables if t is not None)
        if packed:
            count = int(call.attrs.get("num_heads", 0)) or shape[2] // (2 * cos.shape[-1])
            x = make.reshape(x, (*shape[:2], count, shape[2] // count))
        else:
            x = make.transpose(x, HEADS_FIRST)
        done = _rotated(make, x, cos, sin, bool(call.attrs.get("interleaved", 0)))
        if packed:
            make.reshape(done, shape, call.output)
        else:
            node = Transpose((done,), call.output, call.name, perm=HEADS_FIRST)
            ctx.emit(node)

    return handler


def _angles(table: Array, steps: Array | None, length: int) -> Array:
    """Return (B or 1, S, half) cosines or sines."""
    table = np.asarray(table, np.float32)
    if steps is None:
        return table if table.ndim == 3 else table[None, :length]
    steps = np.asarray(steps, np.int64)
    if steps.size == 1:
        steps = steps.reshape(1, 1) + np.arange(length)
    return np.asarray(table[steps])


def rotation(size: int, half: int, interleaved: bool) -> Array:
    """Return the matrix R with x @ R = the signed partner of every element in its rotation."""
    matrix = np.zeros((size, size), np.float32)
    first = 2 * np.arange(half) if interleaved else np.arange(half)
    second = first + 1 if interleaved else first + half
    matrix[second, first] = -1
    matrix[first, second] = 1
    return matrix


def _rotated(make: NodeMaker, x: str, cos: Array, sin: Array, interleaved: bool) -> str:
    """Rotate the first 2 * half elements of every head of (B, S, heads, D)."""
    size, half = make.shape(x)[3], cos.shape[-1]
    doubled = [np.repeat(t, 2, -1) if interleaved else np.tile(t, 2) for t in (cos, sin)]
    rest = ((0, 0), (0, 0), (0, size - 2 * half))
    factors = [
        np.pad(t, rest, constant_values=fill)[:, :, None]
        for t, fill in zip(doubled, (1, 0), strict=True)
    ]
    partner = make.matmul(x, make.constant("rotation", rotation(size, half, interleaved)))
    parts = [
        make.binary("mul", part, make.constant("angles", factor))
        for part, factor in zip((x, partner), factors, strict=True)
    ]
    return make.binary("add", *parts)


HANDLERS: Mapping[str, Versions] = {
    "RotaryEmbedding": {23: _rotary(3, 1, 2)},
}

MICROSOFT: Mapping[str, Handler] = {
    "RotaryEmbedding": _rotary(1, 2, 3),
}
