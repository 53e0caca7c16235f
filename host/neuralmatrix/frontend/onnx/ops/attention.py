# SPDX-License-Identifier: Apache-2.0
"""ONNX attention in one node, of ai.onnx and com.microsoft.

In: one ``Call``.  Out: its products, masks and softmax, in the ``Context``;
``patterns`` fuses them into one Attention, whichever operator they came from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ....ir.graph.nodes import Reduce, Select, Slice, Softmax, Unary
from ....ir.types import Function
from ..context import Call, Context, Handler, Refused, Versions, ints
from ..node_maker import NodeMaker

_NEVER = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class _Heads:
    """(batch, heads, length, size) tensors of one attention."""

    q: str
    k: str
    v: str


def _attend(
    make: NodeMaker, heads: _Heads, scale: float, masks: list[str], biases: list[str]
) -> str:
    """Return softmax(scale q k^T + biases where all masks hold) v."""
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
    result = make.matmul(make.ctx.emit(weights), v, "")
    if masks and any(_is_constant(make.ctx, name) for name in (heads.q, heads.k, heads.v)):
        return _without_empty_rows(make, result, masks)  # not fused into one Attention
    return result


def _is_constant(ctx: Context, name: str) -> bool:
    """Return whether a tensor depends on constants alone."""
    if name in ctx.constants:
        return True
    maker = next((node for node in reversed(ctx.nodes) if node.output == name), None)
    return maker is not None and all(_is_constant(ctx, operand) for operand in maker.inputs)


def _without_empty_rows(make: NodeMaker, result: str, masks: list[str]) -> str:
    """Return the result times 0 in the rows in which no position is kept."""
    constants, kept = make.ctx.constants, masks[0]
    for mask in masks[1:]:
        kept = make.binary("mul", kept, mask)
    axis = len(make.shape(kept)) - 1
    if kept not in constants:
        node = Reduce((kept,), make.name("used"), make.call.name, kind="max", axes=(axis,))
        return make.binary("mul", result, make.ctx.emit(node))
    used = np.asarray((constants[kept] != 0).any(-1, keepdims=True))
    return result if used.all() else make.binary("mul", result, make.constant("used", used))


def _refuse_cache(call: Call, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> None:
    if any(call.input(i) for i in inputs):
        raise Refused("a cache of past keys is given; attention within one run is supported")
    if any(call.has_output(i) for i in outputs):
        raise Refused("a second output is used; only the first output is supported")


def _causal(make: NodeMaker, q: str, k: str) -> str:
    length, total = make.shape(q)[2], make.shape(k)[2]
    return make.constant("causal", np.tril(np.ones((length, total))))


# ---------------------------------------------------------------- ai.onnx


def _attention(ctx: Context, call: Call) -> None:
    _refuse_cache(call, (4, 5), (1, 2, 3))
    make = NodeMaker(ctx, call)
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


def _given_mask(make: NodeMaker, name: str) -> tuple[list[str], list[str]]:
    """Return masks and biases: a boolean input is a mask, any other is added to the scores."""
    if not name:
        return [], []
    ctx = make.ctx
    known = ctx.known.get(name)
    if known is not None:
        finite = np.clip(np.asarray(known, np.float32), _NEVER, -_NEVER)
        constant = make.constant("mask", finite)
        return ([constant], []) if known.dtype == bool else ([], [constant])
    return ([ctx.tensor(name)], []) if name in ctx.integers else ([], [ctx.tensor(name)])


def _finish(make: NodeMaker, result: str, packed: bool) -> None:
    out = make.call.output
    if packed:
        make.merge_heads(result, out)
    else:
        make.reshape(result, make.shape(result), out)


# ---------------------------------------------------------------- com.microsoft


def _microsoft_attention(ctx: Context, call: Call) -> None:
    """Handle attention with one projection for queries, keys and values, of one input."""
    _refuse_cache(call, (4, 6), (1,))
    make = NodeMaker(ctx, call)
    ctx.fixed(call, 1, "the projection")
    joint = make.matmul(ctx.tensor(call.input(0)), ctx.weight(call.input(1)))
    if call.input(2):
        joint = make.binary("add", joint, ctx.tensor(call.input(2)))
    width = make.shape(joint)[2]
    sizes = ints(call.attrs.get("qkv_hidden_sizes", (width // 3,) * 3))
    ends = np.cumsum((0, *sizes))
    parts = [_channels(make, joint, int(a), int(b)) for a, b in zip(ends, ends[1:], strict=False)]
    _packed_attention(make, parts, call.input(3), call.input(5))


def _channels(make: NodeMaker, x: str, first: int, last: int) -> str:
    whole = (0, None, 1)
    node = Slice((x,), make.name("part"), make.call.name, slices=(whole, whole, (first, last, 1)))
    return make.ctx.emit(node)


def _multi_head(ctx: Context, call: Call) -> None:
    """Handle attention with separate queries, keys and values."""
    _refuse_cache(call, (6, 7, 8, 9), (1, 2, 3))
    make = NodeMaker(ctx, call)
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


def _packed_attention(make: NodeMaker, tensors: list[str], mask: str, bias: str) -> None:
    """Append the attention of (B, S, channels) tensors with the attributes of com.microsoft."""
    ctx, call = make.ctx, make.call
    count = int(call.attrs.get("num_heads", 0))
    heads = _Heads(*(make.split_heads(x, count) for x in tensors))
    masks = [_key_mask(make, mask, heads)] if mask else []
    if call.attrs.get("unidirectional", 0):
        masks.append(_causal(make, heads.q, heads.k))
    biases = [ctx.tensor(bias)] if bias else []
    scale = float(call.attrs.get("scale", 0.0)) or 1 / math.sqrt(make.shape(heads.q)[3])
    make.merge_heads(_attend(make, heads, scale, masks, biases), call.output)


def _key_mask(make: NodeMaker, name: str, heads: _Heads) -> str:
    """Return the key mask for all heads: from (B, keys), (B, queries, keys) or (B, heads, queries,
    keys) of 0 and 1, or from (B,) counts of valid keys."""
    x = make.ctx.tensor(name)
    shape, (batch, _, keys, _) = make.shape(x), make.shape(heads.k)
    if shape == (batch,):
        return _first_keys(make, make.reshape(x, (batch, 1, 1, 1)), keys)
    if len(shape) not in (2, 3, 4):
        raise Refused(
            f"a mask of shape {shape}; 0 and 1 per key, or one count of keys per image, are "
            "supported"
        )
    wanted = {2: (shape[0], 1, 1, shape[-1]), 3: (shape[0], 1, *shape[1:]), 4: shape}[len(shape)]
    return make.reshape(x, wanted)


def _first_keys(make: NodeMaker, lengths: str, keys: int) -> str:
    """Return 1 where a key's position is less than a length, else 0."""
    after = make.binary("sub", lengths, make.constant("positions", np.arange(keys)))
    node = Unary((after,), make.name("kept"), make.call.name, function=Function("clip", (0.0, 1.0)))
    return make.ctx.emit(node)


def _is_never(ctx: Context, call: Call) -> None:
    """Handle IsNaN and IsInf as false: the array has neither; softmax of an empty row is 0."""
    ctx.known[call.output] = np.zeros(ctx.shape(call.input(0)), bool)


HANDLERS: Mapping[str, Versions] = {
    "Attention": {23: _attention},
    "IsNaN": {9: _is_never},
    "IsInf": {10: _is_never},
}

MICROSOFT: Mapping[str, Handler] = {
    "Attention": _microsoft_attention,
    "MultiHeadAttention": _multi_head,
}
