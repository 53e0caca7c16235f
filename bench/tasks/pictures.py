# SPDX-License-Identifier: Apache-2.0
"""Pictures: classes, boxes, masks, autoencoders, denoisers, enlargements, embeddings, counts.

In: Fashion-MNIST, CIFAR-10, digits, drawn shapes.  Out: ``TASKS``.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import torch
from common import cifar10_images, data_folder
from networks.base import Array
from torch import nn

from .base import Data, Fit, conv, f1, iou, split, task, top1

MSE = nn.MSELoss()


@cache
def clothes(size: int = 14, count: int = 6000) -> tuple[Array, Array]:
    """Return pictures of Fashion-MNIST (N, 1, size, size) in 0..1 and their classes."""
    archive = np.load(data_folder() / "fashion_mnist" / "train.npz")
    x, y = archive["x"][:count].astype(np.float32) / 255, archive["y"][:count].astype(np.int64)
    k = 28 // size
    return x.reshape(count, 1, size, k, size, k).mean((3, 5)), y


@cache
def photos(size: int = 16, count: int = 4000) -> tuple[Array, Array]:
    """Return CIFAR's pictures (N, 3, size, size) in 0..1 and their classes."""
    images, y = cifar10_images()
    x, k = images[:count].astype(np.float32) / 255, 32 // size
    return x.reshape(count, 3, size, k, size, k).mean((3, 5)), y[:count].astype(np.int64)


def clothes_classes(size: int = 14) -> Data:
    return split(*clothes(size))


def photo_classes() -> Data:
    x, y = photos()
    return split((x - 0.47) / 0.25, y)


def few_classes() -> Data:
    """Return coats against the rest: 10 % positives."""
    x, y = clothes()
    return split(x, (y == 4)[:, None].astype(np.float32), 2000)


def cnn(channels: int, outputs: int, size: int, act=nn.ReLU) -> nn.Sequential:
    body = (conv(channels, 12, act=act), conv(12, 24, 3, 2, act), conv(24, 32, 3, 2, act))
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, outputs))


