# SPDX-License-Identifier: Apache-2.0
"""Random activation-activation matmuls, row statistics, attention, normalisation for random_nets.

In: a Net.  Out: the same with a few more operations; sizes are rarely multiples of the array.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from neuralmatrix.ir.matgraph.ops import Epilogue, Gemm, Move, RowStat, Tensor, Window
from neuralmatrix.ir.types import Function

MOST_POSITIONS = 40


def stat(net: Any, kind: Any, shape: tuple[int, ...]) -> RowStat:
    """Declare and return a row statistic of a tensor of ``shape``."""
    name = f"{kind}{len(net.ops)}_{len(net.tensors)}"
    n, h, w, _ = shape
    net.tensors[name] = Tensor(name, (n, h, w, 1), True)
    return RowStat(kind, name)


def pointwise(net: Any, source: str, shape: tuple[int, ...], **fields: Any) -> str:
    """Append a 1x1 window with weight 1 and no bias unless given."""
    fields = {"weight": np.ones((1, 1, 1)), "bias": np.zeros(shape[3]), **fields}
    op = Window(net.fresh, source, fields.pop("weight"), fields.pop("bias"), **fields)
    net.add(op, shape, shape[3] == 1 and net.tensors[source].broadcast)
    return op.output


def flattened(net: Any) -> None:
    """Reshape the current map to one image of at most MOST_POSITIONS positions."""
    n, h, w, c = net.shape
    index = np.arange(n * h * w * c).reshape(1, 1, -1, c)[:, :, :MOST_POSITIONS]
    move = Move(net.fresh, (net.current,), np.ascontiguousarray(index))
    net.add(move, index.shape, net.tensors[net.current].broadcast)


def projected(net: Any, source: str, channels: int, **fields: Any) -> str:
    n, h, w, c = net.tensors[source].shape
    weight = net.rng.standard_normal((1, 1, c, channels)) / np.sqrt(c)
    bias = net.rng.standard_normal(channels) * net.pick(0, 1)
    net.add(Gemm(net.fresh, source, weight, bias, **fields), (n, h, w, channels))
    return str(net.current)


def split(net: Any, source: str, heads: int) -> str:
    """Move (1, 1, P, heads * d) to (heads, 1, P, d)."""
    _, _, p, c = net.tensors[source].shape
    index = np.arange(p * c).reshape(1, 1, p, heads, c // heads).transpose(3, 0, 1, 2, 4)[:, 0]
    net.add(Move(net.fresh, (source,), np.ascontiguousarray(index)), index.shape)
    return str(net.current)


def side(net: Any, source: str, heads: int, depth: int) -> str:
    """Append an operand: int8 or, by a row maximum, int16; sometimes with nonzero padding."""
    n, h, w, _ = net.tensors[source].shape
    rows = (stat(net, "max", (n, h, w, 1)),) if net.pick(0, 0, 1) else ()
    function = Function("sigmoid") if net.pick(0, 0, 1) else None
    made = projected(net, source, heads * depth, epilogue=Epilogue(activation=function, rows=rows))
    return split(net, made, heads) if heads > 1 else made


def masks(net: Any, heads: int, p: int) -> tuple[str | None, str | None]:
    """Return an additive mask of the scores, or factors 0 and 1, or none; key 0 stays."""
    kind = net.pick(0, 1, 2)
    if kind == 0:
        return None, None
    keep = net.rng.random((net.pick(1, heads), 1, net.pick(1, p), p)) > 0.3
    keep[..., 0] = True
    found = []
    for name, value in (("add", np.where(keep, 0.0, -1e4)), ("keep", keep)):
        full = f"{name}{len(net.ops)}"
        net.constants[full] = value.astype(np.float32)
        net.tensors[full] = Tensor(full, keep.shape)
        found.append(full)
    return (found[0], found[1] if kind == 2 else None)


def attention(net: Any) -> None:
    """Append attention: scores twice, their maximum, exp, row sum, values."""
    flattened(net)
    source, p = net.current, net.shape[2]
    depth, value_depth, heads = net.pick(3, 16, 20), net.pick(5, 16), net.pick(1, 2, 4)
    right = heads // net.pick(1, 2) or 1
    q, k = side(net, source, heads, depth), side(net, source, right, depth)
    v = side(net, source, right, value_depth)
    shape = (heads, 1, p, p)
    scores: dict[str, Any] = {"rhs": k, "rhs_transposed": True, "gain": depth**-0.5}
    added, kept = masks(net, heads, p)
    largest = stat(net, "max", shape)
    epilogue = Epilogue(residual=added, rows=(largest,))
    net.add(Gemm(net.fresh, q, None, np.zeros(p), epilogue=epilogue, **scores), shape)
    first = net.current
    total = stat(net, "sum", shape)
    exp = Epilogue(largest.tensor, -1.0, Function("exp"), kept, (total,))
    if added and not kept:  # scores with something added are stored
        pointwise(net, first, shape, epilogue=exp)
    else:
        net.add(Gemm(net.fresh, q, None, np.zeros(p), epilogue=exp, **scores), shape)
    power = net.current
    reciprocal = Epilogue(activation=Function("reciprocal"))
    inverse = pointwise(net, total.tensor, (*shape[:3], 1), epilogue=reciprocal)
    out = Gemm(net.fresh, power, None, np.zeros(value_depth), rhs=v,
               epilogue=Epilogue(hadamard=inverse))  # fmt: skip
    net.add(out, (*shape[:3], value_depth))


def product(net: Any) -> None:
    """Append an activation-activation matmul in either order, with a bias and a statistic."""
    flattened(net)
    source, p = net.current, net.shape[2]
    depth, heads = net.pick(7, 16, 33), net.pick(1, 3)
    x, y = side(net, source, heads, depth), side(net, source, net.pick(1, heads), depth)
    rows = (stat(net, "sum", (heads, 1, p, p)),) if net.pick(0, 1) else ()
    bias = net.rng.standard_normal(p) * net.pick(0, 1)
    gain = float(net.rng.uniform(-2, 2))
    op = Gemm(net.fresh, x, None, bias, rhs=y, rhs_transposed=True, gain=gain,
              epilogue=Epilogue(rows=rows))  # fmt: skip
    net.add(op, (heads, 1, p, p))
    squares = net.current
    if net.pick(0, 1):
        residual = rows[0].tensor if rows else None
        z = side(net, source, 1, net.pick(4, 17))
        m = net.shape[3]
        op = Gemm(net.fresh, squares, None, np.zeros(m), rhs=z, epilogue=Epilogue(residual))
        net.add(op, (heads, 1, p, m))


def normalize(net: Any) -> None:
    """Append layer or RMS normalisation with the statistics of a Gemm, a window, or a
    statistics-only window."""
    n, h, w, c = net.shape
    centered = bool(net.pick(0, 1))
    shape = (n, h, w, c if net.pick(0, 1) else net.pick(8, 21, 40))
    square = stat(net, "square", shape)
    mean = stat(net, "mean", shape) if centered else None
    rows = (mean, square) if mean else (square,)
    if shape[3] == c:
        x = net.current
        made = pointwise(net, x, shape, epilogue=Epilogue(rows=rows))
        x = x if net.pick(0, 1) and not net.tensors[x].broadcast else made
    else:
        x = projected(net, net.current, shape[3], epilogue=Epilogue(rows=rows))
    row = (n, h, w, 1)
    bias, minus = np.full(1, 1e-2), {}
    rsqrt = Function("rsqrt")
    if mean is None:
        inverse = pointwise(net, square.tensor, row, bias=bias, epilogue=Epilogue(activation=rsqrt))
    else:
        product_of_means = Epilogue(hadamard=mean.tensor)
        squared = pointwise(net, mean.tensor, row, epilogue=product_of_means)
        variance = Epilogue(squared, -1.0, rsqrt)
        inverse = pointwise(net, square.tensor, row, bias=bias, epilogue=variance)
        minus = {"minus": mean.tensor}
    gamma = net.rng.standard_normal((1, 1, shape[3])) if net.pick(0, 1) else np.ones((1, 1, 1))
    pointwise(net, x, shape, weight=gamma, epilogue=Epilogue(hadamard=inverse), **minus)


def statistic(net: Any) -> None:
    """Append a window or Gemm with a statistic that a later window adds or multiplies."""
    n, h, w, c = net.shape
    kind = ("max", "sum", "mean", "square")[net.pick(0, 1, 2, 3)]
    shape = (n, h, w, net.pick(1, 15, 32, 50))
    row = stat(net, kind, shape)
    function = (None, Function("relu"), Function("tanh"))[net.pick(0, 1, 2)]
    made = projected(
        net, net.current, shape[3], epilogue=Epilogue(activation=function, rows=(row,))
    )
    if net.tensors[made].shape[3] == 1:
        return
    operand = {"residual": row.tensor} if net.pick(0, 1) else {"hadamard": row.tensor}
    minus = {"minus": row.tensor} if kind == "mean" else {}
    pointwise(net, made, shape, epilogue=Epilogue(**operand), **minus)


BLOCKS = (attention, product, normalize, statistic)
