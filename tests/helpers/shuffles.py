# SPDX-License-Identifier: Apache-2.0
"""Networks that rearrange channels: shuffles, strided slices, halves that swap; ShuffleNets.

In: sizes.  Out: ONNX models with random weights, as torch exports them.
"""

from __future__ import annotations

import numpy as np
import onnx
from build_onnx import model, node

FORMS = ("plain", "shuffle", "strided slices", "halves swapped", "gather")


class _Net:
    """Collects nodes of a channels-first network; methods return the name of their result."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def add(self, op: str, inputs: list[str], **attributes: object) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(node(op, inputs, [name], **attributes))
        return name

    def constant(self, value: object, dtype: type = np.float32) -> str:
        name = f"constant{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def conv(self, x: str, ends: tuple[int, int], kernel: int = 1, groups: int = 1,
             stride: int = 1, relu: bool = True) -> str:  # fmt: skip
        c, out = ends
        shape = (out, c // groups, kernel, kernel)
        spread = np.sqrt(2 / (shape[1] * kernel * kernel))
        w = self.constant(self.rng.normal(0, spread, shape))
        bias = self.constant(self.rng.normal(0, 0.1, out))
        y = self.add("Conv", [x, w, bias], group=groups, strides=[stride] * 2,
                     pads=[kernel // 2] * 4)  # fmt: skip
        return self.add("Relu", [y]) if relu else y

    def shuffled(self, x: str, channels: int, size: int, groups: int) -> str:
        split = [1, groups, channels // groups, size, size]
        y = self.add("Reshape", [x, self.constant(split, np.int64)])
        y = self.add("Transpose", [y], perm=[0, 2, 1, 3, 4])
        return self.add("Reshape", [y, self.constant([1, channels, size, size], np.int64)])

    def part(self, x: str, start: int, stop: int, step: int = 1) -> str:
        return self.add("Slice", [x, *(self.constant([n], np.int64)
                                       for n in (start, stop, 1, step))])  # fmt: skip

    def model(self, shape: list[int], output: str) -> onnx.ModelProto:
        return model(self.nodes, {"x": shape}, [output], self.constants)


def rearranged(form: str, channels: int = 40, size: int = 9, groups: int = 4) -> onnx.ModelProto:
    """Return two convolutions with a rearrangement of the channels between them."""
    net = _Net()
    y = net.conv("x", (channels, channels), 3)
    half = channels // 2
    if form == "shuffle":
        y = net.shuffled(y, channels, size, groups)
    elif form == "strided slices":
        y = net.add("Concat", [net.part(y, i, channels, groups) for i in range(groups)], axis=1)
    elif form == "halves swapped":
        y = net.add("Concat", [net.part(y, half, channels), net.part(y, 0, half)], axis=1)
    elif form == "gather":
        y = net.add("Gather", [y, net.constant(np.roll(np.arange(channels), 7), np.int64)], axis=1)
    y = net.conv(y, (channels, channels), relu=False)
    return net.model([1, channels, size, size], y)


def _branch(net: _Net, x: str, ends: tuple[int, int], stride: int = 1) -> str:
    c, out = ends
    y = net.conv(net.conv(x, (c, out)), (out, out), 3, out, stride, relu=False)
    return net.conv(y, (out, out))


def shufflenet_v2(size: int = 64, width: int = 116, units: int = 4) -> onnx.ModelProto:
    """A stem and a stage of ShuffleNetV2: halves of the channels, which a shuffle mixes."""
    net = _Net()
    x = net.conv("x", (3, 24), 3, stride=2)
    half, side = width // 2, size // 4
    left = net.conv(net.conv(x, (24, 24), 3, 24, 2, relu=False), (24, half))
    x = net.add("Concat", [left, _branch(net, x, (24, half), 2)], axis=1)
    x = net.shuffled(x, width, side, 2)
    for _ in range(1, units):
        y = _branch(net, net.part(x, half, width), (half, half))
        x = net.add("Concat", [net.part(x, 0, half), y], axis=1)
        x = net.shuffled(x, width, side, 2)
    return net.model([1, 3, size, size], net.conv(x, (width, 2 * width)))


def shufflenet_v1(
    size: int = 64, width: int = 240, groups: int = 3, units: int = 4
) -> onnx.ModelProto:
    """A stem and a stage of ShuffleNet: grouped convolutions with shuffles between them."""
    net = _Net()
    inner, side = width // 4, size // 2
    x = net.conv("x", (3, width), 3, stride=2)
    for _ in range(units):
        y = net.shuffled(net.conv(x, (width, inner), groups=groups), inner, side, groups)
        y = net.conv(y, (inner, inner), 3, inner, relu=False)
        y = net.conv(y, (inner, width), groups=groups, relu=False)
        x = net.add("Relu", [net.add("Add", [x, y])])
    return net.model([1, 3, size, size], x)
