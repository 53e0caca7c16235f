# SPDX-License-Identifier: Apache-2.0
"""ONNX attention in one node, of ai.onnx and com.microsoft.

In: one ``Call``.  Out: its products, masks and softmax, in the ``Context``;
``patterns`` fuses them into one Attention, whichever operator they came from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from ....ir.graph.nodes import Concat, Pad, Select, Slice, Softmax, Unary
from ....ir.types import Array, Function
from ..context import Call, Context, Handler, Refused, Versions, ints
from ..node_maker import NodeMaker
from .attention_masks import (
    Bias,
    Heads,
    without_empty_rows,
    without_unseen_keys,
    zero_in_empty_rows,
)

_NEVER = float(np.finfo(np.float32).min)
_DROPS = -1e30  # an addend of this or less stands for -infinity


# The results that ai.onnx's optional output of scores shows, by its mode.
_RAW, _CAPPED, _BIASED, _WEIGHTS = range(4)


def _attend(
    make: NodeMaker, heads: Heads, scale: float, bias: Bias, shown: tuple[int, str] = (0, "")
) -> str:
    """Return softmax(scale q k^T + addends where all masks hold) v.

    ``shown``: a mode, and the output that shows that intermediate result ("" for none).
    """
    bias, used = without_empty_rows(make, bias)
    if not shown[1]:
        heads, bias = without_unseen_keys(make, heads, bias)
    count = make.shape(heads.q)[1]
    k, v = make.repeated(heads.k, count), make.repeated(heads.v, count)
    scores = make.scaled(make.matmul(heads.q, make.transpose(k, (0, 1, 3, 2))), scale)
    stages = [scores]
    cap = float(make.call.attrs.get("softcap", 0.0))
    if cap:
        small = make.scaled(scores, 1 / cap)
        bent = Unary((small,), make.name("bent"), make.call.name, function=Function("tanh"))
        scores = make.scaled(make.ctx.emit(bent), cap)
    stages.append(scores)
    for addend in bias.addends:
        scores = make.binary("add", scores, addend)
    stages.append(scores)
    if bias.masks:
        never = make.constant("never", np.asarray(_NEVER))
        chosen = Select((bias.masks[0], scores, never), make.name("masked"), make.call.name)
        scores = make.ctx.emit(chosen)
    node = Softmax((scores,), make.name("weights"), make.call.name, axis=3)
    weights = make.ctx.emit(node)
    mode, output = shown
    constant = any(_is_constant(make.ctx, name) for name in (heads.q, heads.k, heads.v))
    if output:
        shown_weights = make.binary("mul", weights, used) if used else weights
        stage = [*stages, shown_weights][mode]
        make.reshape(stage, make.shape(stage), output)
    result = make.matmul(weights, v)
    if used:
        return make.binary("mul", result, used)
    computed = bool(bias.masks) and bias.masks[0] not in make.ctx.constants
    if computed and (output or constant):  # not fused into one Attention, which gives zeros
        return zero_in_empty_rows(make, result, bias.masks[0])
    return result


def _is_constant(ctx: Context, name: str) -> bool:
    """Return whether a tensor depends on constants alone."""
    if name in ctx.constants:
        return True
    maker = next((node for node in reversed(ctx.nodes) if node.output == name), None)
    return maker is not None and all(_is_constant(ctx, operand) for operand in maker.inputs)


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
    make = NodeMaker(ctx, call)
    tensors = [ctx.tensor(call.input(i)) for i in range(3)]
    packed = len(make.shape(tensors[0])) == 3
    if packed:
        counts = [int(call.attrs.get(a, 0)) for a in ("q_num_heads", "kv_num_heads")]
        tensors = [
            make.split_heads(x, n) for x, n in zip(tensors, (*counts, counts[1]), strict=True)
        ]
    past = make.shape(ctx.tensor(call.input(4)))[2] if call.input(4) else 0
    heads = Heads(tensors[0], *(_present(make, i, tensors[i]) for i in (1, 2)))
    bias = _given_mask(make, call.input(3), make.shape(heads.k)[2])
    bias.masks.extend(_positions(make, heads, past))
    scale = float(call.attrs.get("scale", 0.0)) or 1 / math.sqrt(make.shape(heads.q)[3])
    shown = (int(call.attrs.get("qk_matmul_output_mode", _RAW)), "")
    if call.has_output(3):
        shown = (shown[0], call.outputs[3])
        if shown[0] == _BIASED and bias.masks:
            raise Refused("scores behind a mask are an output; they are infinite where it is 0")
    _finish(make, _attend(make, heads, scale, bias, shown), packed)


def _present(make: NodeMaker, i: int, new: str) -> str:
    """Return keys (1) or values (2) behind those of the past, under the output's name."""
    call, past = make.call, make.call.input(i + 3)
    shown = call.outputs[i] if call.has_output(i) else ""
    if past:
        pair = (make.ctx.tensor(past), new)
        return make.ctx.emit(Concat(pair, shown or make.name("present"), call.name, axis=2))
    return make.reshape(new, make.shape(new), shown) if shown else new


