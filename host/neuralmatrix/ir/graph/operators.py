# SPDX-License-Identifier: Apache-2.0
"""The shape rule and the numpy reference of every Graph node.

In: Graph nodes and the shapes or arrays of their inputs.  Out: shapes, arrays, whole-graph runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ...errors import BadInput
from .. import functions
from ..quantized_values import rounded
from ..types import Array, QParams, Shape, arg_max
from .nodes import (
    ArgMax,
    Attention,
    AxisMatMul,
    Binary,
    Concat,
    Conv,
    ConvTranspose,
    Embedding,
    Expand,
    Graph,
    MatMul,
    Node,
    Normalize,
    Pad,
    Pool,
    PRelu,
    Reduce,
    Reshape,
    Select,
    Slice,
    Softmax,
    Take,
    Transpose,
    Unary,
)
from .operators_attention import attention, attention_shape, normalize, normalize_shape
from .operators_window import (
    ShapeError,
    conv,
    conv_shape,
    conv_transpose,
    conv_transpose_shape,
    need,
    pool,
    pool_shape,
)

__all__ = ["ShapeError", "evaluate", "infer_shape", "run_graph"]


class Rule(NamedTuple):
    """``shape(node, *input shapes)`` and ``value(node, *input arrays)``."""

    shape: Callable[..., Shape]
    value: Callable[..., Array]


# ---------------------------------------------------------------- arithmetic


def _broadcast(*shapes: Shape) -> Shape:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ShapeError(f"shapes {' and '.join(map(str, shapes))} do not broadcast") from None


def _matmul_shape(node: MatMul, a: Shape, b: Shape) -> Shape:
    need(len(a) > 0 and len(b) > 0, "a matrix product needs operands of rank 1 or more")
    rows, cols = a[:-1][-1:], b[-1:] if len(b) > 1 else ()
    need(a[-1] == (b[-2] if len(b) > 1 else b[0]), f"inner sizes of {a} and {b} differ")
    return (*_broadcast(a[:-2], b[:-2]), *rows, *cols)


def _unary(node: Unary, x: Array) -> Array:
    return functions.evaluate(node.function, x).astype(x.dtype, copy=False)


BINARY: Mapping[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "min": np.minimum,
    "max": np.maximum,
}


def _prelu_shape(node: PRelu, x: Shape, slope: Shape) -> Shape:
    need(_broadcast(x, slope) == x, f"slope {slope} does not broadcast to {x}")
    return x


def _reduced(node: Reduce | ArgMax, axes: tuple[int, ...], x: Shape) -> Shape:
    need(all(0 <= axis < len(x) for axis in axes), f"axes {axes} of a tensor {x}")
    if node.keepdims:
        return tuple(1 if i in axes else n for i, n in enumerate(x))
    return tuple(n for i, n in enumerate(x) if i not in axes)


REDUCE: Mapping[str, Callable[..., Any]] = {
    "mean": np.mean,
    "sum": np.sum,
    "max": np.max,
    "min": np.min,
}


def _reduce(node: Reduce, x: Array) -> Array:
    return np.asarray(REDUCE[node.kind](x, axis=node.axes, keepdims=node.keepdims))


def _need_axis(axis: int, x: Shape) -> None:
    need(-len(x) <= axis < len(x), f"axis {axis} of a tensor {x}")


def _softmax_shape(node: Softmax, x: Shape) -> Shape:
    _need_axis(node.axis, x)
    return x


def _softmax(node: Softmax, x: Array) -> Array:
    shifted = x - x.max(axis=node.axis, keepdims=True)
    total = np.exp(shifted).sum(axis=node.axis, keepdims=True)
    return np.asarray(shifted - np.log(total) if node.log else np.exp(shifted) / total)


def _axis_matmul_shape(node: AxisMatMul, x: Shape, matrix: Shape) -> Shape:
    _need_axis(node.axis, x)
    need(len(matrix) == 2 and matrix[1] == x[node.axis], f"matrix {matrix} for axis of {x}")
    return (*x[: node.axis], matrix[0], *x[node.axis + 1 :])


def _axis_matmul(node: AxisMatMul, x: Array, matrix: Array) -> Array:
    return np.moveaxis(np.tensordot(matrix, x, (1, node.axis)), 0, node.axis)


def _argmax(node: ArgMax, x: Array) -> Array:
    return arg_max(x, node.axis, node.keepdims, node.select_last).astype(node.dtype)


def _select(node: Select, condition: Array, a: Array, b: Array) -> Array:
    return np.where(condition != 0, a, b)


def _embedding_shape(node: Embedding, ids: Shape, table: Shape) -> Shape:
    need(len(table) == 2 and prod(table) > 0, f"the table {table} is not a matrix")
    return (*ids, table[1])


def _embedding(node: Embedding, ids: Array, table: Array) -> Array:
    return np.asarray(np.take(table, ids.astype(np.int64), axis=0))


# ---------------------------------------------------------------- layout


def _reshape_shape(node: Reshape, x: Shape) -> Shape:
    need(prod(node.shape) == prod(x), f"{x} does not reshape to {node.shape}")
    return node.shape


def _transpose_shape(node: Transpose, x: Shape) -> Shape:
    need(sorted(node.perm) == list(range(len(x))), f"perm {node.perm} of a tensor {x}")
    return tuple(x[axis] for axis in node.perm)


def _slice_shape(node: Slice, x: Shape) -> Shape:
    need(len(node.slices) == len(x), f"{len(node.slices)} slices of a tensor {x}")
    need(all(step > 0 for _, _, step in node.slices), "slice steps must be positive")
    return tuple(
        len(range(*slice(*part).indices(n))) for part, n in zip(node.slices, x, strict=True)
    )


def _pad_shape(node: Pad, x: Shape) -> Shape:
    need(len(node.pads) == len(x), f"{len(node.pads)} pads of a tensor {x}")
    need(all(min(pair) >= 0 for pair in node.pads), f"pads {node.pads} must not be negative")
    return tuple(b + n + a for (b, a), n in zip(node.pads, x, strict=True))


def _concat_shape(node: Concat, *parts: Shape) -> Shape:
    first = parts[0]
    _need_axis(node.axis, first)
    axis = node.axis % len(first)
    rest = {(*p[:axis], *p[axis + 1 :]) for p in parts if len(p) == len(first)}
    same = len(rest) == 1 and all(len(p) == len(first) for p in parts)
    need(same, f"shapes {', '.join(map(str, parts))} do not concatenate on axis {node.axis}")
    return (*first[:axis], sum(p[axis] for p in parts), *first[axis + 1 :])


def _expand_shape(node: Expand, x: Shape) -> Shape:
    need(_broadcast(x, node.shape) == node.shape, f"{x} does not expand to {node.shape}")
    return node.shape


def _take_shape(node: Take, x: Shape) -> Shape:
    _need_axis(node.axis, x)
    size = x[node.axis]
    need(all(0 <= i < size for i in node.indices), f"an index is outside 0..{size - 1}")
    return (*x[: node.axis], len(node.indices), *x[node.axis + 1 :])


RULES: Mapping[type[Node], Rule] = {
    Conv: Rule(conv_shape, conv),
    ConvTranspose: Rule(conv_transpose_shape, conv_transpose),
    Pool: Rule(pool_shape, pool),
    MatMul: Rule(_matmul_shape, lambda node, a, b: np.matmul(a, b)),
    Unary: Rule(lambda node, x: x, _unary),
    Binary: Rule(lambda node, a, b: _broadcast(a, b), lambda node, a, b: BINARY[node.kind](a, b)),
    PRelu: Rule(_prelu_shape, lambda node, x, slope: np.where(x >= 0, x, slope * x)),
    Reduce: Rule(lambda node, x: _reduced(node, node.axes, x), _reduce),
    Softmax: Rule(_softmax_shape, _softmax),
    Normalize: Rule(normalize_shape, normalize),
    Attention: Rule(attention_shape, attention),
    Select: Rule(lambda node, *shapes: _broadcast(*shapes), _select),
    Embedding: Rule(_embedding_shape, _embedding),
    AxisMatMul: Rule(_axis_matmul_shape, _axis_matmul),
    Reshape: Rule(_reshape_shape, lambda node, x: x.reshape(node.shape)),
    Transpose: Rule(_transpose_shape, lambda node, x: np.transpose(x, node.perm)),
    Slice: Rule(_slice_shape, lambda node, x: x[tuple(slice(*part) for part in node.slices)]),
    Pad: Rule(_pad_shape, lambda node, x: np.pad(x, node.pads, constant_values=node.value)),
    Concat: Rule(_concat_shape, lambda node, *parts: np.concatenate(parts, node.axis)),
    Expand: Rule(_expand_shape, lambda node, x: np.broadcast_to(x, node.shape)),
    Take: Rule(_take_shape, lambda node, x: np.take(x, node.indices, node.axis)),
    ArgMax: Rule(lambda node, x: _reduced(node, (node.axis,), x), _argmax),
}


def infer_shape(node: Node, shapes: Mapping[str, Shape]) -> Shape:
    """Return the shape of ``node``'s output.  ShapeError: the operands do not fit."""
    return RULES[type(node)].shape(node, *(shapes[n] if n else None for n in node.inputs))


