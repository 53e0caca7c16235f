# SPDX-License-Identifier: Apache-2.0
"""An MLP whose weights and activations are rounded while it is trained, and its form in QONNX.

In: nothing.  Out: a module of torch; a ModelProto with Quant nodes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

DOMAIN = "qonnx.custom_op.general"
INPUT, WEIGHT, HIDDEN, BIAS = 1 / 16, 1 / 32, 1 / 16, 1 / 256  # steps


def _rounded(x: Tensor, step: float, low: int, high: int) -> Tensor:
    """Round to steps, with the gradient of no rounding."""
    y = torch.clamp(torch.round(x / step), low, high) * step
    return x + (y - x).detach()


class _Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = _layer(self.first, _rounded(x, INPUT, -128, 127))
        return _layer(self.second, _rounded(torch.relu(x), HIDDEN, 0, 255))


def _layer(layer: nn.Linear, x: Tensor) -> Tensor:
    weight = _rounded(layer.weight, WEIGHT, -32, 31)
    bias = _rounded(layer.bias, BIAS, -32768, 32767)
    return nn.functional.linear(x, weight, bias)


def rounded_mlp() -> nn.Module:
    torch.manual_seed(0)
    return _Mlp()


class _Graph:
    """Nodes and constants so far."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def quant(self, x: str, name: str, step: float, bits: int, signed: int) -> str:
        parts = {"scale": step, "zero": 0.0, "bits": bits}
        inputs = [x, *(self.constant(f"{name}.{part}", v) for part, v in parts.items())]
        self.nodes.append(helper.make_node(
            "Quant", inputs, [name], domain=DOMAIN, name=name, signed=signed, narrow=0,
            rounding_mode="ROUND",
        ))  # fmt: skip
        return name

    def layer(self, x: str, name: str, layer: Any) -> str:
        values = {"weight": layer.weight.detach().numpy().T, "bias": layer.bias.detach().numpy()}
        weight, bias = (self.constant(f"{name}.{part}", v) for part, v in values.items())
        weight = self.quant(weight, f"{name}.weight.q", WEIGHT, 6, 1)
        bias = self.quant(bias, f"{name}.bias.q", BIAS, 16, 1)
        self.emit("MatMul", [x, weight], f"{name}.product")
        return self.emit("Add", [f"{name}.product", bias], f"{name}.sum")

    def emit(self, op: str, inputs: list[str], name: str) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name], name=name))
        return name


def written(net: Any) -> onnx.ModelProto:
    """Return a trained module as QONNX."""
    g = _Graph()
    x = g.layer(g.quant("x", "x.q", INPUT, 8, 1), "first", net.first)
    x = g.quant(g.emit("Relu", [x], "hidden"), "hidden.q", HIDDEN, 8, 0)
    y = g.layer(x, "second", net.second)
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, size])
        for name, size in (("x", 64), (y, 10))
    ]
    graph = helper.make_graph(g.nodes, "mlp", ends[:1], ends[1:], g.constants)
    sets = [helper.make_opsetid("", 13), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=sets, ir_version=8)