def flat(channels: int, outputs: int, size: int) -> nn.Sequential:
    """Return a CNN that ends in a large fully connected layer, with pooling."""
    return nn.Sequential(
        conv(channels, 12),
        nn.MaxPool2d(2),
        conv(12, 24),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(24 * (size // 4) ** 2, 48),
        nn.ReLU(),
        nn.Linear(48, outputs),
    )


class Separable(nn.Module):
    """Depthwise separable blocks with residuals and squeeze-and-excite."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.stem = conv(channels, 24, stride=2)
        self.depth = nn.Sequential(
            nn.Conv2d(24, 24, 3, 1, 1, groups=24), nn.BatchNorm2d(24), nn.Hardswish()
        )
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(24, 8, 1),
            nn.ReLU(),
            nn.Conv2d(8, 24, 1),
            nn.Sigmoid(),
        )
        self.point = nn.Sequential(nn.Conv2d(24, 24, 1), nn.BatchNorm2d(24))
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, outputs))

    def forward(self, x):
        x = self.stem(x)
        y = self.depth(x)
        return self.head(torch.relu(x + self.point(y * self.gate(y))))


# ---------------------------------------------------------------- drawn shapes


@cache
def shapes(size: int = 24, count: int = 3000, seed: int = 0) -> tuple[Array, Array, Array]:
    """Return pictures with one disc or square, its (x, y, width, score, kind) and its mask."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    x = random.normal(0.4, 0.08, (count, 1, size, size))
    box, mask = np.zeros((count, 5)), np.zeros((count, 1, size, size))
    for i in range(count):
        r = random.uniform(3, size / 4)
        cx, cy = random.uniform(r, size - r, 2)
        kind = random.integers(3)  # none, disc, square
        dx, dy = columns - cx, rows - cy
        inside = (np.hypot(dx, dy) < r) if kind == 1 else (np.maximum(abs(dx), abs(dy)) < r)
        if kind:
            x[i, 0] += random.uniform(0.2, 0.6) * inside
            mask[i, 0] = inside
            box[i] = cx, cy, 2 * r, 1, kind == 2
    return x.astype(np.float32), box.astype(np.float32), mask.astype(np.float32)


def boxes() -> Data:
    x, box, _ = shapes()
    return split(x, box)


def masks() -> Data:
    x, _, mask = shapes()
    return split(x, mask)


class BoxLoss(nn.Module):
    """Squared error of boxes where there is one, and of scores."""

    def forward(self, y, truth):
        there = truth[:, 3:4]
        box = (there * (y[:, :3] - truth[:, :3]) ** 2).mean() / 20
        return box + nn.functional.binary_cross_entropy(
            y[:, 3:].clamp(1e-6, 1 - 1e-6), truth[:, 3:]
        )


class Detector(nn.Module):
    """A box in pixels beside two scores in one output."""

    def __init__(self) -> None:
        super().__init__()
        self.body = flat(1, 5, 24)

    def forward(self, x):
        y = self.body(x)
        return torch.cat([12 + 8 * y[:, :3], torch.sigmoid(y[:, 3:])], 1)


def boxes_score(y: Array, truth: Array) -> float:
    """Return the share of pictures with the right score, kind, and a box that overlaps by 0.7."""
    there, kind = truth[:, 3] > 0.5, truth[:, 4] > 0.5
    found = y[:, 3] > 0.5
    lo = np.maximum(y[:, :2] - y[:, 2:3] / 2, truth[:, :2] - truth[:, 2:3] / 2)
    hi = np.minimum(y[:, :2] + y[:, 2:3] / 2, truth[:, :2] + truth[:, 2:3] / 2)
    both = np.prod(np.maximum(hi - lo, 0), 1)
    overlap = both / (y[:, 2] ** 2 + truth[:, 2] ** 2 - both)
    right = (overlap > 0.7) & ((y[:, 4] > 0.5) == kind)
    return 100 * float(np.mean(np.where(there, found & right, ~found)))


class UNet(nn.Module):
    """Two levels with a skip connection; ``end`` makes the output of the last layer."""

    def __init__(self, channels: int = 1, outputs: int = 1, end: nn.Module | None = None) -> None:
        super().__init__()
        self.down, self.middle = conv(channels, 8), conv(8, 16, stride=2)
        self.deep = conv(16, 16)
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)
        self.last = nn.Sequential(conv(16, 8), nn.Conv2d(8, outputs, 1), end or nn.Identity())

    def forward(self, x):
        skip = self.down(x)
        return self.last(torch.cat([skip, self.up(self.deep(self.middle(skip)))], 1))


CE, BCE = Fit(), Fit(nn.BCELoss())

TASKS = (
    task("clothes, CNN", "classifier", partial(cnn, 1, 10, 14), clothes_classes, CE, top1),
    task(
        "clothes, CNN with pooling",
        "classifier",
        partial(flat, 1, 10, 14),
        clothes_classes,
        CE,
        top1,
    ),
    task(
        "clothes, SiLU", "classifier", partial(cnn, 1, 10, 14, nn.SiLU), clothes_classes, CE, top1
    ),
    task("clothes, separable", "classifier", partial(Separable, 1, 10), clothes_classes, CE, top1),
    task(
        "clothes, 64 calibrate",
        "classifier",
        partial(cnn, 1, 10, 14),
        clothes_classes,
        CE,
        top1,
        calibration=64,
    ),
    task("photos, CNN", "classifier", partial(cnn, 3, 10, 16), photo_classes, CE, top1),
    task("photos, separable", "classifier", partial(Separable, 3, 10), photo_classes, CE, top1),
    task(
        "coats, sigmoid",
        "rare positives",
        partial(cnn, 1, 1, 14),
        few_classes,
        Fit(nn.BCEWithLogitsLoss()),
        f1,
        end=lambda net: nn.Sequential(net, nn.Sigmoid()),
    ),
    task("boxes beside scores", "detector", Detector, boxes, Fit(BoxLoss(), 700), boxes_score),
    task(
        "masks, sigmoid",
        "segmenter",
        partial(UNet, end=nn.Sigmoid()),
        masks,
        Fit(nn.BCELoss(), 250),
        iou,
    ),
    task(
        "masks, logits",
        "segmenter",
        UNet,
        masks,
        Fit(nn.BCEWithLogitsLoss(), 250),
        lambda y, t: iou(y + 0.5, t),
    ),
)
