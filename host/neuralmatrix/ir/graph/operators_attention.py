# SPDX-License-Identifier: Apache-2.0
"""Normalisation and attention: shapes and numpy references.

In: a node of ``ir`` and the shapes or arrays of its inputs (None where one is left out).
Out: the output's shape or array.
"""

from __future__ import annotations

import numpy as np

from ..types import Array, Shape
from .nodes import Attention, Normalize
from .operators_window import need


def _fits(shape: Shape | None, whole: Shape) -> bool:
    """Return whether a tensor, or None for none, broadcasts to ``whole`` without enlarging it."""
    try:
        return shape is None or np.broadcast_shapes(shape, whole) == whole
    except ValueError:
        return False


def normalize_shape(
    node: Normalize, x: Shape, scale: Shape | None = None, bias: Shape | None = None
) -> Shape:
    need(bool(node.axes), "normalisation over no axis")
    need(all(0 <= axis < len(x) for axis in node.axes), f"axes {node.axes} of a tensor {x}")
    need(_fits(scale, x), f"scale {scale} does not broadcast to {x}")
    need(_fits(bias, x), f"bias {bias} does not broadcast to {x}")
    return x


def normalize(
    node: Normalize, x: Array, scale: Array | None = None, bias: Array | None = None
) -> Array:
    y = x - x.mean(axis=node.axes, keepdims=True) if node.centered else x
    if node.kind == "l2":
        total = np.sqrt(np.square(y).sum(axis=node.axes, keepdims=True))
        y = y / np.maximum(total, node.epsilon)
    else:
        y = y / np.sqrt(np.square(y).mean(axis=node.axes, keepdims=True) + node.epsilon)
    y = y if scale is None else y * scale
    return np.asarray(y if bias is None else y + bias, x.dtype)


def attention_shape(
    node: Attention,
    q: Shape,
    k: Shape,
    v: Shape,
    mask: Shape | None = None,
    bias: Shape | None = None,
) -> Shape:
    need(min(len(q), len(k), len(v)) >= 2, "attention needs operands of rank 2 or more")
    need(q[-1] == k[-1], f"queries {q} and keys {k} have different head sizes")
    need(k[-2] == v[-2], f"keys {k} and values {v} have different lengths")
    lead = q[:-2]
    need(_fits(k[:-2], lead), f"keys {k} do not broadcast to queries {q}")
    need(_fits(v[:-2], lead), f"values {v} do not broadcast to queries {q}")
    scores = (*lead, q[-2], k[-2])
    need(_fits(mask, scores), f"mask {mask} does not broadcast to scores {scores}")
    need(_fits(bias, scores), f"bias {bias} does not broadcast to scores {scores}")
    return (*lead, q[-2], v[-1])


def attention(
    node: Attention,
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    bias: Array | None = None,
) -> Array:
    scores = node.scale * np.matmul(q, np.swapaxes(k, -1, -2))
    scores = scores if bias is None else scores + bias
    kept = np.ones_like(scores) if mask is None else np.broadcast_to(mask, scores.shape)
    largest = np.where(kept > 0, scores, -np.inf).max(-1, keepdims=True)
    # a row whose scores are all masked has no largest score; its result is 0
    shifted = np.minimum(scores - np.where(np.isfinite(largest), largest, 0), 0)
    power = np.exp(shifted) * kept
    total = power.sum(-1, keepdims=True)
    return np.asarray(np.matmul(power / np.where(total > 0, total, 1), v), q.dtype)
