# SPDX-License-Identifier: Apache-2.0
"""Attention, normalisation, reductions, gates and recurrences for random ONNX networks.

In: a Net of ``random_models`` and the name of its current image.  Out: the name of the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

MOST_TOKENS = 48
MOST_STEPS = 6


def _tokens(net: Any, x: str) -> str:
    """Append (n, c, h, w) to (n, h * w, c)."""
    n, c, h, w = net.shapes[x]
    flat = net.add("Reshape", [x, net.ints(n, c, h * w)], (n, c, h * w))
    return net.add("Transpose", [flat], (n, h * w, c), perm=[0, 2, 1])


def _image(net: Any, x: str, h: int, w: int) -> str:
    """Append (n, h * w, c) to (n, c, h, w)."""
    n, s, c = net.shapes[x]
    turned = net.add("Transpose", [x], (n, c, s), perm=[0, 2, 1])
    return net.add("Reshape", [turned, net.ints(n, c, h, w)], (n, c, h, w))


def _dense(net: Any, x: str, width: int) -> str:
    *lead, c = net.shapes[x]
    weight = net.constant(c, width, scale=c**-0.5)
    y = net.add("MatMul", [x, weight], (*lead, width))
    return net.add("Add", [y, net.constant(width, scale=0.2)], (*lead, width))


def _heads(net: Any, x: str, heads: int, perm: list[int]) -> str:
    n, s, c = net.shapes[x]
    split = net.add("Reshape", [x, net.ints(n, s, heads, c // heads)], (n, s, heads, c // heads))
    shape = net.shapes[split]
    return net.add("Transpose", [split], tuple(shape[i] for i in perm), perm=perm)


def attention(net: Any, x: str) -> str:
    """Append attention of one to three heads, sometimes with a constant causal mask."""
    n, _, h, w = net.shapes[x]
    if h * w > MOST_TOKENS:
        return pooled(net, x)
    heads, width = net.pick(1, 2, 3), net.pick(4, 8, 16)
    tokens, s, c = _tokens(net, x), h * w, heads * width
    q = _heads(net, _dense(net, tokens, c), heads, [0, 2, 1, 3])
    k = _heads(net, _dense(net, tokens, c), heads, [0, 2, 3, 1])
    v = _heads(net, _dense(net, tokens, c), heads, [0, 2, 1, 3])
    scores = net.add("MatMul", [q, k], (n, heads, s, s))
    scores = net.add("Mul", [scores, net.value(width**-0.5)], (n, heads, s, s))
    if net.pick(0, 1):
        causal = net.array(np.triu(np.full((s, s), -1e9, np.float32), 1))
        scores = net.add("Add", [scores, causal], (n, heads, s, s))
    weights = net.add("Softmax", [scores], (n, heads, s, s), axis=-1)
    mixed = net.add("MatMul", [weights, v], (n, heads, s, width))
    turned = net.add("Transpose", [mixed], (n, s, heads, width), perm=[0, 2, 1, 3])
    joined = net.add("Reshape", [turned, net.ints(n, s, c)], (n, s, c))
    return _image(net, joined, h, w)


def layer_norm(net: Any, x: str) -> str:
    n, c, h, w = net.shapes[x]
    if c < 2:
        return x
    tokens = _tokens(net, x)
    gain, bias = net.constant(c, scale=0.5), net.constant(c, scale=0.5)
    if net.pick(0, 1):
        y = net.add("LayerNormalization", [tokens, gain, bias], net.shapes[tokens], axis=-1)
    else:
        square = net.add("Mul", [tokens, tokens], net.shapes[tokens])
        mean = net.add("ReduceMean", [square, net.ints(-1)], (n, h * w, 1))
        safe = net.add("Add", [mean, net.value(1e-3)], (n, h * w, 1))
        root = net.add("Sqrt", [safe], (n, h * w, 1))
        y = net.add("Div", [tokens, root], net.shapes[tokens])
        y = net.add("Mul", [y, gain], net.shapes[tokens])
    return _image(net, y, h, w)


def instance_norm(net: Any, x: str) -> str:
    _, c, h, w = net.shapes[x]
    if h * w < 4:
        return x
    parts = [net.constant(c, scale=0.5), net.constant(c, scale=0.5)]
    return net.add("InstanceNormalization", [x, *parts], net.shapes[x], epsilon=1e-2)


def feed_forward(net: Any, x: str) -> str:
    """Append an expanding and a reducing projection, a smooth activation and a residual sum."""
    _, c, h, w = net.shapes[x]
    if h * w > MOST_TOKENS:
        return pooled(net, x)
    tokens = _tokens(net, x)
    expanded = _dense(net, tokens, 2 * c)
    kind = ("Gelu", "Mish", "Softplus", "HardSwish")[net.pick(0, 1, 2, 3)]
    reduced = _dense(net, net.add(kind, [expanded], net.shapes[expanded]), c)
    return _image(net, net.add("Add", [reduced, tokens], net.shapes[tokens]), h, w)


def gated(net: Any, x: str) -> str:
    """Append x * sigmoid(x) times another projection."""
    n, c, h, w = net.shapes[x]
    other = net.add("Einsum", [x, net.constant(c, c, scale=c**-0.5)], (n, c, h, w),
                    equation="nchw,cd->ndhw")  # fmt: skip
    gate = net.add("Mul", [x, net.add("Sigmoid", [x], net.shapes[x])], net.shapes[x])
    return net.add("Mul", [gate, other], net.shapes[x])


def reduced(net: Any, x: str) -> str:
    """Append x minus a statistic along one axis."""
    axis = net.pick(1, 2, 3)
    shape = tuple(1 if i == axis else n for i, n in enumerate(net.shapes[x]))
    op = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2")[net.pick(0, 1, 2, 3)]
    value = net.add(op, [x, net.ints(axis)], shape)
    return net.add("Sub", [x, value], net.shapes[x])


def running_sum(net: Any, x: str) -> str:
    axis = net.pick(1, 2, 3)
    total = net.add("CumSum", [x, net.ints(axis)], net.shapes[x], reverse=net.pick(0, 1))
    return net.add("Mul", [total, net.value(1 / net.shapes[x][axis])], net.shapes[x])


def masked(net: Any, x: str) -> str:
    """Append a constant mask: a triangle, or the elements of another image."""
    if net.pick(0, 1):
        return net.add("Trilu", [x], net.shapes[x], upper=net.pick(0, 1))
    keep = net.array(net.rng.random(net.shapes[x][1:]) < 0.7)
    return net.add("Where", [keep, x, net.value(-0.5)], net.shapes[x])


def wave(net: Any, x: str) -> str:
    op = ("Sin", "Cos", "Atan", "Erf")[net.pick(0, 1, 2, 3)]
    return net.add(op, [x], net.shapes[x])


def recurrence(net: Any, x: str) -> str:
    """Append a GRU or an RNN along the rows."""
    n, c, h, w = net.shapes[x]
    if h > MOST_STEPS:
        return pooled(net, x)
    rows = net.add("Transpose", [x], (h, n, w, c), perm=[2, 0, 3, 1])
    steps = net.add("Reshape", [rows, net.ints(h, n * w, c)], (h, n * w, c))
    op, gates = (("RNN", 1), ("GRU", 3))[net.pick(0, 1)]
    hidden = net.pick(4, 7, 16)
    weights = [net.constant(1, gates * hidden, k, scale=k**-0.5) for k in (c, hidden)]
    y = net.add(op, [steps, *weights], (h, 1, n * w, hidden), hidden_size=hidden)
    back = net.add("Reshape", [y, net.ints(h, n, w, hidden)], (h, n, w, hidden))
    return net.add("Transpose", [back], (n, hidden, h, w), perm=[1, 3, 0, 2])


def pooled(net: Any, x: str) -> str:
    n, c, h, w = net.shapes[x]
    return net.add("AveragePool", [x], (n, c, h // 2, w // 2), kernel_shape=[2, 2], strides=[2, 2])


STEPS: tuple[Callable[[Any, str], str], ...] = (
    attention, layer_norm, instance_norm, feed_forward, gated, reduced, running_sum, masked, wave,
    recurrence,
)  # fmt: skip
