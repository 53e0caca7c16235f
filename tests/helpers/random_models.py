# SPDX-License-Identifier: Apache-2.0
"""Random ONNX networks that mix all kinds of operators.

In: a seed.  Out: a ModelProto with one image input "x" and one output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
import random_steps
from build_onnx import model, node


@dataclass
class Net:
    """A model under construction; ``shapes`` holds every tensor so far."""

    rng: np.random.Generator
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def pick(self, *choices: int) -> int:
        return int(self.rng.choice(choices))

    def constant(self, *shape: int, scale: float = 1.0) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = (self.rng.standard_normal(shape) * scale).astype(np.float32)
        return name

    def ints(self, *values: int) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(values, np.int64)
        return name

    def value(self, number: float) -> str:
        return self.array(np.asarray(number, np.float32))

    def array(self, values: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = values
        return name

    def add(self, op: str, inputs: list[str], shape: tuple[int, ...], **attrs: object) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(node(op, inputs, [name], **attrs))
        self.shapes[name] = shape
        return name


def conv(net: Net, x: str) -> str:
    n, c, h, w = net.shapes[x]
    k, s, d = net.pick(1, 3, 5), net.pick(1, 1, 2), net.pick(1, 1, 2)
    groups = net.pick(1, 1, c)
    m = c if groups > 1 else net.pick(3, 8, 17, 32)
    pad = d * (k - 1) // 2
    weight = net.constant(m, c // groups, k, k, scale=(c / groups * k * k) ** -0.5)
    out = (n, m, (h + 2 * pad - d * (k - 1) - 1) // s + 1, (w + 2 * pad - d * (k - 1) - 1) // s + 1)
    return net.add("Conv", [x, weight, net.constant(m, scale=0.2)], out, strides=[s, s],
                   pads=[pad] * 4, dilations=[d, d], group=groups)  # fmt: skip


def upsample(net: Net, x: str) -> str:
    n, c, h, w = net.shapes[x]
    if net.pick(0, 1):
        weight = net.constant(c, 4, 2, 2, scale=c**-0.5)
        return net.add("ConvTranspose", [x, weight], (n, 4, 2 * h, 2 * w), strides=[2, 2])
    mode = ("nearest", "linear")[net.pick(0, 1)]
    sizes = net.ints(n, c, 2 * h, 2 * w)
    return net.add("Resize", [x, "", "", sizes], (n, c, 2 * h, 2 * w), mode=mode)


def batch_norm(net: Net, x: str) -> str:
    c = net.shapes[x][1]
    names = [net.constant(c) for _ in range(3)]
    variance = net.constant(c)
    net.constants[variance] = np.abs(net.constants[variance]) + 0.5
    return net.add("BatchNormalization", [x, *names, variance], net.shapes[x])


def activation(net: Net, x: str) -> str:
    ops = ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish", "Elu", "Softplus", "Abs", "Neg")
    return net.add(ops[net.pick(*range(len(ops)))], [x], net.shapes[x])


def pool(net: Net, x: str) -> str:
    n, c, h, w = net.shapes[x]
    op = ("MaxPool", "AveragePool")[net.pick(0, 1)]
    out = (n, c, (h + 2 - 3) // 2 + 1, (w + 2 - 3) // 2 + 1)
    return net.add(op, [x], out, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])


def residual(net: Net, x: str) -> str:
    partners = [n for n, s in net.shapes.items() if s == net.shapes[x]]
    op = ("Add", "Sub", "Mul", "Max", "Min")[net.pick(0, 0, 1, 2, 3, 4)]
    return net.add(op, [x, str(net.rng.choice(partners))], net.shapes[x])


def gate(net: Net, x: str) -> str:
    """Append squeeze and excitation."""
    n, c, _, _ = net.shapes[x]
    mean = net.add("GlobalAveragePool", [x], (n, c, 1, 1))
    squeezed = net.add("Conv", [mean, net.constant(c, c, 1, 1, scale=c**-0.5)], (n, c, 1, 1))
    return net.add("Mul", [x, net.add("Sigmoid", [squeezed], (n, c, 1, 1))], net.shapes[x])


def join(net: Net, x: str) -> str:
    n, c, h, w = net.shapes[x]
    partners = [t for t, s in net.shapes.items() if s[0] == n and s[2:] == (h, w)]
    other = str(net.rng.choice(partners))
    return net.add("Concat", [x, other], (n, c + net.shapes[other][1], h, w), axis=1)


def cut(net: Net, x: str) -> str:
    n, c, h, w = net.shapes[x]
    if c < 2:
        return x
    half = c // 2
    inputs = [x, net.ints(half), net.ints(c), net.ints(1)]
    return net.add("Slice", inputs, (n, c - half, h, w))


def shuffle(net: Net, x: str) -> str:
    """Append space to depth, or a transpose of rows and columns."""
    n, c, h, w = net.shapes[x]
    if h % 2 == 0 and w % 2 == 0 and c <= 16 and net.pick(0, 1):
        return net.add("SpaceToDepth", [x], (n, 4 * c, h // 2, w // 2), blocksize=2)
    return net.add("Transpose", [x], (n, c, w, h), perm=[0, 1, 3, 2])


def softmax(net: Net, x: str) -> str:
    return net.add("Softmax", [x], net.shapes[x], axis=net.pick(1, 2, 3))


STEPS: tuple[Callable[[Net, str], str], ...] = (
    conv, conv, batch_norm, activation, activation, pool, residual, gate, join, cut, shuffle,
    upsample, softmax, *random_steps.STEPS,
)  # fmt: skip


def random_model(seed: int) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Return four to eight steps, half of them with a classifier, and a batch of 4 inputs."""
    net = Net(np.random.default_rng(seed))
    shape = (1, net.pick(1, 3, 8), net.pick(6, 8, 11), net.pick(6, 8, 13))
    net.shapes["x"] = shape
    x = "x"
    for _ in range(net.pick(4, 5, 6, 7, 8)):
        if np.prod(net.shapes[x]) > 30_000 or min(net.shapes[x][2:]) < 3:
            break
        x = STEPS[net.pick(*range(len(STEPS)))](net, x)
    if net.pick(0, 1):
        n, *rest = net.shapes[x]
        flat = net.add("Flatten", [x], (n, int(np.prod(rest))))
        features = net.shapes[flat][1]
        weight = net.constant(features, 10, scale=features**-0.5)
        x = net.add("Gemm", [flat, weight, net.constant(10)], (n, 10))
    if x == "x":
        x = activation(net, x)
    proto = model(net.nodes, {"x": shape}, [x], net.constants, opset=20)
    feed = np.random.default_rng(seed + 1).standard_normal((4, *shape[1:])).astype(np.float32)
    return proto, {"x": feed}
