# SPDX-License-Identifier: Apache-2.0
"""Small MatGraphs of the array's attention and normalisation, for tests of quantisation.

In: sizes.  Out: a MatGraph with one input "x", and outputs "y".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from neuralmatrix.ir.matgraph.ops import (
    Epilogue,
    Gemm,
    MatGraph,
    MatOp,
    Port,
    RowStat,
    Tensor,
    Window,
)
from neuralmatrix.ir.points import Ranges
from neuralmatrix.ir.types import Array, Function, QParams
from quantized import observed

Shape = tuple[int, int, int, int]
ONE = np.ones((1, 1, 1))


class Maker:
    """Collects operations, tensors and constants."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors: dict[str, Tensor] = {}
        self.ops: list[MatOp] = []
        self.constants: dict[str, Array] = {}

    def tensor(self, name: str, shape: Shape, broadcast: bool = False) -> str:
        self.tensors[name] = Tensor(name, shape, broadcast)
        return name

    def rows(self, shape: Shape, *stats: tuple[Any, str]) -> tuple[RowStat, ...]:
        for _, name in stats:
            self.tensor(name, (*shape[:3], 1), True)
        return tuple(RowStat(kind, name) for kind, name in stats)

    def gemm(self, name: str, source: str, m: int, **fields: Any) -> str:
        n, h, w, c = self.tensors[source].shape
        weight = self.rng.standard_normal((1, 1, c, m)) / np.sqrt(c)
        fields = {"bias": np.zeros(m), **fields}
        self.ops.append(Gemm(name, source, weight, **fields))
        return self.tensor(name, (n, h, w, m))

    def product(self, name: str, x: str, rhs: str, m: int, **fields: Any) -> str:
        n, h, w, _ = self.tensors[x].shape
        fields = {"bias": np.zeros(m), **fields}
        self.ops.append(Gemm(name, x, None, rhs=rhs, **fields))
        return self.tensor(name, (n, h, w, m))

    def window(self, name: str, source: str, **fields: Any) -> str:
        t = self.tensors[source]
        fields = {"weight": ONE, "bias": np.zeros(t.shape[3]), **fields}
        self.ops.append(Window(name, source, **fields))
        return self.tensor(name, t.shape, t.broadcast)

    def constant(self, name: str, value: Array) -> str:
        self.constants[name] = np.asarray(value, np.float32)
        return self.tensor(name, value.shape)

    def graph(self, quant: dict[str, QParams] | None = None) -> MatGraph:
        x, y = self.tensors["x"], self.tensors["y"]
        return MatGraph(
            (Port("x", x.shape, "x", ()),), (Port("y", y.shape, "y", ()),), tuple(self.ops),
            self.tensors, self.constants, quant or {},
        )  # fmt: skip


def attention(
    heads: int = 2, p: int = 21, d: int = 20, mask: str = "", sharpness: float = 1.0
) -> MatGraph:
    """Return softmax(q k^T) v of an input with ``heads`` images; ``mask``: "", "add" or "keep"."""
    b = Maker()
    b.tensor("x", (heads, 1, p, d))
    q, k, v = (b.gemm(name, "x", d) for name in ("q", "k", "v"))
    shape = (heads, 1, p, p)
    keep = np.arange(p).reshape(1, 1, 1, p) < p - 6
    added = b.constant("added", np.where(keep, 0.0, -1e4)) if mask else None
    factor = b.constant("keep", keep) if mask == "keep" else None
    scores: dict[str, Any] = {"rhs_transposed": True, "gain": sharpness * d**-0.5}
    top = b.rows(shape, ("max", "max"))
    s = b.product("s", q, k, p, epilogue=Epilogue(added, rows=top), **scores)
    exp = Epilogue("max", -1.0, Function("exp"), factor, b.rows(shape, ("sum", "sum")))
    if mask == "add":
        e = b.window("e", s, epilogue=exp)
    else:
        e = b.product("e", q, k, p, epilogue=exp, **scores)
    b.window("inverse", "sum", epilogue=Epilogue(activation=Function("reciprocal")))
    b.product("y", e, v, d, epilogue=Epilogue(hadamard="inverse"))
    return b.graph()


def layer_norm(
    shape: Shape = (2, 1, 17, 40), centered: bool = True, direct: bool = True
) -> MatGraph:
    """Return a normalisation of a Gemm's result; statistics are a window's unless ``direct``."""
    b = Maker()
    b.tensor("x", shape)
    stats = [("mean", "mean")] if centered else []
    rows = b.rows(shape, *stats, ("square", "square"))
    bias = b.rng.standard_normal(shape[3])
    b.gemm("g", "x", shape[3], bias=bias, epilogue=Epilogue(rows=rows if direct else ()))
    if not direct:
        b.window("copy", "g", epilogue=Epilogue(rows=rows))
    rsqrt, eps = Function("rsqrt"), np.full(1, 1e-5)
    if centered:
        b.window("m2", "mean", epilogue=Epilogue(hadamard="mean"))
        b.window("inverse", "square", bias=eps, epilogue=Epilogue("m2", -1.0, rsqrt))
    else:
        b.window("inverse", "square", bias=eps, epilogue=Epilogue(activation=rsqrt))
    gamma = 1 + 0.3 * b.rng.standard_normal((1, 1, shape[3]))
    b.window("y", "g", weight=gamma, minus="mean" if centered else None,
             epilogue=Epilogue(hadamard="inverse"))  # fmt: skip
    return b.graph()


def feed(mg: MatGraph, seed: int = 1, scale: float = 1.0) -> Array:
    shape = mg.inputs[0].shape
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def bounds(mg: MatGraph, x: Array) -> Ranges:
    return observed(mg, {"x": x})
