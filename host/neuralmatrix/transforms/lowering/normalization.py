# SPDX-License-Identifier: Apache-2.0
"""Lowering of normalisation: statistics, operations on one value per row, one pass over x.

In: Normalize nodes.  Out: the value of each.

Over the channels the statistics are row statistics.  Over positions, or groups of channels, they
are windows and products with ones of x - mean, which avoids cancellation.
"""

from __future__ import annotations

from math import prod

import numpy as np

from ...ir.axis_view import axis_atoms, canonical_operand, channel_groups
from ...ir.graph.nodes import Normalize
from ...ir.matgraph.ops import Epilogue, Gemm, Window
from ...ir.types import Array, Function
from .builder import Builder, Direct, Refused, Value
from .convolution import zeros
from .pointwise import with_constant
from .row_statistics import plain_view, row_stats

RSQRT, SQUARE = Function("rsqrt"), Function("square")
# A lower bound of a root below this serves only to avoid a division by 0.
LEAST_BOUND = 1e-6


def lower_normalize(b: Builder, node: Normalize) -> Value:
    x = _whole_dims(b, b.value(node.inputs[0]), node.axes)
    by_rows = _inner(x, node.axes) == set(x.view.dims[3]) != set()
    scale = _operand(b, node, 1, x)
    name = node.output if len(node.inputs) < 3 else f"{node.output}:centred"
    vector = scale is not None and scale.shape[:3] == (1, 1, 1)
    inner_name = name if scale is None or vector else f"{name}:unscaled"
    weight = scale.reshape(-1) if scale is not None and vector else 1.0
    done = (_by_rows if by_rows else _by_windows)(b, node, x, weight, inner_name)
    if scale is not None and not vector:
        done = with_constant(b, "mul", done, b.graph.constants[node.inputs[1]], name, node.source)
    if len(node.inputs) > 2 and node.inputs[2]:
        bias = b.graph.constants[node.inputs[2]]
        return with_constant(b, "add", done, bias, node.output, node.source)
    return done


def _operand(b: Builder, node: Normalize, index: int, x: Direct) -> Array | None:
    """Return a constant operand as (N,H,W,C), each of them whole or 1."""
    names = node.inputs[1:]
    for name in names:
        if name and name not in b.graph.constants:
            raise Refused(f"its operand {name!r} is computed at run time; it has to be a constant")
    if len(node.inputs) <= index or not node.inputs[index]:
        return None
    return canonical_operand(np.asarray(b.graph.constants[node.inputs[index]], np.float32), x.view)


def _inner(x: Direct, axes: tuple[int, ...]) -> set[int]:
    """Return the atoms that are normalised over."""
    return {a for axis in axes for a in axis_atoms(x.view)[axis]}


def _whole_dims(b: Builder, value: Value, axes: tuple[int, ...]) -> Direct:
    """Return ``value`` in a form with N outside, and H and W each inside or outside of the axes."""
    x = b.direct(value)
    inner = _inner(x, axes)
    n, h, w, _ = map(set, x.view.dims)
    if not n & inner and all(dim <= inner or not dim & inner for dim in (h, w)):
        return x
    return b.form(value, channel_groups(len(value.shape), axes))


# ---------------------------------------------------------------- over the channels


def _by_rows(b: Builder, node: Normalize, x: Direct, weight: Array | float, name: str) -> Direct:
    mean, inverse = _row_statistics(b, node, x)
    epilogue = Epilogue(hadamard=inverse.tensor)
    minus = mean.tensor if mean else None
    return b.window(x, name, node.source, weight=weight, epilogue=epilogue, minus=minus)


def _row_statistics(b: Builder, node: Normalize, x: Direct) -> tuple[Direct | None, Direct]:
    """Return the mean, if it is subtracted, and the factor of the rows; equal nodes share them."""
    key = ("normalize", x.tensor, node.kind, node.centered, node.epsilon)
    kinds = ("mean", "square") if node.centered else ("square",)
    *means, square = row_stats(b, x, kinds, node.output, node.source)
    if key not in b.shared:
        spread = _less_mean_square(b, node, means[0]) if means else None
        b.shared[key] = _inverse(b, node, square, b.tensors[x.tensor].shape[3], spread)
    return (means[0] if means else None), b.shared[key]


