# SPDX-License-Identifier: Apache-2.0
"""Constructors of well-known CNNs as ONNX models with random He-initialised weights.

In: a seed and an image size.  Out: ``onnx.ModelProto`` (float, opset 17, NCHW), BatchNormalization
as its own node, as training frameworks export it.  Needs onnx and numpy only.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Floats = npt.NDArray[np.float32]
OPSET = 17


class Builder:
    """Collects the nodes and weights of one network; methods return the name of their result.

    ``weights`` maps names of initialisers to trained values, used in place of random ones.
    """

    def __init__(self, seed: int = 0, weights: dict[str, Floats] | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.weights = weights or {}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.channels: dict[str, int] = {}

    def node(self, op: str, inputs: list[str], name: str, **attributes: object) -> str:
        """Append a node whose output carries its name; channels are those of the first input."""
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        self.channels.setdefault(name, self.channels.get(inputs[0], 0))
        return name

    def constant(self, name: str, make: Callable[[], Floats]) -> str:
        """Add an initialiser: the trained value if there is one, else ``make()``."""
        value = self.weights[name] if name in self.weights else make()
        self.initializers.append(numpy_helper.from_array(np.float32(value), name))
        return name

    def conv(
        self, x: str, name: str, out: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> str:
        """Add a convolution without bias, padded to keep the size at stride 1."""
        fan_in = self.channels[x] // groups
        shape = (out, fan_in, kernel, kernel)
        spread = np.sqrt(2.0 / (fan_in * kernel * kernel))
        w = self.constant(f"{name}.weight", lambda: self.rng.normal(0, spread, shape))
        self.channels[name] = out
        pads = [kernel // 2] * 4
        return self.node(
            "Conv", [x, w], name, kernel_shape=[kernel, kernel], pads=pads,
            strides=[stride, stride], group=groups,
        )  # fmt: skip

    def batch_norm(self, x: str, name: str, gain: float = 1.0) -> str:
        """Add an inference-time batch normalisation with plausible random statistics."""
        n, rng = self.channels[x], self.rng
        stats = {
            "scale": lambda: gain * rng.uniform(0.8, 1.2, n),
            "bias": lambda: rng.normal(0, 0.1, n),
            "mean": lambda: rng.normal(0, 0.1, n),
            "var": lambda: rng.uniform(0.8, 1.2, n),
        }
        names = [self.constant(f"{name}.{key}", make) for key, make in stats.items()]
        return self.node("BatchNormalization", [x, *names], name, epsilon=1e-5)

    def relu(self, x: str) -> str:
        """max(x, 0)."""
        return self.node("Relu", [x], f"{x}.relu")

    def relu6(self, x: str) -> str:
        """Clip to 0..6."""
        ends = [self._scalar(0.0), self._scalar(6.0)]
        return self.node("Clip", [x, *ends], f"{x}.relu6")

    def _scalar(self, value: float) -> str:
        name = f"constant_{value:g}"
        if all(t.name != name for t in self.initializers):
            self.initializers.append(numpy_helper.from_array(np.float32(value), name))
        return name

    def unit(
        self, x: str, name: str, out: int, kernel: int, stride: int = 1, groups: int = 1,
        activation: str = "relu", gain: float = 1.0,
    ) -> str:  # fmt: skip
        """Convolution, batch normalisation and activation ("relu", "relu6" or "")."""
        y = self.batch_norm(self.conv(x, name, out, kernel, stride, groups), f"{name}.bn", gain)
        return {"relu": self.relu, "relu6": self.relu6, "": str}[activation](y)

    def classifier(self, x: str, classes: int) -> str:
        """Add global average pooling and a fully connected layer named "logits"."""
        pooled = self.node("GlobalAveragePool", [x], "pool")
        flat = self.node("Flatten", [pooled], "flat", axis=1)
        n = self.channels[x]
        w = self.constant("fc.weight", lambda: self.rng.normal(0, np.sqrt(1 / n), (classes, n)))
        b = self.constant("fc.bias", lambda: self.rng.normal(0, 0.1, classes))
        return self.node("Gemm", [flat, w, b], "logits", transB=1)


def network(
    name: str, channels: int, size: int, output: tuple[str, list[int]],
    body: Callable[[Builder], object], seed: int = 0, weights: dict[str, Floats] | None = None,
) -> onnx.ModelProto:  # fmt: skip
    """Make a model with input "input" (1, channels, size, size) and the nodes of ``body``."""
    builder = Builder(seed, weights)
    builder.channels["input"] = channels
    body(builder)
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, channels, size, size])
    return finish(builder, name, [image], output)


def finish(
    builder: Builder,
    name: str,
    inputs: list[onnx.ValueInfoProto],
    output: tuple[str, list[int]],
    opset: int = OPSET,
) -> onnx.ModelProto:
    """Make a checked model of the nodes that ``builder`` has collected."""
    answer = helper.make_tensor_value_info(output[0], TensorProto.FLOAT, output[1])
    graph = helper.make_graph(builder.nodes, name, inputs, [answer], builder.initializers)
    opsets = [helper.make_opsetid("", opset)]
    model = helper.make_model(
        graph, opset_imports=opsets, ir_version=8, producer_name="neuralmatrix"
    )
    onnx.checker.check_model(model)
    return model


# ---------------------------------------------------------------- residual networks

# This keeps random residual sums from growing block by block, as training does.
BRANCH_GAIN = 0.3


def basic_block(b: Builder, x: str, name: str, out: int, stride: int) -> str:
    """Two 3x3 convolutions in parallel with a skip (a 1x1 projection where the shape changes)."""
    y = b.unit(x, f"{name}.conv1", out, 3, stride)
    y = b.unit(y, f"{name}.conv2", out, 3, activation="", gain=BRANCH_GAIN)
    return _join(b, x, y, name, out, stride)


def bottleneck(b: Builder, x: str, name: str, width: int, stride: int) -> str:
    """1x1, 3x3, 1x1 (four times as many channels) in parallel with a skip."""
    y = b.unit(x, f"{name}.conv1", width, 1)
    y = b.unit(y, f"{name}.conv2", width, 3, stride)
    y = b.unit(y, f"{name}.conv3", 4 * width, 1, activation="", gain=BRANCH_GAIN)
    return _join(b, x, y, name, 4 * width, stride)


def _join(b: Builder, x: str, y: str, name: str, out: int, stride: int) -> str:
    if stride != 1 or b.channels[x] != out:
        x = b.unit(x, f"{name}.skip", out, 1, stride, activation="")
    return b.relu(b.node("Add", [y, x], name))


Block = Callable[[Builder, str, str, int, int], str]


def _stages(b: Builder, x: str, block: Block, widths: list[int], depths: list[int]) -> str:
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for i in range(depth):
            stride = 2 if stage > 0 and i == 0 else 1
            x = block(b, x, f"stage{stage + 1}.{i}", width, stride)
    return x


def _imagenet_resnet(
    name: str, block: Block, depths: list[int], size: int, seed: int
) -> onnx.ModelProto:
    def body(b: Builder) -> None:
        x = b.unit("input", "stem", 64, 7, 2)
        window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
        x = b.node("MaxPool", [x], "stem.pool", **window)
        b.classifier(_stages(b, x, block, [64, 128, 256, 512], depths), 1000)

    return network(name, 3, size, ("logits", [1, 1000]), body, seed)


def resnet18(size: int = 224, seed: int = 0) -> onnx.ModelProto:
    """ResNet-18 (arXiv 1512.03385): 1.8 GMAC at 224."""
    return _imagenet_resnet("resnet18", basic_block, [2, 2, 2, 2], size, seed)


def resnet50(size: int = 224, seed: int = 0) -> onnx.ModelProto:
    """ResNet-50 with the stride in the 3x3 (as torchvision): 4.1 GMAC at 224."""
    return _imagenet_resnet("resnet50", bottleneck, [3, 4, 6, 3], size, seed)


def resnet20(size: int = 32, seed: int = 0) -> onnx.ModelProto:
    """ResNet-20 for CIFAR: 41 MMAC at 32."""

    def body(b: Builder) -> None:
        x = b.unit("input", "stem", 16, 3)
        b.classifier(_stages(b, x, basic_block, [16, 32, 64], [3, 3, 3]), 10)

    return network("resnet20", 3, size, ("logits", [1, 10]), body, seed)


# ---------------------------------------------------------------- mobile networks

MOBILENET_V1 = [
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5,
    (1024, 2), (1024, 1),
]  # fmt: skip
MOBILENET_V2 = [  # expansion, channels, repeats, first stride
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
]  # fmt: skip


def separable(b: Builder, x: str, name: str, out: int, stride: int, activation: str) -> str:
    """Depthwise 3x3, then 1x1."""
    n = b.channels[x]
    x = b.unit(x, f"{name}.depthwise", n, 3, stride, n, activation)
    return b.unit(x, f"{name}.pointwise", out, 1, activation=activation)


def mobilenet_v1(size: int = 224, seed: int = 0) -> onnx.ModelProto:
    """MobileNetV1 1.0 (arXiv 1704.04861) with ReLU6: 0.57 GMAC at 224."""

    def body(b: Builder) -> None:
        x = b.unit("input", "stem", 32, 3, 2, activation="relu6")
        for i, (out, stride) in enumerate(MOBILENET_V1):
            x = separable(b, x, f"block{i}", out, stride, "relu6")
        b.classifier(x, 1000)

    return network("mobilenet_v1", 3, size, ("logits", [1, 1000]), body, seed)


def inverted_residual(b: Builder, x: str, name: str, out: int, stride: int, wider: int) -> str:
    """Expand, depthwise, project; a skip where the shape stays."""
    n = b.channels[x]
    y = b.unit(x, f"{name}.expand", n * wider, 1, activation="relu6") if wider > 1 else x
    y = b.unit(y, f"{name}.depthwise", n * wider, 3, stride, n * wider, "relu6")
    y = b.unit(y, f"{name}.project", out, 1, activation="")
    return b.node("Add", [x, y], name) if stride == 1 and n == out else y


def mobilenet_v2(size: int = 224, seed: int = 0) -> onnx.ModelProto:
    """MobileNetV2 1.0 (arXiv 1801.04381): 0.30 GMAC at 224."""

    def body(b: Builder) -> None:
        x = b.unit("input", "stem", 32, 3, 2, activation="relu6")
        for g, (wider, out, repeats, first) in enumerate(MOBILENET_V2):
            for i in range(repeats):
                x = inverted_residual(b, x, f"group{g}.{i}", out, first if i == 0 else 1, wider)
        b.classifier(b.unit(x, "head", 1280, 1, activation="relu6"), 1000)

    return network("mobilenet_v2", 3, size, ("logits", [1, 1000]), body, seed)


# ---------------------------------------------------------------- small networks


def digits_cnn(weights: dict[str, Floats] | None = None, seed: int = 0) -> onnx.ModelProto:
    """The demo's network for 8x8 digits: a residual block, a separable block, average pooling."""

    def body(b: Builder) -> None:
        x = b.unit("input", "stem", 16, 3)
        x = basic_block(b, x, "residual", 16, 1)
        x = separable(b, x, "separable", 32, 2, "relu")
        b.classifier(b.unit(x, "head", 32, 3), 10)

    return network("digits_cnn", 1, 8, ("logits", [1, 10]), body, seed, weights)


def small_cnn(size: int = 16, seed: int = 0) -> onnx.ModelProto:
    """Three plain convolutions and a dense layer, which every CNN tool supports."""

    def body(b: Builder) -> None:
        x = b.unit("input", "conv1", 16, 3)
        x = b.unit(x, "conv2", 32, 3, 2)
        b.classifier(b.unit(x, "conv3", 32, 3), 10)

    return network("small_cnn", 3, size, ("logits", [1, 10]), body, seed)


ZOO: dict[str, Callable[..., onnx.ModelProto]] = {
    "resnet18": resnet18,
    "resnet50": resnet50,
    "resnet20": resnet20,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "small_cnn": small_cnn,
}
