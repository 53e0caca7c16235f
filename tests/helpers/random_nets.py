# SPDX-License-Identifier: Apache-2.0
"""Random small MatGraphs for the bit-exactness tests.

In: a seed.  Out: a MatGraph of a few operations with odd sizes, and feeds for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from neuralmatrix.ir.matgraph.ops import (
    Epilogue,
    Gemm,
    MatGraph,
    MatOp,
    Move,
    Port,
    RowMax,
    Tensor,
    Window,
)
from neuralmatrix.ir.types import Array, Function
from random_blocks import BLOCKS

FUNCTIONS = (
    Function("sigmoid"), Function("tanh"), Function("hard_swish"), Function("leaky_relu", (0.1,)),
    Function("relu"), Function("clip", (-0.5, 1.5)), Function("silu"), Function("abs"),
)  # fmt: skip


@dataclass
class Net:
    """A MatGraph under construction; ``current`` is the tensor that the next operation reads."""

    rng: np.random.Generator
    tensors: dict[str, Tensor] = field(default_factory=dict)
    ops: list[MatOp] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    current: str = "x"

    def pick(self, *choices: int) -> int:
        return int(self.rng.choice(choices))

    def add(self, op: MatOp, shape: tuple[int, ...], broadcast: bool = False) -> None:
        n, h, w, c = shape
        self.tensors[op.output] = Tensor(op.output, (n, h, w, c), broadcast)
        self.ops.append(op)
        self.current = op.output

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.tensors[self.current].shape

    @property
    def fresh(self) -> str:
        return f"t{len(self.ops)}"

    def same_shape(self, shape: tuple[int, ...]) -> list[str]:
        return [n for n, t in self.tensors.items() if t.shape == shape and not t.broadcast]


def out_size(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> int:
    return (size + before + after - (kernel - 1) * dilation - 1) // stride + 1


@dataclass(frozen=True)
class Geometry:
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]
    out: tuple[int, int]


def geometry(net: Net, largest: int) -> Geometry:
    """Return a random window that fits the current map."""
    while True:
        kernel = (net.pick(*range(1, largest + 1)), net.pick(*range(1, largest + 1)))
        strides = (net.pick(1, 1, 2, 3), net.pick(1, 1, 2, 3))
        dilations = (net.pick(1, 1, 2), net.pick(1, 1, 2))
        pads = tuple(int(net.rng.integers(0, k)) for k in (*kernel, *kernel))
        _, h, w, _ = net.shape
        oh = out_size(h, kernel[0], strides[0], pads[0], pads[2], dilations[0])
        ow = out_size(w, kernel[1], strides[1], pads[1], pads[3], dilations[1])
        if oh > 0 and ow > 0:
            return Geometry(kernel, strides, pads, dilations, (oh, ow))


def epilogue(net: Net, shape: tuple[int, ...]) -> Epilogue:
    """Return a random residual, activation and Hadamard operand."""
    partners = net.same_shape(shape)
    residual = str(net.rng.choice(partners)) if partners and net.pick(0, 1) else None
    hadamard = str(net.rng.choice(partners)) if partners and net.pick(0, 0, 1) else None
    activation = FUNCTIONS[net.pick(*range(len(FUNCTIONS)))] if net.pick(0, 1) else None
    gain = float(net.pick(-1, 1))
    return Epilogue(residual, gain, activation, hadamard)


def conv(net: Net) -> None:
    n, _, _, c = net.shape
    g = geometry(net, 4)
    groups = net.pick(*[d for d in (1, 1, 1, 2, 3, c) if c % d == 0])
    m = groups * net.pick(1, 2, 5) if groups > 1 else net.pick(1, 7, 16, 17, 33)
    weight = net.rng.standard_normal((*g.kernel, c // groups, m)) * 0.3
    shape = (n, *g.out, m)
    bias = net.rng.standard_normal(m)
    op = Gemm(net.fresh, net.current, weight, bias, strides=g.strides, pads=g.pads,
              dilations=g.dilations, groups=groups, epilogue=epilogue(net, shape))  # fmt: skip
    net.add(op, shape)


def window(net: Net) -> None:
    n, _, _, c = net.shape
    g = geometry(net, 5)
    shape = (n, *g.out, c)
    kind = net.pick(0, 1, 2)
    bias = np.zeros(c) if kind else net.rng.standard_normal(c)
    weight = net.rng.standard_normal((*g.kernel, c)) if kind == 0 else np.ones((*g.kernel, 1))
    if kind == 1:
        weight = weight / weight.size
    op = Window(net.fresh, net.current, weight, bias, reduce="max" if kind == 2 else "add",
                strides=g.strides, pads=g.pads, dilations=g.dilations,
                epilogue=epilogue(net, shape))  # fmt: skip
    net.add(op, shape)


def elementwise(net: Net) -> None:
    shape = net.shape
    c = shape[3]
    weight = net.rng.standard_normal((1, 1, c)) if net.pick(0, 1) else np.ones((1, 1, 1))
    bias = net.rng.standard_normal(c) if net.pick(0, 1) else np.zeros(c)
    op = Window(net.fresh, net.current, weight, bias, epilogue=epilogue(net, shape))
    net.add(op, shape)


def constant_operand(net: Net) -> None:
    n, h, w, c = net.shape
    name = f"c{len(net.ops)}"
    shape = (1, net.pick(1, h), net.pick(1, w), c)
    net.constants[name] = net.rng.standard_normal(shape).astype(np.float32)
    net.tensors[name] = Tensor(name, shape)
    key = {"residual": name} if net.pick(0, 1) else {"hadamard": name}
    op = Window(net.fresh, net.current, np.ones((1, 1, 1)), np.zeros(c), epilogue=Epilogue(**key))
    net.add(op, (n, h, w, c))


def row_statistic(net: Net) -> None:
    """Append x - max(x), or x * sum(x), over channels."""
    source = net.current
    n, h, w, c = net.shape
    stat = net.fresh
    if net.pick(0, 1):
        net.add(RowMax(stat, source), (n, h, w, 1), True)
        e = Epilogue(residual=stat, residual_gain=-1.0)
    else:
        ones = np.ones((1, 1, c, 1))
        net.add(Gemm(stat, source, ones, np.zeros(1)), (n, h, w, 1), True)
        e = Epilogue(hadamard=stat)
    net.add(Window(net.fresh, source, np.ones((1, 1, 1)), np.zeros(c), epilogue=e), (n, h, w, c))


def move(net: Net) -> None:
    """Append a random Move: permuted axes, slices, padding, concatenation, upsampling."""
    shape = net.shape
    index = np.arange(int(np.prod(shape))).reshape(shape)
    inputs = [net.current]
    kind = net.pick(0, 1, 2, 3, 4, 5)
    if kind == 0:
        index = index.transpose(0, 3, 1, 2)
    elif kind == 1:
        index = index[:, :, :, :: -1 if shape[3] > 1 else 1][:, (shape[1] - 1) // 2 :]
    elif kind == 2:
        index = np.pad(index, ((0, 0), (1, 0), (0, 2), (0, 0)), constant_values=-1)
    elif kind == 3:
        others = [n for n in net.tensors if net.tensors[n].shape[:3] == shape[:3]
                  and not net.tensors[n].broadcast and n not in net.constants]  # fmt: skip
        other = str(net.rng.choice(others))
        more = np.arange(int(np.prod(net.tensors[other].shape))).reshape(net.tensors[other].shape)
        index = np.concatenate([index, more + index.size], 3)
        inputs.append(other)
    elif kind == 4:
        index = index.repeat(2, 1).repeat(2, 2)
    else:
        half = index[..., : shape[3] // 2 + 1]
        index = index.reshape(shape[0], 1, -1, shape[1]) if shape[1] > 1 else half
    fill = float(net.rng.standard_normal())
    op = Move(net.fresh, tuple(inputs), np.ascontiguousarray(index), fill)
    net.add(op, index.shape)


BUILDERS: tuple[Callable[[Net], None], ...] = (
    conv, conv, window, elementwise, constant_operand, row_statistic, move, *BLOCKS,
)  # fmt: skip


def random_net(seed: int) -> tuple[MatGraph, dict[str, Array]]:
    """Return a network of two to five operations and one feed."""
    rng = np.random.default_rng(seed)
    net = Net(rng)
    shape = (1, int(rng.integers(1, 10)), int(rng.integers(1, 12)), int(rng.integers(1, 40)))
    net.tensors["x"] = Tensor("x", shape)
    for _ in range(int(rng.integers(2, 6))):
        if np.prod(net.shape) > 20_000:
            break
        BUILDERS[int(rng.integers(len(BUILDERS)))](net)
    out = net.tensors[net.current]
    mg = MatGraph(
        (Port("x", shape, "x", ()),), (Port("y", out.shape, out.name, ()),), tuple(net.ops),
        net.tensors, net.constants,
    )  # fmt: skip
    return mg, {"x": rng.standard_normal(shape).astype(np.float32) * 2 + 0.3}
