# SPDX-License-Identifier: Apache-2.0
"""Trains the demo's digits CNN and writes the files under host/neuralmatrix/demo/data.

In: scikit-learn's load_digits (1,797 images of 8x8, pixels 0..16).
Out: digits_cnn.onnx (float) and digits.npz.  Needs torch, scikit-learn, onnx.

The split is by a seeded permutation: 1,297 images to train on, 500 to test on; the 128 calibration
images are the first of the training part.  The network's input is pixels / 16.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import zoo
from sklearn.datasets import load_digits
from torch import nn

SEED = 7
TEST_IMAGES = 500
CALIBRATION_IMAGES = 128
EPOCHS = 60
BATCH = 64
LARGEST_PIXEL = 16
DEMO_DATA = Path(__file__).resolve().parents[1] / "host" / "neuralmatrix" / "demo" / "data"


class Unit(nn.Module):
    """Convolution and batch normalisation, named as zoo.Builder.unit names them."""

    def __init__(
        self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.bn(self.conv(x))


class DigitsCnn(nn.Module):
    """zoo.digits_cnn for training; the keys of ``units`` are the names in the ONNX file."""

    def __init__(self) -> None:
        super().__init__()
        self.units = nn.ModuleDict({
            "stem": Unit(1, 16, 3),
            "residual_conv1": Unit(16, 16, 3),
            "residual_conv2": Unit(16, 16, 3),
            "separable_depthwise": Unit(16, 16, 3, 2, 16),
            "separable_pointwise": Unit(16, 32, 1),
            "head": Unit(32, 32, 3),
        })  # fmt: skip
        self.fc = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.units["stem"](x).relu()
        y = self.units["residual_conv1"](x).relu()
        x = (self.units["residual_conv2"](y) + x).relu()
        for name in ("separable_depthwise", "separable_pointwise", "head"):
            x = self.units[name](x).relu()
        return self.fc(x.mean((2, 3)))


def split() -> dict[str, Any]:
    """Return the images (uint8) and labels of the training and the test part."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(images))
    images = images.reshape(-1, 8, 8).astype(np.uint8)[order]
    labels = labels.astype(np.uint8)[order]
    cut = len(images) - TEST_IMAGES
    return {
        "train_x": images[:cut],
        "train_y": labels[:cut],
        "test_x": images[cut:],
        "test_y": labels[cut:],
    }


def as_input(images: Any) -> torch.Tensor:
    """Convert uint8 (N, 8, 8) to the network's input."""
    return torch.from_numpy(images.astype(np.float32)[:, None] / LARGEST_PIXEL)


def shifted(x: torch.Tensor) -> torch.Tensor:
    """Move every image by at most one pixel, the only augmentation."""
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    steps = torch.randint(0, 3, (len(x), 2)).tolist()
    return torch.stack(
        [p[:, i : i + 8, j : j + 8] for p, (i, j) in zip(padded, steps, strict=True)]
    )


def train(data: dict[str, Any]) -> DigitsCnn:
    """Train with Adam and a one-cycle learning rate on the training part."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    net = DigitsCnn()
    x, y = as_input(data["train_x"]), torch.from_numpy(data["train_y"]).long()
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.02)
    steps = EPOCHS * -(-len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x)).split(BATCH):
            loss = nn.functional.cross_entropy(net(shifted(x[batch])), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def accuracy(net: DigitsCnn, data: dict[str, Any]) -> float:
    """Return the share of correctly classified test images."""
    with torch.no_grad():
        answers = net(as_input(data["test_x"])).argmax(1).numpy()
    return float((answers == data["test_y"]).mean())


def onnx_weights(net: DigitsCnn) -> dict[str, Any]:
    """Return the trained values under the names of the ONNX file's initialisers."""
    weights: dict[str, torch.Tensor] = {"fc.weight": net.fc.weight, "fc.bias": net.fc.bias}
    for key, unit in net.units.items():
        name = key.replace("_", ".")
        weights[f"{name}.weight"] = unit.conv.weight
        weights[f"{name}.bn.scale"] = unit.bn.weight
        weights[f"{name}.bn.bias"] = unit.bn.bias
        weights[f"{name}.bn.mean"] = unit.bn.running_mean
        weights[f"{name}.bn.var"] = unit.bn.running_var
    return {name: value.detach().numpy() for name, value in weights.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEMO_DATA, help="folder to write to")
    out: Path = parser.parse_args().out
    data = split()
    net = train(data)
    print(f"test accuracy {accuracy(net, data):.4f} on {TEST_IMAGES} images")
    out.mkdir(parents=True, exist_ok=True)
    onnx.save(zoo.digits_cnn(onnx_weights(net)), str(out / "digits_cnn.onnx"))
    np.savez_compressed(
        out / "digits.npz",
        test_x=data["test_x"],
        test_y=data["test_y"],
        calibration_x=data["train_x"][:CALIBRATION_IMAGES],
    )


if __name__ == "__main__":
    main()
