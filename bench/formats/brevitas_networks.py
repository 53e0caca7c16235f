# SPDX-License-Identifier: Apache-2.0
"""Small networks of Brevitas, of 1 to 8 bits.

In: bits of weights and activations.  Out: modules, and the shapes of their inputs.
Every kind of layer that Brevitas exports occurs in one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import brevitas.nn as qnn
import torch
from brevitas.core.quant import QuantType
from brevitas.quant import (
    Int8ActPerTensorFixedPoint,
    Int8WeightPerChannelFloat,
    Int8WeightPerTensorFixedPoint,
    Int32Bias,
    ShiftedUint8ActPerTensorFloat,
    ShiftedUint8WeightPerTensorFloat,
    SignedBinaryActPerTensorConst,
    SignedBinaryWeightPerTensorConst,
    Uint8ActPerTensorFixedPoint,
)
from torch import Tensor, nn

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Network:
    """``make(weight_bits, activation_bits)``; ``bits``: the pairs to build; ``shape`` of the input;
    ``qcdq``: whether that form can hold it."""

    make: Callable[[int, int], nn.Module]
    shape: Shape
    bits: tuple[tuple[int, int], ...]
    qcdq: bool = True


def mlp(w: int, a: int) -> nn.Module:
    """Linear layers, the first with a quantised bias."""
    return nn.Sequential(
        qnn.QuantIdentity(bit_width=8, return_quant_tensor=True),
        qnn.QuantLinear(24, 48, bias=True, weight_bit_width=w, bias_quant=Int32Bias),
        qnn.QuantReLU(bit_width=a),
        qnn.QuantLinear(48, 32, bias=True, weight_bit_width=w),
        qnn.QuantReLU(bit_width=a),
        qnn.QuantLinear(32, 10, bias=True, weight_bit_width=w),
    )


def lenet(w: int, a: int) -> nn.Module:
    """Convolutions with a normalisation, pooling, linear layers."""
    return nn.Sequential(
        qnn.QuantIdentity(bit_width=8),
        qnn.QuantConv2d(1, 6, 5, bias=False, weight_bit_width=w),
        nn.BatchNorm2d(6),
        qnn.QuantReLU(bit_width=a),
        nn.MaxPool2d(2),
        qnn.QuantConv2d(6, 16, 5, bias=True, weight_bit_width=w),
        nn.BatchNorm2d(16),
        qnn.QuantReLU(bit_width=a),
        nn.MaxPool2d(2),
        nn.Flatten(),
        qnn.QuantLinear(256, 84, bias=True, weight_bit_width=w),
        qnn.QuantReLU(bit_width=a),
        qnn.QuantLinear(84, 10, bias=True, weight_bit_width=w),
    )


class Block(nn.Module):
    """A residual block: both terms of the sum have one scale."""

    def __init__(self, inner: int, outer: int, stride: int, w: int, a: int) -> None:
        super().__init__()
        self.first = _conv(inner, outer, 3, w, stride=stride, padding=1)
        self.relu = qnn.QuantReLU(bit_width=a)
        self.second = _conv(outer, outer, 3, w, padding=1)
        plain = stride == 1 and inner == outer
        self.short = nn.Identity() if plain else _conv(inner, outer, 1, w, stride=stride)
        self.term = qnn.QuantIdentity(bit_width=a)
        self.last = qnn.QuantReLU(bit_width=a)

    def forward(self, x: Tensor) -> Tensor:
        y = self.term(self.second(self.relu(self.first(x))))
        return self.last(y + self.term(self.short(x)))


def _conv(inner: int, outer: int, kernel: int, w: int, **kw: Any) -> nn.Module:
    return nn.Sequential(
        qnn.QuantConv2d(inner, outer, kernel, bias=False, weight_bit_width=w,
                        weight_quant=Int8WeightPerChannelFloat, **kw),
        nn.BatchNorm2d(outer),
    )  # fmt: skip


def resnet(w: int, a: int) -> nn.Module:
    """Residual blocks with scales per channel, and a mean over the map."""
    return nn.Sequential(
        qnn.QuantIdentity(bit_width=8),
        _conv(3, 8, 3, 8, padding=1),
        qnn.QuantReLU(bit_width=a),
        Block(8, 8, 1, w, a),
        Block(8, 16, 2, w, a),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        qnn.QuantIdentity(bit_width=8),
        qnn.QuantLinear(16, 10, bias=True, weight_bit_width=8),
    )


def mobile(w: int, a: int) -> nn.Module:
    """Depthwise and pointwise convolutions, and Brevitas's truncated mean."""
    layers: list[nn.Module] = [qnn.QuantIdentity(bit_width=8), _conv(3, 8, 3, 8, stride=2)]
    for inner, outer in ((8, 16), (16, 24)):
        layers += [
            qnn.QuantReLU(bit_width=a),
            _conv(inner, inner, 3, w, padding=1, groups=inner),
            qnn.QuantReLU(bit_width=a),
            _conv(inner, outer, 1, w),
        ]
    return nn.Sequential(
        *layers,
        qnn.QuantReLU(bit_width=a, return_quant_tensor=True),
        qnn.TruncAvgPool2d(4, stride=4, bit_width=a),
        nn.Flatten(),
        qnn.QuantLinear(24, 10, bias=True, weight_bit_width=8),
    )


def sound(w: int, a: int) -> nn.Module:
    """Convolutions over time."""
    return nn.Sequential(
        qnn.QuantIdentity(bit_width=8),
        qnn.QuantConv1d(8, 16, 5, bias=False, weight_bit_width=w, stride=2, padding=2),
        nn.BatchNorm1d(16),
        qnn.QuantReLU(bit_width=a),
        qnn.QuantConv1d(16, 16, 3, bias=True, weight_bit_width=w, dilation=2),
        qnn.QuantReLU(bit_width=a),
        nn.MaxPool1d(2),
        nn.Flatten(),
        qnn.QuantLinear(96, 12, bias=True, weight_bit_width=w),
    )


