# SPDX-License-Identifier: Apache-2.0
"""ONNX attention in one node, of ai.onnx and com.microsoft, and rotary position embeddings.

In: one ``Call``.  Out: the products, masks and softmax that it stands for, in the ``Context``;
``patterns`` makes them one Attention again, whatever they came from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ....errors import BadModel
from ....ir.graph.nodes import (
    Binary,
    MatMul,
    Reshape,
    Select,
    Slice,
    Softmax,
    Take,
    Transpose,
    Unary,
)
from ....ir.types import Array, Function, Shape
from ..context import Call, Context, Handler, Refused, Versions, ints

_NEVER = float(np.finfo(np.float32).min)
HEADS_FIRST = (0, 2, 1, 3)


@dataclass(frozen=True)
class _Heads:
    """(batch, heads, length, size) tensors of one attention."""

    q: str
    k: str
    v: str


class _Maker:
    """Appends nodes with names that begin with one node's output."""

    def __init__(self, ctx: Context, call: Call) -> None:
        self.ctx, self.call = ctx, call

    def name(self, label: str) -> str:
        return self.ctx.fresh(f"{self.call.output}.{label}")

    def shape(self, tensor: str) -> Shape:
        return self.ctx.shapes[tensor]

    def constant(self, label: str, array: Array) -> str:
        return self.ctx.constant(f"{self.call.output}.{label}", np.asarray(array, np.float32))

    def reshape(self, x: str, shape: Shape, out: str = "") -> str:
        out = out or self.name("reshaped")
        return self.ctx.emit(Reshape((x,), out, self.call.name, shape=shape))

    def transpose(self, x: str, perm: tuple[int, ...]) -> str:
        return self.ctx.emit(Transpose((x,), self.name("turned"), self.call.name, perm=perm))

    def matmul(self, x: str, y: str, out: str = "") -> str:
        return self.ctx.emit(MatMul((x, y), out or self.name("product"), self.call.name))

    def binary(self, kind: str, x: str, y: str, out: str = "") -> str:
        node = Binary((x, y), out or self.name(kind), self.call.name, kind=kind)  # type: ignore[arg-type]
        return self.ctx.emit(node)

    def scaled(self, x: str, factor: float) -> str:
        return self.binary("mul", x, self.constant("factor", np.asarray(factor)))

    def split_heads(self, x: str, heads: int) -> str:
        """(B, S, heads * D) to (B, heads, S, D)."""
        batch, length, width = self.shape(x)
        if not heads or width % heads:
            raise BadModel(
                f"node {self.call.name!r} ({self.call.op}): {width} channels for {heads} heads; "
                "the heads must divide them; correct the model"
            )
        parts = self.reshape(x, (batch, length, heads, width // heads))
        return self.transpose(parts, HEADS_FIRST)

    def merge_heads(self, x: str, out: str) -> None:
        batch, heads, length, size = self.shape(x)
        self.reshape(self.transpose(x, HEADS_FIRST), (batch, length, heads * size), out)

    def repeated(self, x: str, heads: int) -> str:
        """Every head of keys or values as often as it has queries."""
        own = self.shape(x)[1]
        if own == heads:
            return x
        if heads % own:
            raise Refused(f"{heads} heads of queries for {own} of keys; a multiple is supported")
        indices = tuple(int(i) for i in np.repeat(np.arange(own), heads // own))
        node = Take((x,), self.name("repeated"), self.call.name, axis=1, indices=indices)
        return self.ctx.emit(node)


def _attend(make: _Maker, heads: _Heads, scale: float, masks: list[str], biases: list[str]) -> str:
    """softmax(scale q k^T + biases where all masks hold) v."""
    count = make.shape(heads.q)[1]
    k, v = make.repeated(heads.k, count), make.repeated(heads.v, count)
    scores = make.scaled(make.matmul(heads.q, make.transpose(k, (0, 1, 3, 2))), scale)
    cap = float(make.call.attrs.get("softcap", 0.0))
    if cap:
        small = make.scaled(scores, 1 / cap)
        bent = Unary((small,), make.name("bent"), make.call.name, function=Function("tanh"))
        scores = make.scaled(make.ctx.emit(bent), cap)
    for bias in biases:
        scores = make.binary("add", scores, bias)
    never = make.constant("never", np.asarray(_NEVER)) if masks else ""
    for mask in masks:
        chosen = Select((mask, scores, never), make.name("masked"), make.call.name)
        scores = make.ctx.emit(chosen)
    weights = Softmax((scores,), make.name("weights"), make.call.name, axis=3)
    return make.matmul(make.ctx.emit(weights), v, "")


def _refuse_cache(call: Call, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
    if any(call.input(i) for i in inputs):
        raise Refused("a cache of past keys is given; attention within one run is supported")
    if any(call.has_output(i) for i in outputs):
        raise Refused("a second output is used; only the first output is supported")


def _causal(make: _Maker, q: str, k: str) -> str:
    length, total = make.shape(q)[2], make.shape(k)[2]
    return make.constant("causal", np.tril(np.ones((length, total))))


# ---------------------------------------------------------------- ai.onnx


def _attention(ctx: Context, call: Call) -> None:
    _refuse_cache(call, (4, 5), (1, 2, 3))
    make = _Maker(ctx, call)
    tensors = [ctx.tensor(call.input(i)) for i in range(3)]
    packed = len(make.shape(tensors[0])) == 3
    if packed:
        counts = [int(call.attrs.get(a, 0)) for a in ("q_num_heads", "kv_num_heads")]
        tensors = [
            make.split_heads(x, n) for x, n in zip(tensors, (*counts, counts[1]), strict=True)
        ]
    heads = _Heads(*tensors)
    masks, biases = _given_mask(make, call.input(3))
    if call.attrs.get("is_causal", 0):
        masks.append(_causal(make, heads.q, heads.k))
    scale = float(call.attrs.get("scale", 0.0)) or 1 / math.sqrt(make.shape(heads.q)[3])
    _finish(make, _attend(make, heads, scale, masks, biases), packed)


def _given_mask(make: _Maker, name: str) -> tuple[list[str], list[str]]:
    """A mask is boolean; anything else is added to the scores."""
    if not name:
        return [], []
    ctx = make.ctx
    known = ctx.known.get(name)
    if known is not None:
        finite = np.clip(np.asarray(known, np.float32), _NEVER, -_NEVER)
        constant = make.constant("mask", finite)
        return ([constant], []) if known.dtype == bool else ([], [constant])
    return ([ctx.tensor(name)], []) if name in ctx.integers else ([], [ctx.tensor(name)])


def _finish(make: _Maker, result: str, packed: bool) -> None:
    out = make.call.output
    if packed:
        make.merge_heads(result, out)
    else:
        make.reshape(result, make.shape(result), out)


# ---------------------------------------------------------------- com.microsoft


def _microsoft_attention(ctx: Context, call: Call) -> None:
    """One projection for queries, keys and values, of one input."""
    _refuse_cache(call, (4, 6), (1,))
    make = _Maker(ctx, call)
    ctx.fixed(call, 1, "the projection")
    joint = make.matmul(ctx.tensor(call.input(0)), ctx.weight(call.input(1)))
    if call.input(2):
        joint = make.binary("add", joint, ctx.tensor(call.input(2)))
    width = make.shape(joint)[2]
    sizes = ints(call.attrs.get("qkv_hidden_sizes", (width // 3,) * 3))
    ends = np.cumsum((0, *sizes))
    parts = [_channels(make, joint, int(a), int(b)) for a, b in zip(ends, ends[1:], strict=False)]
    _packed_attention(make, parts, call.input(3), call.input(5))


def _channels(make: _Maker, x: str, first: int, last: int) -> str:
    whole = (0, None, 1)
    node = Slice((x,), make.name("part"), make.call.name, slices=(whole, whole, (first, last, 1)))
    return make.ctx.emit(node)


def _multi_head(ctx: Context, call: Call) -> None:
    """Queries, keys and values come separately."""
    _refuse_cache(call, (6, 7, 8, 9), (1, 2, 3))
    make = _Maker(ctx, call)
    if not call.input(1) or not call.input(2):
        raise Refused("queries, keys and values in one tensor; three tensors are supported")
    tensors = [ctx.tensor(call.input(i)) for i in range(3)]
    if any(len(make.shape(x)) != 3 for x in tensors):
        raise Refused("operands of rank 4 or more; (batch, length, channels) is supported")
    bias = ctx.fixed(call, 3, "the bias")
    if bias is not None:
        ends = np.cumsum([0, *(make.shape(x)[2] for x in tensors)])
        parts = np.split(np.asarray(bias), ends[1:-1])
        tensors = [
            make.binary("add", x, make.constant("bias", part))
            for x, part in zip(tensors, parts, strict=True)
        ]
    _packed_attention(make, tensors, call.input(4), call.input(5))


def _packed_attention(make: _Maker, tensors: list[str], mask: str, bias: str) -> None:
    """Attention of (B, S, channels) tensors with the attributes that com.microsoft has."""
    ctx, call = make.ctx, make.call
    count = int(call.attrs.get("num_heads", 0))
    heads = _Heads(*(make.split_heads(x, count) for x in tensors))
    masks = [_key_mask(make, mask, heads)] if mask else []
    if call.attrs.get("unidirectional", 0):
        masks.append(_causal(make, heads.q, heads.k))
    biases = [ctx.tensor(bias)] if bias else []
    scale = float(call.attrs.get("scale", 0.0)) or 1 / math.sqrt(make.shape(heads.q)[3])
    make.merge_heads(_attend(make, heads, scale, masks, biases), call.output)


def _key_mask(make: _Maker, name: str, heads: _Heads) -> str:
    """(B, keys), (B, queries, keys) or (B, heads, queries, keys) of 0 and 1, for all heads; or (B,)
    numbers of keys that count."""
    x = make.ctx.tensor(name)
    shape, (batch, _, keys, _) = make.shape(x), make.shape(heads.k)
    if shape == (batch,):
        return _first_keys(make, make.reshape(x, (batch, 1, 1, 1)), keys)
    if len(shape) not in (2, 3, 4):
        raise Refused(
            f"a mask of shape {shape}; 0 and 1 per key, or one number of keys per image, are "
            "supported"
        )
    wanted = {2: (shape[0], 1, 1, shape[-1]), 3: (shape[0], 1, *shape[1:]), 4: shape}[len(shape)]
    return make.reshape(x, wanted)


def _first_keys(make: _Maker, lengths: str, keys: int) -> str:
    """1 where a key's position is less than a length."""
    after = make.binary("sub", lengths, make.constant("positions", np.arange(keys)))
    node = Unary((after,), make.name("kept"), make.call.name, function=Function("clip", (0.0, 1.0)))
    return make.ctx.emit(node)


# ---------------------------------------------------------------- rotary embeddings


def _rotary(positions: int, cosine: int, sine: int) -> Handler:
    """x * cos + turned(x) * sin, where ``turned`` is a product with a constant matrix."""

    def handler(ctx: Context, call: Call) -> None:
        make = _Maker(ctx, call)
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
        done = _turned(make, x, cos, sin, bool(call.attrs.get("interleaved", 0)))
        if packed:
            make.reshape(done, shape, call.output)
        else:
            node = Transpose((done,), call.output, call.name, perm=HEADS_FIRST)
            ctx.emit(node)

    return handler


def _angles(table: Array, steps: Array | None, length: int) -> Array:
    """(B or 1, S, half) cosines or sines."""
    table = np.asarray(table, np.float32)
    if steps is None:
        return table if table.ndim == 3 else table[None, :length]
    steps = np.asarray(steps, np.int64)
    if steps.size == 1:
        steps = steps.reshape(1, 1) + np.arange(length)
    return np.asarray(table[steps])


def rotation(size: int, half: int, interleaved: bool) -> Array:
    """The matrix R with x @ R = the partner of every element in its rotation, signed."""
    matrix = np.zeros((size, size), np.float32)
    first = 2 * np.arange(half) if interleaved else np.arange(half)
    second = first + 1 if interleaved else first + half
    matrix[second, first] = -1
    matrix[first, second] = 1
    return matrix


def _turned(make: _Maker, x: str, cos: Array, sin: Array, interleaved: bool) -> str:
    """(B, S, heads, D): the first 2 * half elements of every head are rotated."""
    size, half = make.shape(x)[3], cos.shape[-1]
    wide = [np.repeat(t, 2, -1) if interleaved else np.tile(t, 2) for t in (cos, sin)]
    rest = ((0, 0), (0, 0), (0, size - 2 * half))
    factors = [
        np.pad(t, rest, constant_values=fill)[:, :, None]
        for t, fill in zip(wide, (1, 0), strict=True)
    ]
    partner = make.matmul(x, make.constant("rotation", rotation(size, half, interleaved)))
    parts = [
        make.binary("mul", part, make.constant("angles", factor))
        for part, factor in zip((x, partner), factors, strict=True)
    ]
    return make.binary("add", *parts)


def _is_never(ctx: Context, call: Call) -> None:
    """Nothing is NaN or infinite on the array: a softmax of a row without any key is 0."""
    ctx.known[call.output] = np.zeros(ctx.shape(call.input(0)), bool)


HANDLERS: Mapping[str, Versions] = {
    "Attention": {23: _attention},
    "RotaryEmbedding": {23: _rotary(3, 1, 2)},
    "IsNaN": {9: _is_never},
    "IsInf": {10: _is_never},
}

MICROSOFT: Mapping[str, Handler] = {
    "Attention": _microsoft_attention,
    "MultiHeadAttention": _multi_head,
    "RotaryEmbedding": _rotary(1, 2, 3),
}
