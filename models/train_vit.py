# SPDX-License-Identifier: Apache-2.0
"""Trains the ViT for Fashion-MNIST and writes weights/vit_fashion.npz.

In: fashion_mnist/train.npz and test.npz (x uint8 (N, 28, 28), y) in NEURALMATRIX_DATA.
Out: weights and, by onnxruntime on the exported network, the accuracy on all 10,000 test images.
Seven to ten minutes on two cores.  Needs torch, onnx and onnxruntime.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import training
from data_sets import data_folder

NAME = "vit_fashion"
SEED = 7
MEAN, SPREAD = 0.2860, 0.3530  # of the training pixels / 255


def load(part: str) -> tuple[Any, Any]:
    """Load network inputs (N, 1, 28, 28) and labels of "train" or "test"."""
    with np.load(data_folder() / "fashion_mnist" / f"{part}.npz") as archive:
        return as_input(archive["x"]), archive["y"]


def as_input(images: Any) -> Any:
    """Convert uint8 (N, 28, 28) to the network's input."""
    return ((images[:, None] / np.float32(255) - MEAN) / SPREAD).astype(np.float32)


def train(epochs: int) -> None:
    """Train the network; left and right are swapped at random."""
    import torch
    from torch_transformers import vit_fashion

    torch.manual_seed(SEED)
    x, y = (torch.from_numpy(array) for array in load("train"))

    def mirrored(images: torch.Tensor) -> tuple[torch.Tensor]:
        swap = torch.rand(len(images), 1, 1, 1) < 0.5
        return (torch.where(swap, images.flip(3), images),)

    net = vit_fashion()
    training.fit(net, (x,), y.long(), epochs=epochs, peak=2e-3, batch=128, decay=0.05,
                 augment=mirrored)  # fmt: skip
    print(f"wrote {training.save_weights(net, NAME)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--epochs", type=int, default=8, help="with 0 the stored weights are evaluated"
    )
    epochs = parser.parse_args().epochs
    if epochs:
        train(epochs)
    from zoo_transformers import vit_fashion

    images, labels = load("test")
    share = training.accuracy(vit_fashion(training.load_weights(NAME)), {"input": images}, labels)
    print(f"test accuracy {share:.4f} on {len(labels)} images")


if __name__ == "__main__":
    main()