def _less_mean_square(b: Builder, node: Normalize, mean: Direct) -> Epilogue:
    """Return the epilogue that subtracts the square of the mean."""
    square = b.window(mean, f"{node.output}:mean2", node.source,
                      epilogue=Epilogue(hadamard=mean.tensor))  # fmt: skip
    return Epilogue(residual=square.tensor, residual_gain=-1.0)


def _inverse(
    b: Builder, node: Normalize, square: Direct, count: int, spread: Epilogue | None = None
) -> Direct:
    """Emit 1 / root of a mean of squares and the node's epsilon; ``spread`` subtracts."""
    name, source = f"{node.output}:inverse", node.source
    residual = spread.residual if spread else None
    root = Epilogue(residual, -1.0 if residual else 1.0, RSQRT)
    if node.kind == "variance":
        return b.window(square, name, source, bias=node.epsilon, epilogue=root)
    least = node.epsilon**2
    if node.epsilon <= LEAST_BOUND:
        gain = float(count)
        if residual:
            root = Epilogue(residual, -gain, RSQRT)
        return b.window(square, name, source, weight=gain, bias=least, epilogue=root)
    bound = Epilogue(residual, -float(count), Function("clip", (least, np.inf)))
    total = b.window(square, f"{name}:total", source, weight=float(count), epilogue=bound)
    return b.window(total, name, source, epilogue=Epilogue(activation=RSQRT))


# ---------------------------------------------------------------- over positions and groups


def _by_windows(b: Builder, node: Normalize, x: Direct, weight: Array | float, name: str) -> Direct:
    out, source = node.output, node.source
    if node.centered:
        mean = _mean(b, node, x, f"{out}:mean")
        epilogue = Epilogue(residual=mean.tensor, residual_gain=-1.0)
        x = b.window(x, f"{out}:difference", source, epilogue=epilogue)
    square = b.window(x, f"{out}:squares", source, epilogue=Epilogue(activation=SQUARE))
    count = prod(x.shape[axis] for axis in node.axes)
    inverse = _inverse(b, node, _mean(b, node, square, f"{out}:square"), count)
    return b.window(x, name, source, weight=weight, epilogue=Epilogue(hadamard=inverse.tensor))


def _mean(b: Builder, node: Normalize, x: Direct, name: str) -> Direct:
    """Return means over the node's axes, which broadcast: (N, H or 1, W or 1, C or 1)."""
    inner = _inner(x, node.axes)
    n, h, w, c = x.view.canonical
    kh, kw = (
        size if set(dim) & inner else 1 for size, dim in zip((h, w), x.view.dims[1:3], strict=True)
    )
    shape = (n, h // kh, w // kw)
    if kh * kw > 1:
        taps = np.full((kh, kw, 1), 1 / (kh * kw), np.float32)
        op = Window(f"{name}:map", x.tensor, taps, zeros(c), source=node.source)
        x = Direct(b.emit(op, plain_view(*shape, c)).tensor, x.view)
    matrix = _averages(x, inner)
    if matrix is None:
        return Direct(x.tensor, plain_view(*shape, c))
    m = matrix.shape[1]
    op_c = Gemm(name, x.tensor, matrix[None, None], zeros(m), source=node.source)
    return b.emit(op_c, plain_view(*shape, m), broadcast=m == 1)


def _averages(x: Direct, inner: set[int]) -> Array | None:
    """Return the matrix (C, C) that averages over groups, (C, 1) if there is one group."""
    sizes = [x.view.atoms[a] for a in x.view.dims[3]]
    outer = [a not in inner for a in x.view.dims[3]]
    if all(outer):
        return None
    total = prod(sizes)
    if not any(outer):
        return np.full((total, 1), 1 / total, np.float32)
    index = np.indices(sizes).reshape(len(sizes), -1)[outer]
    same = (index[:, :, None] == index[:, None, :]).all(0)
    return np.asarray(same / same.sum(0), np.float32)
