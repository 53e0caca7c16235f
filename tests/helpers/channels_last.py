# SPDX-License-Identifier: Apache-2.0
"""Networks in the forms in which TensorFlow, Keras and TFLite export them, and their twins.

In: a form and the layers of a network.  Out: ONNX models that compute the same, of the same
weights: "channels_first" as torch exports it; the others have a channels-last input.

"ends" transposes at the input and the outputs alone, "blocks" around every block, whose sums and
concatenations are channels-last, and "each" around every convolution, with everything else, Pads
and biases included, channels-last and weights transposed in the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from build_onnx import model, node

FORMS = ("ends", "blocks", "each")
FIRST, LAST = [0, 3, 1, 2], [0, 2, 3, 1]


class Network:
    """Collects nodes; methods take and return names of tensors."""

    def __init__(self, form: str, seed: int = 0) -> None:
        self.form = form
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.is_last: dict[str, bool] = {}  # whether a tensor is channels-last
        self.sizes: dict[str, tuple[int, int, int]] = {}  # channels, height, width

    def add(self, op: str, inputs: list[str], like: str = "", **attributes: Any) -> str:
        """Append a node whose result is laid out as ``like``, by default the first input."""
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(node(op, inputs, [name], **attributes))
        like = like or inputs[0]
        self.is_last[name], self.sizes[name] = self.is_last[like], self.sizes[like]
        return name

    def constant(self, value: Any, dtype: type = np.float32) -> str:
        name = f"constant{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def image(self, channels: int, size: int) -> str:
        last = self.form != "channels_first"
        self.is_last["image"], self.sizes["image"] = last, (channels, size, size)
        return "image"

    def shape(self, x: str) -> list[int]:
        c, h, w = self.sizes[x]
        return [1, h, w, c] if self.is_last[x] else [1, c, h, w]

    def ordered(self, x: str, last: bool) -> str:
        """Return ``x`` channels-last or channels-first, transposed if it is not."""
        if self.is_last[x] == last:
            return x
        name = self.add("Transpose", [x], perm=LAST if last else FIRST)
        self.is_last[name] = last
        return name

    def settled(self, x: str) -> str:
        """Return ``x`` as this form has tensors at the ends of blocks."""
        return self.ordered(x, self.form in ("blocks", "each"))

    # ---------------------------------------------------------------- layers

    def scaled(self, x: str) -> str:
        """Subtract a mean and multiply, as in front of a network of pixels."""
        centred = self.add("Sub", [x, self.constant(0.25)])
        return self.add("Mul", [centred, self.constant(1.5)])

    def conv(self, x: str, out: int, kernel: int, stride: int = 1, depthwise: bool = False,
             relu6: bool = True) -> str:  # fmt: skip
        """Convolution, bias and activation; padded at the end alone where it strides."""
        channels, h, w = self.sizes[x]
        fan_in = (1 if depthwise else channels) * kernel * kernel
        shape = (out, 1 if depthwise else channels, kernel, kernel)
        weight = self.rng.normal(0, np.sqrt(2 / fan_in), shape)
        bias = self.rng.normal(0, 0.1, out)
        total = max(kernel - (stride if h % stride == 0 else h % stride), 0)
        pads = [total // 2, total - total // 2]
        x, pads = self._padded(x, pads)
        group = channels if depthwise else 1
        attributes = dict(group=group, strides=[stride] * 2, pads=[pads[0]] * 2 + [pads[1]] * 2)
        y = self._product(x, weight, bias, attributes, depthwise)
        self.sizes[y] = (out, -(-h // stride), -(-w // stride))
        return self.relu6(y) if relu6 else y

    def _padded(self, x: str, pads: list[int]) -> tuple[str, list[int]]:
        if self.form != "each" or not any(pads) or pads[0] == pads[1]:
            return x, pads
        ends = [0, pads[0], pads[0], 0, 0, pads[1], pads[1], 0]
        return self.add("Pad", [x, self.constant(ends, np.int64)]), [0, 0]

    def _product(self, x: str, weight: np.ndarray, bias: np.ndarray, attributes: dict[str, Any],
                 depthwise: bool) -> str:  # fmt: skip
        x = self.ordered(x, False)
        if self.form != "each":
            w, b = self.constant(weight), self.constant(bias)
            return self.add("Conv", [x, w, b], x, **attributes)
        kernel = self.constant(weight.transpose(2, 3, 1, 0))  # TensorFlow's HWIO
        w = f"weight{len(self.nodes)}"
        perm = [3, 2, 0, 1]
        self.nodes.append(node("Transpose", [kernel], [w], perm=perm))
        if depthwise:
            flat = f"{w}.flat"
            shape = self.constant(weight.shape, np.int64)
            self.nodes.append(node("Reshape", [w, shape], [flat]))
            w = flat
        y = self.add("Conv", [x, w], x, **attributes)
        self.sizes[y] = (weight.shape[0], *self.sizes[y][1:])
        y = self.ordered(y, True)
        return self.add("Add", [y, self.constant(bias)])

    def relu6(self, x: str) -> str:
        return self.add("Clip", [x, self.constant(0), self.constant(6)])

    def sum(self, a: str, b: str) -> str:
        return self.add("Add", [self.settled(a), self.settled(b)])

    def concat(self, parts: list[str]) -> str:
        parts = [self.settled(part) for part in parts]
        y = self.add("Concat", parts, axis=3 if self.is_last[parts[0]] else 1)
        self.sizes[y] = (sum(self.sizes[p][0] for p in parts), *self.sizes[parts[0]][1:])
        return y

    def resized(self, x: str, size: int) -> str:
        """Bilinear resize to size x size, channels-first as tf2onnx has it."""
        x = self.ordered(x, False)
        sizes = self.constant([1, self.sizes[x][0], size, size], np.int64)
        y = self.add("Resize", [x, "", "", sizes], x, mode="linear",
                     coordinate_transformation_mode="half_pixel")  # fmt: skip
        self.sizes[y] = (self.sizes[x][0], size, size)
        return self.settled(y)

    def pooled(self, x: str) -> str:
        """Mean over the image, with its axes kept."""
        x = self.settled(x)
        axes = [1, 2] if self.is_last[x] else [2, 3]
        y = self.add("ReduceMean", [x], axes=axes, keepdims=1)
        self.sizes[y] = (self.sizes[x][0], 1, 1)
        return y

    def flat(self, x: str) -> str:
        """Remove the axes of an image of 1 x 1."""
        return self.add("Reshape", [x, self.constant([1, self.sizes[x][0]], np.int64)])

    def model(self, output: str, last: bool = True) -> onnx.ModelProto:
        """Return the model; an output that is an image is channels-last unless the input is not."""
        if last:
            output = self.ordered(output, self.form != "channels_first")
        return model(self.nodes, {"image": self.shape("image")}, [output], self.constants)


def mobilenet(form: str, size: int = 128, width: float = 0.25) -> onnx.ModelProto:
    """MobileNetV1, whose classifier is a convolution, as in TF-Slim."""
    net = Network(form)
    x = net.conv(net.scaled(net.image(3, size)), int(32 * width), 3, 2)
    steps = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5,
             (1024, 2), (1024, 1)]  # fmt: skip
    for out, stride in steps:
        x = net.conv(x, net.sizes[x][0], 3, stride, depthwise=True)
        x = net.settled(net.conv(x, int(out * width), 1))
    logits = net.conv(net.pooled(x), 101, 1, relu6=False)
    flat = net.flat(net.settled(logits))
    return net.model(net.add("Softmax", [flat], axis=1), last=False)


def deeplab(form: str, size: int = 65) -> onnx.ModelProto:
    """Inverted residuals, then DeepLab's pyramid: a branch of the whole image, one of 1 x 1."""
    net = Network(form)
    x = net.settled(net.conv(net.scaled(net.image(3, size)), 16, 3, 2))
    for out, stride in ((24, 2), (24, 1), (32, 2), (32, 1), (32, 1), (48, 1), (48, 1)):
        x = _inverted_residual(net, x, out, stride)
    side = net.sizes[x][1]
    image = net.resized(net.settled(net.conv(net.pooled(x), 64, 1)), side)
    y = net.concat([image, net.settled(net.conv(x, 64, 1))])
    y = net.settled(net.conv(y, 64, 1))
    y = net.settled(net.conv(y, 21, 1, relu6=False))
    return net.model(net.resized(y, size))


def _inverted_residual(net: Network, x: str, out: int, stride: int) -> str:
    inner = 4 * net.sizes[x][0]
    y = net.conv(net.conv(x, inner, 1), inner, 3, stride, depthwise=True)
    y = net.settled(net.conv(y, out, 1, relu6=False))
    same = stride == 1 and net.sizes[x][0] == out
    return net.sum(x, y) if same else y


NETWORKS: dict[str, Callable[[str], onnx.ModelProto]] = {
    "mobilenet": mobilenet,
    "deeplab": deeplab,
}
