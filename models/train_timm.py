# SPDX-License-Identifier: Apache-2.0
"""Trains small networks of timm and torchvision on Fashion-MNIST and writes weights/NAME.npz.

In: fashion_mnist/train.npz and test.npz in NEURALMATRIX_DATA; names of networks (default: all).
Out: weights and, by onnxruntime on the exported network, the accuracy on all 10,000 test images.
Images are padded to 32x32, the first convolutions have stride 1.  Four to eleven minutes each on
one core.  Needs torch, timm, torchvision, onnx and onnxruntime.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import training
from train_vit import load

if TYPE_CHECKING:
    import torch
    from onnx import ModelProto

SEED = 11
SIZE = 32
# What the stored weights reach in float on all test images.
ACCURACIES = {
    "shufflenet_fashion": 0.8814,
    "mobilenetv3_fashion": 0.8935,
    "convnext_fashion": 0.8835,
}


def shufflenet() -> torch.nn.Module:
    """Return torchvision's ShuffleNetV2 x0.5 for one channel: channel shuffles between groups."""
    from torch import nn
    from torchvision.models import shufflenet_v2_x0_5

    net = shufflenet_v2_x0_5(num_classes=10)
    net.conv1[0] = nn.Conv2d(1, 24, 3, 1, 1, bias=False)
    return net


def mobilenetv3() -> torch.nn.Module:
    """Return timm's MobileNetV3-small x0.5: squeeze-and-excitation, hard swish."""
    import timm

    net = timm.create_model("mobilenetv3_small_050", num_classes=10, in_chans=1)
    net.conv_stem.stride = (1, 1)
    return net


def convnext() -> torch.nn.Module:
    """Return a timm ConvNeXt of 150,000 parameters: 7x7 depthwise, layer normalisation, GELU."""
    import timm

    return timm.create_model(
        "convnext_atto", num_classes=10, in_chans=1, depths=(1, 1, 3, 1), dims=(16, 32, 64, 96),
        patch_size=2, conv_mlp=False,
    )  # fmt: skip


EPOCHS = {"shufflenet_fashion": 2, "mobilenetv3_fashion": 3, "convnext_fashion": 4}
NETWORKS: dict[str, Callable[[], torch.nn.Module]] = {
    "shufflenet_fashion": shufflenet,
    "mobilenetv3_fashion": mobilenetv3,
    "convnext_fashion": convnext,
}


def padded(part: str) -> tuple[Any, Any]:
    """Load network inputs (N, 1, 32, 32) and labels of "train" or "test"."""
    images, labels = load(part)
    edge = (SIZE - images.shape[-1]) // 2
    black = float(images.min())
    border = [(0, 0), (0, 0), (edge, edge), (edge, edge)]
    return np.pad(images, border, constant_values=black), labels


def train(name: str, epochs: int) -> None:
    """Train the network; left and right are swapped at random."""
    import torch

    torch.manual_seed(SEED)
    x, y = (torch.from_numpy(array) for array in padded("train"))

    def mirrored(images: torch.Tensor) -> tuple[torch.Tensor]:
        swap = torch.rand(len(images), 1, 1, 1) < 0.5
        return (torch.where(swap, images.flip(3), images).contiguous(),)

    net = NETWORKS[name]()
    training.fit(net, (x,), y.long(), epochs=epochs, peak=4e-3, batch=128, decay=0.05,
                 augment=mirrored)  # fmt: skip
    print(f"wrote {training.save_weights(net, name)}")


def stored(name: str) -> ModelProto:
    """Export the network with its stored weights; the input is "input" (1, 1, 32, 32)."""
    import onnx
    import torch

    net = NETWORKS[name]()
    arrays = training.load_weights(name)
    net.load_state_dict({key: torch.from_numpy(np.asarray(a)) for key, a in arrays.items()})
    file = io.BytesIO()
    torch.onnx.export(
        net.eval(), (torch.zeros(1, 1, SIZE, SIZE),), file, input_names=["input"],
        output_names=["logits"], opset_version=17, dynamo=False,
    )  # fmt: skip
    return onnx.load_from_string(file.getvalue())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(NETWORKS), help=", ".join(NETWORKS))
    parser.add_argument("--epochs", type=int, help="with 0 the stored weights are evaluated")
    options = parser.parse_args()
    for name in options.names:
        epochs = EPOCHS[name] if options.epochs is None else options.epochs
        if epochs:
            train(name, epochs)
        images, labels = padded("test")
        share = training.accuracy(stored(name), {"input": images}, labels)
        print(f"{name}: test accuracy {share:.4f} on {len(labels)} images", flush=True)


if __name__ == "__main__":
    main()
