# SPDX-License-Identifier: Apache-2.0
"""Encoder layers made by hand, as lowering makes them from attention and normalisation.

In: sizes.  Out: a MatGraph with random weights, made for inputs of about -4..4.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from neuralmatrix.ir.matgraph.ops import (
    Epilogue,
    Gemm,
    MatGraph,
    MatOp,
    Move,
    Port,
    RowStat,
    Tensor,
    Window,
)
from neuralmatrix.ir.types import Array, Function


@dataclass(frozen=True)
class Sizes:
    """Positions, channels, heads, hidden channels; ``centered``: the norm subtracts the mean."""

    positions: int
    channels: int
    heads: int
    hidden: int
    centered: bool


@dataclass
class _Net:
    sizes: Sizes
    rng: np.random.Generator
    tensors: dict[str, Tensor] = field(default_factory=dict)
    ops: list[MatOp] = field(default_factory=list)

    def declare(self, images: int, channels: int, broadcast: bool = False) -> str:
        name = f"t{len(self.tensors)}"
        shape = (images, 1, self.sizes.positions, channels)
        self.tensors[name] = Tensor(name, shape, broadcast)
        return name

    def gemm(self, x: str, channels: int, **epilogue: object) -> str:
        depth = self.tensors[x].shape[3]
        weight = self.rng.standard_normal((1, 1, depth, channels)) / np.sqrt(depth)
        out = self.declare(1, channels)
        made = Epilogue(**epilogue)  # type: ignore[arg-type]
        self.ops.append(Gemm(out, x, weight, np.zeros(channels), epilogue=made))
        return out

    def product(self, x: str, rhs: str, channels: int, transposed: bool, **fields: object) -> str:
        out = self.declare(self.sizes.heads, channels)
        gain = self.tensors[x].shape[3] ** -0.5 if transposed else 1.0
        self.ops.append(Gemm(out, x, None, np.zeros(channels), rhs=rhs, rhs_transposed=transposed,
                             gain=gain, epilogue=Epilogue(**fields)))  # type: ignore[arg-type]  # fmt: skip
        return out

    def window(self, x: str, weight: Array | None = None, bias: float = 0.0,
               minus: str | None = None, **epilogue: object) -> str:  # fmt: skip
        images, _, _, channels = self.tensors[x].shape
        out = self.declare(images, channels, self.tensors[x].broadcast)
        weight = np.ones((1, 1, 1)) if weight is None else weight
        made = Epilogue(**epilogue)  # type: ignore[arg-type]
        self.ops.append(Window(out, x, weight, np.full(channels, bias), epilogue=made, minus=minus))
        return out

    def statistic(self, kind: str, images: int = 1) -> RowStat:
        return RowStat(kind, self.declare(images, 1, True))  # type: ignore[arg-type]

    def move(self, x: str, index: Array) -> str:
        out = self.declare(index.shape[0], index.shape[3])
        self.ops.append(Move(out, (x,), np.ascontiguousarray(index)))
        return out


def _split(net: _Net, x: str) -> str:
    """Append (1, 1, L, heads*d) to (heads, 1, L, d)."""
    s = net.sizes
    index = np.arange(s.positions * s.channels).reshape(1, s.positions, s.heads, -1)
    return net.move(x, index.transpose(2, 0, 1, 3))


def _merge(net: _Net, x: str) -> str:
    s = net.sizes
    index = np.arange(s.positions * s.channels).reshape(1, s.heads, s.positions, -1)
    return net.move(x, index.transpose(0, 2, 1, 3).reshape(1, 1, s.positions, s.channels))


def _attention(net: _Net, x: str) -> str:
    s = net.sizes
    q, k, v = (_split(net, net.gemm(x, s.channels)) for _ in range(3))
    top, total = net.statistic("max", s.heads), net.statistic("sum", s.heads)
    net.product(q, k, s.positions, True, rows=(top,))
    power = net.product(q, k, s.positions, True, residual=top.tensor, residual_gain=-1.0,
                        activation=Function("exp"), rows=(total,))  # fmt: skip
    inverse = net.window(total.tensor, activation=Function("reciprocal"))
    return _merge(net, net.product(power, v, s.channels // s.heads, False, hadamard=inverse))


def _norm(net: _Net, x: str, rows: tuple[RowStat, ...]) -> str:
    found = {row.kind: row.tensor for row in rows}
    mean = found.get("mean")
    gamma = net.rng.uniform(0.5, 1.5, (1, 1, net.sizes.channels))
    epilogue: dict[str, object] = {"activation": Function("rsqrt")}
    if mean:
        squared = net.window(mean, hadamard=mean)
        epilogue |= {"residual": squared, "residual_gain": -1.0}
    inverse = net.window(found["square"], bias=1e-3, **epilogue)
    return net.window(x, gamma, minus=mean, hadamard=inverse)


def encoder(sizes: Sizes, layers: int = 1, seed: int = 0) -> MatGraph:
    """Return post-norm layers if the norm is ``centered``, else pre-norm ones."""
    net = _Net(sizes, np.random.default_rng(seed))
    kinds = ("mean", "square") if sizes.centered else ("square",)
    x = start = net.declare(1, sizes.channels)
    rows: tuple[RowStat, ...] = ()
    if not sizes.centered:
        rows = tuple(net.statistic(kind) for kind in kinds)
        x = net.window(x, rows=rows)
    for _ in range(layers):
        for branch in (_attention, _feed_forward):
            y = x if sizes.centered else _norm(net, x, rows)
            made = branch(net, y)
            rows = tuple(net.statistic(kind) for kind in kinds)
            x = net.gemm(made, sizes.channels, residual=x, rows=rows)
            x = _norm(net, x, rows) if sizes.centered else x
    shape = net.tensors[start].shape
    ports = (Port("x", shape, start, ()),), (Port("y", shape, x, ()),)
    return MatGraph(*ports, tuple(net.ops), net.tensors, {})


def _feed_forward(net: _Net, x: str) -> str:
    return net.gemm(x, net.sizes.hidden, activation=Function("gelu"))