def _positions(make: NodeMaker, heads: Heads, past: int) -> list[str]:
    """Return masks of the keys that a query sees by its position: in a window, before the
    padding."""
    call, (rows, columns) = make.call, (make.shape(heads.q)[2], make.shape(heads.k)[2])
    left, right = (int(call.attrs.get(f"{s}_window_size", -1)) for s in ("left", "right"))
    right = 0 if call.attrs.get("is_causal", 0) else right
    ahead = np.arange(columns) - np.arange(rows)[:, None]  # of a key to its query, without offset
    name = call.input(6)
    if name and name not in make.ctx.known:
        return _computed_positions(make, ahead, (left, right))
    kept, offset = np.asarray(True), np.asarray(past)
    if name:
        lengths = np.asarray(make.ctx.known[name]).reshape(-1, 1, 1, 1)
        kept, offset = np.arange(columns) < lengths, lengths - rows
    for bound, away in ((left, offset - ahead), (right, ahead - offset)):
        kept = kept & (away <= bound) if bound >= 0 else kept
    return (
        [] if kept.all() else [make.constant("seen", np.array(np.broadcast_arrays(kept, ahead)[0]))]
    )


def _computed_positions(make: NodeMaker, ahead: Array, bounds: tuple[int, int]) -> list[str]:
    """Return the masks where the lengths without padding are an input: comparisons of integers."""
    given = make.ctx.tensor(make.call.input(6))
    lengths = make.reshape(given, (make.shape(given)[0], 1, 1, 1))
    if bounds[0] >= 0 or bounds[1] > 0:
        raise Refused("a window and lengths that are an input; constant lengths are supported")
    rows, columns = ahead.shape
    masks = [_first_keys(make, lengths, columns)]
    if bounds[1] == 0:
        # ahead <= length - rows
        most = make.constant("ahead", ahead + rows - 1)
        masks.append(_clipped(make, make.binary("sub", lengths, most)))
    return masks


def _given_mask(make: NodeMaker, name: str, columns: int) -> Bias:
    """Return masks and addends: a boolean input is a mask, any other is added to the scores.

    It may have fewer columns than there are keys: no query sees those behind.
    """
    bias = Bias([], [])
    if not name:
        return bias
    ctx = make.ctx
    known, is_mask = ctx.known.get(name), name in ctx.integers
    if known is not None:
        is_mask, addend = known.dtype == bool, np.asarray(known, np.float32)
        dropped = np.zeros((), bool) if is_mask else addend <= _DROPS
        x = make.constant("mask", np.where(dropped, np.float32(0), addend))
        if dropped.any():
            bias.masks.append(make.constant("kept", ~dropped))
    else:
        x = ctx.tensor(name)
    missing = columns - make.shape(x)[-1]
    if missing:
        pads = (*[(0, 0)] * (len(make.shape(x)) - 1), (0, missing))
        x = ctx.emit(Pad((x,), make.name("whole"), make.call.name, pads=pads))
        bias.masks.append(make.constant("given", np.arange(columns) < columns - missing))
    (bias.masks if is_mask else bias.addends).append(x)
    return bias


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
    heads = Heads(*(make.split_heads(x, count) for x in tensors))
    masks = [_key_mask(make, mask, heads)] if mask else []
    if call.attrs.get("unidirectional", 0):
        masks.append(_causal(make, heads.q, heads.k))
    biases = [ctx.tensor(bias)] if bias else []
    scale = float(call.attrs.get("scale", 0.0)) or 1 / math.sqrt(make.shape(heads.q)[3])
    make.merge_heads(_attend(make, heads, scale, Bias(masks, biases)), call.output)


def _key_mask(make: NodeMaker, name: str, heads: Heads) -> str:
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
    return _clipped(make, make.binary("sub", lengths, make.constant("positions", np.arange(keys))))


def _clipped(make: NodeMaker, x: str) -> str:
    """Return 1 where an integer is above 0, else 0."""
    clip = Function("clip", (0.0, 1.0))
    return make.ctx.emit(Unary((x,), make.name("kept"), make.call.name, function=clip))


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