def decoder(w: int, a: int) -> nn.Module:
    """Transposed convolutions; the output is quantised."""
    return nn.Sequential(
        qnn.QuantIdentity(bit_width=8),
        qnn.QuantConvTranspose2d(6, 8, 3, stride=2, padding=1, bias=True, weight_bit_width=w),
        qnn.QuantReLU(bit_width=a),
        qnn.QuantConvTranspose2d(8, 4, 2, stride=2, bias=False, weight_bit_width=w),
        nn.BatchNorm2d(4),
        qnn.QuantReLU(bit_width=a),
        qnn.QuantConv2d(4, 2, 3, padding=1, bias=True, weight_bit_width=w),
        qnn.QuantIdentity(bit_width=8),
    )


def fixed_point(w: int, a: int) -> nn.Module:
    """Scales that are powers of two."""
    weights = {"weight_bit_width": w, "weight_quant": Int8WeightPerTensorFixedPoint}
    relu = {"bit_width": a, "act_quant": Uint8ActPerTensorFixedPoint}
    return nn.Sequential(
        qnn.QuantIdentity(bit_width=8, act_quant=Int8ActPerTensorFixedPoint),
        qnn.QuantConv2d(2, 8, 3, bias=True, **weights),
        qnn.QuantReLU(**relu),
        qnn.QuantConv2d(8, 8, 3, bias=False, **weights),
        nn.BatchNorm2d(8),
        qnn.QuantReLU(**relu),
        nn.Flatten(),
        qnn.QuantLinear(128, 10, bias=True, **weights),
    )


def shifted(w: int, a: int) -> nn.Module:
    """Zero points of activations and weights."""
    weights = {"weight_bit_width": w, "weight_quant": ShiftedUint8WeightPerTensorFloat}
    act = {"bit_width": a, "act_quant": ShiftedUint8ActPerTensorFloat}
    return nn.Sequential(
        qnn.QuantIdentity(**{**act, "bit_width": 8}),
        qnn.QuantConv2d(2, 8, 3, padding=1, bias=True, **weights),
        qnn.QuantIdentity(**act),
        qnn.QuantConv2d(8, 8, 3, bias=True, **weights),
        qnn.QuantIdentity(**act),
        nn.Flatten(),
        qnn.QuantLinear(288, 10, bias=True, **weights),
    )


def binary(w: int, a: int) -> nn.Module:
    """Signs: weights and activations of -1 and 1."""
    weights = {"weight_quant": SignedBinaryWeightPerTensorConst}
    sign = {"act_quant": SignedBinaryActPerTensorConst, "quant_type": QuantType.BINARY}
    return nn.Sequential(
        qnn.QuantIdentity(bit_width=8),
        qnn.QuantConv2d(2, 8, 3, bias=False, **weights),
        nn.BatchNorm2d(8),
        qnn.QuantIdentity(**sign),
        qnn.QuantConv2d(8, 8, 3, bias=False, **weights),
        nn.BatchNorm2d(8),
        qnn.QuantIdentity(**sign),
        nn.Flatten(),
        qnn.QuantLinear(128, 10, bias=True, **weights),
    )


class Attention(nn.Module):
    """One head's attention over a sequence, its products quantised."""

    def __init__(self, w: int, a: int) -> None:
        super().__init__()
        self.enter = qnn.QuantIdentity(bit_width=8)
        self.projections = nn.ModuleList(
            qnn.QuantLinear(16, 16, bias=True, weight_bit_width=w) for _ in range(3)
        )
        self.acts = nn.ModuleList(qnn.QuantIdentity(bit_width=a) for _ in range(4))
        self.weights = qnn.QuantIdentity(bit_width=a)
        self.leave = qnn.QuantLinear(16, 16, bias=True, weight_bit_width=w)
        self.head = qnn.QuantLinear(16, 8, bias=True, weight_bit_width=w)
        self.mean = qnn.QuantIdentity(bit_width=8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        q, k, v = (act(p(x)) for act, p in zip(self.acts, self.projections, strict=False))
        scores = torch.softmax(q @ k.transpose(-1, -2) / 4, -1)
        y = self.acts[3](self.weights(scores) @ v)
        return self.head(self.mean(self.leave(y).mean(1)))


LOW = ((2, 2), (3, 3), (4, 4), (8, 4), (4, 8), (8, 8))
SOME = ((2, 2), (4, 4), (8, 8))
NETWORKS = {
    "mlp": Network(mlp, (24,), LOW),
    "lenet": Network(lenet, (1, 28, 28), SOME),
    "resnet": Network(resnet, (3, 12, 12), SOME),
    "mobile": Network(mobile, (3, 11, 11), ((4, 4), (8, 8))),
    "sound": Network(sound, (8, 32), ((2, 2), (8, 8))),
    "decoder": Network(decoder, (6, 5, 5), ((4, 4), (8, 8))),
    "fixed_point": Network(fixed_point, (2, 8, 8), ((2, 2), (6, 6), (8, 8))),
    "shifted": Network(shifted, (2, 8, 8), ((4, 4), (8, 8))),
    "binary": Network(binary, (2, 8, 8), ((1, 1),), qcdq=False),
    "attention": Network(Attention, (12, 16), ((4, 8), (8, 8))),
}


def settled(module: nn.Module, shape: Shape) -> nn.Module:
    """Return the module with the statistics and ranges of some random batches, for inference."""
    torch.manual_seed(0)
    module.train()
    for _ in range(12):
        module(torch.randn(16, *shape))
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.2)
    return module.eval()