def evaluate(node: Node, *arrays: Array | None) -> Array:
    """Return the numpy result of one node in the arrays' float type (ArgMax: its own type).

    None stands for an optional input that is left out.
    """
    return np.asarray(RULES[type(node)].value(node, *arrays))


# ---------------------------------------------------------------- whole graphs


def run_graph(
    graph: Graph, feeds: Mapping[str, Array], *, quantized: bool = False, keep_all: bool = False
) -> dict[str, Array]:
    """Return the outputs of ``graph`` in float; ``feeds`` set the float type and the batch size.

    ``quantized`` rounds every tensor of ``graph.quant`` to its quantised values; ``keep_all``
    returns every tensor instead of the outputs.
    """
    missing = set(graph.inputs) - set(feeds)
    if missing:
        raise BadInput(f"no feed for {sorted(missing)}; the inputs are {list(graph.inputs)}")
    values: dict[str, Array] = {**graph.constants, **{n: feeds[n] for n in graph.inputs}}
    quant = graph.quant if quantized else {}
    for name in quant.keys() & values.keys():
        values[name] = _rounded(values[name], quant[name])
    for node in graph.nodes:
        y = evaluate(node, *(values[n] if n else None for n in node.inputs))
        values[node.output] = _rounded(y, quant[node.output]) if node.output in quant else y
    return values if keep_all else {name: values[name] for name in graph.outputs}


def _rounded(x: Array, q: QParams) -> Array:
    """Return ``x`` rounded to quantised values, in its own float type."""
    return rounded(x, q).astype(x.dtype)
