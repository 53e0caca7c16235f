# SPDX-License-Identifier: Apache-2.0
"""The network of the self-test: small, with odd sizes, using every feature of the units.

In: an ArrayConfig.  Out: a MatGraph with seeded weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ...hardware.target import ArrayConfig
from ...ir.matgraph.ops import (
    Epilogue,
    Gemm,
    MatGraph,
    MatOp,
    Move,
    Port,
    RowMax,
    RowStat,
    Tensor,
    Window,
)
from ...ir.types import Array, Function

Shape = tuple[int, int, int, int]
LARGE_H, LARGE_W = 34, 42  # more positions than the output buffer has rows
H, W = 6, 7
PROMOTED = ("deep", "pooled", "query", "value", "sum")  # int16; the others are int8 where possible
SPLIT = "head"  # its sum over input channels is computed in two parts
_HEADS = 2


@dataclass
class _Net:
    """A MatGraph under construction."""

    rng: np.random.Generator
    tensors: dict[str, Tensor] = field(default_factory=dict)
    ops: list[MatOp] = field(default_factory=list)

    def shape(self, name: str) -> Shape:
        return self.tensors[name].shape

    def declare(self, name: str, shape: tuple[int, ...], broadcast: bool = False) -> None:
        n, h, w, c = shape
        self.tensors[name] = Tensor(name, (n, h, w, c), broadcast)

    def gemm(self, name: str, source: str, channels: int, kernel: int = 1, **more: Any) -> None:
        """Add a convolution of stride 1 that keeps the shape and about the range of the values."""
        n, h, w, c = self.shape(source)
        weight = self.rng.standard_normal((kernel, kernel, c, channels)) / (kernel * np.sqrt(c))
        bias = self.rng.standard_normal(channels)
        pads = (kernel // 2,) * 4
        self.ops.append(Gemm(name, source, weight, bias, pads=pads, **more))
        self.declare(name, (n, h, w, channels))

    def same(self, name: str, source: str, **more: Any) -> None:
        """Add an element-wise window."""
        shape = self.shape(source)
        ones = np.ones((1, 1, 1))
        self.ops.append(Window(name, source, ones, np.zeros(shape[3]), **more))
        self.declare(name, shape, self.tensors[source].broadcast)

    def stat(self, kind: Literal["max", "sum", "mean", "square"], of: Shape) -> RowStat:
        name = f"{kind}_{len(self.tensors)}"
        self.declare(name, (*of[:3], 1), True)
        return RowStat(kind, name)


def _large_map(net: _Net) -> None:
    """Add operations that wrap around buffers, int8 zero points, and a UNIFORM table."""
    net.gemm("front", "x", 8, 3, epilogue=Epilogue(activation=Function("leaky_relu", (0.25,))))
    n, h, w, c = net.shape("front")
    net.gemm("factor", "front", c, epilogue=Epilogue(activation=Function("clip", (-0.5, 6.0))))
    gate = Epilogue("front", -0.5, Function("abs"), "factor")
    net.gemm("second", "front", c, 3, epilogue=gate)
    net.ops.append(Window("small", "second", np.ones((6, 6, 1)), np.zeros(c), reduce="max",
                          strides=(6, 6), pads=(1, 0, 1, 0)))  # fmt: skip
    net.declare("small", (n, H, W, c))
    total = net.stat("sum", (n, H, W, c))
    rows = Epilogue(activation=Function("leaky_relu", (0.1,)), rows=(total,))
    net.gemm("plain", "small", c, epilogue=rows)


def _convolutions(net: _Net, lanes: int) -> None:
    """Add products over several blocks, residual and Hadamard operands, windows, maxima."""
    wide = lanes + 3
    net.gemm("stem", "plain", wide, 3, epilogue=Epilogue(activation=Function("relu")))
    net.gemm("deep", "stem", wide)
    gate = Epilogue("stem", -1.0, Function("sigmoid"), "deep")
    net.gemm("gated", "deep", wide, 3, epilogue=gate)
    net.gemm(SPLIT, "gated", 5)
    net.same("sum", "gated", epilogue=Epilogue("deep", 1.0, Function("tanh"), "stem"))
    taps = net.rng.standard_normal((3, 3, wide))
    bias = net.rng.standard_normal(wide)
    net.ops.append(Window("depth", "gated", taps, bias, strides=(2, 2), pads=(1, 1, 1, 1),
                          epilogue=Epilogue(activation=Function("silu"))))  # fmt: skip
    net.declare("depth", (1, (H + 1) // 2, (W + 1) // 2, wide))
    for name, source in (("pooled", "deep"), ("narrow", "stem")):
        net.ops.append(Window(name, source, np.ones((3, 3, 1)), np.zeros(wide), reduce="max",
                              strides=(2, 2), pads=(1, 1, 1, 1)))  # fmt: skip
        net.declare(name, (1, (H + 1) // 2, (W + 1) // 2, wide))


def _attention(net: _Net, lanes: int) -> None:
    """Add activation-activation matmuls in both orders, row maxima and sums, exp, reciprocal."""
    depth, p = lanes // 2 + 1, H * W
    for name in ("query", "key", "value"):
        net.gemm(name, "sum", _HEADS * depth)
        index = np.arange(p * _HEADS * depth).reshape(1, 1, p, _HEADS, depth)
        split = np.ascontiguousarray(index.transpose(3, 0, 1, 2, 4)[:, 0])
        net.ops.append(Move(f"{name}_heads", (name,), split))
        net.declare(f"{name}_heads", split.shape)
    scores = (_HEADS, 1, p, p)
    largest, total = net.stat("max", scores), net.stat("sum", scores)
    product: dict[str, Any] = {"rhs": "key_heads", "rhs_transposed": True, "gain": depth**-0.5}
    net.ops.append(Gemm("scores", "query_heads", None, np.zeros(p),
                        epilogue=Epilogue(rows=(largest,)), **product))  # fmt: skip
    exp = Epilogue(largest.tensor, -1.0, Function("exp"), rows=(total,))
    net.ops.append(Gemm("powers", "query_heads", None, np.zeros(p), epilogue=exp, **product))
    for name in ("scores", "powers"):
        net.declare(name, scores)
    net.same("inverse", total.tensor, epilogue=Epilogue(activation=Function("reciprocal")))
    net.ops.append(Gemm("attended", "powers", None, np.zeros(depth), rhs="value_heads",
                        epilogue=Epilogue(hadamard="inverse")))  # fmt: skip
    net.declare("attended", (_HEADS, 1, p, depth))


def _normalization(net: _Net) -> None:
    """Add mean and mean square of rows, a difference, rsqrt of an int16 value, RowMax."""
    shape = net.shape("gated")
    mean, square = net.stat("mean", shape), net.stat("square", shape)
    net.same("again", "gated", epilogue=Epilogue(rows=(mean, square)))
    net.same("deviation", square.tensor, epilogue=Epilogue(activation=Function("rsqrt")))
    net.same("normal", "again", minus=mean.tensor, epilogue=Epilogue(hadamard="deviation"))
    net.ops.append(RowMax("top", "normal"))
    net.declare("top", (*shape[:3], 1), True)
    net.same("below", "normal", epilogue=Epilogue("top", -1.0))


def _rearrangements(net: _Net, lanes: int) -> None:
    """Add a swap of channels and columns, and one that a LOAD gathers lane by lane: lane l of
    column j is channel j + l of column l."""
    n, h, w, c = net.shape("normal")
    whole = np.arange(n * h * w * c).reshape(n, h, w, c)
    column, lane = np.arange(lanes - w)[:, None], np.arange(w)
    skewed = whole[:, :, lane, column + lane]
    for name, index in (("turned", whole.transpose(0, 1, 3, 2)), ("skewed", skewed)):
        net.ops.append(Move(name, ("normal",), np.ascontiguousarray(index)))
        net.declare(name, index.shape)


def network(array: ArrayConfig) -> MatGraph:
    """Make the self-test's network for an array."""
    net = _Net(np.random.default_rng(7))
    shape = (1, LARGE_H, LARGE_W, 3)
    net.declare("x", shape)
    _large_map(net)
    _convolutions(net, array.rows)
    _attention(net, array.rows)
    _normalization(net)
    _rearrangements(net, array.rows)
    ends = (SPLIT, "depth", "pooled", "narrow", "attended", "below", "turned", "skewed")
    outputs = tuple(Port(name, net.shape(name), name, ()) for name in ends)
    constants: dict[str, Array] = {}
    return MatGraph((Port("x", shape, "x", ()),), outputs, tuple(net.ops), net.tensors, constants)
